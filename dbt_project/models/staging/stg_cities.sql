with declared as (
    select * from {{ source('declared', 'cities') }}
)

select
    city,
    city_name,
    country,
    state,
    time_zone,
    crs,
    is_simulated
from declared
