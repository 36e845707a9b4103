with labels as (
    select * from {{ ref('stg_source_categories') }} where mapping_method = 'none'
),

events as (
    select city, feed, kind, category, subcategory, code, event_on from {{ ref('fct_events') }}
),

feeds as (
    select city, feed, count(*) as n_feed_events from {{ ref('fct_events') }} group by city, feed
)

select
    labels.city,
    labels.feed,
    labels.kind,
    labels.category,
    labels.subcategory,
    labels.code,
    count(*) as n_events,
    count(*) / cast(max(feeds.n_feed_events) as double) as events_share,
    min(events.event_on) as first_event_on,
    max(events.event_on) as last_event_on
from events
inner join labels
    on events.city = labels.city
    and events.feed = labels.feed
    and events.category is not distinct from labels.category
    and events.subcategory is not distinct from labels.subcategory
    and events.code is not distinct from labels.code
inner join feeds on events.city = feeds.city and events.feed = feeds.feed
group by 1, 2, 3, 4, 5, 6
