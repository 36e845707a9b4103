{#- A number that changes with the rows of a group and not with their order. Rows are told apart by a key among the
    columns: two equal rows would cancel out. -#}
{% macro rows_fingerprint(columns) %}{{ return(adapter.dispatch('rows_fingerprint')(columns)) }}{% endmacro %}

{% macro default__rows_fingerprint(columns) -%}
    bit_xor(hash({{ columns | join(', ') }}))
{%- endmacro %}

{% macro spark__rows_fingerprint(columns) -%}
    bit_xor(xxhash64({{ columns | join(', ') }}))
{%- endmacro %}

{#- The fingerprint of a union of groups, from theirs. -#}
{% macro rows_fingerprint_of(fingerprint) -%}
    bit_xor({{ fingerprint }})
{%- endmacro %}
