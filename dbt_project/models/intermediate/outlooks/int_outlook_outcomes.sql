-- Failures in the horizon of a forecast time, with the day from which they could be known; those that lie in no unit are
-- counted without one.
with outcomes as (
    select
        records.city,
        records.outlook,
        origins.origin_day,
        records.unit_key,
        records.known_day
    from {{ ref('int_outlook_records') }} as records
    inner join {{ ref('int_outlook_origins') }} as origins
        on records.city = origins.city
        and records.outlook = origins.outlook
        and records.day between origins.origin_day + 1 and origins.origin_day + origins.horizon_days
    where records.is_outcome and not origins.is_newest
)

select
    outcomes.city,
    outcomes.outlook,
    outcomes.origin_day,
    units.unit_number,
    outcomes.known_day,
    count(*) as n_failure
from outcomes
left join {{ ref('int_outlook_units') }} as units
    on outcomes.city = units.city
    and outcomes.outlook = units.outlook
    and outcomes.unit_key = units.unit_key
group by outcomes.city, outcomes.outlook, outcomes.origin_day, units.unit_number, outcomes.known_day
