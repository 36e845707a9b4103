{# Calendar arithmetic on whole days, where engines differ in name only. Days are counted from 1970-01-01. #}

{% macro day_number(on_date) %}{{ return(adapter.dispatch('day_number')(on_date)) }}{% endmacro %}

{% macro default__day_number(on_date) -%}
    cast(datediff('day', date '1970-01-01', {{ on_date }}) as integer)
{%- endmacro %}

{% macro spark__day_number(on_date) -%}
    cast(datediff({{ on_date }}, date '1970-01-01') as integer)
{%- endmacro %}


{% macro date_of_day(day) %}{{ return(adapter.dispatch('date_of_day')(day)) }}{% endmacro %}

{% macro default__date_of_day(day) -%}
    date '1970-01-01' + cast({{ day }} as integer)
{%- endmacro %}

{% macro spark__date_of_day(day) -%}
    date_add(date '1970-01-01', cast({{ day }} as integer))
{%- endmacro %}


{# One row per integer from first to last, both included; stands alone in a select list. #}
{% macro each_integer(first, last) %}{{ return(adapter.dispatch('each_integer')(first, last)) }}{% endmacro %}

{% macro default__each_integer(first, last) -%}
    unnest(range(cast({{ first }} as bigint), cast({{ last }} as bigint) + 1))
{%- endmacro %}

{% macro spark__each_integer(first, last) -%}
    explode(sequence(cast({{ first }} as bigint), cast({{ last }} as bigint)))
{%- endmacro %}
