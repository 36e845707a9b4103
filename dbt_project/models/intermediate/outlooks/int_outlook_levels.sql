{%- set year = outlook_year_days() -%}
-- How many failures the whole city had, as known at a forecast time: in the year before it, and for the season, in the
-- same days as the horizon of up to three years before. Years that began before the outcome was observed are left out.
with failures as (
    select * from {{ ref('int_outlook_records') }} where is_failure and is_feature
),

ages as (
    select
        origins.city,
        origins.outlook,
        origins.origin_day,
        origins.horizon_days,
        origins.origin_day - failures.day as age_days,
        -- Whole years back, and how many of them were observed from their first day.
        cast(floor((origins.origin_day - failures.day) / {{ year }}.0) as integer) as years_back,
        cast(floor((origins.origin_day - periods.first_day + 1) / {{ year }}.0) as integer) as years_observed,
        failures.known_day
    from {{ ref('int_outlook_origins') }} as origins
    inner join {{ ref('int_outlook_periods') }} as periods
        on origins.city = periods.city
        and origins.outlook = periods.outlook
    inner join failures
        on origins.city = failures.city
        and origins.outlook = failures.outlook
        and failures.known_day <= origins.origin_day
)

select
    city,
    outlook,
    origin_day,
    count(*) filter (where age_days < {{ year }}) as n_year,
    count(*) filter (where years_back < least(3, years_observed)) as n_in_years,
    -- The horizon's days of the year before are the oldest of that year: ages 365 - horizon to 364.
    count(*) filter (
        where years_back < least(3, years_observed) and age_days - {{ year }} * years_back >= {{ year }} - horizon_days
    ) as n_like,
    max(known_day) as latest_day
from ages
group by city, outlook, origin_day
