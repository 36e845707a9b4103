{{ config(materialized='incremental', incremental_strategy='replace_months') }}
-- depends_on: {{ ref('int_evidence_months') }}
-- Cells without an outcome near an anchor add nothing but anchors: they are one row a month, as cell 0.
select
    city,
    pair_key,
    signal_type,
    outcome_type,
    variant,
    control_level,
    case when d0 + d1 > 0 then h3_7 else 0 end as h3_7,
    month,
    cast(sum(n_anchor) as bigint) as n_anchor,
    cast(sum(d0) as bigint) as d0,
    cast(sum(d1) as bigint) as d1,
    sum(num) as num,
    sum(den) as den
from {{ ref('int_block_sums') }}
where is_scan
group by
    city, pair_key, signal_type, outcome_type, variant, control_level,
    case when d0 + d1 > 0 then h3_7 else 0 end, month
