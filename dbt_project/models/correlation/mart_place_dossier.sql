{%- set rules = dossier_rules() -%}
{%- set site_bucket_m = 250 -%}
{%- set sensor_bucket_m = rules.sensor_m -%}

with places as (
    select * from {{ ref('int_places') }}
),

event_types as (
    select event_type, label from {{ ref('dim_event_type') }}
),

assets as (
    select * from {{ ref('dim_asset') }}
),

place_items as (
    select * from {{ ref('place_items') }}
),

feeds as (
    select city, feed, as_of_at from {{ ref('dim_feed') }}
),

-- A feed tells nothing after its newest record: lately is counted back from there, however long ago it was.
told_until as (
    select
        city,
        feed,
        max(event_on) as told_until_on,
        max(case when closed_at is not null then 1 else 0 end) = 1 as tells_closing
    from {{ ref('fct_events') }}
    group by city, feed
),

events as (
    select
        events.event_key,
        events.city,
        events.kind,
        events.event_type,
        events.event_on,
        events.h3_10,
        {{ normalised_text('events.address') }} as address_key,
        case events.kind
            when 'service_request' then 'request'
            when 'permit' then 'permit'
            when 'crime' then 'crime'
            when 'utility' then 'outage'
            when 'infrastructure' then 'work'
        end as section,
        -- Without a status and in a feed without closing times, nobody knows.
        case when events.status <> 'unknown' or told_until.tells_closing then events.is_open end as is_open,
        events.status = 'expired' or (events.is_open and permits.expires_at < feeds.as_of_at) as is_expired,
        events.status = 'inspection' as is_in_inspection,
        told_until.told_until_on,
        {{ days_between('events.event_on', 'told_until.told_until_on') }} < {{ rules.recent_days }} as is_recent
    from {{ ref('fct_events') }} as events
    inner join told_until on events.city = told_until.city and events.feed = told_until.feed
    inner join feeds on events.city = feeds.city and events.feed = feeds.feed
    left join {{ ref('fct_permits') }} as permits on events.event_key = permits.event_key
    where
        events.is_canonical
        and not events.is_noise
        and not events.is_excluded
        and events.event_group is distinct from 'sensor'
),

at_places as (
    select md5(city || chr(31) || 'address' || chr(31) || address_key) as place_key, events.*
    from events
    where address_key is not null and kind <> 'crime'
    union all
    select bridge.asset_key as place_key, events.*
    from events
    inner join {{ ref('bridge_event_asset') }} as bridge on events.event_key = bridge.event_key
    where bridge.asset_type = 'road_segment' and events.kind <> 'crime'
    union all
    select md5(city || chr(31) || 'cell' || chr(31) || cast(h3_10 as varchar)) as place_key, events.*
    from events
    where h3_10 is not null
),

counted as (
    select
        place_key,
        section,
        event_type,
        count(*) as n,
        count(case when is_open then 1 end) as n_open,
        count(is_open) as n_told_open,
        count(case when is_recent then 1 end) as n_recent,
        min(event_on) as first_on,
        max(event_on) as newest_on,
        min(case when is_open then event_on end) as oldest_open_on,
        count(case when is_expired then 1 end) as n_expired,
        count(case when is_in_inspection then 1 end) as n_in_inspection,
        max(told_until_on) as told_until_on
    from at_places
    group by place_key, section, event_type
),

-- What is withheld is told of every cell alike, so that nothing can be read from it; neither are the days of what is told.
crime_cities as (
    select city, min(event_on) as first_on, max(told_until_on) as told_until_on
    from events
    where kind = 'crime'
    group by city
),

