{{ config(materialized='incremental', incremental_strategy='replace_lag_months') }}
-- Outcomes in the disc and in the rest of the control area by days and weeks from the signal, eight weeks to each side:
-- weeks in each H3-7 cell against the question's control area, days in the whole city against the city.
with pairs as (

    {{ pairs_to_sum('is_lag_new') }}

),

near as (

    {{ outcomes_near_anchors(1, '-' ~ lag_reach(), lag_reach() | string) }}

),

disc_days as (

    select
        pairs.pair_id,
        near.h3_7,
        near.month,
        near.lag_days,
        count(*) as d,
        count(*) filter (where {{ is_in_control_area() }}) as inside
    from near
    inner join pairs on {{ asks_for_near() }}
    where near.day - {{ lag_reach() }} >= pairs.first_day and near.day + {{ lag_reach() }} <= pairs.last_day
    group by pairs.pair_id, near.h3_7, near.month, near.lag_days

),

anchor_days as (

    select
        pairs.pair_id, pairs.outcome_id, pairs.control_level, pairs.month, episodes.h3_7, episodes.day,
        {{ control_cell('pairs.control_level', 'episodes.h3_7') }} as control_cell,
        count(*) as n_anchor
    from {{ ref('int_signal_episodes') }} as episodes
    inner join pairs on episodes.signal_id = pairs.signal_id and episodes.month = pairs.month
    where episodes.day - {{ lag_reach() }} >= pairs.first_day and episodes.day + {{ lag_reach() }} <= pairs.last_day
    group by
        pairs.pair_id, pairs.outcome_id, pairs.control_level, pairs.month, episodes.h3_7, episodes.day,
        {{ control_cell('pairs.control_level', 'episodes.h3_7') }}

),

city_days as (

    select pair_id, outcome_id, month, day, sum(n_anchor) as n_anchor
    from anchor_days
    group by pair_id, outcome_id, month, day

),

outcome_days as (

    select outcome_id, day, count(*) as n_outcome
    from {{ ref('int_correlation_outcomes') }}
    where is_asked
    group by outcome_id, day

),

week_starts as (

    select
        anchor_days.pair_id, anchor_days.outcome_id, anchor_days.control_level, anchor_days.control_cell,
        anchor_days.h3_7, anchor_days.month, anchor_days.n_anchor, lags.lag, anchor_days.day + lags.first_day as day
    from anchor_days
    cross join (
        values {% for week in range(1, lag_reach() // 7 + 1) -%}
        ({{ week }}, {{ 7 * week - 6 }}), ({{ -week }}, {{ -7 * week }}){{ ', ' if not loop.last }}
        {%- endfor %}
    ) as lags (lag, first_day)

),

weeks as (

    select
        week_starts.pair_id, week_starts.h3_7, week_starts.month, week_starts.lag,
        sum(week_starts.n_anchor * control.n_outcome) as r
    from week_starts
    inner join {{ ref('int_control_weeks') }} as control
        on week_starts.outcome_id = control.outcome_id
        and week_starts.control_level = control.control_level
        and week_starts.control_cell = control.control_cell
        and week_starts.day = control.day
    group by week_starts.pair_id, week_starts.h3_7, week_starts.month, week_starts.lag

),

days as (

    select
        city_days.pair_id, city_days.month, outcome_days.day - city_days.day as lag,
        sum(city_days.n_anchor * outcome_days.n_outcome) as r
    from city_days
    inner join outcome_days
        on city_days.outcome_id = outcome_days.outcome_id
        and outcome_days.day between city_days.day - {{ lag_reach() }} and city_days.day + {{ lag_reach() }}
        and outcome_days.day <> city_days.day
    group by city_days.pair_id, city_days.month, outcome_days.day - city_days.day

),

counted as (

    select pair_id, 'week' as unit, h3_7, month, lag, 0 as d, r from weeks
    union all
    select
        pair_id, 'week' as unit, h3_7, month,
        case when lag_days > 0 then (lag_days + 6) // 7 else -((6 - lag_days) // 7) end as lag,
        d, -inside as r
    from disc_days
    union all
    select pair_id, 'day' as unit, 0 as h3_7, month, lag, 0 as d, r from days
    union all
    select pair_id, 'day' as unit, 0 as h3_7, month, lag_days as lag, d, -d as r from disc_days

)

select
    pairs.city,
    pairs.pair_key as question_id,
    counted.unit,
    counted.h3_7,
    counted.month,
    cast(counted.lag as integer) as lag,
    cast(sum(counted.d) as bigint) as d,
    cast(sum(counted.r) as bigint) as r
from counted
inner join {{ ref('int_correlation_pairs') }} as pairs on counted.pair_id = pairs.pair_id
group by pairs.city, pairs.pair_key, counted.unit, counted.h3_7, counted.month, counted.lag
having sum(counted.d) > 0 or sum(counted.r) > 0
