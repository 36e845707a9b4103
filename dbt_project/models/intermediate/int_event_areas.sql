{{ config(
    materialized='incremental', incremental_strategy='replace_in_areas', unique_key=['city', 'x_m', 'y_m']
) }}

-- Municipal points repeat, so places are decided once each and events find theirs in bridge_event_area. Every record's
-- place is here, also one that its case has left since: places only ever come, so a delta adds and takes none away.
with places as (
    select distinct
        city,
        x_m,
        y_m,
        {{ snapped('x_m') }} as x,
        {{ snapped('y_m') }} as y
    from {{ ref('int_events_unioned') }}
    where
        x_m is not null
        and y_m is not null
        and {{ in_changed_places('event_key', 'boundary') }}
),

keyed as (
    select
        city,
        x_m,
        y_m,
        x,
        y,
        {{ grid_cell('x', 'y') }} as cell
    from places
),

covers as (
    select * from {{ source('places', 'area_cover') }}
),

edges as (
    select * from {{ source('places', 'area_edges') }}
),

areas as (
    select * from {{ source('places', 'areas') }}
),

in_inner_cells as (
    select
        keyed.city,
        keyed.x_m,
        keyed.y_m,
        covers.area_key
    from keyed
    inner join covers
        on keyed.city = covers.city
        and keyed.cell = covers.cell
    where covers.is_inside
),

in_border_cells as (
    select
        keyed.city,
        keyed.x_m,
        keyed.y_m,
        covers.area_key
    from keyed
    inner join covers
        on keyed.city = covers.city
        and keyed.cell = covers.cell
    inner join edges
        on covers.city = edges.city
        and covers.cell = edges.cell
        and covers.area_key = edges.area_key
    where not covers.is_inside
    group by keyed.city, keyed.x_m, keyed.y_m, covers.area_key, covers.ref_inside
    having covers.ref_inside <> (sum(
        case when {{ crosses_edge('edges', 'keyed.x', 'keyed.y', 'covers.ref_x', 'covers.ref_y') }} then 1 else 0 end
    ) % 2 = 1)
),

found as (
    select * from in_inner_cells
    union all
    select * from in_border_cells
),

named as (
    select
        found.city,
        found.x_m,
        found.y_m,
        areas.area_type,
        found.area_key,
        areas.area_id,
        areas.valid_from,
        areas.valid_to
    from found
    inner join areas
        on found.city = areas.city
        and found.area_key = areas.area_key
),

-- Few areas of one type overlap on any day; whoever counts events in any of them has to know.
overlapping as (
    select distinct
        named.city,
        named.x_m,
        named.y_m,
        named.area_key
    from named
    inner join named as lower_keyed
        on named.city = lower_keyed.city
        and named.x_m = lower_keyed.x_m
        and named.y_m = lower_keyed.y_m
        and named.area_type = lower_keyed.area_type
        and named.area_key > lower_keyed.area_key
    where {{ hold_on_one_day('named', 'lower_keyed') }}
)

select
    named.city,
    named.x_m,
    named.y_m,
    named.area_type,
    named.area_key,
    named.area_id,
    named.valid_from,
    named.valid_to,
    overlapping.area_key is not null as is_overlapping
from named
left join overlapping
    on named.city = overlapping.city
    and named.x_m = overlapping.x_m
    and named.y_m = overlapping.y_m
    and named.area_key = overlapping.area_key
