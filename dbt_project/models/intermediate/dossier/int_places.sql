-- The places that a dossier can be asked of, from the finest to the widest: an address as sources write it, a segment of
-- road, a cell. Each names the wider ones around it, so that nothing is told twice.
with events as (
    select
        event_key,
        city,
        kind,
        {{ normalised_text('address') }} as address_key,
        address,
        h3_10,
        x_m,
        y_m,
        lon,
        lat
    from {{ ref('fct_events') }}
    where is_canonical and not is_noise and not is_excluded
),

segments as (
    select
        asset_key,
        city,
        asset_id,
        asset_name,
        x_m,
        y_m,
        lon,
        lat
    from {{ ref('dim_asset') }}
    where asset_type = 'road_segment'
),

on_segments as (
    select event_key, asset_key as segment_key from {{ ref('bridge_event_asset') }} where asset_type = 'road_segment'
),

-- What a crime is recorded at is no place that a dossier knows by its address.
at_addresses as (
    select events.*, on_segments.segment_key
    from events
    left join on_segments on events.event_key = on_segments.event_key
    where events.address_key is not null and events.kind <> 'crime'
),

-- Where an address lies in two cells, or at a corner on two segments, the one of most of its records.
address_cells as (
    select
        city,
        address_key,
        h3_10,
        row_number() over (partition by city, address_key order by count(*) desc, h3_10) as preference
    from at_addresses
    where h3_10 is not null
    group by city, address_key, h3_10
),

address_segments as (
    select
        city,
        address_key,
        segment_key,
        row_number() over (partition by city, address_key order by count(*) desc, segment_key) as preference
    from at_addresses
    where segment_key is not null
    group by city, address_key, segment_key
),

addresses as (
    select
        city,
        address_key,
        min(address) as address,
        {{ exact_sum('x_m', 3) }} / nullif(count(x_m), 0) as x_m,
        {{ exact_sum('y_m', 3) }} / nullif(count(y_m), 0) as y_m,
        {{ exact_sum('lon', 9) }} / nullif(count(lon), 0) as lon,
        {{ exact_sum('lat', 9) }} / nullif(count(lat), 0) as lat
    from at_addresses
    group by city, address_key
),

-- Its middle is that of what may be told of it: of one crime alone it would be the place of that crime.
cells as (
    select
        city,
        h3_10,
        {{ exact_sum("case when kind <> 'crime' then x_m end", 3) }} / nullif(count(case when kind <> 'crime' then 1 end), 0)
            as x_m,
        {{ exact_sum("case when kind <> 'crime' then y_m end", 3) }} / nullif(count(case when kind <> 'crime' then 1 end), 0)
            as y_m,
        {{ exact_sum("case when kind <> 'crime' then lon end", 9) }} / nullif(count(case when kind <> 'crime' then 1 end), 0)
            as lon,
        {{ exact_sum("case when kind <> 'crime' then lat end", 9) }} / nullif(count(case when kind <> 'crime' then 1 end), 0)
            as lat
    from events
    where h3_10 is not null
    group by city, h3_10
    having count(case when kind <> 'crime' then 1 end) > 0 or count(*) >= {{ crime_floor() }}
),

segment_cells as (
    select
        on_segments.segment_key,
        events.city,
        events.h3_10,
        row_number() over (
            partition by events.city, on_segments.segment_key order by count(*) desc, events.h3_10
        ) as preference
    from on_segments
    inner join events on on_segments.event_key = events.event_key
    where events.h3_10 is not null and events.kind <> 'crime'
    group by on_segments.segment_key, events.city, events.h3_10
),

places as (
    select
        md5(addresses.city || chr(31) || 'address' || chr(31) || addresses.address_key) as place_key,
        addresses.city,
        'address' as place_type,
        addresses.address_key as place_id,
        addresses.address as place_name,
        address_segments.segment_key,
        address_cells.h3_10,
        addresses.x_m,
        addresses.y_m,
        addresses.lon,
        addresses.lat
    from addresses
    left join address_cells
        on addresses.city = address_cells.city
        and addresses.address_key = address_cells.address_key
        and address_cells.preference = 1
    left join address_segments
        on addresses.city = address_segments.city
        and addresses.address_key = address_segments.address_key
        and address_segments.preference = 1
    union all
    select
        segments.asset_key as place_key,
        segments.city,
        'segment' as place_type,
        segments.asset_id as place_id,
        segments.asset_name as place_name,
        segments.asset_key as segment_key,
        segment_cells.h3_10,
        segments.x_m,
        segments.y_m,
        segments.lon,
        segments.lat
    from segments
    left join segment_cells
        on segments.city = segment_cells.city
        and segments.asset_key = segment_cells.segment_key
        and segment_cells.preference = 1
    union all
    select
        md5(city || chr(31) || 'cell' || chr(31) || cast(h3_10 as varchar)) as place_key,
        city,
        'cell' as place_type,
        cast(h3_10 as varchar) as place_id,
        cast(null as varchar) as place_name,
        cast(null as varchar) as segment_key,
        h3_10,
        x_m,
        y_m,
        lon,
        lat
    from cells
)

select
    place_key,
    city,
    place_type,
    place_id,
    place_name,
    segment_key,
    h3_10,
    x_m,
    y_m,
    lon,
    lat
from places
