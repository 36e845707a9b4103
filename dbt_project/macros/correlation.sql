{# The constants and the geometry of the correlation evidence; models hold the joins. #}

{# Rings of one radius each: 1 is the disc, 2 and 3 show whether an effect only moved next door. #}
{% macro correlation_bands() %}{{ return([1, 2, 3]) }}{% endmacro %}

{# Windows in days relative to the signal, as SQL over window_days; day 0 is in none, its order is unknown. #}
{% macro correlation_windows(of='window_days') %}
    {{ return({
        'post':  ['1', of],
        'pre':   ['-' ~ of, '-1'],
        'far':   ['-2 * ' ~ of, '-' ~ of ~ ' - 1'],
        'guard': ['-' ~ of ~ ' - 7', '-8'],
    }) }}
{% endmacro %}

{# Which windows a variant compares, in which rings, of which outcomes, and whose contamination it corrects.
   The placebo compares two windows that lie before the signal: both are exposed alike, so it has no correction. Nor
   have the rings: what a neighbour's disc does to a ring it does before and after alike. A benchmark may ask for some
   of them only (`correlation_variants`), to tell what each costs. #}
{% macro correlation_variants() %}
    {%- set all = [
        {'name': 'primary',  'before': 'pre',   'after': 'post', 'part': '',       'exposure': 'c0_pre',   'fits': 'is_primary',  'in_rings': true},
        {'name': 'isolated', 'before': 'pre',   'after': 'post', 'part': '',       'exposure': none,       'fits': 'is_primary and is_alone', 'in_rings': false},
        {'name': 'guarded',  'before': 'guard', 'after': 'post', 'part': '',       'exposure': 'c0_guard', 'fits': 'is_guarded',  'in_rings': false},
        {'name': 'placebo',  'before': 'far',   'after': 'pre',  'part': '',       'exposure': none,       'fits': 'is_placebo',  'in_rings': true},
        {'name': 'night',    'before': 'pre',   'after': 'post', 'part': '_night', 'exposure': 'c0_pre',   'fits': 'is_primary and splits_by_hour', 'in_rings': false},
        {'name': 'day',      'before': 'pre',   'after': 'post', 'part': '_day',   'exposure': 'c0_pre',   'fits': 'is_primary and splits_by_hour', 'in_rings': false},
    ] -%}
    {{ return(all | selectattr('name', 'in', var('correlation_variants', all | map(attribute='name') | list)) | list) }}
{% endmacro %}

{# Which anchors' windows the outcome's observed period covers; needs a relation `pairs`. #}
{% macro correlation_fits(day) %}
    {%- set window = 'pairs.window_days' %}
    {{ return({
        'is_primary': day ~ ' - ' ~ window ~ ' >= pairs.first_day and ' ~ day ~ ' + ' ~ window ~ ' <= pairs.last_day',
        'is_guarded': day ~ ' - ' ~ window ~ ' - 7 >= pairs.first_day and ' ~ day ~ ' + ' ~ window ~ ' <= pairs.last_day',
        'is_placebo': day ~ ' - 2 * ' ~ window ~ ' >= pairs.first_day and ' ~ day ~ ' - 1 <= pairs.last_day',
    }) }}
{% endmacro %}

{# The windows that some variant compares, each with the outcomes it counts: all, those by night, those by day. #}
{% macro correlation_counts(in_rings=false) %}
    {%- set counts = [] -%}
    {%- for variant in correlation_variants() if variant.in_rings or not in_rings -%}
        {%- for window in [variant.before, variant.after] if [window, variant.part] not in counts -%}
            {%- do counts.append([window, variant.part]) -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ return(counts) }}
{% endmacro %}

{# Days before and after the signal that a lag curve shows: eight weeks. #}
{% macro lag_reach() %}{{ return(56) }}{% endmacro %}

{# First reports of a cluster lie within the question's radius and so many days. #}
{% macro cluster_days() %}{{ return(28) }}{% endmacro %}

{# A report of the same signal so near and so soon after another is the same episode. #}
{% macro episode_m() %}{{ return(50) }}{% endmacro %}
{% macro episode_days() %}{{ return(14) }}{% endmacro %}

{# How many cases a type must have in a city to enter the scan over all pairs; none: no scan. #}
{% macro scan_min_events() %}{{ return(var('correlation_scan_min_events', none)) }}{% endmacro %}

{# Radius and window of every scanned pair. #}
{% macro scan_setting() %}{{ return({'radius_m': 100, 'window_days': 14}) }}{% endmacro %}

{# The scan looks at about so many of a signal's cases a month: pairs of events grow with the square of the density, and
   so would the cost of a thousand pairs of types. By the month, so that a delta changes the sample of no other month. #}
{% macro scan_anchors_a_month() %}{{ return(var('correlation_scan_anchors_a_month', 250)) }}{% endmacro %}

{# A record that can serve as signal or outcome: one real case that may be used, with a day and a place. #}
{% macro is_evidence(event) -%}
    {{ event }}.is_canonical and not {{ event }}.is_noise and not {{ event }}.is_excluded
    and {{ event }}.event_on is not null
    and {{ event }}.x_m is not null and {{ event }}.y_m is not null
    and {{ event }}.h3_7 is not null and {{ event }}.h3_10 is not null
{%- endmacro %}

{# By night, by day, or null where the source tells no hour. Midnight to the second is how many sources write "no time". #}
{% macro part_of_day(event) -%}
    case
        when {{ event }}.time_precision = 'day' or {{ event }}.event_local is null
            or {{ event }}.event_local = date_trunc('day', {{ event }}.event_local) then null
        when extract(hour from {{ event }}.event_local) >= 20 or extract(hour from {{ event }}.event_local) < 6 then 'night'
        else 'day'
    end
{%- endmacro %}

{# H3 parent by bit arithmetic: one resolution down, and the digit that falls away is set to 7. #}
{% macro h3_6_of(h3_7) -%}
    (({{ h3_7 }} - 4503599627370496) | 117440512)
{%- endmacro %}

{# The control area of an H3-7 cell at a level. #}
{% macro control_cell(level, h3_7) -%}
    case {{ level }} when 'h3_7' then {{ h3_7 }} when 'h3_6' then {{ h3_6_of(h3_7) }} else 0 end
{%- endmacro %}

{# Bucket of a space-time neighbour join, one integer; `within` (below 8,000) keeps what is not to meet apart. A box of
   one bucket's size touches two buckets an axis, so the searching side asks for 2 x 2 x 2 of them and the exact test
   needs no pruning (27 neighbours cost more). #}
{% macro space_time_bucket(x_bucket, y_bucket, t_bucket, within='0') -%}
    ({{ within }}) * 1125899906842624 + (({{ x_bucket }}) * 1000000 + ({{ y_bucket }})) * 4096 + ({{ t_bucket }})
{%- endmacro %}

{# The pairs whose months this build sums, a row per pair and month, with the month's days. #}
{% macro pairs_to_sum(is_new, condition=none) -%}
    select
        pairs.*,
        months.month,
        months.sample_below,
        {{ day_number('months.month') }} as month_first,
        {{ day_number(next_month('months.month')) }} - 1 as month_last
    from {{ ref('int_correlation_pairs') }} as pairs
    inner join {{ ref('int_evidence_months') }} as months on pairs.pair_id = months.pair_id
    where months.{{ is_new }}{{ ' and ' ~ condition if condition }}
{%- endmacro %}

{% macro bucket(value, size) -%}
    cast(floor(({{ value }}) / ({{ size }})) as bigint)
{%- endmacro %}

{# The searching side's steps to the next bucket of each axis. #}
{% macro neighbour_steps(with_time=true) -%}
    cross join (values (0), (1)) as step_x (step)
    cross join (values (0), (1)) as step_y (step)
    {%- if with_time %}
    cross join (values (0), (1)) as step_t (step)
    {%- endif %}
{%- endmacro %}

{% macro squared_distance(a, b) -%}
    (({{ a }}.x_m - {{ b }}.x_m) * ({{ a }}.x_m - {{ b }}.x_m) + ({{ a }}.y_m - {{ b }}.y_m) * ({{ a }}.y_m - {{ b }}.y_m))
{%- endmacro %}

{# How many rows of the same signal_id lie within some metres and on some days up to each row (of the same day, those of
   a lower report_id); rows without any are left out. #}
{% macro earlier_neighbours(rows, reach_m, reach_days) -%}
    select searching.report_id, count(*) as n_earlier
    from (
        select
            {{ rows }}.report_id, {{ rows }}.day, {{ rows }}.x_m, {{ rows }}.y_m, {{ reach_m }} as reach_m,
            {{ space_time_bucket(
                bucket('x_m - ' ~ reach_m, '2 * ' ~ reach_m) ~ ' + step_x.step',
                bucket('y_m - ' ~ reach_m, '2 * ' ~ reach_m) ~ ' + step_y.step',
                bucket('day - ' ~ reach_days, reach_days + 1) ~ ' + step_t.step', 'signal_id') }} as bucket
        from {{ rows }}
        {{ neighbour_steps() }}
    ) as searching
    inner join (
        select
            report_id, day, x_m, y_m,
            {{ space_time_bucket(
                bucket('x_m', '2 * ' ~ reach_m), bucket('y_m', '2 * ' ~ reach_m), bucket('day', reach_days + 1),
                'signal_id') }} as bucket
        from {{ rows }}
    ) as earlier
        on searching.bucket = earlier.bucket
    where searching.day - earlier.day between 0 and {{ reach_days }}
        and (earlier.day < searching.day or earlier.report_id < searching.report_id)
        and {{ squared_distance('searching', 'earlier') }} <= searching.reach_m * searching.reach_m
    group by searching.report_id
{%- endmacro %}

{# Pairs of an anchor and an outcome within so many radii and some days: ids, lag and place; with day 0, whose order is
   unknown, left out. Needs a CTE `pairs` (pairs_to_sum). A signal meets all outcomes that its questions ask for at once;
   in the scan, all signals meet all outcomes at once. What a month does not ask for is left out behind it (asks_for_near). #}
{% macro outcomes_near_anchors(radii, first_lag, last_lag, with_part_of_day=false) -%}
    {%- set reach = '(' ~ radii ~ ' * radius_m)' -%}
    {%- set days = '((' ~ last_lag ~ ') - (' ~ first_lag ~ ') + 1)' -%}
    {%- set squared = squared_distance('searching', 'outcomes') -%}
    select
        searching.episode_id,
        searching.signal_id,
        searching.meeting_id,
        searching.h3_7,
        searching.month,
        searching.day,
        searching.window_days,
        outcomes.outcome_id,
        outcomes.h3_7 as outcome_h3_7,
        {%- if with_part_of_day %}
        outcomes.part_of_day,
        {%- endif %}
        {%- if radii > 1 %}
        case
        {%- for band in range(2, radii) %}
            when {{ squared }} <= {{ band * band }} * searching.radius_m * searching.radius_m then {{ band }}
        {%- endfor %}
            else {{ radii }}
        end as band,
        {%- endif %}
        outcomes.day - searching.day as lag_days
    from (
        select
            episodes.episode_id, episodes.signal_id, episodes.h3_7, episodes.month, episodes.day,
            episodes.x_m, episodes.y_m, meetings.meeting_id, meetings.radius_m, meetings.window_days,
            {{ space_time_bucket(
                bucket('x_m - ' ~ reach, '2 * ' ~ reach) ~ ' + step_x.step',
                bucket('y_m - ' ~ reach, '2 * ' ~ reach) ~ ' + step_y.step',
                bucket('day + (' ~ first_lag ~ ')', days) ~ ' + step_t.step', 'meeting_id') }} as bucket
        from {{ ref('int_signal_episodes') }} as episodes
        inner join (
            select distinct meeting_id, signal_id, month, radius_m, window_days, sample_below
            from pairs
        ) as meetings
            on episodes.signal_id = meetings.signal_id
            and episodes.month = meetings.month
            and episodes.sample_value < meetings.sample_below
        {{ neighbour_steps() }}
    ) as searching
    inner join (
        select
            outcomes.*,
            {{ space_time_bucket(
                bucket('x_m', '2 * ' ~ reach), bucket('y_m', '2 * ' ~ reach), bucket('day', days), 'meeting_id') }} as bucket
        from {{ ref('int_correlation_outcomes') }} as outcomes
        inner join (
            select
                meeting_id, outcome_id, radius_m, window_days,
                greatest(min(first_day), min(month_first) + ({{ first_lag }})) as first_day,
                least(max(last_day), max(month_last) + ({{ last_lag }})) as last_day
            from pairs
            group by meeting_id, outcome_id, radius_m, window_days
        ) as meetings
            on outcomes.outcome_id = meetings.outcome_id
            and outcomes.day between meetings.first_day and meetings.last_day
    ) as outcomes
        on searching.bucket = outcomes.bucket
    where outcomes.day - searching.day between {{ first_lag }} and {{ last_lag }}
        and outcomes.day <> searching.day
        and {{ squared }} <= {{ radii * radii }} * searching.radius_m * searching.radius_m
        {%- if radii > 1 %}
        and {{ squared }} > searching.radius_m * searching.radius_m
        {%- endif %}
{%- endmacro %}

{# Whether the pair of a month asks for a near pair of events. #}
{% macro asks_for_near() -%}
    near.meeting_id = pairs.meeting_id
        and near.signal_id = pairs.signal_id
        and near.outcome_id = pairs.outcome_id
        and near.month = pairs.month
{%- endmacro %}

{# Whether the outcome of a near pair lies in the control area of the anchor. #}
{% macro is_in_control_area() -%}
    case pairs.control_level
        when 'h3_7' then near.outcome_h3_7 = near.h3_7
        when 'h3_6' then {{ h3_6_of('near.outcome_h3_7') }} = {{ h3_6_of('near.h3_7') }}
        else true
    end
{%- endmacro %}

{# Mantel-Haenszel terms of one variant over a group of anchors with an outcome near: the outcome rate of the disc against
   the same ratio in its control area, solved for the rate ratio with a share c0 of the reference already exposed. #}
{% macro mantel_haenszel_sums(variant, with_exposure=true) -%}
    {%- set d0 = 'disc_' ~ variant.before ~ variant.part -%}
    {%- set d1 = 'disc_' ~ variant.after ~ variant.part -%}
    {%- set r0 = 'rest_' ~ variant.before ~ variant.part -%}
    {%- set r1 = 'rest_' ~ variant.after ~ variant.part -%}
    {%- set n = 'nullif(cast(' ~ [d0, d1, r0, r1] | join(' + ') ~ ' as double), 0)' -%}
    {%- set c0 = variant.exposure if with_exposure and variant.exposure else none -%}
    {%- for name, count in [('d0', d0), ('d1', d1), ('r0', r0), ('r1', r1)] %}
    sum(case when {{ variant.fits }} then {{ count }} else 0 end) as {{ name }}_{{ variant.name }},
    {%- endfor %}
    {{ exact_sum('case when ' ~ variant.fits ~ ' then ' ~ ('(1 - ' ~ c0 ~ ') * ' if c0 else '')
        ~ d1 ~ ' * ' ~ r0 ~ ' / ' ~ n ~ ' else 0 end') }} as num_{{ variant.name }},
    {{ exact_sum('case when ' ~ variant.fits ~ ' then (' ~ d0 ~ ' * ' ~ r1
        ~ (' - ' ~ c0 ~ ' * ' ~ d1 ~ ' * ' ~ r0 if c0 else '') ~ ') / ' ~ n ~ ' else 0 end') }} as den_{{ variant.name }}
{%- endmacro %}

{# Block sums of the disc, or of the rings, from the counts near each anchor: a row per pair, ring, variant, cell and month
   with anchors. #}
{% macro block_sums(counts, in_rings) -%}
{%- set fits = correlation_fits('episodes.day') -%}
{%- set variants = correlation_variants() | selectattr('in_rings') | list if in_rings else correlation_variants() -%}
with pairs as (

    {{ pairs_to_sum('is_new', 'not pairs.is_scan' if in_rings) }}

),

exposure as (

    select * from {{ ref('int_anchor_exposure') }}

),

near as (

    select
        pairs.pair_id,
        {{ 'counts.band' if in_rings else '1' }} as band,
        episodes.h3_7,
        episodes.month,
        {%- if not in_rings %}
        coalesce(exposure.n_earlier, 0) = 0 as is_alone,
        coalesce(exposure.c0_pre, 0) as c0_pre,
        coalesce(exposure.c0_guard, 0) as c0_guard,
        pairs.splits_by_hour,
        {%- endif %}
        {%- for name, condition in fits.items() %}
        {{ condition }} as {{ name }},
        {%- endfor %}
        {%- for name, part in correlation_counts(in_rings) %}
        counts.disc_{{ name }}{{ part }},
        coalesce(control.control_{{ name }}{{ part }}, 0) - counts.inside_{{ name }}{{ part }} as rest_{{ name }}{{ part }}{{ ',' if not loop.last }}
        {%- endfor %}
    from {{ ref(counts) }} as counts
    inner join {{ ref('int_signal_episodes') }} as episodes on counts.episode_id = episodes.episode_id
    inner join pairs on counts.pair_id = pairs.pair_id and episodes.month = pairs.month
    left join {{ ref('int_control_windows') }} as control
        on pairs.outcome_id = control.outcome_id
        and pairs.control_level = control.control_level
        and pairs.window_days = control.window_days
        and {{ control_cell('pairs.control_level', 'episodes.h3_7') }} = control.control_cell
        and episodes.day = control.day
    {%- if not in_rings %}
    left join exposure
        on counts.episode_id = exposure.episode_id
        and pairs.series_id = exposure.series_id
    {%- endif %}

),

near_sums as (

    select
        pair_id, band, h3_7, month
        {%- for variant in variants %},
        {{ mantel_haenszel_sums(variant, with_exposure=not in_rings) }}
        {%- endfor %}
    from near
    group by pair_id, band, h3_7, month

)

{% for variant in variants -%}
select
    pairs.city,
    pairs.pair_key,
    pairs.is_scan,
    pairs.signal_type,
    pairs.outcome_type,
    cast(bands.band as integer) as band,
    '{{ variant.name }}' as variant,
    pairs.control_level,
    anchors.h3_7,
    anchors.month,
    cast(anchors.n_{{ variant.name }} as bigint) as n_anchor,
    {%- for name in ['d0', 'd1', 'r0', 'r1'] %}
    cast(coalesce(near_sums.{{ name }}_{{ variant.name }}, 0) as bigint) as {{ name }},
    {%- endfor %}
    coalesce(near_sums.num_{{ variant.name }}, 0.0) as num,
    coalesce(near_sums.den_{{ variant.name }}, 0.0) as den,
    {{ '0.0' if in_rings else 'anchors.c0_' ~ variant.name }} as c0_sum
from {{ ref('int_anchors_counted') }} as anchors
cross join (values {{ '(2), (3)' if in_rings else '(1)' }}) as bands (band)
inner join {{ ref('int_correlation_pairs') }} as pairs on anchors.pair_id = pairs.pair_id
left join near_sums
    on anchors.pair_id = near_sums.pair_id
    and bands.band = near_sums.band
    and anchors.h3_7 = near_sums.h3_7
    and anchors.month = near_sums.month
where anchors.n_{{ variant.name }} > 0
    {%- if in_rings or not variant.in_rings %} and not anchors.is_scan{% endif %}
{{ 'union all' if not loop.last }}
{% endfor %}
{%- endmacro %}

{# Share of a disc that an equal disc covers whose centre lies `distance` radii away. The argument is clipped because
   rounding can push it past the domain of acos. #}
{% macro disc_overlap_share(distance) -%}
    (2 / pi()) * (
        acos(least(1.0, {{ distance }} / 2))
        - {{ distance }} / 2 * sqrt(greatest(0.0, 1 - {{ distance }} * {{ distance }} / 4))
    )
{%- endmacro %}

{# A sum of reals that is the same in any order of rows. A sum of floats depends on it, threads hand rows over in any
   order, and a second run must change no row. Terms are rounded to so many digits and must stay below 9e18 as integers. #}
{% macro exact_sum(value, digits=12) -%}
    (cast(sum(cast(round(({{ value }}) * 1e{{ digits }}) as bigint)) as double) / 1e{{ digits }})
{%- endmacro %}

{# What the last build of the evidence rested on; none where there was none, or where its sums are gone. #}
{% macro built_evidence() %}
    {%- if flags.FULL_REFRESH or not execute -%}{{ return(none) }}{%- endif -%}
    {%- for schema, name in [('correlation', 'mart_correlation_blocks'), ('intermediate', 'int_scan_blocks'), ('intermediate', 'int_lag_blocks')] -%}
        {%- if adapter.get_relation(database=target.database, schema=schema, identifier=name) is none -%}{{ return(none) }}{%- endif -%}
    {%- endfor -%}
    {{ return(adapter.get_relation(database=target.database, schema='intermediate', identifier='int_evidence_built')) }}
{% endmacro %}

{# Incremental strategy of block sums: the months of a question that were summed again replace what was there. #}
{% macro get_incremental_replace_months_sql(arguments) %}
    {{ replace_question_months(arguments, 'is_new') }}
{% endmacro %}

{% macro get_incremental_replace_lag_months_sql(arguments) %}
    {{ replace_question_months(arguments, 'is_lag_new') }}
{% endmacro %}

{% macro replace_question_months(arguments, is_new) %}
    {%- set names = arguments['dest_columns'] | map(attribute='name') | list %}
    delete from {{ arguments['target_relation'] }}
    where (city, {{ 'question_id' if 'question_id' in names else 'pair_key' }}, month) in (
        select (city, pair_key, month) from {{ ref('int_evidence_months') }} where {{ is_new }} or is_gone
    );

    {{ insert_all(arguments) }}
{% endmacro %}

{# Fails on every row of a correlation table for which the condition is false; unknown passes. #}
{% test correlation_row_holds(model, condition) %}
select * from {{ model }} where not ({{ condition }})
{% endtest %}
