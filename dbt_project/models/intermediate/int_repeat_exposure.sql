{#- Days of a case's age within which its type's rate of repeats is held constant. Most repeats come soon (of a pothole in
    the simulated city 0.10 on day 0 and 0.02 a day from day 3 on), so a place that is served sooner is watched while they
    are many, and would look fast. -#}
{%- set ages = [(0, 1), (1, 3), (3, none)] -%}
{%- set rules = duplicate_rules() -%}

with reports as (
    select event_key, time_precision from {{ ref('int_duplicate_reports') }} where is_comparable
),

feeds as (
    select city, feed, coalesce(live_tail_of, feed) as bulk_feed from {{ ref('stg_feeds') }}
),

-- A case is watched from its first report until it is closed, or for as long as a report can be found to repeat it. Of
-- times told as days nobody knows the order within a day, so whole days between the two ends are watched.
watched as (
    select
        cases.city,
        cases.event_key,
        cases.event_type,
        cases.h3_7,
        cases.event_at,
        cases.event_on,
        reports.time_precision,
        cast(case when reports.time_precision = 'day' then 1 else 0 end as double) as from_day,
        cast(
            case
                when reports.time_precision = 'day'
                    then least(
                        {{ days_between('cases.event_on', 'cast(coalesce(cases.closed_local, cases.as_of_local) as date)') }},
                        {{ rules.within_days + 1 }}
                    )
                else least(
                    {{ seconds_between('cases.event_at', 'coalesce(cases.closed_at, cases.as_of_at)') }} / 86400.0,
                    {{ rules.within_days }}
                )
            end as double
        ) as until_day
    from {{ ref('int_cases') }} as cases
    inner join reports on cases.event_key = reports.event_key
    where cases.h3_7 is not null and (cases.is_open or cases.is_timed_closing)
),

-- The live tail of a feed tells the same reports as the feed, by the same ids.
again as (
    select
        events.canonical_event_key,
        feeds.bulk_feed,
        events.source_id,
        events.time_precision,
        min(events.event_at) as event_at,
        min(events.event_on) as event_on
    from {{ ref('fct_events') }} as events
    inner join feeds on events.city = feeds.city and events.feed = feeds.feed
    where
        events.kind = 'service_request'
        and not events.is_canonical
        and events.duplicate_method in ('source', 'near')
        and events.canonical_event_key is not null
        and not events.is_noise
        and not events.is_excluded
        and not events.is_deleted
    group by 1, 2, 3, 4
),

lags as (
    select watched.event_key, {{ report_lag_days('watched', 'again') }} as lag_days
    from again
    inner join watched on again.canonical_event_key = watched.event_key
),

ages as (
    {% for from_day, until_day in ages -%}
    select
        cast({{ from_day }} as double) as from_day,
        cast({{ until_day if until_day is not none else rules.within_days + 1 }} as double) as until_day
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

spans as (
    select
        watched.city,
        watched.event_key,
        watched.event_type,
        watched.h3_7,
        ages.from_day as age_from_day,
        greatest(watched.from_day, ages.from_day) as from_day,
        least(watched.until_day, ages.until_day) as until_day
    from watched
    inner join ages on watched.from_day < ages.until_day and watched.until_day > ages.from_day
    where watched.until_day > watched.from_day
),

-- What is told at the moment of the first report is one report entered twice.
counted as (
    select lags.event_key, spans.age_from_day, count(*) as n_repeat
    from lags
    inner join spans
        on lags.event_key = spans.event_key
        and lags.lag_days >= spans.from_day
        and lags.lag_days < spans.until_day
    where lags.lag_days > 0
    group by 1, 2
)

select
    spans.city,
    spans.event_key,
    spans.event_type,
    spans.h3_7,
    cast(spans.age_from_day as integer) as age_from_day,
    spans.until_day - spans.from_day as exposure_days,
    cast(coalesce(counted.n_repeat, 0) as integer) as n_repeat
from spans
left join counted on spans.event_key = counted.event_key and spans.age_from_day = counted.age_from_day
