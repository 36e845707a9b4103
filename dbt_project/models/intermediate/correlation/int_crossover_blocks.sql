-- Cross-check of the sign: a time-stratified case-crossover. A stratum is one H3-10 cell with outcomes in one fixed
-- span of 28 days; its days are exposed when an episode began near the cell 1..window_days before, and are weighted
-- by the city's outcomes of that day, which takes out season, weekday and city-wide shocks. It shares neither the
-- control area nor the symmetric windows with the primary estimate.
{%- set reach = '(' ~ correlation_bands() | max ~ ' * radius_m)' %}
with outcomes as (

    select outcomes.*, {{ bucket('outcomes.day', 28) }} as span
    from {{ ref('int_correlation_outcomes') }} as outcomes
    inner join {{ ref('int_outcome_periods') }} as periods
        on outcomes.city = periods.city
        and outcomes.outcome_type = periods.outcome_type
    where outcomes.day between periods.first_day and periods.last_day

),

city_days as (

    select city, outcome_type, day, span, count(*) as weight
    from outcomes
    group by city, outcome_type, day, span

),

city_spans as (

    select city, outcome_type, span, sum(weight) as weight
    from city_days
    group by city, outcome_type, span

),

cells as (

    select
        row_number() over (order by city, outcome_type, h3_10) as cell_id,
        city, outcome_type, h3_10, min(h3_7) as h3_7,
        {{ exact_sum('x_m') }} / count(*) as x_m, {{ exact_sum('y_m') }} / count(*) as y_m
    from outcomes
    group by city, outcome_type, h3_10

),

cell_days as (

    select cells.cell_id, outcomes.span, outcomes.day, count(*) as n_outcomes
    from outcomes
    inner join cells
        on outcomes.city = cells.city
        and outcomes.outcome_type = cells.outcome_type
        and outcomes.h3_10 = cells.h3_10
    group by cells.cell_id, outcomes.span, outcomes.day

),

cell_spans as (

    select cell_id, span, sum(n_outcomes) as n_outcomes
    from cell_days
    group by cell_id, span

),

series as (

    select
        row_number() over (order by cities.city, settings.signal_key, settings.outcome_type, settings.radius_m,
            settings.window_days) as series_id,
        cities.city,
        settings.*
    from (
        select distinct signal_key, outcome_type, radius_m, window_days from {{ ref('int_correlation_questions') }}
    ) as settings
    inner join {{ ref('int_outcome_periods') }} as cities on settings.outcome_type = cities.outcome_type

),

strata as (

    select
        series.series_id, series.window_days, series.radius_m, cell_spans.cell_id, cell_spans.span, cells.x_m, cells.y_m,
        {{ space_time_bucket(bucket('cells.x_m', '2 * ' ~ reach), bucket('cells.y_m', '2 * ' ~ reach), 'cell_spans.span') }}
            as bucket
    from cell_spans
    inner join cells on cell_spans.cell_id = cells.cell_id
    inner join series
        on cells.city = series.city
        and cells.outcome_type = series.outcome_type

),

exposing as (

    select
        series.series_id, series.radius_m, episodes.day, episodes.x_m, episodes.y_m,
        {{ each_integer(bucket('episodes.day + 1', 28), bucket('episodes.day + series.window_days', 28)) }} as span
    from {{ ref('int_signal_episodes') }} as episodes
    inner join series
        on episodes.city = series.city
        and episodes.signal_key = series.signal_key

),

searching as (

    select
        exposing.*,
        {{ space_time_bucket(
            bucket('x_m - ' ~ reach, '2 * ' ~ reach) ~ ' + step_x.step',
            bucket('y_m - ' ~ reach, '2 * ' ~ reach) ~ ' + step_y.step',
            'span') }} as bucket
    from exposing
    cross join (values (0), (1)) as step_x (step)
    cross join (values (0), (1)) as step_y (step)

),

