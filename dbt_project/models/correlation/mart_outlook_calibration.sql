{{ config(tags=['verdict']) }}
select
    city,
    outlook,
    method,
    decile,
    n_unit,
    expected_failures,
    observed_failures
from {{ source('outlooks', 'calibration') }}
