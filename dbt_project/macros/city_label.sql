{#- Name of a city as extracts show it: an invented city says so. `cities` is the alias of dim_city. -#}
{% macro city_label(cities) -%}
    case
        when {{ cities }}.is_simulated and lower({{ cities }}.city_name) not like '%simulated%'
            then {{ cities }}.city_name || ' (simulated)'
        else {{ cities }}.city_name
    end
{%- endmacro %}
