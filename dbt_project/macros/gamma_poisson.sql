{#- Probabilities that SQL engines have no function for, from exp and ln alone. -#}

{#- The normal distribution below z: Abramowitz and Stegun 26.2.17, wrong by less than 1e-7. -#}
{% macro normal_below(z) -%}
    {%- set t = '(1 / (1 + 0.2316419 * abs(' ~ z ~ ')))' -%}
    {%- set tail -%}
        0.3989422804014327 * exp(-({{ z }}) * ({{ z }}) / 2) * {{ t }} * (
            0.319381530 + {{ t }} * (-0.356563782 + {{ t }} * (1.781477937 + {{ t }} * (-1.821255978 + {{ t }} * 1.330274429)))
        )
    {%- endset -%}
    case when {{ z }} >= 0 then 1 - {{ tail }} else {{ tail }} end
{%- endmacro %}

{#- The logarithm of the gamma function, Stirling's series; for arguments from 6 on it is wrong by less than 1e-7. -#}
{% macro log_gamma(z) -%}
    (
        (({{ z }}) - 0.5) * ln({{ z }}) - ({{ z }}) + 0.9189385332046727 + 1 / (12 * ({{ z }}))
        - 1 / (360 * ({{ z }}) * ({{ z }}) * ({{ z }}))
    )
{%- endmacro %}

{#- The regularised lower incomplete gamma function: how probable a gamma variable of a shape and rate 1 is below x.
    Wilson and Hilferty's cube root is wrong by 0.05 at small shapes, so it is taken at the shape + 6, and the way back is
    exact: P(s, x) = P(s + 1, x) + x^s exp(-x) / gamma(s + 1). Wrong by less than 0.001 (test_maintenance_debt.py).
    `shape` and `x` are columns, both above 0. -#}
{% macro gamma_below(shape, x) -%}
    {%- set far = '(' ~ shape ~ ' + 6)' -%}
    {%- set z = '((power(' ~ x ~ ' / ' ~ far ~ ', 1 / 3.0) - 1 + 1 / (9 * ' ~ far ~ ')) * 3 * sqrt(' ~ far ~ '))' -%}
    least(1.0, greatest(0.0,
        {{ normal_below(z) }}
        {%- for step in range(6) %}
        + exp(
            ({{ shape }} + {{ step }}) * ln({{ x }}) - {{ x }} - {{ log_gamma(shape ~ ' + 7') }}
            {%- for above in range(step + 1, 7) %} + ln({{ shape }} + {{ above }}){% endfor %}
        )
        {%- endfor %}
    ))
{%- endmacro %}

{#- What the maintenance debt rests on. Years are counted in quarters back from the newest repair of a city, and one
    without a single repair anywhere is not covered; under `least_quarters` of them nothing is estimated. `least_alike`
    units make an expectation; `under` is the share of it that is asked about. -#}
{% macro debt_rules() %}
    {{ return({'quarters': 20, 'quarter_days': 91.3125, 'least_quarters': 18, 'least_alike': 10, 'under': 0.5}) }}
{% endmacro %}
