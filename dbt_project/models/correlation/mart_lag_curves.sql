{{ config(tags=['verdict']) }}
select
    city,
    question_id,
    unit,
    lag,
    d,
    rr,
    ci_low,
    ci_high,
    band_low,
    band_high,
    n_block
from {{ source('correlations', 'lag_curves') }}
