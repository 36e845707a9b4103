with outcome_types as (

    select distinct outcome_type from {{ ref('int_correlation_questions') }}

)

select
    events.event_type as outcome_type,
    events.city,
    events.event_key,
    {{ day_number('events.event_on') }} as day,
    events.x_m,
    events.y_m,
    events.h3_7,
    events.h3_10
from {{ ref('fct_events') }} as events
inner join outcome_types on events.event_type = outcome_types.outcome_type
where {{ is_evidence('events') }}
