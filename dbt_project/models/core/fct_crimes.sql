{{ latest_records('stg_crimes', [
    'occurred_at', 'occurred_local', 'reported_at', 'reported_local', 'offence_code', 'location_type', 'is_arrest',
    'is_domestic', 'attributes'
]) }}
