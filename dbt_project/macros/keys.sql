{#- Keys that survive reloads, file moves and dataset rollovers: nothing of a delivery enters them. -#}

{% macro event_key(city, feed, source_id) -%}
    md5({{ city }} || chr(31) || {{ feed }} || chr(31) || {{ source_id }})
{%- endmacro %}
