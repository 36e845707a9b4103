with spells as (
    select * from {{ ref('int_owner_dwells') }}
),

-- Most cases have one owner: only the others are sorted and counted.
once as (
    select * from spells where spell_number = 1 and is_last
),

several as (
    select
        *,
        row_number() over (
            partition by event_key order by dwell_hours desc nulls last, spell_number
        ) as dwell_rank
    from spells
    where spell_number > 1 or not is_last
),

handed_on as (
    select event_key, origin, seq, from_at from several where spell_number > 1
),

delays as (
    select
        handed_on.event_key,
        handed_on.seq,
        handed_on.from_at,
        min(changes.changed_at) as next_change_at
    from handed_on
    inner join {{ ref('int_status_changes') }} as changes
        on handed_on.event_key = changes.event_key
        and handed_on.origin = changes.origin
        and handed_on.seq < changes.seq
    group by handed_on.event_key, handed_on.seq, handed_on.from_at
),

longest_delays as (
    select
        event_key,
        max({{ seconds_between('from_at', 'next_change_at') }} / 3600.0) as handoff_delay_hours
    from delays
    where next_change_at >= from_at
    group by event_key
),

owners as (
    select
        event_key,
        city,
        feed,
        event_type,
        origin,
        from_at as known_from_at,
        1 as n_owners,
        0 as n_handoffs,
        0 as n_returns,
        owner as first_owner,
        owner as last_owner,
        case when dwell_hours is not null then owner end as longest_owner,
        dwell_hours as longest_dwell_hours,
        is_open,
        as_of_at
    from once
    union all
    select
        event_key,
        min(city) as city,
        min(feed) as feed,
        min(event_type) as event_type,
        min(origin) as origin,
        min(from_at) as known_from_at,
        count(distinct owner_key) as n_owners,
        count(*) - 1 as n_handoffs,
        count(*) filter (where is_return) as n_returns,
        max(case when spell_number = 1 then owner end) as first_owner,
        max(case when is_last then owner end) as last_owner,
        max(case when dwell_rank = 1 and dwell_hours is not null then owner end) as longest_owner,
        max(dwell_hours) as longest_dwell_hours,
        bool_or(is_open) as is_open,
        min(as_of_at) as as_of_at
    from several
    group by event_key
)

select
    owners.event_key,
    owners.city,
    owners.feed,
    owners.event_type,
    owners.origin,
    owners.known_from_at,
    cast(owners.n_owners as integer) as n_owners,
    cast(owners.n_handoffs as integer) as n_handoffs,
    cast(owners.n_returns as integer) as n_returns,
    owners.first_owner,
    owners.last_owner,
    owners.longest_owner,
    owners.longest_dwell_hours,
    longest_delays.handoff_delay_hours,
    owners.is_open,
    owners.as_of_at
from owners
left join longest_delays on owners.event_key = longest_delays.event_key
