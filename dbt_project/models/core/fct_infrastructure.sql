{{ latest_records('stg_infrastructure', [
    'occurred_at', 'occurred_local', 'completed_at', 'completed_local', 'severity', 'work_order_id', 'attributes'
]) }}
