-- Outcomes up to and including each day in each control area; a window's count is then two look-ups.
with located as (

    select
        outcomes.city,
        outcomes.outcome_type,
        outcomes.day,
        outcomes.h3_7,
        {{ h3_6_of('outcomes.h3_7') }} as h3_6
    from {{ ref('int_correlation_outcomes') }} as outcomes
    inner join {{ ref('int_outcome_periods') }} as periods
        on outcomes.city = periods.city
        and outcomes.outcome_type = periods.outcome_type
    where outcomes.day between periods.first_day and periods.last_day

),

daily as (

    select city, outcome_type, 'h3_7' as control_level, h3_7 as control_cell, day, count(*) as n_outcomes
    from located
    group by city, outcome_type, h3_7, day
    union all
    select city, outcome_type, 'h3_6' as control_level, h3_6 as control_cell, day, count(*) as n_outcomes
    from located
    group by city, outcome_type, h3_6, day
    union all
    select city, outcome_type, 'city' as control_level, 0 as control_cell, day, count(*) as n_outcomes
    from located
    group by city, outcome_type, day

),

calendar as (

    select city, outcome_type, {{ each_integer('first_day - 1', 'last_day') }} as day
    from {{ ref('int_outcome_periods') }}

),

cells as (

    select distinct city, outcome_type, control_level, control_cell
    from daily

)

select
    cells.city,
    cells.outcome_type,
    cells.control_level,
    cells.control_cell,
    cast(calendar.day as integer) as day,
    cast(sum(coalesce(daily.n_outcomes, 0)) over (
        partition by cells.city, cells.outcome_type, cells.control_level, cells.control_cell
        order by calendar.day
        rows between unbounded preceding and current row
    ) as bigint) as n_outcomes_to_date
from cells
inner join calendar
    on cells.city = calendar.city
    and cells.outcome_type = calendar.outcome_type
left join daily
    on cells.city = daily.city
    and cells.outcome_type = daily.outcome_type
    and cells.control_level = daily.control_level
    and cells.control_cell = daily.control_cell
    and calendar.day = daily.day
