{#- Lists of objects in JSON text, which engines read by functions of their own. -#}

{#- The objects of a JSON array as a list of records with these keys, each as text; null where the text is no JSON
    array. A key that an object lacks is null. -#}
{% macro json_records(json, keys) %}{{ return(adapter.dispatch('json_records')(json, keys)) }}{% endmacro %}

{% macro default__json_records(json, keys) -%}
    case when json_valid({{ json }}) then json_transform({{ json }}, '[{"{{ keys | join('": "VARCHAR", "') }}": "VARCHAR"}]') end
{%- endmacro %}

{% macro spark__json_records(json, keys) -%}
    from_json({{ json }}, 'array<struct<`{{ keys | join('`: string, `') }}`: string>>')
{%- endmacro %}


{% macro list_length(list) %}{{ return(adapter.dispatch('list_length')(list)) }}{% endmacro %}

{% macro default__list_length(list) -%}
    len({{ list }})
{%- endmacro %}

{% macro spark__list_length(list) -%}
    cardinality({{ list }})
{%- endmacro %}


{#- Items are counted from 1. -#}
{% macro list_item(list, position) %}{{ return(adapter.dispatch('list_item')(list, position)) }}{% endmacro %}

{% macro default__list_item(list, position) -%}
    list_extract({{ list }}, {{ position }})
{%- endmacro %}

{% macro spark__list_item(list, position) -%}
    element_at({{ list }}, cast({{ position }} as int))
{%- endmacro %}
