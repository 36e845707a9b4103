with days_told as (
    select min(event_on) as first_on, max(greatest(event_on, cast(closed_local as date))) as last_on
    from {{ ref('fct_events') }}
    union all
    select null as first_on, max(cast(as_of_at as date)) as last_on from {{ ref('dim_feed') }}
),

span as (
    select min(first_on) as first_on, max(last_on) as last_on from days_told
),

days as (
    select cast({{ day_series('first_on', 'last_on') }} as date) as date_on
    from span
    where first_on is not null
)

select
    date_on,
    cast(extract(year from date_on) as integer) as year,
    cast(extract(quarter from date_on) as integer) as quarter,
    cast(extract(month from date_on) as integer) as month,
    cast(extract(day from date_on) as integer) as day_of_month,
    {{ iso_weekday('date_on') }} as iso_weekday,
    {{ iso_weekday('date_on') }} >= 6 as is_weekend,
    cast(date_trunc('month', date_on) as date) as month_on
from days
