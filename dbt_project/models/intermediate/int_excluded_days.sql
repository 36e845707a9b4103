-- Days of a feed's events that lie in a declared exclusion, however many ranges hold them.
select distinct
    events.city,
    events.feed,
    cast(events.event_local as date) as event_on
from {{ ref('int_events_unioned') }} as events
inner join {{ source('declared', 'exclusions') }} as exclusions
    on events.city = exclusions.city
    and events.feed = exclusions.feed
    and (exclusions.since is null or cast(events.event_local as date) >= exclusions.since)
    and (exclusions.until is null or cast(events.event_local as date) < exclusions.until)
