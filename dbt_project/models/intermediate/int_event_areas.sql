-- Municipal points repeat, so places are decided once each and events find theirs in bridge_event_area.
with places as (
    select distinct
        city,
        x_m,
        y_m,
        {{ snapped('x_m') }} as x,
        {{ snapped('y_m') }} as y
    from {{ ref('fct_events') }}
    where x_m is not null and y_m is not null
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
)

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
