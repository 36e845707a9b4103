{{ latest_records('stg_permits', [
    'applied_at', 'applied_local', 'issued_at', 'issued_local', 'completed_at', 'completed_local', 'expires_at',
    'expires_local', 'work_class', 'estimated_cost_usd', 'fee_usd', 'contractor_licence', 'attributes'
]) }}
