{{ config(materialized='incremental', incremental_strategy='replace_months') }}
-- depends_on: {{ ref('int_evidence_months') }}
with sums as (

    select * from {{ ref('int_block_sums') }} where not is_scan
    union all
    select * from {{ ref('int_ring_sums') }}

)

select
    city,
    pair_key as question_id,
    band,
    variant,
    control_level,
    h3_7,
    month,
    n_anchor,
    d0,
    d1,
    r0,
    r1,
    num,
    den,
    c0_sum
from sums

union all

select
    city,
    pair_key as question_id,
    1 as band,
    'case_crossover' as variant,
    'city' as control_level,
    h3_7,
    month,
    cast(n_strata as bigint) as n_anchor,
    cast(n_unexposed_outcomes as bigint) as d0,
    cast(n_exposed_outcomes as bigint) as d1,
    cast(unexposed_weight as bigint) as r0,
    cast(exposed_weight as bigint) as r1,
    cast(num as double) as num,
    cast(den as double) as den,
    cast(0 as double) as c0_sum
from {{ ref('int_crossover_blocks') }}
