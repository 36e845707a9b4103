{#- The schema of a model is the bare name of its folder; BI tools and contracts rely on it. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}
