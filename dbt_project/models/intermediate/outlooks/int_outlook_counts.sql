{%- set year = outlook_year_days() -%}
-- Records near a unit, or in its neighbourhood, that were known at a forecast time. latest_day is when the newest of them
-- happened or arrived: never after the forecast time.
with records as (
    select * from {{ ref('int_outlook_records') }} where is_feature
),

known as (
    select
        records.city,
        records.outlook,
        origins.origin_day,
        records.event_type,
        records.is_failure,
        records.unit_key,
        records.neighbourhood,
        records.known_day,
        origins.origin_day - records.day as age_days,
        records.window_days
    from records
    inner join {{ ref('int_outlook_origins') }} as origins
        on records.city = origins.city
        and records.outlook = origins.outlook
        and records.known_day <= origins.origin_day + {{ outlook_sight_days() }}
    where records.is_failure or origins.origin_day - records.day < {{ year }}
)

{% set counts %}
    count(*) filter (where age_days < window_days) as n_recent,
    count(*) filter (where age_days < {{ year }}) as n_year,
    count(*) filter (where age_days >= {{ year }}) as n_earlier,
    max(known_day) as latest_day
{% endset %}
select
    known.city,
    known.outlook,
    known.origin_day,
    units.unit_number,
    cast(null as bigint) as neighbourhood,
    known.event_type,
    known.is_failure,
    {{ counts }}
from known
inner join {{ ref('int_outlook_units') }} as units
    on known.city = units.city
    and known.outlook = units.outlook
    and known.unit_key = units.unit_key
group by known.city, known.outlook, known.origin_day, units.unit_number, known.event_type, known.is_failure
union all
select
    city,
    outlook,
    origin_day,
    cast(null as integer) as unit_number,
    neighbourhood,
    event_type,
    is_failure,
    {{ counts }}
from known
where age_days < {{ year }}
group by city, outlook, origin_day, neighbourhood, event_type, is_failure
