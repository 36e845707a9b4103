with last_months as (
    select
        city,
        event_type,
        open_at_end,
        overdue_at_end,
        row_number() over (partition by city, event_type order by month_on desc) as recency
    from {{ ref('mart_metric_book') }}
),

open_cases as (
    select
        events.city,
        events.event_type,
        count(*) filter (where events.is_open) as n_open,
        count(*) filter (where events.is_open and events.due_at < feeds.as_of_at) as n_overdue
    from {{ ref('fct_events') }} as events
    inner join {{ ref('dim_feed') }} as feeds on events.city = feeds.city and events.feed = feeds.feed
    where
        events.is_canonical
        and not events.is_noise
        and not events.is_excluded
        and events.is_open is not null
        and events.event_at <= feeds.as_of_at
        and events.kind <> 'crime'
    group by events.city, events.event_type
)

select
    last_months.city,
    last_months.event_type,
    last_months.open_at_end,
    open_cases.n_open,
    last_months.overdue_at_end,
    open_cases.n_overdue
from last_months
inner join open_cases
    on last_months.city = open_cases.city and last_months.event_type = open_cases.event_type
where
    last_months.recency = 1
    and (last_months.open_at_end <> open_cases.n_open or last_months.overdue_at_end <> open_cases.n_overdue)
