{#- Reading JSON text, which engines spell differently. -#}

{#- The text of one member of a JSON object; null where there is none and where the text is no JSON. -#}
{% macro json_text(json, name) %}{{ return(adapter.dispatch('json_text')(json, name)) }}{% endmacro %}

{% macro default__json_text(json, name) -%}
    case when json_valid({{ json }}) then json_extract_string({{ json }}, '$.{{ name }}') end
{%- endmacro %}

{% macro spark__json_text(json, name) -%}
    get_json_object({{ json }}, '$.{{ name }}')
{%- endmacro %}
