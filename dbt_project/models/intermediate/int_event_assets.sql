{{ config(
    materialized='incremental', incremental_strategy='replace_near_assets', unique_key=['city', 'x_m', 'y_m']
) }}

-- Of each type, the nearest item that always stood, and every nearer one that stood for a time only: whichever day an
-- event happened, its nearest item is among them. Nearly every place keeps one row per type. Places as in
-- int_event_areas.
with places as (
    select distinct
        city,
        x_m,
        y_m,
        {{ grid_cell('x_m', 'y_m') }} as cell
    from {{ ref('int_events_unioned') }}
    where
        x_m is not null
        and y_m is not null
        and {{ in_changed_places('event_key', 'asset') }}
),

pieces as (
    select * from {{ source('places', 'asset_cover') }}
),

assets as (
    select * from {{ source('places', 'assets') }}
),

projected as (
    select
        places.city,
        places.x_m,
        places.y_m,
        pieces.asset_type,
        pieces.asset_key,
        pieces.reach_m,
        pieces.x1,
        pieces.y1,
        pieces.dx,
        pieces.dy,
        {{ nearest_along('pieces', 'places.x_m', 'places.y_m') }} as along
    from places
    inner join pieces
        on places.city = pieces.city
        and places.cell = pieces.cell
),

measured as (
    select
        city,
        x_m,
        y_m,
        asset_type,
        asset_key,
        reach_m,
        {{ distance2_along('projected', 'x_m', 'y_m', 'along') }} as distance2
    from projected
),

in_reach as (
    select
        city,
        x_m,
        y_m,
        asset_type,
        asset_key,
        max(reach_m) as reach_m,
        min(distance2) as distance2
    from measured
    where distance2 <= reach_m * reach_m
    group by city, x_m, y_m, asset_type, asset_key
),

ranked as (
    select
        in_reach.city,
        in_reach.x_m,
        in_reach.y_m,
        in_reach.asset_type,
        in_reach.asset_key,
        in_reach.reach_m,
        assets.asset_id,
        assets.valid_from,
        assets.valid_to,
        assets.valid_from is null and assets.valid_to is null as is_lasting,
        sqrt(in_reach.distance2) as distance_m,
        cast(row_number() over (
            partition by in_reach.city, in_reach.x_m, in_reach.y_m, in_reach.asset_type
            order by in_reach.distance2, in_reach.asset_key
        ) as integer) as nearness
    from in_reach
    inner join assets
        on in_reach.city = assets.city
        and in_reach.asset_key = assets.asset_key
),

limited as (
    select
        *,
        min(case when is_lasting then nearness end) over (
            partition by city, x_m, y_m, asset_type
        ) as nearest_lasting
    from ranked
)

select
    city,
    x_m,
    y_m,
    asset_type,
    asset_key,
    asset_id,
    distance_m,
    reach_m,
    nearness,
    coalesce(nearest_lasting = 1, false) as is_settled,
    valid_from,
    valid_to
from limited
where nearest_lasting is null or nearness <= nearest_lasting
