{{ config(materialized='incremental', incremental_strategy='replace_in_areas', unique_key=['event_key']) }}

-- An old event keeps its old ward: the area is the one that held on the day of the event.
with events as (
    select
        event_key,
        city,
        event_on,
        x_m,
        y_m
    from {{ ref('fct_events') }}
    where
        x_m is not null
        and y_m is not null
        and {{ in_changed_places('event_key', 'boundary') }}
),

places as (
    select * from {{ ref('int_event_areas') }}
)

select
    events.event_key,
    events.city,
    events.event_on,
    places.area_type,
    places.area_key,
    places.area_id,
    'point_in_area' as method,
    places.valid_from,
    places.valid_to
from events
inner join places
    on events.city = places.city
    and events.x_m = places.x_m
    and events.y_m = places.y_m
where {{ holds_on('places', 'events.event_on') }}
