with events as (
    select
        events.*,
        {{ utc_to_wall('events.as_of_at', 'cities.time_zone') }} as as_of_local
    from {{ ref('fct_events') }} as events
    inner join {{ ref('dim_city') }} as cities on events.city = cities.city
    where
        events.is_canonical
        and not events.is_noise
        and not events.is_excluded
        and events.is_open is not null
        and events.event_at <= events.as_of_at
),

cases as (
    select
        city,
        event_type,
        cast(date_trunc('month', event_local) as date) as opened_month_on,
        -- A delivery cannot know of a closing after it: the case is closed, on a day that was not told.
        case when closed_at <= as_of_at then cast(date_trunc('month', closed_local) as date) end as closed_month_on,
        is_open,
        case when closed_at <= as_of_at then closed_at end as closed_at,
        due_at,
        as_of_at,
        as_of_local,
        -- A closing at exactly midnight is a date that was told without its time.
        time_precision = 'day' or closed_local = date_trunc('day', closed_local) as is_day_precise,
        {{ days_between('event_on', 'cast(closed_local as date)') }} as whole_days,
        {{ seconds_between('event_at', 'closed_at') }} / 86400.0 as exact_days,
        {{ days_between('event_on', 'cast(as_of_local as date)') }} as observed_whole_days,
        {{ seconds_between('event_at', 'as_of_at') }} / 86400.0 as observed_days,
        time_precision
    from events
),

measured as (
    select
        *,
        case
            when is_open and time_precision = 'day' then observed_whole_days
            when is_open then observed_days
            when is_day_precise then whole_days
            else exact_days
        end as duration_days,
        not is_open and closed_at is null as is_undated
    from cases
),

judged as (
    select
        *,
        not is_open and not is_undated and duration_days < 0 as is_reversed,
        not is_open and not is_undated and duration_days >= 0 as is_timed_closing
    from measured
),

spans as (
    select
        city,
        event_type,
        max(as_of_at) as as_of_at,
        min(opened_month_on) as first_month_on,
        greatest(cast(date_trunc('month', max(as_of_local)) as date), max(opened_month_on)) as last_month_on
    from judged
    group by city, event_type
),

months as (
    select
        city,
        event_type,
        as_of_at,
        cast({{ month_series('first_month_on', 'last_month_on') }} as date) as month_on
    from spans
),

cohorts as (
    select
        city,
        event_type,
        opened_month_on as month_on,
        count(*) as opened,
        count(*) filter (where is_timed_closing) as n_timed_closings,
        count(*) filter (where is_open) as n_censored,
        count(*) filter (where is_undated) as n_closed_without_date,
        count(*) filter (where is_reversed) as n_closed_before_opened,
        count(*) filter (where due_at is not null) as n_with_target,
        count(*) filter (where is_timed_closing and due_at is not null) as n_closed_with_target,
        count(*) filter (where is_timed_closing and closed_at <= due_at) as n_closed_by_target,
        count(*) filter (where is_open and due_at < as_of_at) as n_open_past_target
    from judged
    group by city, event_type, opened_month_on
),

closings as (
    select city, event_type, closed_month_on as month_on, count(*) as closed
    from judged
    where is_timed_closing
    group by city, event_type, closed_month_on
),

-- When a case left the stock of open cases: no earlier than it came, no later than the last month of the book.
departures as (
    select
        judged.city,
        judged.event_type,
        case
            when judged.closed_month_on is null then judged.opened_month_on
            else greatest(judged.opened_month_on, least(judged.closed_month_on, spans.last_month_on))
        end as month_on,
        count(*) as departed
    from judged
    inner join spans on judged.city = spans.city and judged.event_type = spans.event_type
    where not judged.is_open
    group by 1, 2, 3
),

durations as (
    select
        city,
        event_type,
        opened_month_on as month_on,
        duration_days,
        count(*) filter (where is_timed_closing) as n_closed,
        count(*) as n_cases
    from judged
    where is_timed_closing or is_open
    group by city, event_type, opened_month_on, duration_days
),

at_risk as (
    select
        *,
        sum(n_cases) over (partition by city, event_type, month_on order by duration_days desc) as n_at_risk
    from durations
),

-- Kaplan-Meier: the product of (1 - closed / at risk), as a sum of logarithms; -1000 stands for the logarithm of 0.
survival as (
    select
        city,
        event_type,
        month_on,
        duration_days,
        exp(
            sum(case when n_closed = n_at_risk then -1000 else ln(1.0 - n_closed / cast(n_at_risk as double)) end)
                over (partition by city, event_type, month_on order by duration_days)
        ) as share_open
    from at_risk
),

-- The margin keeps a share that is exactly one half from being missed by the last bit of exp(ln(x)).
quantiles as (
    select
        city,
        event_type,
        month_on,
        min(duration_days) filter (where share_open <= 0.5 + 1e-9) as km_median_days_to_close,
        min(duration_days) filter (where share_open <= 0.1 + 1e-9) as km_p90_days_to_close
    from survival
    group by city, event_type, month_on
),

final as (
    select
        months.city,
        months.event_type,
        months.month_on,
        coalesce(cohorts.opened, 0) as opened,
        coalesce(closings.closed, 0) as closed,
        cast(
            sum(coalesce(cohorts.opened, 0) - coalesce(departures.departed, 0))
                over (partition by months.city, months.event_type order by months.month_on)
            as bigint
        ) as open_at_end,
        cohorts.n_closed_by_target / nullif(cast(cohorts.n_closed_with_target as double), 0) as on_time_closed_only_share,
        cohorts.n_closed_by_target
            / nullif(cast(cohorts.n_closed_with_target + cohorts.n_open_past_target as double), 0)
            as on_time_overdue_open_share,
        quantiles.km_median_days_to_close,
        quantiles.km_p90_days_to_close,
        coalesce(cohorts.n_timed_closings, 0) as n_timed_closings,
        coalesce(cohorts.n_censored, 0) as n_censored,
        coalesce(cohorts.n_closed_without_date, 0) as n_closed_without_date,
        coalesce(cohorts.n_closed_before_opened, 0) as n_closed_before_opened,
        coalesce(cohorts.n_with_target, 0) as n_with_target,
        coalesce(cohorts.n_closed_with_target, 0) as n_closed_with_target,
        coalesce(cohorts.n_closed_by_target, 0) as n_closed_by_target,
        coalesce(cohorts.n_open_past_target, 0) as n_open_past_target,
        months.as_of_at
    from months
    left join cohorts
        on months.city = cohorts.city
        and months.event_type = cohorts.event_type
        and months.month_on = cohorts.month_on
    left join closings
        on months.city = closings.city
        and months.event_type = closings.event_type
        and months.month_on = closings.month_on
    left join departures
        on months.city = departures.city
        and months.event_type = departures.event_type
        and months.month_on = departures.month_on
    left join quantiles
        on months.city = quantiles.city
        and months.event_type = quantiles.event_type
        and months.month_on = quantiles.month_on
)

select * from final
