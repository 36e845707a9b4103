{{ config(tags=['verdict']) }}
select
    city,
    question_id,
    split,
    part,
    estimator,
    n_anchor,
    d0,
    d1,
    rr,
    ci_low,
    ci_high,
    p_value,
    reason
from {{ source('correlations', 'splits') }}
