with requests as (
    {{ latest_records('stg_service_requests', [
        'requested_at', 'requested_local', 'due_at', 'due_local', 'closed_at', 'closed_local', 'target_days',
        'channel', 'parent_id', 'is_duplicate', 'attributes'
    ]) }}
)

select
    *,
    case when parent_id is not null then {{ event_key('city', 'feed', 'parent_id') }} end as parent_event_key
from requests
