-- What counting alone would say of a question: do areas with many signals have many outcomes, do months? Neither compares
-- a place with itself, so neither is evidence; method cards show them beside the ratio that is.
with questions as (

    select question_id, signal_type, signal_subtype, outcome_type
    from {{ ref('int_correlation_questions') }}

),

asked_types as (

    select signal_type as event_type from questions
    union
    select outcome_type as event_type from questions

),

counts as (

    select
        events.city,
        events.event_type,
        events.event_subtype,
        events.h3_7,
        cast(date_trunc('month', events.event_on) as date) as month,
        cast(count(*) as bigint) as n
    from {{ ref('fct_events') }} as events
    inner join asked_types on events.event_type = asked_types.event_type
    where {{ is_evidence('events') }}
    group by events.city, events.event_type, events.event_subtype, events.h3_7, date_trunc('month', events.event_on)

),

cell_counts as (

    select city, event_type, event_subtype, h3_7, cast(sum(n) as bigint) as n
    from counts
    group by city, event_type, event_subtype, h3_7

),

month_counts as (

    select city, event_type, event_subtype, month, cast(sum(n) as bigint) as n
    from counts
    group by city, event_type, event_subtype, month

),

cells as (

    select city, question_id, h3_7, cast(sum(n_signal) as bigint) as n_signal, cast(sum(n_outcome) as bigint) as n_outcome
    from (
        select counted.city, questions.question_id, counted.h3_7, counted.n as n_signal, 0 as n_outcome
        from cell_counts as counted
        inner join questions
            on counted.event_type = questions.signal_type
            and (questions.signal_subtype is null or counted.event_subtype = questions.signal_subtype)
        union all
        select counted.city, questions.question_id, counted.h3_7, 0 as n_signal, counted.n as n_outcome
        from cell_counts as counted
        inner join questions on counted.event_type = questions.outcome_type
    ) as sides
    group by city, question_id, h3_7

),

across_cells as (

    select
        city,
        question_id,
        count(*) as n_cell,
        sum(n_signal) as n_signal,
        sum(n_outcome) as n_outcome,
        {{ pearson_r('n_signal', 'n_outcome') }} as across_cells_r
    from cells
    group by city, question_id
    having sum(n_signal) > 0 and sum(n_outcome) > 0

),

signal_months as (

    select counted.city, questions.question_id, counted.month, cast(sum(counted.n) as bigint) as n
    from month_counts as counted
    inner join questions
        on counted.event_type = questions.signal_type
        and (questions.signal_subtype is null or counted.event_subtype = questions.signal_subtype)
    group by counted.city, questions.question_id, counted.month

),

outcome_months as (

    select counted.city, questions.question_id, counted.month, cast(sum(counted.n) as bigint) as n
    from month_counts as counted
    inner join questions on counted.event_type = questions.outcome_type
    group by counted.city, questions.question_id, counted.month

),

-- The first and the last month of either are not whole, and two feeds that begin or end together would seem to move together.
periods as (

    select
        signals.city,
        signals.question_id,
        greatest(signals.first_month, outcomes.first_month) as before_first,
        least(signals.last_month, outcomes.last_month) as after_last
    from (
        select city, question_id, min(month) as first_month, max(month) as last_month
        from signal_months
        group by city, question_id
    ) as signals
    inner join (
        select city, question_id, min(month) as first_month, max(month) as last_month
        from outcome_months
        group by city, question_id
    ) as outcomes
        on signals.city = outcomes.city
        and signals.question_id = outcomes.question_id

),

months as (

    select city, question_id, before_first, after_last, cast(series_month as date) as month
    from (
        select city, question_id, before_first, after_last, {{ month_series('before_first', 'after_last') }} as series_month
        from periods
    ) as series

),

month_pairs as (

    select
        months.city,
        months.question_id,
        months.month,
        coalesce(signals.n, 0) as n_signal,
        coalesce(outcomes.n, 0) as n_outcome
    from months
    left join signal_months as signals
        on months.city = signals.city
        and months.question_id = signals.question_id
        and months.month = signals.month
    left join outcome_months as outcomes
        on months.city = outcomes.city
        and months.question_id = outcomes.question_id
        and months.month = outcomes.month
    where months.month > months.before_first and months.month < months.after_last

),

across_months as (

    select city, question_id, count(*) as n_month, {{ pearson_r('n_signal', 'n_outcome') }} as across_months_r
    from month_pairs
    group by city, question_id

),

changes as (

    select
        city,
        question_id,
        n_signal - lag(n_signal) over (partition by city, question_id order by month) as signal_change,
        n_outcome - lag(n_outcome) over (partition by city, question_id order by month) as outcome_change
    from month_pairs

),

month_to_month as (

    select city, question_id, {{ pearson_r('signal_change', 'outcome_change') }} as month_to_month_r
    from changes
    where signal_change is not null
    group by city, question_id

),

-- Signals that must be anchors of ratio and lag curve, or repeat one that is: of months in which every day has eight weeks
-- before and after it inside the observed period of the outcome. A window has at most four.
covered as (

    select signals.city, signals.question_id, sum(signals.n) as n_signal_covered
    from signal_months as signals
    inner join questions on signals.question_id = questions.question_id
    inner join {{ ref('int_outcome_periods') }} as observed
        on signals.city = observed.city
        and questions.outcome_type = observed.outcome_type
    where
        {{ day_number('signals.month') }} - {{ lag_reach() }} >= observed.first_day
        and {{ day_number('signals.month') }} + 30 + {{ lag_reach() }} <= observed.last_day
    group by signals.city, signals.question_id

)

select
    across_cells.city,
    across_cells.question_id,
    cast(across_cells.n_signal as bigint) as n_signal,
    cast(coalesce(covered.n_signal_covered, 0) as bigint) as n_signal_covered,
    cast(across_cells.n_outcome as bigint) as n_outcome,
    cast(across_cells.n_cell as integer) as n_cell,
    across_cells.across_cells_r,
    cast(coalesce(across_months.n_month, 0) as integer) as n_month,
    across_months.across_months_r,
    month_to_month.month_to_month_r
from across_cells
left join across_months
    on across_cells.city = across_months.city
    and across_cells.question_id = across_months.question_id
left join month_to_month
    on across_cells.city = month_to_month.city
    and across_cells.question_id = month_to_month.question_id
left join covered
    on across_cells.city = covered.city
    and across_cells.question_id = covered.question_id
