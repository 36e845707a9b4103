{%- set rules = duplicate_rules() -%}

with cases as (
    select
        event_key,
        city,
        event_type,
        owner_agency,
        event_at,
        status,
        closed_at
    from {{ ref('fct_events') }}
    where kind = 'service_request' and is_canonical and not is_noise and not is_excluded
),

statuses as (
    select * from {{ ref('statuses') }}
),

-- A source's own log where it has one, else what was observed; never both for one case.
histories as (
    select
        history.event_key,
        history.origin,
        history.seq,
        history.status,
        history.status_at,
        statuses.is_open,
        bool_or(history.origin = 'source_note') over (partition by history.event_key) as has_notes
    from {{ ref('fct_status_history') }} as history
    inner join statuses on history.status = statuses.status
    where history.origin in ('source_note', 'observed') and statuses.is_open is not null
),

steps as (
    select
        event_key,
        origin,
        status_at,
        is_open,
        lag(is_open) over told as was_open,
        lag(status) over told as previous_status,
        lag(status_at) over told as previous_at,
        seq
    from histories
    where origin = case when has_notes then 'source_note' else 'observed' end
    window told as (partition by event_key order by seq)
),

reopened as (
    select
        cases.city,
        cases.event_type,
        cases.owner_agency,
        'reopened' as repeat_kind,
        cases.event_key,
        cases.event_key as first_event_key,
        row_number() over (partition by steps.event_key order by steps.seq) as repeat_number,
        steps.previous_at as first_closed_at,
        steps.previous_status as first_closing_status,
        steps.status_at as repeated_at,
        {{ seconds_between('steps.previous_at', 'steps.status_at') }} / 86400.0 as days_since_closure,
        cast(null as double) as distance_m,
        steps.origin
    from steps
    inner join cases on steps.event_key = cases.event_key
    where steps.is_open and not steps.was_open
),

reported_again as (
    select
        later.city,
        later.event_type,
        earlier.owner_agency,
        'reported_again' as repeat_kind,
        later.event_key,
        earlier.event_key as first_event_key,
        1 as repeat_number,
        earlier.closed_at as first_closed_at,
        earlier.status as first_closing_status,
        later.event_at as repeated_at,
        again.days_since_closure,
        again.distance_m,
        cast(null as varchar) as origin
    from {{ ref('int_reports_again') }} as again
    inner join cases as later on again.event_key = later.event_key
    inner join cases as earlier on again.earlier_key = earlier.event_key
),

contacts as (
    select * from reopened
    where days_since_closure >= 0 and days_since_closure <= {{ rules.again_days }}
    union all
    select * from reported_again
)

select
    contacts.city,
    contacts.event_type,
    contacts.owner_agency,
    contacts.repeat_kind,
    contacts.event_key,
    contacts.first_event_key,
    cast(contacts.repeat_number as integer) as repeat_number,
    contacts.first_closed_at,
    contacts.first_closing_status,
    statuses.ending as first_ending,
    contacts.repeated_at,
    cast(contacts.days_since_closure as double) as days_since_closure,
    contacts.distance_m,
    contacts.origin
from contacts
inner join statuses on contacts.first_closing_status = statuses.status
