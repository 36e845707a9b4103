-- The days on which an outcome was observed in a city. Strays (a handful of records dated years away from the rest)
-- do not make a period: it runs between the first and the last 28 days that hold at least 5 % of a usual 28 days.
with spans as (

    select city, outcome_type, {{ bucket('day', 28) }} as span, count(*) as n_outcomes
    from {{ ref('int_correlation_outcomes') }}
    group by city, outcome_type, {{ bucket('day', 28) }}

),

usual as (

    select city, outcome_type, median(n_outcomes) as n_outcomes
    from spans
    group by city, outcome_type

),

busy as (

    select spans.city, spans.outcome_type, min(spans.span) as first_span, max(spans.span) as last_span
    from spans
    inner join usual on spans.city = usual.city and spans.outcome_type = usual.outcome_type
    where spans.n_outcomes >= 0.05 * usual.n_outcomes
    group by spans.city, spans.outcome_type

),

-- Squares of 500 m that hold any event: the area a naive analyst spreads the outcomes over.
squares as (

    select distinct city, {{ bucket('x_m', 500) }} as square_x, {{ bucket('y_m', 500) }} as square_y
    from {{ ref('fct_events') }}
    where x_m is not null and y_m is not null

),

areas as (

    select city, count(*) * 250000.0 as area_m2
    from squares
    group by city

)

select
    outcomes.city,
    outcomes.outcome_type,
    min(outcomes.day) as first_day,
    max(outcomes.day) as last_day,
    count(*) as n_outcomes,
    max(areas.area_m2) as area_m2
from {{ ref('int_correlation_outcomes') }} as outcomes
inner join busy on outcomes.city = busy.city and outcomes.outcome_type = busy.outcome_type
inner join areas on outcomes.city = areas.city
where {{ bucket('outcomes.day', 28) }} between busy.first_span and busy.last_span
group by outcomes.city, outcomes.outcome_type
