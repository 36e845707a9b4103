{{ config(materialized='incremental', incremental_strategy='replace_keys') }}

with versions as (
    select * from {{ ref('int_versions_numbered') }} where {{ in_changed_keys('event_key') }}
),

events as (
    select * from {{ ref('int_events_unioned') }}
),

states as (
    select
        versions.event_key,
        versions.version_number,
        versions.version_count,
        versions.observed_at,
        versions.content_hash,
        events.status,
        events.source_status,
        events.event_type,
        concat_ws(chr(31), events.category, chr(30), events.subcategory, chr(30), events.code) as category,
        events.agency,
        events.updated_at,
        events.event_at,
        events.closed_at,
        events.due_at,
        events.x_m,
        events.y_m,
        events.address,
        events.delivery_sha
    from versions
    inner join events
        on versions.event_key = events.event_key
        and versions.part = events.part
        and versions.delivery_id = events.delivery_id
        and versions.source_row = events.source_row
),

{%- set told = [
    'status', 'source_status', 'event_type', 'category', 'agency', 'closed_at', 'due_at', 'event_at', 'x_m', 'y_m', 'address'
] %}
-- Nearly every case has one version: only the others are compared.
compared as (
    select
        *,
        {%- for name in told %}
        lag({{ name }}) over numbered as previous_{{ name }},
        {%- endfor %}
        lead(observed_at) over numbered as superseded_at
    from states
    where version_count > 1
    window numbered as (partition by event_key order by version_number)
),

{%- set differs = {} %}
{%- for name in told %}
{%- do differs.update({name: name ~ ' is distinct from previous_' ~ name}) %}
{%- endfor %}
{%- do differs.update({'location': differs.pop('x_m') ~ ' or ' ~ differs.pop('y_m')}) %}
changes as (
    select
        event_key,
        version_number,
        superseded_at,
        case when version_number > 1 then coalesce({{ joined_flags(differs) }}, 'other') end as changed_columns
    from compared
)

select
    states.event_key,
    states.version_number,
    states.observed_at,
    changes.superseded_at,
    states.version_number = states.version_count as is_current,
    changes.changed_columns,
    states.content_hash,
    states.status,
    states.source_status,
    states.event_type,
    states.agency,
    states.updated_at,
    states.event_at,
    states.closed_at,
    states.due_at,
    states.delivery_sha
from states
left join changes
    on states.event_key = changes.event_key
    and states.version_number = changes.version_number
