{#- Keys that survive reloads, file moves and dataset rollovers: nothing of a delivery enters them. -#}

{% macro event_key(city, feed, source_id) -%}
    md5({{ city }} || chr(31) || {{ feed }} || chr(31) || {{ source_id }})
{%- endmacro %}

{#- The first twelve hex digits name a delivery's file too; DuckDB keeps text this short inside its hash tables. -#}
{% macro delivery_id(delivery_sha) -%}
    substr({{ delivery_sha }}, 1, 12)
{%- endmacro %}
