{% set fits = correlation_fits('anchor_days.day') -%}
-- Anchors of each pair by cell and month: how many of them each variant compares, and their contamination. All anchors
-- count here; terms come from those with an outcome near.
with pairs as (

    {{ pairs_to_sum('is_new') }}

),

exposure as (

    select * from {{ ref('int_anchor_exposure') }}

),

signal_series as (

    select signal_id, series_id, month, min(sample_below) as sample_below
    from pairs
    group by signal_id, series_id, month

),

-- Validity of an anchor depends on its day alone, so anchors are counted by cell and day first.
anchor_days as (

    select
        episodes.signal_id,
        signal_series.series_id,
        episodes.h3_7,
        episodes.month,
        episodes.day,
        count(*) as n_anchor,
        count(*) filter (where episodes.sample_value < signal_series.sample_below) as n_sampled,
        count(*) filter (where coalesce(exposure.n_earlier, 0) = 0) as n_alone,
        {{ exact_sum('coalesce(exposure.c0_pre, 0)') }} as c0_pre,
        {{ exact_sum('coalesce(exposure.c0_guard, 0)') }} as c0_guard
    from {{ ref('int_signal_episodes') }} as episodes
    inner join signal_series
        on episodes.signal_id = signal_series.signal_id
        and episodes.month = signal_series.month
    left join exposure
        on episodes.episode_id = exposure.episode_id
        and signal_series.series_id = exposure.series_id
    group by episodes.signal_id, signal_series.series_id, episodes.h3_7, episodes.month, episodes.day

)

select
    pairs.pair_id,
    pairs.is_scan,
    anchor_days.h3_7,
    anchor_days.month
    {%- for variant in correlation_variants() %}
    {%- set count = 'n_alone' if variant.name == 'isolated' else 'n_anchor' %}
    {%- set fit = variant.fits.replace('is_alone', 'true').split(' and ')[0] %},
    sum(case when {{ fits[fit] }}{{ ' and pairs.splits_by_hour' if variant.part else '' }}
        then {{ 'case when pairs.is_scan then anchor_days.n_sampled else anchor_days.n_anchor end' if count == 'n_anchor'
            else 'anchor_days.n_alone' }} else 0 end) as n_{{ variant.name }},
    {% if variant.exposure -%}
    {{ exact_sum('case when ' ~ fits[fit] ~ (' and pairs.splits_by_hour' if variant.part else '')
        ~ ' then anchor_days.' ~ variant.exposure ~ ' else 0 end') }} as c0_{{ variant.name }}
    {%- else -%}
    cast(0 as double) as c0_{{ variant.name }}
    {%- endif %}
    {%- endfor %}
from anchor_days
inner join pairs
    on anchor_days.signal_id = pairs.signal_id
    and anchor_days.series_id = pairs.series_id
    and anchor_days.month = pairs.month
group by pairs.pair_id, pairs.is_scan, anchor_days.h3_7, anchor_days.month
