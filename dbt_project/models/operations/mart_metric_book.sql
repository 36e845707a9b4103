{%- set endings = ['done', 'no_action', 'transferred', 'cancelled', 'untold'] -%}
{%- set horizon_days = 30 -%}

with cases as (
    select
        city,
        event_type,
        cast(date_trunc('month', event_local) as date) as opened_month_on,
        cast(date_trunc('month', closed_local) as date) as closed_month_on,
        cast(date_trunc('month', due_local) as date) as due_month_on,
        is_open,
        is_timed_closing,
        is_undated,
        is_reversed,
        case when ending = 'done' and not is_ending_told then 'untold' else ending end as ending,
        duration_days,
        due_at is not null as has_target,
        is_timed_closing and closed_at <= due_at as is_closed_by_target,
        due_at < as_of_at as is_target_passed,
        as_of_at,
        as_of_local
    from {{ ref('int_cases') }}
),

spans as (
    select
        city,
        event_type,
        max(as_of_at) as as_of_at,
        bool_or(has_target) as has_targets,
        min(opened_month_on) as first_month_on,
        greatest(cast(date_trunc('month', max(as_of_local)) as date), max(opened_month_on)) as last_month_on
    from cases
    group by city, event_type
),

months as (
    select
        city,
        event_type,
        as_of_at,
        has_targets,
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
        count(*) filter (where has_target) as n_with_target,
        count(*) filter (where is_timed_closing and has_target) as n_closed_with_target,
        count(*) filter (where is_closed_by_target) as n_closed_by_target,
        count(*) filter (where is_open and has_target) as n_open_with_target,
        count(*) filter (where is_open and is_target_passed) as n_open_past_target,
        count(*) filter (where (is_timed_closing or is_open) and is_target_passed) as n_target_passed,
        count(*) filter (where is_closed_by_target and is_target_passed) as n_closed_by_passed_target,
        {{ exact_sum('case when is_timed_closing then duration_days end') }} as timed_closing_days
    from cases
    group by city, event_type, opened_month_on
),

closings as (
    select
        city,
        event_type,
        closed_month_on as month_on,
        count(*) as closed,
        count(*) filter (where has_target) as closed_with_target,
        count(*) filter (where is_closed_by_target) as closed_by_target
    from cases
    where is_timed_closing
    group by city, event_type, closed_month_on
),

-- When a case left the stock of open cases: no earlier than it came, no later than the last month of the book.
stays as (
    select
        cases.city,
        cases.event_type,
        cases.opened_month_on,
        case
            when cases.is_open then null
            when cases.closed_month_on is null then cases.opened_month_on
            else greatest(cases.opened_month_on, least(cases.closed_month_on, spans.last_month_on))
        end as left_month_on,
        case when cases.is_target_passed then greatest(cases.opened_month_on, cases.due_month_on) end
            as overdue_month_on
    from cases
    inner join spans on cases.city = spans.city and cases.event_type = spans.event_type
),

departures as (
    select city, event_type, left_month_on as month_on, count(*) as departed
    from stays
    where left_month_on is not null
    group by city, event_type, left_month_on
),

-- A case is overdue at the end of the month its target passes in, unless it left by then, until the month it leaves in.
overdue_changes as (
    select city, event_type, overdue_month_on as month_on, 1 as change
    from stays
    where overdue_month_on < left_month_on or (overdue_month_on is not null and left_month_on is null)
    union all
    select city, event_type, left_month_on as month_on, -1 as change
    from stays
    where overdue_month_on < left_month_on
),

overdue_flows as (
    select city, event_type, month_on, sum(change) as change
    from overdue_changes
    group by city, event_type, month_on
),

durations as (
    select
        city,
        event_type,
        opened_month_on as month_on,
        duration_days,
        {%- for ending in endings %}
        count(*) filter (where ending = '{{ ending }}') as n_{{ ending }},
        {%- endfor %}
        count(*) filter (where is_timed_closing) as n_closed,
        count(*) as n_cases
    from cases
    where is_timed_closing or is_open
    group by city, event_type, opened_month_on, duration_days
),

-- One order for all three, so that the rows are sorted once.
at_risk as (
    select
        *,
        sum(n_cases) over (
            partition by city, event_type, month_on order by duration_days
            rows between current row and unbounded following
        ) as n_at_risk,
        sum(n_closed) over (
            partition by city, event_type, month_on order by duration_days
            rows between unbounded preceding and current row
        ) as n_closed_so_far,
        sum(n_closed) over (
            partition by city, event_type, month_on order by duration_days
            rows between unbounded preceding and unbounded following
        ) as n_closed_in_all
    from durations
),

hazards as (
    select
        *,
        -- -1000 stands for the logarithm of 0. As decimals, so that their sum is the same in every run.
        cast(
            case when n_closed = n_at_risk then -1000 else ln(1.0 - n_closed / cast(n_at_risk as double)) end
            as decimal(18, 12)
        ) as log_share_staying
    from at_risk
),

-- Kaplan-Meier: the product of (1 - closed / at risk), as a sum of logarithms.
logarithms as (
    select
        *,
        sum(log_share_staying) over (
            partition by city, event_type, month_on order by duration_days
            rows between unbounded preceding and current row
        ) as log_share_open
    from hazards
),

survival as (
    select
        *,
        exp(cast(log_share_open as double)) as share_open,
        exp(cast(log_share_open - log_share_staying as double)) as share_open_before
    from logarithms
),

