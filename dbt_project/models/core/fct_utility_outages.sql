with outages as (
    {{ latest_records('stg_utility_outages', [
        'started_at', 'started_local', 'restored_at', 'restored_local', 'estimated_restoration_at',
        'estimated_restoration_local', 'customers_affected', 'cause', 'provider', 'attributes'
    ]) }}
),

ended as (
    select event_key, absent_since_at as ended_at from {{ ref('int_absences') }} where is_ended
),

cities as (
    select city, time_zone from {{ ref('stg_cities') }}
)

select
    outages.event_key,
    outages.city,
    outages.feed,
    outages.source_id,
    outages.started_at,
    outages.started_local,
    coalesce(outages.restored_at, ended.ended_at) as restored_at,
    coalesce(outages.restored_local, {{ utc_to_wall('ended.ended_at', 'cities.time_zone') }}) as restored_local,
    case
        when outages.restored_at is not null then 'told'
        when ended.ended_at is not null then 'observed'
    end as restored_at_origin,
    outages.estimated_restoration_at,
    outages.estimated_restoration_local,
    outages.customers_affected,
    outages.cause,
    outages.provider,
    outages.attributes
from outages
left join ended on outages.event_key = ended.event_key
left join cities on outages.city = cities.city
