{% for kind, staging in event_stagings().items() %}
select
    city,
    feed,
    kind,
    part,
    delivery_sha,
    delivered_at,
    source_row,
    source_id,
    quarantine_reason as reason,
    told_event_time
from {{ ref(staging) }}
where quarantine_reason is not null
{{ 'union all' if not loop.last }}
{% endfor %}
