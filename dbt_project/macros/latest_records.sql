{#- An incremental model of the rows of a staging model that are the latest version of their case, with the columns
    asked for. -#}
{% macro latest_records(staging, columns) -%}
{{- config(materialized='incremental', incremental_strategy='replace_keys') -}}
with latest as (
    select event_key, part, delivery_id, source_row
    from {{ ref('int_versions_numbered') }}
    where is_latest and {{ in_changed_keys('event_key') }}
),

records as (
    select * from {{ ref(staging) }} where quarantine_reason is null
)

select
    records.event_key,
    records.city,
    records.feed,
    records.source_id
    {%- for column in columns %},
    records.{{ column }}
    {%- endfor %}
from records
inner join latest
    on records.event_key = latest.event_key
    and records.part = latest.part
    and records.delivery_id = latest.delivery_id
    and records.source_row = latest.source_row
{%- endmacro %}
