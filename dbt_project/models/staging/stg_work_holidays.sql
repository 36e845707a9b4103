with declared as (
    select * from {{ source('declared', 'work_holidays') }}
)

select
    city,
    holiday_on
from declared
