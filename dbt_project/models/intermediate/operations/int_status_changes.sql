{{ config(materialized='incremental', incremental_strategy='replace_keys') }}

with steps as (
    select
        event_key,
        origin,
        seq,
        status,
        source_status,
        status_at,
        lag(status) over in_turn as previous_status,
        lag(source_status) over in_turn as previous_source_status
    from {{ ref('fct_status_history') }}
    where origin <> 'source_column' and {{ in_changed_keys('event_key') }}
    window in_turn as (partition by event_key, origin order by seq)
),

changes as (
    select
        steps.event_key,
        steps.origin,
        steps.seq,
        steps.status_at,
        statuses.is_open is distinct from false as is_open
    from steps
    inner join {{ ref('statuses') }} as statuses on steps.status = statuses.status
    where
        steps.status is distinct from steps.previous_status
        or steps.source_status is distinct from steps.previous_source_status
)

select
    event_key,
    origin,
    seq,
    status_at as changed_at,
    lag(status_at) over in_turn as previous_at,
    lag(is_open) over in_turn as was_open,
    -- What the source says of a case (source_note) comes before what was observed of it.
    origin = max(origin) over (partition by event_key) as is_preferred
from changes
window in_turn as (partition by event_key, origin order by seq)
