with flagged as (
    select city, feed, kind, {{ split_rows('dq_flags', ',') }} as flag
    from {{ ref('fct_events') }}
    where dq_flags is not null
),

feeds as (
    select city, feed, count(*) as n_feed_events from {{ ref('fct_events') }} group by city, feed
),

counted as (
    select city, feed, kind, flag, count(*) as n_events from flagged group by city, feed, kind, flag
)

select
    counted.city,
    counted.feed,
    counted.kind,
    counted.flag,
    counted.n_events,
    counted.n_events / cast(feeds.n_feed_events as double) as events_share
from counted
inner join feeds on counted.city = feeds.city and counted.feed = feeds.feed
