-- Cases of the types that a pair asks about as outcome, on the days that this build's sums look at.
with types as (

    select city, outcome_type, outcome_id, not bool_and(is_scan) as is_asked, bool_or(splits_by_hour) as splits_by_hour
    from {{ ref('int_correlation_pairs') }}
    group by city, outcome_type, outcome_id

)

select
    cast(types.outcome_id as integer) as outcome_id,
    types.is_asked,
    {{ day_number('events.event_on') }} as day,
    events.x_m,
    events.y_m,
    events.h3_7,
    events.h3_10,
    case when types.splits_by_hour then {{ part_of_day('events') }} end as part_of_day
from {{ ref('fct_events') }} as events
inner join types on events.city = types.city and events.event_type = types.outcome_type
inner join {{ ref('int_evidence_reach') }} as reach
    on events.city = reach.city
    and events.event_type = reach.event_type
    and {{ day_number('events.event_on') }} = reach.day
where reach.role = 'outcome' and {{ is_evidence('events') }}
