with compared as (

    {% for variant in correlation_variants() -%}
    select
        anchors.city,
        anchors.question_id,
        bands.band,
        '{{ variant.name }}' as variant,
        anchors.control_level,
        anchors.h3_7,
        anchors.month,
        coalesce(disc.disc_{{ variant.before }}, 0) as d0,
        coalesce(disc.disc_{{ variant.after }}, 0) as d1,
        anchors.control_{{ variant.before }} - coalesce(disc.inside_{{ variant.before }}, 0) as r0,
        anchors.control_{{ variant.after }} - coalesce(disc.inside_{{ variant.after }}, 0) as r1,
        {% if variant.exposure == '0' -%}
        cast(0 as double) as c0,
        {%- else -%}
        coalesce({{ variant.exposure }}, 0) as c0,
        {%- endif %}
        periods.n_outcomes * pi() * anchors.radius_m * anchors.radius_m * (2 * bands.band - 1) * anchors.window_days
            / (periods.area_m2 * (periods.last_day - periods.first_day + 1)) as naive_expected
    from {{ ref('int_correlation_anchors') }} as anchors
    cross join (values {% for band in correlation_bands() %}({{ band }}){{ ', ' if not loop.last }}{% endfor %}) as bands (band)
    inner join {{ ref('int_outcome_periods') }} as periods
        on anchors.city = periods.city
        and anchors.outcome_type = periods.outcome_type
    left join {{ ref('int_anchor_disc_counts') }} as disc
        on anchors.anchor_id = disc.anchor_id
        and bands.band = disc.band
    left join {{ ref('int_anchor_exposure') }} as exposure
        on anchors.episode_id = exposure.episode_id
        and anchors.radius_m = exposure.radius_m
        and anchors.window_days = exposure.window_days
        and bands.band = exposure.band
    where {{ {'placebo': 'anchors.is_placebo', 'guarded': 'anchors.is_guarded'}.get(variant.name, 'anchors.is_primary') }}
        {%- if variant.name == 'isolated' %}
        and coalesce(exposure.n_earlier, 0) = 0
        {%- endif %}
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

-- Mantel-Haenszel terms: the outcome rate of the disc against the same ratio in its control area, solved for the
-- rate ratio with a share c0 of the reference already exposed. An anchor without any outcome tells nothing.
weighed as (

    select
        *,
        coalesce((1 - c0) * d1 * r0 / nullif(cast(d0 + d1 + r0 + r1 as double), 0), 0) as num,
        coalesce((d0 * r1 - c0 * d1 * r0) / nullif(cast(d0 + d1 + r0 + r1 as double), 0), 0) as den
    from compared

)

select
    city,
    question_id,
    cast(band as integer) as band,
    variant,
    control_level,
    h3_7,
    month,
    cast(count(*) as bigint) as n_anchor,
    cast(sum(d0) as bigint) as d0,
    cast(sum(d1) as bigint) as d1,
    cast(sum(r0) as bigint) as r0,
    cast(sum(r1) as bigint) as r1,
    {{ exact_sum('num') }} as num,
    {{ exact_sum('den') }} as den,
    {{ exact_sum('c0') }} as c0_sum,
    {{ exact_sum('naive_expected') }} as naive_expected
from weighed
group by city, question_id, band, variant, control_level, h3_7, month

union all

select
    city,
    question_id,
    cast(band as integer) as band,
    'case_crossover' as variant,
    'city' as control_level,
    h3_7,
    month,
    cast(n_strata as bigint) as n_anchor,
    cast(n_unexposed_outcomes as bigint) as d0,
    cast(n_exposed_outcomes as bigint) as d1,
    cast(unexposed_weight as bigint) as r0,
    cast(exposed_weight as bigint) as r1,
    cast(num as double) as num,
    cast(den as double) as den,
    cast(0 as double) as c0_sum,
    cast(null as double) as naive_expected
from {{ ref('int_crossover_blocks') }}
