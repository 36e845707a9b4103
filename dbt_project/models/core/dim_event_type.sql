select
    event_type,
    kind,
    event_group,
    label,
    default_owner,
    standard_ref,
    is_noise
from {{ ref('event_types') }}
