with versions as (
    select * from {{ ref('int_versions_numbered') }}
),

events as (
    select * from {{ ref('int_events_unioned') }}
)

select
    versions.event_key,
    versions.version_number,
    versions.observed_at,
    versions.content_hash,
    events.status,
    events.event_type,
    events.updated_at,
    events.closed_at,
    events.delivery_sha
from versions
inner join events
    on versions.event_key = events.event_key
    and versions.part = events.part
    and versions.delivery_id = events.delivery_id
    and versions.source_row = events.source_row
