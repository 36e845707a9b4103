{{ config(materialized='incremental', incremental_strategy='replace_keys') }}

-- Nothing here depends on how far a feed has come: what a newer delivery decides is in int_owner_dwells.
with history as (
    select event_key, origin, seq, status, agency, agency_canonical, status_at
    from {{ ref('fct_status_history') }}
    where origin <> 'source_column' and {{ in_changed_keys('event_key') }}
),

events as (
    select event_key, kind, status, agency, agency_canonical, first_observed_at
    from {{ ref('fct_events') }}
    where agency is not null and kind <> 'crime' and {{ in_changed_keys('event_key') }}
),

statuses as (
    select status from {{ ref('statuses') }} where is_open is distinct from false
),

noted as (
    select event_key, origin, seq, agency, agency_canonical, status_at, false as is_single_state
    from history
    where origin = 'source_note' and agency is not null
),

-- A case that had ended before we first saw it had its owners before, too.
watched_keys as (
    select history.event_key
    from history
    inner join statuses on history.status = statuses.status
    where history.origin = 'observed' and history.seq = 1
),

watched as (
    select event_key, origin, seq, agency, agency_canonical, status_at, false as is_single_state
    from history
    where
        origin = 'observed'
        and agency is not null
        and event_key in (select event_key from watched_keys)
        and event_key not in (select event_key from noted)
),

single as (
    select
        events.event_key,
        'observed' as origin,
        1 as seq,
        events.agency,
        events.agency_canonical,
        events.first_observed_at as status_at,
        true as is_single_state
    from events
    inner join statuses on events.status = statuses.status
    where
        events.event_key not in (select event_key from noted)
        and events.event_key not in (select event_key from history where origin = 'observed')
),

steps as (
    select * from noted
    union all
    select * from watched
    union all
    select * from single
),

owned as (
    select
        *,
        lag(agency) over (partition by event_key order by seq) as previous_agency
    from steps
),

-- Another spelling of a name is no other owner; nearly all names are spelled as before, so few are compared so.
taken_over as (
    select *, {{ normalised_text('agency') }} as owner_key
    from owned
    where
        previous_agency is null
        or (
            agency <> previous_agency
            and {{ normalised_text('agency') }} <> {{ normalised_text('previous_agency') }}
        )
)

select
    event_key,
    cast(row_number() over in_turn as integer) as spell_number,
    origin,
    seq,
    agency as owner,
    owner_key,
    agency_canonical,
    status_at as from_at,
    lead(status_at) over in_turn as next_at,
    row_number() over (partition by event_key, owner_key order by seq) > 1 as is_return,
    lead(seq) over in_turn is null as is_last,
    is_single_state
from taken_over
window in_turn as (partition by event_key order by seq)
