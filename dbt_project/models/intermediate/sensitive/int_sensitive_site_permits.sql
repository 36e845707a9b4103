{%- set reach_m = noise_rules().near_m -%}

-- Permits for work near a sensitive site that are open on its city's last day, by type; one that has expired by then is
-- not, whatever its status says.
with sites as (
    select * from {{ ref('int_sensitive_sites') }}
),

cities as (
    select distinct city, as_of_day from sites
),

permits as (
    select events.city, events.event_type, events.x_m, events.y_m
    from {{ ref('fct_events') }} as events
    inner join {{ ref('construction_noise_types') }} as types
        on events.event_type = types.event_type and types.role = 'site'
    inner join {{ ref('fct_permits') }} as details on events.event_key = details.event_key
    inner join cities on events.city = cities.city
    where
        events.is_canonical
        and not events.is_noise
        and not events.is_excluded
        and events.is_open
        and {{ day_number('cast(details.issued_local as date)') }} <= cities.as_of_day
        and (
            details.expires_local is null
            or {{ day_number('cast(details.expires_local as date)') }} >= cities.as_of_day
        )
)

select asset_key, event_type, cast(count(*) as integer) as n_events
from ({{ near_pairs('sites', 'permits', reach_m, 'searching.asset_key, found.event_type') }}) as near
group by asset_key, event_type
