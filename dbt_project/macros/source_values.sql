{#- Source text to values, in SQL that every engine has. A cast that fails gives null; the caller flags it. -#}

{% macro text_value(text) -%}
    nullif(trim({{ text }}), '')
{%- endmacro %}

{#- Money and counts come with signs and thousands separators: "$86,753.00". -#}
{% macro number_value(text) -%}
    try_cast(replace(replace({{ text }}, '$', ''), ',', '') as double)
{%- endmacro %}

{% macro flag_value(text) -%}
    case
        when lower({{ text }}) in ('true', 't', 'yes', 'y', '1') then true
        when lower({{ text }}) in ('false', 'f', 'no', 'n', '0') then false
    end
{%- endmacro %}

{#- Join the names of the flags that hold with commas; null where none holds.

    Args:
        flags: Name of each flag to the condition on which it holds.
        names: Expressions that give a name or null. -#}
{% macro joined_flags(flags, names=[]) -%}
    nullif(concat_ws(','
    {%- for name, condition in flags.items() %},
        case when {{ condition }} then '{{ name }}' end
    {%- endfor %}
    {%- for name in names %},
        {{ name }}
    {%- endfor %}
    ), '')
{%- endmacro %}
