{{ latest_records('stg_utility_outages', [
    'started_at', 'started_local', 'restored_at', 'restored_local', 'estimated_restoration_at',
    'estimated_restoration_local', 'customers_affected', 'cause', 'provider', 'attributes'
]) }}
