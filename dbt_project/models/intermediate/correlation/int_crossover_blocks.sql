-- Cross-check of the sign: a time-stratified case-crossover. A stratum is one H3-10 cell with outcomes in one calendar
-- month; its days are exposed when an episode began near the cell 1..window_days before, and are weighted by the city's
-- outcomes of that day, which takes out season, weekday and city-wide shocks. It shares neither the control area nor the
-- symmetric windows with the primary estimate.
with pairs as (

    {{ pairs_to_sum('is_new', 'not pairs.is_scan') }}

),

outcome_months as (

    select distinct outcome_id, series_id, radius_m, window_days, month, first_day, last_day
    from pairs

),

outcomes as (

    select
        outcomes.outcome_id, outcomes.h3_10, outcomes.h3_7, outcomes.day, outcomes.x_m, outcomes.y_m,
        {{ month_of_day('outcomes.day') }} as month
    from {{ ref('int_correlation_outcomes') }} as outcomes
    inner join (select distinct outcome_id, first_day, last_day from pairs) as periods
        on outcomes.outcome_id = periods.outcome_id
        and outcomes.day between periods.first_day and periods.last_day
    where outcomes.is_asked

),

city_days as (

    select outcome_id, month, day, count(*) as weight
    from outcomes
    group by outcome_id, month, day

),

city_months as (

    select outcome_id, month, sum(weight) as weight
    from city_days
    group by outcome_id, month

),

cells as (

    select
        row_number() over (order by outcome_id, month, h3_10) as stratum_id,
        outcome_id,
        month,
        {{ day_number('month') }} as month_first,
        h3_10,
        min(h3_7) as h3_7,
        {{ exact_sum('x_m', 6) }} / count(*) as x_m,
        {{ exact_sum('y_m', 6) }} / count(*) as y_m
    from outcomes
    group by outcome_id, month, h3_10

),

-- Of each stratum the days with outcomes; one of them stands for the stratum where strata are counted.
cell_days as (

    select
        cells.stratum_id,
        outcomes.day - cells.month_first as day_of_month,
        count(*) as n_outcomes,
        case when row_number() over (partition by cells.stratum_id order by outcomes.day - cells.month_first) = 1
            then 1 else 0 end as n_strata
    from outcomes
    inner join cells
        on outcomes.outcome_id = cells.outcome_id
        and outcomes.month = cells.month
        and outcomes.h3_10 = cells.h3_10
    group by cells.stratum_id, outcomes.day - cells.month_first

),

strata as (

    select
        cells.*, outcome_months.series_id, outcome_months.radius_m, outcome_months.window_days,
        {{ month_number('cells.month') }} as month_number,
        {{ space_time_bucket(
            bucket('cells.x_m', '2 * outcome_months.radius_m'), bucket('cells.y_m', '2 * outcome_months.radius_m'),
            month_number('cells.month'), 'outcome_months.series_id') }} as bucket
    from cells
    inner join outcome_months
        on cells.outcome_id = outcome_months.outcome_id
        and cells.month = outcome_months.month

),

signal_series as (

    select distinct signal_id, series_id, radius_m, window_days
    from pairs

),

exposing as (

    select
        signal_series.*, episodes.day, episodes.x_m, episodes.y_m,
        {{ each_integer(
            month_number(month_of_day('episodes.day + 1')),
            month_number(month_of_day('episodes.day + signal_series.window_days'))) }} as month_number
    from {{ ref('int_signal_episodes') }} as episodes
    inner join signal_series on episodes.signal_id = signal_series.signal_id

),

searching as (

    select
        exposing.*,
        {{ space_time_bucket(
            bucket('x_m - radius_m', '2 * radius_m') ~ ' + step_x.step',
            bucket('y_m - radius_m', '2 * radius_m') ~ ' + step_y.step',
            'month_number', 'series_id') }} as bucket
    from exposing
    {{ neighbour_steps(with_time=false) }}

),

