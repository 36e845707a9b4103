-- The one place where the evidence reads all events: everything that needs no pair of events is counted from here.
-- The fingerprint changes whenever a record that enters, leaves or moves could change a sum.
select
    events.city,
    events.event_type,
    events.h3_7,
    {{ day_number('events.event_on') }} as day,
    count(*) as n_event,
    count(*) filter (where {{ part_of_day('events') }} = 'night') as n_night,
    count(*) filter (where {{ part_of_day('events') }} = 'day') as n_day,
    {{ rows_fingerprint(['events.event_key', 'events.event_on', 'events.event_subtype', 'events.x_m', 'events.y_m',
        'events.h3_7', 'events.h3_10', part_of_day('events')]) }} as fingerprint
from {{ ref('fct_events') }} as events
where {{ is_evidence('events') }}
group by events.city, events.event_type, events.h3_7, events.event_on
