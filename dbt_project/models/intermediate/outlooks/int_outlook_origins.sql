{%- set year = outlook_year_days() -%}
-- Forecast times: on a fixed grid of days, so that a new day moves none of them, each with a whole year known before it
-- and its horizon observed; and the newest day, whose horizon lies ahead.
with periods as (
    select * from {{ ref('int_outlook_periods') }}
),

spans as (
    select
        *,
        cast(ceil((first_day + {{ year }} - 1) / cast(horizon_days as double)) as integer) as first_step,
        cast(floor((last_day - horizon_days) / cast(horizon_days as double)) as integer) as last_step
    from periods
),

steps as (
    select
        city,
        outlook,
        horizon_days,
        {{ each_integer('greatest(first_step, last_step - max_origins + 1)', 'last_step') }} as step
    from spans
    where first_step <= last_step
)

select
    city,
    outlook,
    cast(step * horizon_days as integer) as origin_day,
    horizon_days,
    false as is_newest
from steps
union all
select
    city,
    outlook,
    last_day as origin_day,
    horizon_days,
    true as is_newest
from periods
