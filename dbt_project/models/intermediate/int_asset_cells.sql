{%- set built = built_asset_cells() %}
-- The grid cells that inventories reach, each with what decides the nearest items there, and whether that is other than
-- what the last build's answers rest on.
with reached as (
    select
        covers.city,
        covers.cell,
        {{ rows_fingerprint([
            'covers.asset_key', 'covers.asset_type', 'covers.reach_m', 'covers.x1', 'covers.y1', 'covers.dx', 'covers.dy',
            'assets.asset_id', 'assets.valid_from', 'assets.valid_to'
        ]) }} as fingerprint
    from {{ source('places', 'asset_cover') }} as covers
    inner join {{ source('places', 'assets') }} as assets
        on covers.city = assets.city
        and covers.asset_key = assets.asset_key
    group by covers.city, covers.cell
),

built as (
    {% if built is not none -%}
    select city, cell, fingerprint from {{ built }}
    {%- else -%}
    select city, cell, fingerprint from reached where false
    {%- endif %}
)

select
    coalesce(reached.city, built.city) as city,
    coalesce(reached.cell, built.cell) as cell,
    reached.fingerprint,
    reached.fingerprint is distinct from built.fingerprint as is_changed
from reached
full outer join built
    on reached.city = built.city
    and reached.cell = built.cell
