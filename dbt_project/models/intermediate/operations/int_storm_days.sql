-- A day is compared with the days around it, so that neither growth nor a feed that begins makes storms.
{%- set least_signs = 10 -%}
{%- set times_usual = 3 -%}
{%- set days_around = 45 %}

with signs as (
    select event_type from {{ ref('storm_signs') }}
),

reported as (
    select
        cases.city,
        {{ day_number('cases.event_on') }} as day,
        count(*) as n_signs
    from {{ ref('int_cases') }} as cases
    inner join signs on cases.event_type = signs.event_type
    group by cases.city, {{ day_number('cases.event_on') }}
),

spans as (
    select city, min(day) as first_day, max(day) as last_day from reported group by city
),

days as (
    select city, {{ each_integer('first_day', 'last_day') }} as day from spans
),

counted as (
    select
        days.city,
        days.day,
        coalesce(reported.n_signs, 0) as n_signs
    from days
    left join reported on days.city = reported.city and days.day = reported.day
),

compared as (
    select
        counted.city,
        counted.day,
        counted.n_signs,
        median(around.n_signs) as usual_signs
    from counted
    inner join counted as around
        on counted.city = around.city
        and around.day between counted.day - {{ days_around }} and counted.day + {{ days_around }}
    group by counted.city, counted.day, counted.n_signs
)

select
    city,
    cast({{ date_of_day('day') }} as date) as date_on,
    n_signs,
    usual_signs,
    n_signs >= {{ least_signs }} and n_signs >= {{ times_usual }} * usual_signs as is_storm
from compared