happenings as (
    select
        place_key,
        section,
        event_type as item,
        event_type,
        n,
        case when n_told_open > 0 then n_open end as n_open,
        n_recent,
        first_on,
        newest_on,
        oldest_open_on,
        case when section = 'permit' then n_expired end as n_expired,
        case when section = 'permit' then n_in_inspection end as n_in_inspection,
        told_until_on,
        cast(null as varchar) as withheld_reason
    from counted
    where section <> 'crime'
    union all
    select
        counted.place_key,
        counted.section,
        counted.event_type as item,
        counted.event_type,
        counted.n,
        null as n_open,
        null as n_recent,
        crime_cities.first_on,
        null as newest_on,
        null as oldest_open_on,
        null as n_expired,
        null as n_in_inspection,
        crime_cities.told_until_on,
        cast(null as varchar) as withheld_reason
    from counted
    inner join places on counted.place_key = places.place_key
    inner join crime_cities on places.city = crime_cities.city
    where counted.section = 'crime' and counted.n >= {{ crime_floor() }}
    union all
    select
        places.place_key,
        'crime' as section,
        'every other type' as item,
        null as event_type,
        null as n,
        null as n_open,
        null as n_recent,
        crime_cities.first_on,
        null as newest_on,
        null as oldest_open_on,
        null as n_expired,
        null as n_in_inspection,
        crime_cities.told_until_on,
        'below_floor' as withheld_reason
    from places
    inner join crime_cities on places.city = crime_cities.city
    where places.place_type = 'cell'
),

-- Done to the item, or its failing: what is done close by is not of it.
works as (
    select
        works.asset_key,
        works.event_on,
        works.closed_on,
        failure_types.failure_type is not null as is_failure
    from {{ ref('int_work_assets') }} as works
    left join (select distinct failure_type, asset_type from {{ ref('failure_types') }}) as failure_types
        on works.event_type = failure_types.failure_type and works.asset_type = failure_types.asset_type
    left join {{ ref('maintained_assets') }} as maintained
        on works.event_type = maintained.work_order_type and works.asset_type = maintained.asset_type
    where failure_types.failure_type is not null or maintained.work_order_type is not null
),

records as (
    select
        asset_key,
        count(case when is_failure then 1 end) as n_failure,
        max(case when is_failure then event_on end) as last_failure_on,
        count(case when not is_failure then 1 end) as n_work,
        max(case when not is_failure then closed_on end) as last_work_on
    from works
    group by asset_key
),

-- Which of it a city tells at all: an item without a record of a kind that nobody keeps has no known past.
recorded_types as (
    select
        assets.city,
        assets.asset_type,
        max(case when works.is_failure then 1 else 0 end) = 1 as tells_failures,
        max(case when works.is_failure then 0 else 1 end) = 1 as tells_work
    from works
    inner join assets on works.asset_key = assets.asset_key
    group by assets.city, assets.asset_type
),

newest_day as (
    select city, max(told_until_on) as told_until_on from told_until group by city
),

-- What lies in reach of what happened at a place, at the least distance from any of it; a segment is its own item.
in_reach as (
    select at_places.place_key, bridge.asset_key, min(bridge.distance_m) as distance_m
    from (select distinct place_key, event_key from at_places where kind <> 'crime') as at_places
    inner join places on at_places.place_key = places.place_key and places.place_type <> 'address'
    inner join {{ ref('bridge_event_asset') }} as bridge on at_places.event_key = bridge.event_key
    inner join place_items on bridge.asset_type = place_items.asset_type and place_items.section <> 'site'
    where not (places.place_type = 'segment' and bridge.asset_type = 'road_segment')
    group by at_places.place_key, bridge.asset_key
    union all
    select place_key, place_key as asset_key, cast(0 as double) as distance_m
    from places
    where place_type = 'segment'
),

-- A box of one bucket around a site touches two buckets an axis.
sites_by_bucket as (
    select
        assets.city,
        assets.asset_key,
        assets.x_m,
        assets.y_m,
        place_items.within_m,
        {{ bucket('assets.x_m - ' ~ site_bucket_m, 2 * site_bucket_m) }} + step_x.step as x_bucket,
        {{ bucket('assets.y_m - ' ~ site_bucket_m, 2 * site_bucket_m) }} + step_y.step as y_bucket
    from assets
    inner join place_items on assets.asset_type = place_items.asset_type and place_items.section = 'site'
    {{ neighbour_steps(with_time=false) }}
    where assets.x_m is not null and assets.y_m is not null
),