-- The exposed days of a stratum as the bits of one integer, so that overlapping exposures need no row per day.
pairs as (

    select
        strata.series_id, strata.radius_m, strata.cell_id, strata.span,
        cast(
            power(2, least(searching.day + strata.window_days, 28 * strata.span + 27) - 28 * strata.span + 1)
            - power(2, greatest(searching.day + 1, 28 * strata.span) - 28 * strata.span)
            as bigint) as days,
        (searching.x_m - strata.x_m) * (searching.x_m - strata.x_m)
            + (searching.y_m - strata.y_m) * (searching.y_m - strata.y_m) as squared_distance
    from searching
    inner join strata
        on searching.bucket = strata.bucket
        and searching.series_id = strata.series_id
    where (searching.x_m - strata.x_m) * (searching.x_m - strata.x_m)
        + (searching.y_m - strata.y_m) * (searching.y_m - strata.y_m)
        <= {{ (correlation_bands() | max) ** 2 }} * strata.radius_m * strata.radius_m

),

exposed_strata as (

    select
        series_id, cell_id, span, {{ band_of('squared_distance', 'radius_m') }} as band, bit_or(days) as days
    from pairs
    group by series_id, cell_id, span, {{ band_of('squared_distance', 'radius_m') }}

),

day_sets as (

    select distinct series_id, span, days
    from exposed_strata

),

day_set_weights as (

    select day_sets.series_id, day_sets.span, day_sets.days, sum(city_days.weight) as weight
    from day_sets
    inner join series on day_sets.series_id = series.series_id
    inner join city_days
        on series.city = city_days.city
        and series.outcome_type = city_days.outcome_type
        and day_sets.span = city_days.span
    where (day_sets.days & cast(power(2, city_days.day - 28 * city_days.span) as bigint)) <> 0
    group by day_sets.series_id, day_sets.span, day_sets.days

),

exposed_outcomes as (

    select
        exposed_strata.series_id, exposed_strata.cell_id, exposed_strata.span, exposed_strata.band, exposed_strata.days,
        sum(case
            when (exposed_strata.days & cast(power(2, cell_days.day - 28 * cell_days.span) as bigint)) <> 0
                then cell_days.n_outcomes
            else 0
        end) as n_outcomes
    from exposed_strata
    inner join cell_days
        on exposed_strata.cell_id = cell_days.cell_id
        and exposed_strata.span = cell_days.span
    group by
        exposed_strata.series_id, exposed_strata.cell_id, exposed_strata.span, exposed_strata.band, exposed_strata.days

),

compared as (

    select
        series.city, series.signal_key, series.outcome_type, series.radius_m, series.window_days,
        cells.h3_7,
        exposed_outcomes.span,
        exposed_outcomes.band,
        exposed_outcomes.n_outcomes,
        day_set_weights.weight,
        cell_spans.n_outcomes - exposed_outcomes.n_outcomes as n_unexposed_outcomes,
        city_spans.weight - day_set_weights.weight as unexposed_weight,
        cast(city_spans.weight as double) as span_weight
    from exposed_outcomes
    inner join series on exposed_outcomes.series_id = series.series_id
    inner join cells on exposed_outcomes.cell_id = cells.cell_id
    inner join cell_spans
        on exposed_outcomes.cell_id = cell_spans.cell_id
        and exposed_outcomes.span = cell_spans.span
    inner join city_spans
        on series.city = city_spans.city
        and series.outcome_type = city_spans.outcome_type
        and exposed_outcomes.span = city_spans.span
    inner join day_set_weights
        on exposed_outcomes.series_id = day_set_weights.series_id
        and exposed_outcomes.span = day_set_weights.span
        and exposed_outcomes.days = day_set_weights.days

)

select
    compared.city,
    questions.question_id,
    compared.band,
    compared.h3_7,
    cast(date_trunc('month', {{ date_of_day('28 * compared.span') }}) as date) as month,
    count(*) as n_strata,
    sum(compared.n_unexposed_outcomes) as n_unexposed_outcomes,
    sum(compared.n_outcomes) as n_exposed_outcomes,
    sum(compared.unexposed_weight) as unexposed_weight,
    sum(compared.weight) as exposed_weight,
    {{ exact_sum('compared.n_outcomes * compared.unexposed_weight / compared.span_weight') }} as num,
    {{ exact_sum('compared.n_unexposed_outcomes * compared.weight / compared.span_weight') }} as den
from compared
inner join {{ ref('int_correlation_questions') }} as questions
    on compared.signal_key = questions.signal_key
    and compared.outcome_type = questions.outcome_type
    and compared.radius_m = questions.radius_m
    and compared.window_days = questions.window_days
group by
    compared.city, questions.question_id, compared.band, compared.h3_7,
    cast(date_trunc('month', {{ date_of_day('28 * compared.span') }}) as date)
