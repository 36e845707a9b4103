-- Arrivals of all hours, told or not, are the cases opened before the day of the newest delivery.
with cases as (
    select city, event_type, event_on, cast(as_of_local as date) as as_of_on
    from {{ ref('int_cases') }}
),

spans as (
    select city, event_type, max(as_of_on) as as_of_on from cases group by city, event_type
),

opened as (
    select cases.city, cases.event_type, count(*) as opened
    from cases
    inner join spans on cases.city = spans.city and cases.event_type = spans.event_type
    where cases.event_on < spans.as_of_on
    group by cases.city, cases.event_type
),

arrived as (
    select city, event_type, sum(arrivals) as arrivals
    from {{ ref('mart_workload') }}
    group by city, event_type
)

select opened.city, opened.event_type, opened.opened, arrived.arrivals
from opened
full outer join arrived on opened.city = arrived.city and opened.event_type = arrived.event_type
where opened.opened is distinct from arrived.arrivals
