{#- Decimal digits of sums of squares: they grow large, and exact_sum has 18 digits in all. -#}
{%- set square_digits = 6 -%}

with exposure as (
    select * from {{ ref('int_repeat_exposure') }}
),

-- What the whole city does, by type and age of the incident: the yardstick of every cell.
rates as (
    select
        city,
        event_type,
        age_from_day,
        sum(n_repeat) / ({{ exact_sum('exposure_days') }}) as repeats_per_day
    from exposure
    group by city, event_type, age_from_day
),

incidents as (
    select
        exposure.city,
        exposure.h3_7,
        exposure.event_key,
        sum(exposure.n_repeat) as n_repeat,
        {{ exact_sum('exposure.exposure_days') }} as exposure_days,
        {{ exact_sum('exposure.exposure_days * rates.repeats_per_day') }} as expected_repeat
    from exposure
    inner join rates
        on exposure.city = rates.city
        and exposure.event_type = rates.event_type
        and exposure.age_from_day = rates.age_from_day
    group by exposure.city, exposure.h3_7, exposure.event_key
),

cells as (
    select
        city,
        h3_7,
        count(*) as n_incident,
        sum(n_repeat) as n_repeat,
        {{ exact_sum('exposure_days') }} as exposure_days,
        {{ exact_sum('expected_repeat') }} as expected_repeat,
        {{ exact_sum('(n_repeat - expected_repeat) * (n_repeat - expected_repeat)', square_digits) }} as squared_misses
    from incidents
    group by city, h3_7
),

-- How much noisier the count of one incident is than a Poisson count: some are reported by everyone who passes.
noise as (
    select
        city,
        greatest(
            1.0,
            coalesce({{ exact_sum('squared_misses', square_digits) }} / nullif({{ exact_sum('expected_repeat') }}, 0), 1.0)
        ) as dispersion
    from cells
    group by city
),

-- How much cells truly differ: what their squared misses hold beyond that noise.
priors as (
    select
        cells.city,
        noise.dispersion,
        greatest(
            0.0,
            coalesce(
                (
                    {{ exact_sum('(cells.n_repeat - cells.expected_repeat) * (cells.n_repeat - cells.expected_repeat)',
                        square_digits) }}
                    - noise.dispersion * ({{ exact_sum('cells.expected_repeat') }})
                ) / nullif({{ exact_sum('cells.expected_repeat * cells.expected_repeat', square_digits) }}, 0),
                0.0
            )
        ) as prior_variance
    from cells
    inner join noise on cells.city = noise.city
    group by cells.city, noise.dispersion
),

shrunk as (
    select
        cells.city,
        cells.h3_7,
        cells.n_incident,
        cells.n_repeat,
        cells.exposure_days,
        cells.expected_repeat,
        priors.prior_variance * cells.expected_repeat
            / (priors.dispersion + priors.prior_variance * cells.expected_repeat) as own_weight,
        (priors.dispersion + priors.prior_variance * cells.n_repeat)
            / (priors.dispersion + priors.prior_variance * cells.expected_repeat) as speed_ratio
    from cells
    inner join priors on cells.city = priors.city
),

-- Cells of one ratio stand together: where nothing tells cells apart, all of them are in the middle.
ranked as (
    select
        *,
        sum(n_incident) over (partition by city order by speed_ratio range unbounded preceding) as n_incident_up_to,
        sum(n_incident) over (partition by city, speed_ratio) as n_incident_alike,
        sum(n_incident) over (partition by city) as n_incident_in_city
    from shrunk
)

-- A cell belongs where the middle of its incidents lies among those of the city, in order of speed.
select
    city,
    h3_7,
    cast(n_incident as bigint) as n_incident,
    cast(n_repeat as bigint) as n_repeat,
    exposure_days,
    expected_repeat,
    own_weight,
    speed_ratio,
    case
        when 3 * (2 * n_incident_up_to - n_incident_alike) <= 2 * n_incident_in_city then 'slow'
        when 3 * (2 * n_incident_up_to - n_incident_alike) <= 4 * n_incident_in_city then 'middle'
        else 'fast'
    end as stratum
from ranked
