with requests as (
    select
        event_key,
        city,
        event_type,
        is_canonical,
        is_deleted,
        is_open,
        duplicate_method,
        canonical_event_key,
        agency_canonical,
        expected_agency,
        owner_method
    from {{ ref('fct_events') }}
    where kind = 'service_request' and not is_noise and not is_excluded
),

cases as (
    select * from requests where is_canonical
),

-- One case told by two systems or in two parts of one is no second report.
duplicates as (
    select
        city,
        event_type,
        'duplicate' as cause,
        count(*) as occurrences,
        count(distinct coalesce(canonical_event_key, event_key)) as cases
    from requests
    where not is_canonical and not is_deleted and duplicate_method in ('source', 'near')
    group by city, event_type
),

repeats as (
    select
        cases.city,
        cases.event_type,
        case when contacts.repeat_kind = 'reopened' then 'reopened' else 'repeat_contact' end as cause,
        count(*) as occurrences,
        count(distinct contacts.first_event_key) as cases
    from {{ ref('mart_repeat_contacts') }} as contacts
    inner join cases on contacts.first_event_key = cases.event_key
    group by 1, 2, 3
),

sequences as (
    select
        cases.city,
        cases.event_type,
        handoffs.n_handoffs - handoffs.n_returns as n_forward,
        handoffs.n_returns
    from {{ ref('mart_handoffs') }} as handoffs
    inner join cases on handoffs.event_key = cases.event_key
),

handoffs as (
    select
        city,
        event_type,
        'handoff' as cause,
        sum(n_forward) as occurrences,
        sum(case when n_forward > 0 then 1 else 0 end) as cases
    from sequences
    group by city, event_type
    union all
    select
        city,
        event_type,
        'ping_pong' as cause,
        sum(n_returns) as occurrences,
        sum(case when n_returns > 0 then 1 else 0 end) as cases
    from sequences
    group by city, event_type
),

unclear_owners as (
    select
        city,
        event_type,
        'unclear_owner' as cause,
        count(*) as occurrences,
        count(*) as cases
    from cases
    where owner_method = 'feed' or agency_canonical <> expected_agency
    group by city, event_type
),

occurred as (
    select * from duplicates
    union all
    select * from repeats
    union all
    select * from handoffs
    union all
    select * from unclear_owners
),

-- Whose sources keep or show a history, without which a re-opening leaves no trace.
watched as (
    select distinct event_key from {{ ref('fct_status_history') }} where origin in ('source_note', 'observed')
),

types as (
    select
        requests.city,
        requests.event_type,
        sum(case when requests.is_deleted then 0 else 1 end) as n_reports,
        sum(case when requests.is_canonical then 1 else 0 end) as n_cases,
        sum(case when requests.is_canonical and requests.is_open is not null then 1 else 0 end) as n_with_state,
        sum(case when requests.is_canonical and watched.event_key is not null then 1 else 0 end) as n_watched
    from requests
    left join watched on requests.event_key = watched.event_key
    group by requests.city, requests.event_type
),

owner_known as (
    select city, event_type, count(*) as n_with_owners
    from sequences
    group by city, event_type
),

known as (
    select
        types.city,
        types.event_type,
        minutes.cause,
        minutes.minutes_each,
        case
            when minutes.cause = 'duplicate' then types.n_reports
            when minutes.cause = 'repeat_contact' then types.n_with_state
            when minutes.cause = 'reopened' then types.n_watched
            when minutes.cause in ('handoff', 'ping_pong') then coalesce(owner_known.n_with_owners, 0)
            else types.n_cases
        end as cases_known
    from types
    cross join {{ ref('friction_minutes') }} as minutes
    left join owner_known on types.city = owner_known.city and types.event_type = owner_known.event_type
),

absorbed as (
    select
        known.city,
        known.event_type,
        known.cause,
        known.cases_known,
        case when known.cases_known > 0 then coalesce(occurred.cases, 0) end as cases,
        case when known.cases_known > 0 then coalesce(occurred.occurrences, 0) end as occurrences,
        known.minutes_each
    from known
    left join occurred
        on known.city = occurred.city
        and known.event_type = occurred.event_type
        and known.cause = occurred.cause
)

select
    city,
    event_type,
    cause,
    cast(cases_known as bigint) as cases_known,
    cast(cases as bigint) as cases,
    cast(occurrences as bigint) as occurrences,
    minutes_each,
    occurrences * minutes_each / cast(60 as double) as hours_absorbed,
    -- What nobody knows has no rank.
    case
        when occurrences is not null
            then cast(rank() over (
                partition by city order by occurrences * minutes_each desc nulls last
            ) as integer)
    end as rank
from absorbed
