{{ config(tags=['verdict']) }}

-- Every one that may be shown: not deleted by its source, not of a private type, not told by the bulk feed too.
with published as (
    select count(*) as n_rows from {{ ref('service_requests') }}
),

events as (
    select count(*) as n_events
    from {{ ref('fct_service_requests') }} as requests
    inner join {{ ref('fct_events') }} as events on requests.event_key = events.event_key
    where
        not events.is_deleted
        and not events.is_withdrawn
        and events.duplicate_method is distinct from 'live_tail'
)

select published.n_rows, events.n_events
from published
cross join events
where published.n_rows <> events.n_events