-- The margin keeps a share that is exactly one half from being missed by the last bit of exp(ln(x)).
-- Aalen-Johansen: of those still open just before a duration, the share that ends then in this way, summed up.
estimates as (
    select
        city,
        event_type,
        month_on,
        min(duration_days) filter (where share_open <= 0.5 + 1e-9) as km_median_days_to_close,
        min(duration_days) filter (where share_open <= 0.1 + 1e-9) as km_p90_days_to_close,
        min(duration_days) filter (where n_closed > 0 and 2 * n_closed_so_far >= n_closed_in_all)
            as closed_only_median_days_to_close,
        min(duration_days) filter (where n_closed > 0 and 10 * n_closed_so_far >= 9 * n_closed_in_all)
            as closed_only_p90_days_to_close,
        max(duration_days) >= {{ horizon_days }} or sum(n_cases) = sum(n_closed) as is_followed,
        coalesce(min(share_open) filter (where duration_days <= {{ horizon_days }}), 1.0) as share_open_then,
        {%- for ending in endings %}
        {{ exact_sum(
            'case when duration_days <= ' ~ horizon_days ~ ' then share_open_before * n_' ~ ending
            ~ ' / cast(n_at_risk as double) else 0 end', 15
        ) }} as share_{{ ending }}{{ ',' if not loop.last }}
        {%- endfor %}
    from survival
    group by city, event_type, month_on
),

stocks as (
    select
        months.city,
        months.event_type,
        months.month_on,
        months.as_of_at,
        cast(
            sum(coalesce(cohorts.opened, 0) - coalesce(departures.departed, 0))
                over (partition by months.city, months.event_type order by months.month_on)
            as bigint
        ) as open_at_end,
        cast(
            case
                when months.has_targets
                    then sum(coalesce(overdue_flows.change, 0))
                        over (partition by months.city, months.event_type order by months.month_on)
            end
            as bigint
        ) as overdue_at_end
    from months
    left join cohorts
        on months.city = cohorts.city
        and months.event_type = cohorts.event_type
        and months.month_on = cohorts.month_on
    left join departures
        on months.city = departures.city
        and months.event_type = departures.event_type
        and months.month_on = departures.month_on
    left join overdue_flows
        on months.city = overdue_flows.city
        and months.event_type = overdue_flows.event_type
        and months.month_on = overdue_flows.month_on
),

final as (
    select
        stocks.city,
        stocks.event_type,
        stocks.month_on,
        coalesce(cohorts.opened, 0) as opened,
        coalesce(closings.closed, 0) as closed,
        stocks.open_at_end,
        stocks.overdue_at_end,
        cohorts.n_closed_by_target / nullif(cast(cohorts.n_closed_with_target as double), 0)
            as on_time_closed_only_share,
        cohorts.n_closed_by_target
            / nullif(cast(cohorts.n_closed_with_target + cohorts.n_open_past_target as double), 0)
            as on_time_overdue_open_share,
        cohorts.n_closed_by_passed_target / nullif(cast(cohorts.n_target_passed as double), 0) as on_time_due_share,
        cohorts.n_closed_by_target
            / nullif(cast(cohorts.n_closed_with_target + cohorts.n_open_with_target as double), 0)
            as on_time_all_opened_share,
        closings.closed_by_target / nullif(cast(closings.closed_with_target as double), 0)
            as on_time_closed_in_month_share,
        estimates.km_median_days_to_close,
        estimates.km_p90_days_to_close,
        cohorts.timed_closing_days / nullif(cohorts.n_timed_closings, 0) as closed_only_mean_days_to_close,
        estimates.closed_only_median_days_to_close,
        estimates.closed_only_p90_days_to_close,
        -- Nine digits: what exp(ln(x)) adds behind them is no part of the estimate.
        case when estimates.is_followed then round(estimates.share_open_then, 9) end as km_open_after_30_days_share,
        {%- for ending in endings %}
        case when estimates.is_followed then round(estimates.share_{{ ending }}, 9) end
            as {{ ending }}_within_30_days_share,
        {%- endfor %}
        coalesce(cohorts.n_timed_closings, 0) as n_timed_closings,
        coalesce(cohorts.timed_closing_days, 0.0) as timed_closing_days,
        coalesce(cohorts.n_censored, 0) as n_censored,
        coalesce(cohorts.n_closed_without_date, 0) as n_closed_without_date,
        coalesce(cohorts.n_closed_before_opened, 0) as n_closed_before_opened,
        coalesce(cohorts.n_with_target, 0) as n_with_target,
        coalesce(cohorts.n_closed_with_target, 0) as n_closed_with_target,
        coalesce(cohorts.n_closed_by_target, 0) as n_closed_by_target,
        coalesce(cohorts.n_open_with_target, 0) as n_open_with_target,
        coalesce(cohorts.n_open_past_target, 0) as n_open_past_target,
        coalesce(cohorts.n_target_passed, 0) as n_target_passed,
        coalesce(cohorts.n_closed_by_passed_target, 0) as n_closed_by_passed_target,
        coalesce(closings.closed_with_target, 0) as closed_with_target,
        coalesce(closings.closed_by_target, 0) as closed_by_target,
        stocks.as_of_at
    from stocks
    left join cohorts
        on stocks.city = cohorts.city
        and stocks.event_type = cohorts.event_type
        and stocks.month_on = cohorts.month_on
    left join closings
        on stocks.city = closings.city
        and stocks.event_type = closings.event_type
        and stocks.month_on = closings.month_on
    left join estimates
        on stocks.city = estimates.city
        and stocks.event_type = estimates.event_type
        and stocks.month_on = estimates.month_on
)

select * from final
