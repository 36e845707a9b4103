{#- No row lacks a value in any of these columns. One test per table: a scan for each column costs more than the
    column-wise report is worth. -#}
{% test never_null(model, columns) %}
select {{ columns | join(', ') }}
from {{ model }}
where {{ columns | join(' is null or ') }} is null
{% endtest %}