place_points as (
    select
        place_key,
        city,
        x_m,
        y_m,
        {{ bucket('x_m', 2 * site_bucket_m) }} as x_bucket,
        {{ bucket('y_m', 2 * site_bucket_m) }} as y_bucket,
        {{ bucket('x_m', 2 * sensor_bucket_m) }} as x_wide_bucket,
        {{ bucket('y_m', 2 * sensor_bucket_m) }} as y_wide_bucket
    from places
    where place_type <> 'address' and x_m is not null and y_m is not null
),

near_sites as (
    select
        place_points.place_key,
        sites.asset_key,
        sqrt({{ squared_distance('place_points', 'sites') }}) as distance_m
    from place_points
    inner join sites_by_bucket as sites
        on place_points.city = sites.city
        and place_points.x_bucket = sites.x_bucket
        and place_points.y_bucket = sites.y_bucket
    where {{ squared_distance('place_points', 'sites') }} <= sites.within_m * sites.within_m
),

items as (
    select
        found.place_key,
        place_items.section,
        assets.asset_key as item,
        assets.asset_type,
        assets.asset_id,
        assets.asset_name,
        assets.material,
        assets.condition,
        assets.installed_on,
        case
            when assets.installed_on <= newest_day.told_until_on
                then {{ days_between('assets.installed_on', 'newest_day.told_until_on') }} / 365.25
        end as age_years,
        found.distance_m,
        case when recorded_types.tells_failures then coalesce(records.n_failure, 0) end as n_failure,
        records.last_failure_on,
        case when recorded_types.tells_work then coalesce(records.n_work, 0) end as n_work,
        records.last_work_on,
        newest_day.told_until_on
    from (
        select * from in_reach
        union all
        select * from near_sites
    ) as found
    inner join assets on found.asset_key = assets.asset_key
    inner join place_items on assets.asset_type = place_items.asset_type
    left join newest_day on assets.city = newest_day.city
    left join records on assets.asset_key = records.asset_key
    left join recorded_types on assets.city = recorded_types.city and assets.asset_type = recorded_types.asset_type
),

sensors_by_bucket as (
    select
        sensors.*,
        {{ bucket('sensors.x_m - ' ~ sensor_bucket_m, 2 * sensor_bucket_m) }} + step_x.step as x_bucket,
        {{ bucket('sensors.y_m - ' ~ sensor_bucket_m, 2 * sensor_bucket_m) }} + step_y.step as y_bucket
    from {{ ref('int_sensor_trends') }} as sensors
    {{ neighbour_steps(with_time=false) }}
    where sensors.x_m is not null and sensors.y_m is not null
),

readings as (
    select
        place_points.place_key,
        'reading' as section,
        sensors.feed || ' ' || sensors.sensor_id || ' ' || sensors.event_type || coalesce(' ' || sensors.unit, '') as item,
        sensors.event_type,
        sensors.sensor_id,
        sqrt({{ squared_distance('place_points', 'sensors') }}) as distance_m,
        sensors.n_reading,
        sensors.newest_on,
        sensors.unit,
        sensors.newest_quantity,
        sensors.n_recent_reading,
        sensors.n_reading_day,
        sensors.trend,
        sensors.trend_low,
        sensors.trend_high,
        sensors.trend_verdict,
        sensors.told_until_on
    from place_points
    inner join sensors_by_bucket as sensors
        on place_points.city = sensors.city
        and place_points.x_wide_bucket = sensors.x_bucket
        and place_points.y_wide_bucket = sensors.y_bucket
    where {{ squared_distance('place_points', 'sensors') }} <= {{ rules.sensor_m }} * {{ rules.sensor_m }}
),

