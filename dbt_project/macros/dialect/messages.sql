{#- How an engine is made to say something to whoever runs it. -#}

{#- A condition that stops the query with a text. dbt tells of a failed test how many rows it found; this makes it tell
    what is wrong. It belongs into `where`: a value that is only counted is never computed. -#}
{% macro stops_with(message) -%}
    case when {{ message }} is not null then error({{ message }}) is null else false end
{%- endmacro %}

{#- The texts of a group as one, in their order. -#}
{% macro joined_texts(text, separator) -%}
    string_agg({{ text }}, '{{ separator }}' order by {{ text }})
{%- endmacro %}
