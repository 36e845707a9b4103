with spells as (
    select * from {{ ref('int_owner_dwells') }}
),

counted as (
    select
        city,
        event_type,
        owner_key,
        min(owner) as owner,
        max(agency_canonical) as agency_canonical,
        count(distinct event_key) as cases,
        count(*) as spells,
        count(*) filter (where is_return) as returns,
        count(*) filter (where is_going_on) as spells_going_on,
        count(*) filter (where dwell_hours is null) as spells_without_duration
    from spells
    group by city, event_type, owner_key
),

-- Who still has a case has had it for that long at least.
timed as (
    select city, event_type, owner_key, dwell_hours, not is_going_on as is_ended from spells
),

dwells as (
    {{ kaplan_meier(
        'timed', ['city', 'event_type', 'owner_key'], 'dwell_hours', 'is_ended',
        {'median_dwell_hours': 0.5, 'p90_dwell_hours': 0.1}
    ) | indent(4) }}
)

select
    counted.city,
    counted.event_type,
    counted.owner as agency,
    counted.agency_canonical,
    counted.cases,
    counted.spells,
    dwells.median_dwell_hours,
    dwells.p90_dwell_hours,
    counted.returns / cast(counted.spells as double) as return_share,
    counted.spells_going_on,
    counted.spells_without_duration
from counted
left join dwells
    on counted.city = dwells.city
    and counted.event_type = dwells.event_type
    and counted.owner_key = dwells.owner_key
