select
    city,
    feed,
    part,
    kind,
    fetch_id,
    attempted_at,
    outcome,
    rows_in_file,
    rows_raw,
    rows_quarantined,
    distinct_keys,
    sha as delivery_sha,
    delivered_at,
    message,
    error_type,
    seconds
from {{ source('fetches', 'receipts') }}