{%- set of_happenings = ['n', 'n_open', 'n_recent', 'first_on', 'newest_on', 'oldest_open_on', 'n_expired', 'n_in_inspection', 'withheld_reason'] %}
{%- set of_items = ['asset_type', 'asset_id', 'asset_name', 'material', 'condition', 'installed_on', 'age_years', 'n_failure', 'last_failure_on', 'n_work', 'last_work_on'] %}
{%- set of_readings = ['unit', 'newest_quantity', 'n_recent_reading', 'n_reading_day', 'trend', 'trend_low', 'trend_high', 'trend_verdict'] %}

rows_of_all as (
    select
        place_key, section, item, event_type, told_until_on, null as distance_m,
        {{ of_happenings | join(', ') }},
        {% for column in of_items + of_readings %}null as {{ column }}{{ ', ' if not loop.last }}{% endfor %}
    from happenings
    union all
    select
        place_key, section, item, null as event_type, told_until_on, distance_m,
        {% for column in of_happenings %}null as {{ column }}, {% endfor %}
        {{ of_items | join(', ') }},
        {% for column in of_readings %}null as {{ column }}{{ ', ' if not loop.last }}{% endfor %}
    from items
    union all
    select
        place_key, section, item, event_type, told_until_on, distance_m,
        n_reading as n, null as n_open, null as n_recent, null as first_on, newest_on, null as oldest_open_on,
        null as n_expired, null as n_in_inspection, null as withheld_reason,
        {% for column in of_items %}{{ 'sensor_id as asset_id' if column == 'asset_id' else 'null as ' ~ column }}, {% endfor %}
        {{ of_readings | join(', ') }}
    from readings
)

select
    places.place_key,
    places.city,
    places.place_type,
    places.place_id,
    places.place_name,
    places.segment_key,
    places.h3_10,
    places.lon,
    places.lat,
    rows_of_all.section,
    rows_of_all.item,
    rows_of_all.event_type,
    coalesce(event_types.label, replace(rows_of_all.asset_type, '_', ' '), rows_of_all.item) as label,
    cast(rows_of_all.distance_m as double) as distance_m,
    cast(rows_of_all.n as integer) as n,
    cast(rows_of_all.n_open as integer) as n_open,
    cast(rows_of_all.n_recent as integer) as n_recent,
    cast(rows_of_all.first_on as date) as first_on,
    cast(rows_of_all.newest_on as date) as newest_on,
    cast(rows_of_all.oldest_open_on as date) as oldest_open_on,
    cast(rows_of_all.n_expired as integer) as n_expired,
    cast(rows_of_all.n_in_inspection as integer) as n_in_inspection,
    rows_of_all.withheld_reason,
    rows_of_all.asset_type,
    rows_of_all.asset_id,
    rows_of_all.asset_name,
    rows_of_all.material,
    rows_of_all.condition,
    cast(rows_of_all.installed_on as date) as installed_on,
    cast(rows_of_all.age_years as double) as age_years,
    cast(rows_of_all.n_failure as integer) as n_failure,
    cast(rows_of_all.last_failure_on as date) as last_failure_on,
    cast(rows_of_all.n_work as integer) as n_work,
    cast(rows_of_all.last_work_on as date) as last_work_on,
    rows_of_all.unit,
    cast(rows_of_all.newest_quantity as double) as newest_quantity,
    cast(rows_of_all.n_recent_reading as integer) as n_recent_reading,
    cast(rows_of_all.n_reading_day as integer) as n_reading_day,
    cast(rows_of_all.trend as double) as trend,
    cast(rows_of_all.trend_low as double) as trend_low,
    cast(rows_of_all.trend_high as double) as trend_high,
    rows_of_all.trend_verdict,
    cast(rows_of_all.told_until_on as date) as told_until_on
from rows_of_all
inner join places on rows_of_all.place_key = places.place_key
left join event_types on rows_of_all.event_type = event_types.event_type
