{{ config(tags=['verdict']) }}

with published as (
    select count(*) as n_rows from {{ ref('service_requests') }}
),

events as (
    select count(*) as n_events from {{ ref('fct_service_requests') }}
)

select published.n_rows, events.n_events
from published
cross join events
where published.n_rows <> events.n_events
