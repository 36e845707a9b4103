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


{# First day of the month that a day number lies in, and of the month after a first of a month. #}
{% macro month_of_day(day) -%}
    cast(date_trunc('month', {{ date_of_day(day) }}) as date)
{%- endmacro %}

{% macro next_month(month) %}{{ return(adapter.dispatch('next_month')(month)) }}{% endmacro %}

{% macro default__next_month(month) -%}
    cast({{ month }} + interval 1 month as date)
{%- endmacro %}

{% macro spark__next_month(month) -%}
    add_months({{ month }}, 1)
{%- endmacro %}


{# A value so many days after the row's day, 0 where there is none; stands before `over` with a dense order by day. #}
{% macro value_days_after(value, days) -%}
    lag({{ value }}, -({{ days }}), 0)
{%- endmacro %}


{# Months counted from the year 0. #}
{% macro month_number(month) -%}
    (12 * cast(extract(year from {{ month }}) as integer) + cast(extract(month from {{ month }}) as integer))
{%- endmacro %}
