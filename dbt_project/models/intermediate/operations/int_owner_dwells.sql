{{ config(materialized='view') }}

with bounded as (
    select
        spells.event_key,
        spells.spell_number,
        cases.city,
        cases.feed,
        cases.event_type,
        spells.origin,
        spells.seq,
        spells.owner,
        spells.owner_key,
        spells.agency_canonical,
        spells.from_at,
        case
            when not spells.is_last then spells.next_at
            when cases.is_open then cases.as_of_at
            else cases.closed_at
        end as until_at,
        spells.is_return,
        spells.is_last,
        cases.is_open,
        cases.as_of_at
    from {{ ref('int_owner_spells') }} as spells
    inner join {{ ref('int_cases') }} as cases on spells.event_key = cases.event_key
    -- Open since we first saw it, and the same in a later delivery: one owner until then.
    where not spells.is_single_state or (cases.is_open and spells.from_at < cases.as_of_at)
)

select
    event_key,
    spell_number,
    city,
    feed,
    event_type,
    origin,
    seq,
    owner,
    owner_key,
    agency_canonical,
    from_at,
    until_at,
    case when until_at >= from_at then {{ seconds_between('from_at', 'until_at') }} / 3600.0 end as dwell_hours,
    is_return,
    is_last,
    is_last and is_open as is_going_on,
    is_open,
    as_of_at
from bounded
