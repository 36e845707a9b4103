{# The constants and the geometry of the correlation evidence; models hold the joins. #}

{# Rings of one radius each: 1 is the disc, 2 and 3 show whether an effect only moved next door. #}
{% macro correlation_bands() %}{{ return([1, 2, 3]) }}{% endmacro %}

{# Windows in days relative to the signal, as SQL over window_days; day 0 is in none, its order is unknown. #}
{% macro correlation_windows() %}
    {{ return({
        'post':  ['1', 'window_days'],
        'pre':   ['-window_days', '-1'],
        'far':   ['-2 * window_days', '-window_days - 1'],
        'guard': ['-window_days - 7', '-8'],
    }) }}
{% endmacro %}

{# Which windows a variant compares, and whose contamination it corrects.
   The placebo compares two windows that lie before the signal: both are exposed alike, so it has no correction. #}
{% macro correlation_variants() %}
    {{ return([
        {'name': 'primary',  'before': 'pre',   'after': 'post', 'exposure': 'exposure.c0_pre'},
        {'name': 'isolated', 'before': 'pre',   'after': 'post', 'exposure': '0'},
        {'name': 'guarded',  'before': 'guard', 'after': 'post', 'exposure': 'exposure.c0_guard'},
        {'name': 'placebo',  'before': 'far',   'after': 'pre',  'exposure': '0'},
    ]) }}
{% endmacro %}

{# Episodes of one signal are told apart by this key; an empty subtype means all subtypes. #}
{% macro signal_key(event_type, event_subtype) -%}
    {{ event_type }} || '/' || coalesce({{ event_subtype }}, '')
{%- endmacro %}

{# A record that can serve as signal or outcome: one real case that may be used, with a day and a place. #}
{% macro is_evidence(event) -%}
    {{ event }}.is_canonical and not {{ event }}.is_noise and not {{ event }}.is_excluded
    and {{ event }}.event_on is not null
    and {{ event }}.x_m is not null and {{ event }}.y_m is not null
    and {{ event }}.h3_7 is not null and {{ event }}.h3_10 is not null
{%- endmacro %}

{# H3 parent by bit arithmetic: one resolution down, and the digit that falls away is set to 7. #}
{% macro h3_6_of(h3_7) -%}
    (({{ h3_7 }} - 4503599627370496) | 117440512)
{%- endmacro %}

{# Bucket of a space-time neighbour join, one integer. A box of one bucket's size touches two buckets an axis,
   so the searching side asks for 2 x 2 x 2 of them and the exact test needs no pruning (27 neighbours cost more). #}
{% macro space_time_bucket(x_bucket, y_bucket, t_bucket) -%}
    (({{ x_bucket }}) * 1000000 + ({{ y_bucket }})) * 4096 + ({{ t_bucket }})
{%- endmacro %}

{% macro bucket(value, size) -%}
    cast(floor(({{ value }}) / ({{ size }})) as bigint)
{%- endmacro %}

{# Area shared by two circles whose centres lie `distance` apart. Arguments are clipped because rounding can push
   them past the domain of acos and sqrt. #}
{% macro circle_overlap(radius_a, radius_b, distance) -%}
    case
        when {{ distance }} >= {{ radius_a + radius_b }} then 0.0
        when {{ distance }} <= {{ (radius_a - radius_b) | abs }} then pi() * {{ [radius_a, radius_b] | min ** 2 }}
        else
            {{ radius_a ** 2 }} * acos(greatest(-1.0, least(1.0,
                ({{ distance }} * {{ distance }} + {{ radius_a ** 2 - radius_b ** 2 }}) / (2.0 * {{ radius_a }} * {{ distance }}))))
            + {{ radius_b ** 2 }} * acos(greatest(-1.0, least(1.0,
                ({{ distance }} * {{ distance }} + {{ radius_b ** 2 - radius_a ** 2 }}) / (2.0 * {{ radius_b }} * {{ distance }}))))
            - 0.5 * sqrt(greatest(0.0,
                ({{ radius_a + radius_b }} - {{ distance }}) * ({{ distance }} + {{ radius_a - radius_b }})
                * ({{ distance }} + {{ radius_b - radius_a }}) * ({{ distance }} + {{ radius_a + radius_b }})))
    end
{%- endmacro %}

{# Ring number of a squared distance; the disc is closed on its outside, as every ring. #}
{% macro band_of(squared_distance, radius) -%}
    case
    {%- for band in correlation_bands() %}
        when {{ squared_distance }} <= {{ band ** 2 }} * {{ radius }} * {{ radius }} then {{ band }}
    {%- endfor %}
    end
{%- endmacro %}

{# A sum of reals that is the same in any order of rows. A sum of floats depends on it, threads hand rows over in any
   order, and a second run must change no row. Terms are rounded to 1e-15; their sum may reach 1e23. #}
{% macro exact_sum(value) -%}
    cast(sum(cast({{ value }} as decimal(38, 15))) as double)
{%- endmacro %}

{# Fails on every row of a correlation table for which the condition is false; unknown passes. #}
{% test correlation_row_holds(model, condition) %}
select * from {{ model }} where not ({{ condition }})
{% endtest %}
