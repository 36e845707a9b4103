{{ staged_events(
    'permit',
    event_times=['issued_at', 'applied_at'],
    closing_time='completed_at',
    times=['expires_at'],
    future_times=['expires_at'],
    numbers=['estimated_cost_usd', 'fee_usd'],
    texts=['work_class', 'contractor_licence']
) }}
