{#- What the engine knows of the Parquet files it reads. -#}

{#- One row per raw file of a kind: city, feed, part, delivery_id, and the mapping that its rows were read with, which
    landing writes into the file. -#}
{% macro raw_files_of(kind) -%}
select distinct
    '{{ kind }}' as kind,
    'raw' as file_set,
    records.city,
    records.feed,
    records.part,
    records.delivery_id,
    decode(told.value) as mapping
from {{ source('raw', kind) }} as records
left join parquet_kv_metadata('{{ env_var("CITYSIGNAL_HOME", "var") }}/lake/raw/{{ kind }}/**/*.parquet') as told
    on records.filename = told.file_name and decode(told.key) = 'fingerprint'
{%- endmacro %}
