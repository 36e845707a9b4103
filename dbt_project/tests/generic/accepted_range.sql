{#- Every value of these columns that is set lies between two limits, both included; either may be left out. -#}
{% test accepted_range(model, columns, min_value=none, max_value=none) %}
select {{ columns | join(', ') }}
from {{ model }}
where false
    {%- for column in columns %}
    {%- if min_value is not none %}
    or {{ column }} < {{ min_value }}
    {%- endif %}
    {%- if max_value is not none %}
    or {{ column }} > {{ max_value }}
    {%- endif %}
    {%- endfor %}
{% endtest %}
