select
    city,
    city_name,
    country,
    state,
    time_zone,
    crs,
    is_simulated
from {{ ref('stg_cities') }}
