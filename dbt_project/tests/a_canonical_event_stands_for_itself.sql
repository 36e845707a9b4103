select event_key, canonical_event_key
from {{ ref('fct_events') }}
where is_canonical and (canonical_event_key is null or canonical_event_key <> event_key)
