{#- How DuckDB reads and zones timestamps. The rule of what a source's text means is in source_times.sql. -#}

{#- ISO 8601 in its variants, then the formats that US portals export; null where none fits.
    Infinity is a timestamp to DuckDB and an unreadable text to us. -#}
{% macro read_wall_time(text) -%}
    {%- set formats = [
        '%m/%d/%Y %I:%M:%S %p', '%m/%d/%Y %H:%M:%S', '%m/%d/%Y %I:%M %p', '%m/%d/%Y %H:%M', '%m/%d/%Y',
        '%d-%b-%y', '%d-%b-%Y'
    ] -%}
    case
        when lower({{ text }}) in ('infinity', '-infinity', 'epoch') then null
        else coalesce(
            try_cast({{ text }} as timestamp),
            try_strptime({{ text }}, ['{{ formats | join("', '") }}'])
        )
    end
{%- endmacro %}

{#- Whether the text ends in Z or an offset from UTC, after a time of day. -#}
{% macro has_offset(text) -%}
    regexp_matches({{ text }}, ':[0-9.]+ ?([zZ]|[+-][0-9]{2}(:?[0-9]{2})?)$')
{%- endmacro %}

{#- The text as a wall showed it, whatever offset it adds; DuckDB's own cast to timestamp would apply the offset. -#}
{% macro without_offset(text) -%}
    case
        when {{ has_offset(text) }}
            then regexp_replace({{ text }}, '(:[0-9.]+) ?([zZ]|[+-][0-9]{2}(:?[0-9]{2})?)$', '\1')
        else {{ text }}
    end
{%- endmacro %}

{#- The UTC timestamp of a text with an offset. -#}
{% macro read_instant(text) -%}
    timezone('UTC', try_cast({{ text }} as timestamptz))
{%- endmacro %}

{% macro wall_to_utc(wall, time_zone, zones=none) -%}
    {{ by_time_zone("timezone('UTC', timezone(§, " ~ wall ~ "))", time_zone, zones) }}
{%- endmacro %}

{% macro utc_to_wall(at, time_zone, zones=none) -%}
    {{ by_time_zone("timezone(§, timezone('UTC', " ~ at ~ "))", time_zone, zones) }}
{%- endmacro %}

{#- DuckDB converts 1 M values in 0.35 s when the zone is a literal and in 1.9 s when it is a column (1.5.5, two
    threads), so the declared zones are written out; a zone declared after compilation takes the slow way. -#}
{% macro by_time_zone(expression, time_zone, zones=none) -%}
    {%- set zones = declared_time_zones() if zones is none else zones -%}
    {%- if zones -%}
    case {{ time_zone }}
    {%- for zone in zones %}
        when '{{ zone }}' then {{ expression | replace('§', "'" ~ zone ~ "'") }}
    {%- endfor %}
        else {{ expression | replace('§', time_zone) }}
    end
    {%- else -%}
    {{ expression | replace('§', time_zone) }}
    {%- endif -%}
{%- endmacro %}

{% macro declared_time_zones() %}
    {%- set cities = source('declared', 'cities') -%}
    {%- if not execute -%}{{ return([]) }}{%- endif -%}
    {%- set rows = run_query('select distinct time_zone from ' ~ cities ~ ' order by 1') -%}
    {{ return(rows.columns[0].values() | reject('none') | list) }}
{% endmacro %}
