{%- set rules = duplicate_rules() -%}
{%- set radius = rules.radius_m -%}
{#- Days are counted between dates where only those are told, which adds a day at each end. -#}
{%- set days = '(' ~ rules.again_days ~ ' + 2)' -%}

-- Cases opened near one of their type that had been closed, by buckets as in int_duplicate_pairs. Of several closed
-- ones the last closing counts.
with resolved as (
    select event_key from {{ ref('int_duplicates_resolved') }} where event_key <> canonical_event_key
),

cases as (
    select reports.*
    from {{ ref('int_duplicate_reports') }} as reports
    left join resolved on reports.event_key = resolved.event_key
    where
        resolved.event_key is null
        and not (reports.is_duplicate and reports.parent_key is null)
        and reports.is_comparable
        and reports.x_m is not null
        and reports.y_m is not null
),

steps as (
    select 0 as step
    union all
    select 1 as step
),

closed as (
    select
        cases.*,
        {{ bucket('cases.x_m - ' ~ radius, 2 * radius) }} + x_steps.step as x_bucket,
        {{ bucket('cases.y_m - ' ~ radius, 2 * radius) }} + y_steps.step as y_bucket,
        {{ time_bucket('cases.closed_at - interval 1 day', days) }} + t_steps.step as t_bucket
    from cases
    cross join steps as x_steps
    cross join steps as y_steps
    cross join steps as t_steps
    where cases.closed_at is not null
),

opened as (
    select
        *,
        {{ bucket('x_m', 2 * radius) }} as x_bucket,
        {{ bucket('y_m', 2 * radius) }} as y_bucket,
        {{ time_bucket('event_at', days) }} as t_bucket
    from cases
),

measured as (
    select
        opened.city,
        opened.event_key,
        closed.event_key as earlier_key,
        closed.closed_at as earlier_closed_at,
        {{ report_distance2('closed', 'opened') }} as distance2,
        {{ report_lag_days('closed', 'opened') }} as lag_days,
        {{ days_after_closing('closed', 'opened') }} as days_since_closure
    from opened
    inner join closed
        on opened.city = closed.city
        and opened.event_type = closed.event_type
        and opened.x_bucket = closed.x_bucket
        and opened.y_bucket = closed.y_bucket
        and opened.t_bucket = closed.t_bucket
        and {{ is_about_the_same('opened', 'closed') }}
),

ranked as (
    select
        *,
        row_number() over (
            partition by event_key order by earlier_closed_at desc, distance2, earlier_key
        ) as preference
    from measured
    where
        distance2 <= {{ radius * radius }}
        and days_since_closure > 0
        and days_since_closure <= {{ rules.again_days }}
)

select
    city,
    event_key,
    earlier_key,
    sqrt(distance2) as distance_m,
    lag_days,
    days_since_closure
from ranked
where preference = 1
