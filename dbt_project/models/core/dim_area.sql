select
    area_key,
    city,
    feed,
    area_type,
    area_id,
    area_name,
    valid_from,
    valid_to,
    area_km2,
    lon,
    lat,
    geometry
from {{ source('places', 'areas') }}
