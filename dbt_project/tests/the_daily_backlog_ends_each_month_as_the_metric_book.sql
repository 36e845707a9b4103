-- Stock and overdue cases at the end of each month, and what came and went in it, owners together; the last month
-- ends with the last day.
with days as (
    select
        city,
        event_type,
        date_on,
        cast(date_trunc('month', date_on) as date) as month_on,
        sum(opened) as opened,
        sum(closed) as closed,
        sum(open_at_end) as open_at_end,
        sum(coalesce(overdue_at_end, 0)) as overdue_at_end
    from {{ ref('mart_backlog_daily') }}
    group by city, event_type, date_on
),

ends as (
    select city, event_type, month_on, max(date_on) as date_on, sum(opened) as opened, sum(closed) as closed
    from days
    group by city, event_type, month_on
),

told as (
    select
        ends.city,
        ends.event_type,
        ends.month_on,
        ends.opened,
        ends.closed,
        days.open_at_end,
        days.overdue_at_end
    from ends
    inner join days
        on ends.city = days.city and ends.event_type = days.event_type and ends.date_on = days.date_on
)

select
    book.city,
    book.event_type,
    book.month_on,
    book.open_at_end,
    told.open_at_end as daily_open_at_end,
    book.overdue_at_end,
    told.overdue_at_end as daily_overdue_at_end
from {{ ref('mart_metric_book') }} as book
full outer join told
    on book.city = told.city and book.event_type = told.event_type and book.month_on = told.month_on
where
    book.opened is distinct from told.opened
    or book.closed is distinct from told.closed
    or book.open_at_end is distinct from told.open_at_end
    or coalesce(book.overdue_at_end, 0) is distinct from told.overdue_at_end
