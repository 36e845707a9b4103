{#- What a dossier of a place counts and what it withholds. Models hold the joins. -#}

{#- A trend looks at `trend_days` up to the newest reading of the feed, and is not told of fewer than `trend_least_days`
    days with a reading. Sensors within `sensor_m` of a place are told there; `recent_days` is what counts as lately. -#}
{% macro dossier_rules() %}
    {{ return({'trend_days': 90, 'trend_least_days': 10, 'sensor_m': 500, 'recent_days': 365}) }}
{% endmacro %}

{#- Crimes of one type in one H3-10 cell below which their number is not told, nor that there are any; finer than the cell
    it never is (statistics.md, section 8). -#}
{% macro crime_floor() -%}
    50
{%- endmacro %}

{#- The quantile of the normal distribution that leaves 2.5 % on either side. -#}
{% macro two_sided_95() -%}
    1.959963984540054
{%- endmacro %}
