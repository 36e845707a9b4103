-- The days on which a type was observed in a city. Strays (a handful of records dated years away from the rest)
-- do not make a period: it runs between the first and the last 28 days that hold at least 5 % of a usual 28 days.
with spans as (

    select city, event_type, {{ bucket('day', 28) }} as span, sum(n_event) as n_event
    from {{ ref('int_evidence_cell_days') }}
    group by city, event_type, {{ bucket('day', 28) }}

),

usual as (

    select city, event_type, median(n_event) as n_event
    from spans
    group by city, event_type

),

busy as (

    select spans.city, spans.event_type, min(spans.span) as first_span, max(spans.span) as last_span
    from spans
    inner join usual on spans.city = usual.city and spans.event_type = usual.event_type
    where spans.n_event >= 0.05 * usual.n_event
    group by spans.city, spans.event_type

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
    days.city,
    days.event_type as outcome_type,
    min(days.day) as first_day,
    max(days.day) as last_day,
    cast(sum(days.n_event) as bigint) as n_outcomes,
    max(areas.area_m2) as area_m2
from {{ ref('int_evidence_cell_days') }} as days
inner join busy on days.city = busy.city and days.event_type = busy.event_type
inner join areas on days.city = areas.city
where {{ bucket('days.day', 28) }} between busy.first_span and busy.last_span
group by days.city, days.event_type
