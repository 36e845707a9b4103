-- Which item of each inventory a piece of work or a failure is about. An id that the record tells and that names one
-- item of the city comes before the nearest item; of other inventories the nearest holds.
with works as (
    select
        event_key,
        city,
        event_type,
        event_on,
        closed_local,
        is_open,
        asset_id
    from {{ ref('fct_events') }}
    where kind = 'infrastructure' and is_canonical and not is_noise and not is_excluded
),

-- An id that items of two inventories share names neither.
named as (
    select city, asset_id, min(asset_type) as asset_type, min(asset_key) as asset_key
    from {{ ref('dim_asset') }}
    group by city, asset_id
    having count(*) = 1
),

nearest as (
    select event_key, asset_type, asset_key, distance_m from {{ ref('bridge_event_asset') }}
),

told as (
    select works.event_key, named.asset_type, named.asset_key
    from works
    inner join named on works.city = named.city and works.asset_id = named.asset_id
),

found as (
    select event_key, asset_type, asset_key, 'told' as method from told
    union all
    select nearest.event_key, nearest.asset_type, nearest.asset_key, 'nearest' as method
    from nearest
    left join told on nearest.event_key = told.event_key and nearest.asset_type = told.asset_type
    where told.event_key is null
)

select
    works.event_key,
    works.city,
    works.event_type,
    works.event_on,
    works.is_open,
    case when not works.is_open then cast(works.closed_local as date) end as closed_on,
    found.asset_type,
    found.asset_key,
    found.method
from works
inner join found on works.event_key = found.event_key
