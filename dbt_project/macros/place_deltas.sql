{#- What an incremental model of places looks at again beside the changed keys of deltas.sql: whole cities, where a
    boundary set or an inventory has a new batch, since any of their places may then have another answer. -#}

{#- The condition that a city's boundaries (or inventories) have a new batch.

    Args:
        city: Expression that gives the city.
        kind: `boundary` or `asset`. -#}
{% macro is_drawn_anew(city, kind) -%}
    {{ city }} in (select city from {{ ref('int_batches') }} where is_new and kind = '{{ kind }}')
{%- endmacro %}

{#- The condition that an event or a record is to be looked at by this run of an incremental model of places. -#}
{% macro in_changed_places(event_key, city, kind) -%}
{%- set anew = is_drawn_anew(city, kind) -%}
{%- set changed = in_changed_keys(event_key) -%}
{{ 'true' if builds_whole() else '(' ~ changed ~ ' or ' ~ anew ~ ')' }}
{%- endmacro %}

{#- Incremental strategies of what follows from boundaries, and from inventories. -#}
{% macro get_incremental_replace_in_areas_sql(arguments) %}
    {{ replace_placed(arguments, 'boundary') }}
{% endmacro %}

{% macro get_incremental_replace_near_assets_sql(arguments) %}
    {{ replace_placed(arguments, 'asset') }}
{% endmacro %}

{#- The rows of the model's unique key are replaced; of a changed event or a city drawn anew they go even where it has
    none now. -#}
{% macro replace_placed(arguments, kind) %}
    {%- set key = arguments['unique_key'] %}
    {%- set of_events = key == ['event_key'] %}
    delete from {{ arguments['target_relation'] }}
    {% if not builds_whole() %}
    where
        {{ is_drawn_anew('city', kind) }}
        {%- if of_events %}
        or event_key in (select event_key from {{ ref('int_changed_keys') }})
        {%- endif %}
        or ({{ key | join(', ') }}) in (
            select {{ '(' ~ key | join(', ') ~ ')' if key | length > 1 else key[0] }} from {{ arguments['temp_relation'] }}
        )
    {% endif %};

    {{ insert_all(arguments) }}
{% endmacro %}
