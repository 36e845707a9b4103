{{ staged_events(
    'infrastructure',
    event_times=['occurred_at', 'completed_at'],
    closing_time='completed_at',
    texts=['severity', 'work_order_id']
) }}
