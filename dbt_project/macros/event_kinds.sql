{#- The kinds of feed. What a kind's columns are is said by its staging model, not here. -#}

{#- The staging model of each kind of event. -#}
{% macro event_stagings() %}
    {{ return({
        'service_request': 'stg_service_requests',
        'permit': 'stg_permits',
        'crime': 'stg_crimes',
        'infrastructure': 'stg_infrastructure',
        'utility': 'stg_utility_outages',
    }) }}
{% endmacro %}

{#- Every kind that lands: events, and the places they are joined to. -#}
{% macro landed_kinds() %}
    {{ return((event_stagings() | list) + ['asset', 'boundary']) }}
{% endmacro %}
