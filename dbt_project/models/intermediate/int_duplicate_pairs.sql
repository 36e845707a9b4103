{{ config(materialized='incremental', incremental_strategy='replace_pairs') }}
{%- set changed_keys = ref('int_changed_keys') -%}
{%- set is_delta = not builds_whole() -%}
{%- set rules = duplicate_rules() -%}
{%- set radius = rules.radius_m -%}
{#- Days between dates are up to a day longer in hours, and a clock change adds one. -#}
{%- set days = '(' ~ rules.within_days ~ ' + 25.0 / 24)' -%}

-- Reports of one type that lie near each other, by buckets and not by cells: a box of twice the radius touches two
-- buckets of that size on an axis, a span of days forward in time two of that length, so the earlier report asks for
-- 2 x 2 x 2 of them and each pair is met once. In a delta only what changed asks, forward and back.
with reports as (
    select
        event_key,
        city,
        event_type,
        event_subtype,
        event_at,
        event_on,
        time_precision,
        x_m,
        y_m,
        premises
    from {{ ref('int_duplicate_reports') }}
    where is_comparable and x_m is not null and y_m is not null
),

steps as (
    select 0 as step
    union all
    select 1 as step
),

time_steps as (
    {% if is_delta %}
    select -1 as step
    union all
    {% endif %}
    select step from steps
),

searching as (
    select
        reports.*,
        {{ bucket('reports.x_m - ' ~ radius, 2 * radius) }} + x_steps.step as x_bucket,
        {{ bucket('reports.y_m - ' ~ radius, 2 * radius) }} + y_steps.step as y_bucket,
        {{ time_bucket('reports.event_at', days) }} + t_steps.step as t_bucket
    from reports
    cross join steps as x_steps
    cross join steps as y_steps
    cross join time_steps as t_steps
    where {{ in_changed_keys('reports.event_key') }}
),

found as (
    select
        *,
        {{ bucket('x_m', 2 * radius) }} as x_bucket,
        {{ bucket('y_m', 2 * radius) }} as y_bucket,
        {{ time_bucket('event_at', days) }} as t_bucket
    from reports
),

measured as (
    select
        searching.city,
        searching.event_key,
        found.event_key as found_key,
        {{ is_before('searching', 'found') }} as is_forward,
        {{ report_distance2('searching', 'found') }} as distance2,
        {{ report_lag_days('searching', 'found') }} as lag_days
    from searching
    inner join found
        on searching.city = found.city
        and searching.event_type = found.event_type
        and searching.x_bucket = found.x_bucket
        and searching.y_bucket = found.y_bucket
        and searching.t_bucket = found.t_bucket
        and {{ is_about_the_same('searching', 'found') }}
        and searching.event_key <> found.event_key
),

oriented as (
    select
        city,
        case when is_forward then event_key else found_key end as earlier_key,
        case when is_forward then found_key else event_key end as later_key,
        distance2,
        case when is_forward then lag_days else -lag_days end as lag_days
    from measured
    where is_forward
        {% if is_delta %}or found_key not in (select event_key from {{ changed_keys }}){% endif %}
)

select
    city,
    earlier_key,
    later_key,
    sqrt(distance2) as distance_m,
    lag_days
from oriented
where distance2 <= {{ radius * radius }} and lag_days <= {{ rules.within_days }}
