{%- set parts = ['all'] + (correlation_counts() | map('last') | select | map('replace', '_', '') | unique | list) %}
-- Outcomes of each control area in the windows around each day, so that an anchor's control is one look-up. The series
-- is dense on the days that this build's sums look at; a window never leaves them where an anchor asks for it.
with used as (

    select distinct city, outcome_id, outcome_type, control_level
    from {{ ref('int_correlation_pairs') }}

),

lengths as (

    select distinct outcome_id, control_level, window_days
    from {{ ref('int_correlation_pairs') }}

),

daily as (

    select
        used.outcome_id,
        used.control_level,
        {{ control_cell('used.control_level', 'days.h3_7') }} as control_cell,
        days.day,
        sum(days.n_event) as n_all,
        sum(days.n_night) as n_night,
        sum(days.n_day) as n_day
    from {{ ref('int_evidence_cell_days') }} as days
    inner join used on days.city = used.city and days.event_type = used.outcome_type
    inner join {{ ref('int_outcome_periods') }} as periods
        on days.city = periods.city
        and days.event_type = periods.outcome_type
        and days.day between periods.first_day and periods.last_day
    group by used.outcome_id, used.control_level, {{ control_cell('used.control_level', 'days.h3_7') }}, days.day

),

calendar as (

    select used.outcome_id, used.control_level, reach.day
    from {{ ref('int_evidence_reach') }} as reach
    inner join used on reach.city = used.city and reach.event_type = used.outcome_type
    where reach.role = 'outcome'

),

cells as (

    select distinct outcome_id, control_level, control_cell
    from daily

),

counted as (

    select
        cells.outcome_id,
        cells.control_level,
        cells.control_cell,
        calendar.day,
        {%- for part in parts %}
        cast(sum(coalesce(daily.n_{{ part }}, 0)) over series as bigint) as to_date_{{ part }}{{ ',' if not loop.last }}
        {%- endfor %}
    from cells
    inner join calendar on cells.outcome_id = calendar.outcome_id and cells.control_level = calendar.control_level
    left join daily
        on cells.outcome_id = daily.outcome_id
        and cells.control_level = daily.control_level
        and cells.control_cell = daily.control_cell
        and calendar.day = daily.day
    window series as (
        partition by cells.outcome_id, cells.control_level, cells.control_cell
        order by calendar.day
        rows between unbounded preceding and current row
    )

)

select
    cast(counted.outcome_id as integer) as outcome_id,
    counted.control_level,
    counted.control_cell,
    lengths.window_days,
    counted.day
    {%- for name, part in correlation_counts() %}
    {%- set first, last = correlation_windows()[name] %}
    {%- set to_date = 'to_date' ~ (part or '_all') %},
    cast(
        {{ value_days_after(to_date, last) }} over series
        - {{ value_days_after(to_date, first ~ ' - 1') }} over series as integer
    ) as control_{{ name }}{{ part }}
    {%- endfor %}
from counted
inner join lengths on counted.outcome_id = lengths.outcome_id and counted.control_level = lengths.control_level
window series as (
    partition by counted.outcome_id, counted.control_level, counted.control_cell, lengths.window_days
    order by counted.day
)
