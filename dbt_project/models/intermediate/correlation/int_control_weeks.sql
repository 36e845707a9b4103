-- Outcomes of each control area in the seven days from each day on, for the lag curves; days without any are left out.
with used as (

    select distinct city, outcome_id, outcome_type, control_level
    from {{ ref('int_correlation_pairs') }}
    where not is_scan

),

starts as (

    select
        used.outcome_id,
        used.control_level,
        {{ control_cell('used.control_level', 'days.h3_7') }} as control_cell,
        days.day - steps.step as day,
        days.n_event
    from {{ ref('int_evidence_cell_days') }} as days
    inner join used on days.city = used.city and days.event_type = used.outcome_type
    inner join {{ ref('int_evidence_reach') }} as reach
        on days.city = reach.city
        and days.event_type = reach.event_type
        and days.day = reach.day
        and reach.role = 'outcome'
    inner join {{ ref('int_outcome_periods') }} as periods
        on days.city = periods.city
        and days.event_type = periods.outcome_type
        and days.day between periods.first_day and periods.last_day
    cross join (values (0), (1), (2), (3), (4), (5), (6)) as steps (step)

)

select outcome_id, control_level, control_cell, day, sum(n_event) as n_outcome
from starts
group by outcome_id, control_level, control_cell, day
