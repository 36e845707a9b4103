{%- set reach_m = noise_rules().variance_m -%}

-- The days on which a variance was in force at a site: a permit of a type that the city declares, on the site's parcel
-- or so near that it is the same job. One that tells no end holds until the site ends, in favour of who holds it.
with rules as (
    select * from {{ ref('int_work_rules') }}
),

variances as (
    select
        events.event_key,
        events.city,
        events.x_m,
        events.y_m,
        {{ told_parcel('events.parcel_id') }} as parcel_id,
        {{ day_number('cast(details.issued_local as date)') }} as starts_day,
        coalesce(
            {{ day_number('cast(least(details.completed_local, details.expires_local) as date)') }},
            {{ day_number('cast(details.issued_local as date)') }} + rules.open_permit_days
        ) as ends_day
    from {{ ref('fct_events') }} as events
    inner join {{ ref('stg_variance_types') }} as types
        on events.city = types.city and events.event_type = types.event_type
    inner join {{ ref('fct_permits') }} as details on events.event_key = details.event_key
    inner join rules on events.city = rules.city
    where events.is_canonical and not events.is_excluded and details.issued_local is not null
),

sites as (
    select * from {{ ref('int_work_sites') }}
),

together as (
    select sites.site_key, variances.event_key
    from variances
    inner join sites on variances.city = sites.city and variances.parcel_id = sites.parcel_id
    union
    select site_key, event_key
    from (
        {{ near_pairs('variances', 'sites', reach_m, 'found.site_key, searching.event_key') }}
    ) as near
)

select
    sites.site_key,
    variances.event_key,
    cast(greatest(variances.starts_day, sites.starts_day) as integer) as starts_day,
    cast(least(coalesce(variances.ends_day, sites.ends_day), sites.ends_day) as integer) as ends_day
from together
inner join variances on together.event_key = variances.event_key
inner join sites on together.site_key = sites.site_key
where
    variances.starts_day <= sites.ends_day
    and coalesce(variances.ends_day, sites.ends_day) >= sites.starts_day
