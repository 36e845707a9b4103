{#- Every row of the dossier fulfils a condition; a row of which it cannot be told does not. -#}
{% test dossier_row_holds(model, condition) %}
select place_key, section, item
from {{ model }}
where ({{ condition }}) is distinct from true
{% endtest %}
