with declared as (
    select * from {{ source('declared', 'variance_types') }}
)

select
    city,
    event_type
from declared
