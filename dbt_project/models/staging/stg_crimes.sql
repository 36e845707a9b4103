{{ staged_events(
    'crime',
    event_times=['occurred_at', 'reported_at'],
    flags=['is_arrest', 'is_domestic'],
    texts=['offence_code', 'location_type']
) }}
