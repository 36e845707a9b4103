-- The days a feed's records reach over. Strays (a handful of records dated years away from the rest) do not make a
-- period: it runs between the first and the last 28 days that hold at least 5 % of a usual 28 days.
with days as (
    select
        events.city,
        events.feed,
        {{ day_number('events.event_on') }} as day,
        count(*) as n_event
    from {{ ref('fct_events') }} as events
    inner join {{ ref('dim_feed') }} as feeds on events.city = feeds.city and events.feed = feeds.feed
    where events.event_at <= feeds.as_of_at
    group by events.city, events.feed, {{ day_number('events.event_on') }}
),

spans as (
    select
        city,
        feed,
        {{ bucket('day', 28) }} as span,
        min(day) as first_day,
        max(day) as last_day,
        sum(n_event) as n_event
    from days
    group by city, feed, {{ bucket('day', 28) }}
),

usual as (
    select city, feed, median(n_event) as n_event
    from spans
    group by city, feed
)

select
    spans.city,
    spans.feed,
    cast(min(spans.first_day) as integer) as first_day,
    cast(max(spans.last_day) as integer) as last_day
from spans
inner join usual on spans.city = usual.city and spans.feed = usual.feed
where spans.n_event >= 0.05 * usual.n_event
group by spans.city, spans.feed
