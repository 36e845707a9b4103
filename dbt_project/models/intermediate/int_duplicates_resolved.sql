with latest as (
    select event_key, part, delivery_id, source_row
    from {{ ref('int_versions_numbered') }}
    where is_latest
),

events as (
    select * from {{ ref('int_events_unioned') }} where is_duplicate and parent_id is not null
),

duplicates as (
    select events.event_key, {{ event_key('events.city', 'events.feed', 'events.parent_id') }} as parent_key
    from events
    inner join latest
        on events.event_key = latest.event_key
        and events.part = latest.part
        and events.delivery_id = latest.delivery_id
        and events.source_row = latest.source_row
)

-- A parent that was never delivered cannot stand for anything.
select duplicates.event_key, duplicates.parent_key as canonical_event_key
from duplicates
inner join latest as parents on duplicates.parent_key = parents.event_key
where duplicates.event_key <> duplicates.parent_key
