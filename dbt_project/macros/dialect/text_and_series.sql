{#- Text and series functions that engines spell differently. -#}

{#- What two spellings of one label have in common: case, accents of spacing and outer blanks are taken away. -#}
{% macro normalised_text(text) -%}
    nullif(lower(trim(regexp_replace({{ text }}, '\s+', ' ', 'g'))), '')
{%- endmacro %}

{#- One row per month from one first of a month to another, both included. -#}
{% macro month_series(first, last) -%}
    unnest(generate_series({{ first }}, {{ last }}, interval 1 month))
{%- endmacro %}

{% macro day_series(first, last) -%}
    unnest(generate_series({{ first }}, {{ last }}, interval 1 day))
{%- endmacro %}

{% macro seconds_between(earlier, later) -%}
    (epoch({{ later }}) - epoch({{ earlier }}))
{%- endmacro %}

{% macro days_between(earlier, later) -%}
    date_diff('day', {{ earlier }}, {{ later }})
{%- endmacro %}

{#- Monday is 1, Sunday 7. -#}
{% macro iso_weekday(day) -%}
    cast(extract(isodow from {{ day }}) as integer)
{%- endmacro %}

{#- `days` is a number of days, fractions allowed. -#}
{% macro plus_days(at, days) -%}
    {{ at }} + to_seconds(({{ days }}) * 86400.0)
{%- endmacro %}

{#- One row per item of a separated list. -#}
{% macro split_rows(text, separator) -%}
    unnest(string_split({{ text }}, '{{ separator }}'))
{%- endmacro %}

{#- All columns of a row as one text, the same for the same row. -#}
{% macro row_text(alias) -%}
    cast(to_json({{ alias }}) as varchar)
{%- endmacro %}

{#- The last value up to a row that is not null; stands before `over` with an order. -#}
{% macro last_told(value) -%}
    last_value({{ value }} ignore nulls)
{%- endmacro %}

{#- The number that hexadecimal digits say; null where they are none. -#}
{% macro hex_value(digits) -%}
    try_cast('0x' || {{ digits }} as integer)
{%- endmacro %}
