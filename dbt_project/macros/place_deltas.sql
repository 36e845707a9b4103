{#- What an incremental model of places looks at again beside the changed keys of deltas.sql: whole cities, where a
    boundary set has a new batch, since any of their places may then have another answer; of inventories the grid cells
    that another piece reaches than in the last build, since a daily list of lights changes a few of them. -#}

{#- The condition that a row's place may have another answer than in the last build, whatever its event did.

    Args:
        kind: `boundary` or `asset`; the row has city, and for assets x_m and y_m. -#}
{% macro is_drawn_anew(kind) -%}
    {%- if kind == 'asset' -%}
    (city, {{ grid_cell('x_m', 'y_m') }}) in (select (city, cell) from {{ ref('int_asset_cells') }} where is_changed)
    {%- else -%}
    city in (select city from {{ ref('int_batches') }} where is_new and kind = '{{ kind }}')
    {%- endif -%}
{%- endmacro %}

{#- The condition that an event or a record is to be looked at by this run of an incremental model of places. -#}
{% macro in_changed_places(event_key, kind) -%}
{%- set anew = is_drawn_anew(kind) -%}
{%- set changed = in_changed_keys(event_key) -%}
{{ 'true' if places_whole(kind) else '(' ~ changed ~ ' or ' ~ anew ~ ')' }}
{%- endmacro %}

{#- Incremental strategies of what follows from boundaries, and from inventories. -#}
{% macro get_incremental_replace_in_areas_sql(arguments) %}
    {{ replace_placed(arguments, 'boundary') }}
{% endmacro %}

{% macro get_incremental_replace_near_assets_sql(arguments) %}
    {{ replace_placed(arguments, 'asset') }}
{% endmacro %}

{#- The rows of the model's unique key are replaced; of a changed event or a place drawn anew they go even where it has
    none now. -#}
{% macro replace_placed(arguments, kind) %}
    {%- set key = arguments['unique_key'] %}
    {%- set of_events = key == ['event_key'] %}
    delete from {{ arguments['target_relation'] }}
    {% if not places_whole(kind) %}
    where
        {%- if of_events %}
        event_key in (select event_key from {{ ref('fct_events') }} where {{ is_drawn_anew(kind) }})
        or event_key in (select event_key from {{ ref('int_changed_keys') }})
        {%- else %}
        {{ is_drawn_anew(kind) }}
        {%- endif %}
        or ({{ key | join(', ') }}) in (
            select {{ '(' ~ key | join(', ') ~ ')' if key | length > 1 else key[0] }} from {{ arguments['temp_relation'] }}
        )
    {% endif %};

    {{ insert_all(arguments) }}
{% endmacro %}
