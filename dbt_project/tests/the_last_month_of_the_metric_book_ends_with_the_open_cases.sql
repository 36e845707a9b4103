with last_months as (
    select
        city,
        event_type,
        open_at_end,
        row_number() over (partition by city, event_type order by month_on desc) as recency
    from {{ ref('mart_metric_book') }}
),

open_cases as (
    select city, event_type, count(*) filter (where is_open) as n_open
    from {{ ref('fct_events') }}
    where is_canonical and not is_noise and not is_excluded and is_open is not null and event_at <= as_of_at
    group by city, event_type
)

select last_months.city, last_months.event_type, last_months.open_at_end, open_cases.n_open
from last_months
inner join open_cases
    on last_months.city = open_cases.city and last_months.event_type = open_cases.event_type
where last_months.recency = 1 and last_months.open_at_end <> open_cases.n_open
