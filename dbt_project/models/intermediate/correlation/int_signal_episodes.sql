-- First reports: a report is dropped when the same signal was reported within 50 m in the 14 days before.
-- episode_id is a short name of an episode within one build: the joins over pairs are several times faster on integers.
-- Repeats of one fault would otherwise put its own earlier exposure into the reference window.
with signals as (

    select distinct signal_key, signal_type, signal_subtype
    from {{ ref('int_correlation_questions') }}

),

reports as (

    select
        signals.signal_key,
        events.city,
        events.event_key,
        events.event_on,
        {{ day_number('events.event_on') }} as day,
        events.x_m,
        events.y_m,
        events.h3_7
    from {{ ref('fct_events') }} as events
    inner join signals
        on events.event_type = signals.signal_type
        and (signals.signal_subtype is null or events.event_subtype = signals.signal_subtype)
    where {{ is_evidence('events') }}

),

searching as (

    select
        reports.*,
        {{ space_time_bucket(
            bucket('x_m - 50', 100) ~ ' + step_x.step',
            bucket('y_m - 50', 100) ~ ' + step_y.step',
            bucket('day - 14', 15) ~ ' + step_t.step') }} as bucket
    from reports
    cross join (values (0), (1)) as step_x (step)
    cross join (values (0), (1)) as step_y (step)
    cross join (values (0), (1)) as step_t (step)

),

earlier as (

    select
        signal_key, city, event_key, day, x_m, y_m,
        {{ space_time_bucket(bucket('x_m', 100), bucket('y_m', 100), bucket('day', 15)) }} as bucket
    from reports

),

repeats as (

    select distinct searching.signal_key, searching.event_key
    from searching
    inner join earlier
        on searching.bucket = earlier.bucket
        and searching.signal_key = earlier.signal_key
        and searching.city = earlier.city
    where searching.day - earlier.day between 0 and 14
        and (earlier.day < searching.day or earlier.event_key < searching.event_key)
        and (searching.x_m - earlier.x_m) * (searching.x_m - earlier.x_m)
            + (searching.y_m - earlier.y_m) * (searching.y_m - earlier.y_m) <= 50 * 50

)

select
    row_number() over (order by reports.signal_key, reports.event_key) as episode_id,
    reports.*
from reports
left join repeats
    on reports.signal_key = repeats.signal_key
    and reports.event_key = repeats.event_key
where repeats.event_key is null
