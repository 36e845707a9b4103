select
    city,
    feed,
    part,
    fetch_id,
    attempted_at,
    column_name,
    change,
    before as type_before,
    after as type_after,
    is_mapped
from {{ source('fetches', 'schema_changes') }}
