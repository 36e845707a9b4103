-- An allow-list: what is not named here is not published. Addresses, notes, house numbers and parcels stay out.
-- What the source deleted is not ours to keep public, and what is declared private never was. A case of a live tail
-- that the bulk feed tells too is shown once, as the bulk feed tells it.
with events as (
    select * from {{ ref('fct_events') }}
    where
        kind = 'service_request'
        and not is_deleted
        and not is_withdrawn
        and duplicate_method is distinct from 'live_tail'
),

requests as (
    select * from {{ ref('fct_service_requests') }}
),

cities as (
    select * from {{ ref('dim_city') }}
),

feeds as (
    select * from {{ ref('dim_feed') }}
),

event_types as (
    select * from {{ ref('dim_event_type') }}
)

select
    events.source_id as service_request_id,
    events.city,
    events.feed,
    {{ city_label('cities') }} as city_name,
    cities.is_simulated,
    events.event_type as service_type,
    event_types.label as service_label,
    event_types.event_group as service_group,
    events.event_subtype as service_subtype,
    events.status,
    events.is_open,
    events.event_at as requested_at,
    events.event_on as requested_on,
    events.time_precision,
    events.updated_at,
    events.closed_at,
    cast(events.closed_local as date) as closed_on,
    events.due_at,
    events.owner_agency as agency_responsible,
    requests.channel,
    events.is_duplicate,
    events.postal_code,
    round(events.lon, 3) as lon,
    round(events.lat, 3) as lat,
    feeds.publisher as source_publisher,
    feeds.licence as source_licence,
    feeds.as_of_at
from events
inner join requests on events.event_key = requests.event_key
inner join cities on events.city = cities.city
inner join feeds on events.city = feeds.city and events.feed = feeds.feed
left join event_types on events.event_type = event_types.event_type
