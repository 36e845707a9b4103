{#- The one rule of what a source's time means; how the engine does it is in dialect/timestamps.sql.

    A text with an offset or Z is that instant, unless the feed declares `times: local`. A text without a zone is the
    city's wall clock, unless the feed declares `times: utc`. In the hour that a clock change repeats, the later
    instant is taken and the row is flagged. -#}

{% macro is_instant(text, times) -%}
    ({{ times }} <> 'local' and {{ has_offset(text) }})
{%- endmacro %}

{#- UTC. Needs `<name>_wall` (what read_wall_time gave) and `<name>_is_instant` beside the text. -#}
{% macro source_time_to_utc(name, times, time_zone, zones=none) -%}
    case
        when {{ name }}_text is null then null
        when {{ name }}_is_instant then {{ read_instant(name ~ '_text') }}
        when {{ times }} = 'utc' then {{ name }}_wall
        when {{ name }}_wall is null then null
        else {{ wall_to_utc(name ~ '_wall', time_zone, zones) }}
    end
{%- endmacro %}

{#- The city's wall clock. What was told as wall clock stays as it was told. -#}
{% macro source_time_to_local(name, at, times, time_zone, zones=none) -%}
    case
        when {{ at }} is null then null
        when {{ name }}_is_instant or {{ times }} = 'utc' then {{ utc_to_wall(at, time_zone, zones) }}
        else {{ name }}_wall
    end
{%- endmacro %}

{#- Whether a wall-clock time was told that two instants share. Clocks go back between 23:00 and 04:00 only, so
    nine rows in ten need no second conversion. -#}
{% macro is_repeated_hour(name, at, local, times, time_zone, zones=none) -%}
    case
        when {{ at }} is null or {{ name }}_is_instant or {{ times }} = 'utc' then false
        when extract(hour from {{ local }}) between 4 and 22 then false
        else coalesce({{ utc_to_wall(at ~ " - interval 1 hour", time_zone, zones) }} = {{ local }}, false)
    end
{%- endmacro %}

{#- The time, unless it lies before 1900 or more than some years after the delivery that told it. -#}
{% macro plausible_time(at, delivered_at, years=2) -%}
    case
        when {{ at }} >= timestamp '1900-01-01 00:00:00'
            and {{ at }} <= {{ delivered_at }} + interval {{ years }} year
            then {{ at }}
    end
{%- endmacro %}
