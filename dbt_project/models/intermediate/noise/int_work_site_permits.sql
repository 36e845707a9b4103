-- Permits under which work is heard, with the days they cover and the site they belong to: permits of one place whose
-- days touch are one site, known by the first of them.
with rules as (
    select * from {{ ref('int_work_rules') }}
),

permits as (
    select
        events.event_key,
        events.city,
        events.event_type,
        events.x_m,
        events.y_m,
        {{ told_parcel('events.parcel_id') }} as parcel_id,
        details.contractor_licence,
        {{ day_number('cast(details.issued_local as date)') }} as starts_day,
        case
            when details.completed_local <= coalesce(details.expires_local, details.completed_local) then 'completed'
            when details.expires_local is not null then 'expires'
            when rules.open_permit_days is not null then 'assumed'
        end as end_basis,
        coalesce(
            {{ day_number('cast(least(details.completed_local, details.expires_local) as date)') }},
            {{ day_number('cast(details.issued_local as date)') }} + rules.open_permit_days
        ) as ends_day
    from {{ ref('fct_events') }} as events
    inner join {{ ref('construction_noise_types') }} as types
        on events.event_type = types.event_type and types.role = 'site'
    inner join {{ ref('fct_permits') }} as details on events.event_key = details.event_key
    inner join rules on events.city = rules.city
    where
        events.is_canonical
        and not events.is_noise
        and not events.is_excluded
        and details.issued_local is not null
),

placed as (
    select
        *,
        coalesce(
            'parcel ' || parcel_id,
            'point ' || cast(cast(round(x_m) as bigint) as varchar)
            || ' ' || cast(cast(round(y_m) as bigint) as varchar)
        ) as place
    from permits
    where ends_day >= starts_day and (parcel_id is not null or (x_m is not null and y_m is not null))
),

followed as (
    select
        *,
        max(ends_day) over (
            partition by city, place order by starts_day, event_key
            rows between unbounded preceding and 1 preceding
        ) as ended_day
    from placed
),

numbered as (
    select
        *,
        sum(case when starts_day <= ended_day + 1 then 0 else 1 end) over (
            partition by city, place order by starts_day, event_key
            rows between unbounded preceding and current row
        ) as spell
    from followed
)

select
    event_key,
    first_value(event_key) over (
        partition by city, place, spell order by starts_day, event_key
        rows between unbounded preceding and unbounded following
    ) as site_key,
    city,
    place,
    event_type,
    parcel_id,
    x_m,
    y_m,
    contractor_licence,
    cast(starts_day as integer) as starts_day,
    cast(ends_day as integer) as ends_day,
    end_basis
from numbered
