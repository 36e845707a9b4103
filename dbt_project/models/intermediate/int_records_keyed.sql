{{ config(materialized='view') }}

{% for kind, staging in event_stagings().items() %}
select event_key, kind, city, feed, part, delivery_id, source_row, delivered_at, updated_at, content_hash
from {{ ref(staging) }}
where quarantine_reason is null
{{ 'union all' if not loop.last }}
{% endfor %}
