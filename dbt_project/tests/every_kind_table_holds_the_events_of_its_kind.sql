with kind_rows as (
    {% for kind, fact in {
        'service_request': 'fct_service_requests',
        'permit': 'fct_permits',
        'crime': 'fct_crimes',
        'infrastructure': 'fct_infrastructure',
        'utility': 'fct_utility_outages',
    }.items() %}
    select '{{ kind }}' as kind, count(*) as n_rows from {{ ref(fact) }}
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

events as (
    select kind, count(*) as n_events from {{ ref('fct_events') }} group by kind
)

select kind_rows.kind, kind_rows.n_rows, events.n_events
from kind_rows
left join events on kind_rows.kind = events.kind
where kind_rows.n_rows <> coalesce(events.n_events, 0)
