{#- What a build has to look at again: batches that are new since the last whole build, and the keys in them.

    A batch is one file of raw rows, or of absences (a delivery of a part under a mapping), as its feed is declared now. The last whole
    build left its batches in intermediate.loaded_batches, written after all models and tests were through; a build
    that was killed is therefore done again from where the last whole one ended, and a delta that is applied twice
    changes nothing. Where a loaded batch is gone (a feed was rebuilt from its bytes), every model is built whole. -#}

{#- What the last whole build loaded; none where there was none. -#}
{% macro loaded_batches() %}
    {{ return(adapter.get_relation(database=target.database, schema='intermediate', identifier='loaded_batches')) }}
{% endmacro %}

{#- Whether an incremental model has to hold everything again. -#}
{% macro builds_whole() %}
    {%- set batches = ref('int_batches') -%}
    {%- if not is_incremental() -%}{{ return(true) }}{%- endif -%}
    {{ return(run_query('select 1 from ' ~ batches ~ ' where is_gone limit 1') | length > 0) }}
{% endmacro %}

{#- The cells of inventories as the last build's answers rest on them; none where there are no such answers. -#}
{% macro built_asset_cells() %}
    {{ return(adapter.get_relation(database=target.database, schema='intermediate', identifier='int_asset_cells_built')) }}
{% endmacro %}

{#- Whether a model of places has to hold everything again. -#}
{% macro places_whole(kind) %}
    {{ return(builds_whole() or (kind == 'asset' and built_asset_cells() is none)) }}
{% endmacro %}

{#- The condition that a row is of a new batch. Ids are unique within a part; where they are few they stand in the
    text too, so that files without them are not read. -#}
{% macro is_of_new_batch(kind) -%}
{%- set batches = ref('int_batches') -%}
{%- set of_kind = "from " ~ batches ~ " where is_new and kind = '" ~ kind ~ "'" -%}
{%- set ids = run_query('select distinct delivery_id ' ~ of_kind ~ ' order by 1 limit 201').columns[0].values()
    if execute else [] -%}
(
    {% if ids | length <= 200 %}delivery_id in ('{{ ids | join("', '") }}') and {% endif %}
    (city, feed, part, delivery_id) in (select (city, feed, part, delivery_id) {{ of_kind }})
)
{%- endmacro %}

{#- The condition that a raw row is to be staged by this run of its incremental model. -#}
{% macro is_to_be_staged(kind) -%}
{%- set condition = is_of_new_batch(kind) -%}
{{ 'true' if builds_whole() else condition }}
{%- endmacro %}

{#- The condition that a key is to be looked at by this run of an incremental model. -#}
{% macro in_changed_keys(event_key) -%}
{%- set changed_keys = ref('int_changed_keys') -%}
{{ 'true' if builds_whole() else event_key ~ ' in (select event_key from ' ~ changed_keys ~ ')' }}
{%- endmacro %}

{#- Incremental strategy of staged rows: the rows of a new batch replace what was staged of it. -#}
{% macro get_incremental_replace_batches_sql(arguments) %}
    delete from {{ arguments['target_relation'] }}
    {% if not builds_whole() %}
    where (city, feed, part, delivery_id) in (
        select (city, feed, part, delivery_id) from {{ ref('int_batches') }} where is_new
    )
    {% endif %};

    {{ insert_all(arguments) }}
{% endmacro %}

{#- Incremental strategy of what has an event_key: a changed key's rows are replaced, or go where it has none now. -#}
{% macro get_incremental_replace_keys_sql(arguments) %}
    delete from {{ arguments['target_relation'] }}
    {% if not builds_whole() %}
    where
        event_key in (select event_key from {{ ref('int_changed_keys') }})
        or event_key in (select event_key from {{ arguments['temp_relation'] }})
    {% endif %};

    {{ insert_all(arguments) }}
{% endmacro %}

{% macro insert_all(arguments) %}
    {%- set columns = arguments['dest_columns'] | map(attribute='quoted') | join(', ') -%}
    insert into {{ arguments['target_relation'] }} ({{ columns }})
    select {{ columns }} from {{ arguments['temp_relation'] }}
{% endmacro %}

{#- Note that a whole build is through: its batches are loaded, under this state of the project's files.
    Run as an operation once models and tests of the first pass have passed. -#}
{% macro mark_loaded(project) %}
    {% do run_query(
        "begin;"
        ~ "create or replace table intermediate.loaded_batches as"
        ~ " select kind, file_set, city, feed, part, delivery_id, fingerprint from intermediate.int_batches where not is_gone;"
        ~ "create or replace table intermediate.loaded_project as select '" ~ project ~ "' as project;"
        ~ "commit"
    ) %}
{% endmacro %}
