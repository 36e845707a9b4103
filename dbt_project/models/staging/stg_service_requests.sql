{{ staged_events(
    'service_request',
    event_times=['requested_at'],
    closing_time='closed_at',
    due_time='due_at',
    future_times=['due_at'],
    flags=['is_duplicate'],
    texts=['channel', 'parent_id', 'status_notes', 'status_history']
) }}
