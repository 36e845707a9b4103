with hours as (
    select
        city,
        max(work_hours_source) as work_hours_source,
        max(open_permit_days) as open_permit_days
    from {{ ref('stg_work_hours') }}
    group by city
),

variance_types as (
    select distinct city from {{ ref('stg_variance_types') }}
)

select
    hours.city,
    hours.work_hours_source,
    hours.open_permit_days,
    variance_types.city is not null as are_variances_known
from hours
left join variance_types on hours.city = variance_types.city
