{{ config(materialized='incremental', incremental_strategy='replace_near_assets', unique_key=['event_key']) }}

-- The nearest item of each type that stood on the day of the event. Only where items come and go has an event to be
-- ranked; elsewhere its place has settled it.
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
        and {{ in_changed_places('event_key', 'asset') }}
),

places as (
    select * from {{ ref('int_event_assets') }}
),

settled as (
    select
        events.event_key,
        events.city,
        places.asset_type,
        places.asset_key,
        places.asset_id,
        places.distance_m,
        places.reach_m
    from events
    inner join places
        on events.city = places.city
        and events.x_m = places.x_m
        and events.y_m = places.y_m
    where places.is_settled
),

standing as (
    select
        events.event_key,
        events.city,
        places.asset_type,
        places.asset_key,
        places.asset_id,
        places.distance_m,
        places.reach_m,
        row_number() over (
            partition by events.event_key, places.asset_type order by places.nearness
        ) as nearness
    from events
    inner join places
        on events.city = places.city
        and events.x_m = places.x_m
        and events.y_m = places.y_m
    where not places.is_settled and {{ holds_on('places', 'events.event_on') }}
)

select
    event_key,
    city,
    asset_type,
    asset_key,
    asset_id,
    distance_m,
    reach_m
from settled
union all
select
    event_key,
    city,
    asset_type,
    asset_key,
    asset_id,
    distance_m,
    reach_m
from standing
where nearness = 1
