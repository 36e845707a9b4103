-- An allow-list: what is not named here is not published. Counts are of a whole city; no place is named.
with parts as (
    select * from {{ ref('mart_correlation_splits') }}
),

cities as (
    select * from {{ ref('dim_city') }}
)

select
    parts.city,
    {{ city_label('cities') }} as city_name,
    cities.is_simulated,
    parts.question_id,
    parts.split,
    parts.part,
    parts.estimator,
    parts.n_anchor,
    parts.d0,
    parts.d1,
    parts.rr,
    parts.ci_low,
    parts.ci_high,
    parts.p_value,
    parts.reason
from parts
inner join cities on parts.city = cities.city
