{{ config(tags=['verdict']) }}

select
    city,
    feed,
    part,
    fetch_id,
    check_name,
    tool,
    passed as is_passed,
    blocking as is_blocking,
    observed,
    expected,
    message,
    checked_at
from {{ source('check_results', 'results') }}