-- The exposed days of a stratum as the bits of one integer, so that overlapping exposures need no row per day.
exposed as (

    select
        searching.signal_id,
        strata.series_id,
        strata.stratum_id,
        bit_or(cast(
            power(2, least(searching.day + strata.window_days, strata.month_first + 30) - strata.month_first + 1)
            - power(2, greatest(searching.day + 1, strata.month_first) - strata.month_first)
            as bigint)) as days
    from searching
    inner join strata on searching.bucket = strata.bucket
    where {{ squared_distance('searching', 'strata') }} <= strata.radius_m * strata.radius_m
    group by searching.signal_id, strata.series_id, strata.stratum_id

),

exposed_strata as (

    select
        pairs.pair_id, pairs.outcome_id, pairs.month, cells.h3_7, exposed.stratum_id, exposed.days
    from exposed
    inner join cells on exposed.stratum_id = cells.stratum_id
    inner join pairs
        on exposed.signal_id = pairs.signal_id
        and exposed.series_id = pairs.series_id
        and cells.outcome_id = pairs.outcome_id
        and cells.month = pairs.month

),

day_sets as (

    select distinct outcome_id, month, days
    from exposed_strata

),

day_set_weights as (

    select day_sets.outcome_id, day_sets.month, day_sets.days, sum(city_days.weight) as weight
    from day_sets
    inner join city_days
        on day_sets.outcome_id = city_days.outcome_id
        and day_sets.month = city_days.month
    where (day_sets.days & cast(power(2, city_days.day - {{ day_number('day_sets.month') }}) as bigint)) <> 0
    group by day_sets.outcome_id, day_sets.month, day_sets.days

),

shares as (

    select
        day_sets.outcome_id, day_sets.month, day_sets.days,
        coalesce(day_set_weights.weight, 0) as weight,
        city_months.weight - coalesce(day_set_weights.weight, 0) as unexposed_weight,
        coalesce(day_set_weights.weight, 0) / cast(city_months.weight as double) as exposed_share
    from day_sets
    inner join city_months on day_sets.outcome_id = city_months.outcome_id and day_sets.month = city_months.month
    left join day_set_weights
        on day_sets.outcome_id = day_set_weights.outcome_id
        and day_sets.month = day_set_weights.month
        and day_sets.days = day_set_weights.days

),

-- Both terms of a stratum are sums over its outcomes: one on an exposed day counts for the share of the other days, one
-- on another day against the share of the exposed days.
compared as (

    select
        exposed_strata.pair_id,
        exposed_strata.h3_7,
        exposed_strata.month,
        cell_days.n_strata,
        cell_days.n_outcomes,
        shares.weight,
        shares.unexposed_weight,
        shares.exposed_share,
        (exposed_strata.days & cast(power(2, cell_days.day_of_month) as bigint)) <> 0 as is_exposed
    from exposed_strata
    inner join cell_days on exposed_strata.stratum_id = cell_days.stratum_id
    inner join shares
        on exposed_strata.outcome_id = shares.outcome_id
        and exposed_strata.month = shares.month
        and exposed_strata.days = shares.days

)

select
    pairs.city,
    pairs.pair_key,
    compared.h3_7,
    compared.month,
    sum(compared.n_strata) as n_strata,
    sum(case when compared.is_exposed then 0 else compared.n_outcomes end) as n_unexposed_outcomes,
    sum(case when compared.is_exposed then compared.n_outcomes else 0 end) as n_exposed_outcomes,
    sum(compared.n_strata * compared.unexposed_weight) as unexposed_weight,
    sum(compared.n_strata * compared.weight) as exposed_weight,
    {{ exact_sum('case when compared.is_exposed then compared.n_outcomes * (1 - compared.exposed_share) else 0 end') }} as num,
    {{ exact_sum('case when compared.is_exposed then 0 else compared.n_outcomes * compared.exposed_share end') }} as den
from compared
inner join {{ ref('int_correlation_pairs') }} as pairs on compared.pair_id = pairs.pair_id
group by pairs.city, pairs.pair_key, compared.h3_7, compared.month
