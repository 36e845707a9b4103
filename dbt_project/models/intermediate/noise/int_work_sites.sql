with permits as (
    select * from {{ ref('int_work_site_permits') }}
),

located as (
    select
        site_key,
        x_m,
        y_m,
        row_number() over (partition by site_key order by starts_day, event_key) as preference
    from permits
    where x_m is not null and y_m is not null
),

firsts as (
    select site_key, event_type from permits where event_key = site_key
),

sites as (
    select
        site_key,
        city,
        place,
        max(parcel_id) as parcel_id,
        min(starts_day) as starts_day,
        max(ends_day) as ends_day,
        bool_or(end_basis = 'assumed') as is_end_assumed,
        cast(count(*) as integer) as n_permits,
        case when count(distinct contractor_licence) = 1 then max(contractor_licence) end as contractor_licence
    from permits
    group by site_key, city, place
)

select
    sites.site_key,
    sites.city,
    sites.place,
    firsts.event_type,
    sites.parcel_id,
    located.x_m,
    located.y_m,
    sites.starts_day,
    sites.ends_day,
    sites.is_end_assumed,
    sites.n_permits,
    sites.contractor_licence
from sites
inner join firsts on sites.site_key = firsts.site_key
left join located on sites.site_key = located.site_key and located.preference = 1
