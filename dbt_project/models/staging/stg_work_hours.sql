with declared as (
    select * from {{ source('declared', 'work_hours') }}
)

select
    city,
    weekday,
    opens_minute,
    closes_minute,
    grace_minutes,
    open_permit_days,
    source as work_hours_source
from declared
