-- What the provider expects is an estimate, not a target, so it is no due time.
{{ staged_events(
    'utility',
    event_times=['started_at'],
    closing_time='restored_at',
    times=['estimated_restoration_at'],
    numbers=['customers_affected'],
    texts=['cause', 'provider']
) }}
