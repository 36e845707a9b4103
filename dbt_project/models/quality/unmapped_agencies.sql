with events as (
    select city, feed, kind, agency, agency_canonical, event_on from {{ ref('fct_events') }}
),

feeds as (
    select city, feed, count(*) as n_feed_events from events group by city, feed
)

select
    events.city,
    events.feed,
    events.kind,
    events.agency,
    count(*) as n_events,
    count(*) / cast(max(feeds.n_feed_events) as double) as events_share,
    min(events.event_on) as first_event_on,
    max(events.event_on) as last_event_on
from events
inner join feeds on events.city = feeds.city and events.feed = feeds.feed
where events.agency is not null and events.agency_canonical is null
group by 1, 2, 3, 4
