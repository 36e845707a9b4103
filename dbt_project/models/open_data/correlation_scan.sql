-- An allow-list: what is not named here is not published. Counts are of a whole city; no place is named.
with pairs as (
    select * from {{ ref('mart_correlation_scan') }}
),

cities as (
    select * from {{ ref('dim_city') }}
)

select
    pairs.city,
    {{ city_label('cities') }} as city_name,
    cities.is_simulated,
    pairs.signal_type,
    pairs.outcome_type,
    pairs.n_anchor,
    pairs.status,
    pairs.reason,
    pairs.first_until,
    pairs.found_d0,
    pairs.found_d1,
    pairs.found_rr,
    pairs.found_ci_low,
    pairs.found_ci_high,
    pairs.found_p_adjusted,
    pairs.found_placebo_rr,
    pairs.found_placebo_p,
    pairs.n_tests,
    pairs.held_d0,
    pairs.held_d1,
    pairs.held_rr,
    pairs.held_ci_low,
    pairs.held_ci_high,
    pairs.held_p_adjusted,
    pairs.held_placebo_rr,
    pairs.held_placebo_p,
    pairs.n_held_tests
from pairs
inner join cities on pairs.city = cities.city
