-- What is counted at each site on the days on which both work and complaints are known; a site without such a day has
-- no row.
with periods as (
    select
        complaints.city,
        min(periods.first_day) as first_day,
        max(periods.last_day) as last_day
    from (select distinct city, feed from {{ ref('int_work_complaints') }}) as complaints
    inner join {{ ref('int_feed_periods') }} as periods
        on complaints.city = periods.city and complaints.feed = periods.feed
    group by complaints.city
),

sites as (
    select
        sites.site_key,
        sites.city,
        greatest(sites.starts_day, periods.first_day) as first_day,
        least(sites.ends_day, periods.last_day) as last_day
    from {{ ref('int_work_sites') }} as sites
    inner join periods on sites.city = periods.city
    where sites.starts_day <= periods.last_day and sites.ends_day >= periods.first_day
),

variance_days as (
    select
        variances.site_key,
        {{ each_integer('variances.starts_day', 'variances.ends_day') }} as day
    from {{ ref('int_work_site_variances') }} as variances
),

variances as (
    select sites.site_key, count(distinct variance_days.day) as n_days
    from sites
    inner join variance_days on sites.site_key = variance_days.site_key
    where variance_days.day between sites.first_day and sites.last_day
    group by sites.site_key
),

complaints as (
    select
        sites.site_key,
        count(*) filter (where not matched.is_after_hours) as n_daytime,
        count(*) filter (where matched.is_after_hours and not matched.is_under_variance) as n_after_hours,
        count(*) filter (where matched.is_after_hours and matched.is_under_variance) as n_under_variance,
        count(*) filter (where matched.is_after_hours is null) as n_without_hour,
        count(distinct case when matched.is_after_hours and not matched.is_under_variance then matched.evening_day end)
            as n_evenings,
        min(case when matched.is_after_hours and not matched.is_under_variance then matched.evening_day end)
            as first_evening_day,
        max(case when matched.is_after_hours and not matched.is_under_variance then matched.evening_day end)
            as last_evening_day
    from sites
    inner join {{ ref('int_work_complaints_matched') }} as matched on sites.site_key = matched.site_key
    where matched.day between sites.first_day and sites.last_day
    group by sites.site_key
)

select
    sites.site_key,
    sites.city,
    cast(sites.first_day as integer) as first_day,
    cast(sites.last_day as integer) as last_day,
    cast(sites.last_day - sites.first_day + 1 as integer) as n_site_days,
    cast(coalesce(variances.n_days, 0) as integer) as n_variance_days,
    cast(coalesce(complaints.n_daytime, 0) as integer) as n_daytime,
    cast(coalesce(complaints.n_after_hours, 0) as integer) as n_after_hours,
    cast(coalesce(complaints.n_under_variance, 0) as integer) as n_under_variance,
    cast(coalesce(complaints.n_without_hour, 0) as integer) as n_without_hour,
    cast(coalesce(complaints.n_evenings, 0) as integer) as n_evenings,
    complaints.first_evening_day,
    complaints.last_evening_day
from sites
left join variances on sites.site_key = variances.site_key
left join complaints on sites.site_key = complaints.site_key
