-- An old event keeps its old ward: the area is the one that held on the day of the event.
select
    events.event_key,
    places.area_type,
    places.area_key,
    places.area_id
from {{ ref('fct_events') }} as events
inner join {{ ref('int_event_areas') }} as places
    on events.city = places.city
    and events.x_m = places.x_m
    and events.y_m = places.y_m
where
    (places.valid_from is null or events.event_on >= places.valid_from)
    and (places.valid_to is null or events.event_on < places.valid_to)
