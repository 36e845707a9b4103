-- An allow-list: what is not named here is not published. Counts are of a whole city; no place is named.
with curves as (
    select * from {{ ref('mart_lag_curves') }}
),

cities as (
    select * from {{ ref('dim_city') }}
)

select
    curves.city,
    {{ city_label('cities') }} as city_name,
    cities.is_simulated,
    curves.question_id,
    curves.unit,
    curves.lag,
    curves.d,
    curves.rr,
    curves.ci_low,
    curves.ci_high,
    curves.band_low,
    curves.band_high,
    curves.n_block
from curves
inner join cities on curves.city = cities.city
