{#- Days that a bucket of the search for repeats holds. -#}
{%- set days = same_job_days() + 1 -%}
{%- set reach = same_job_m() -%}

-- Each record of an outlook's outcome or precursors with the unit it lies in and the day from which it could be known.
-- A record is known when its first delivery that told it as what it is arrived; of the first delivery of a part, which
-- brings history in bulk, when it happened.
with periods as (
    select * from {{ ref('int_outlook_periods') }}
),

roles as (
    select city, outlook, asset_type, outcome_type as event_type, true as is_failure, {{ outlook_recent_days() }} as window_days
    from periods
    union all
    select periods.city, periods.outlook, periods.asset_type, precursors.event_type, false as is_failure, precursors.window_days
    from periods
    inner join {{ ref('outlook_precursors') }} as precursors on periods.outlook = precursors.outlook
),

first_deliveries as (
    {{ first_deliveries() }}
),

-- Two feeds or parts that tell one case are one record; which reports were later judged to be duplicates is not asked,
-- because nobody knew it at the time.
events as (
    select * from {{ ref('fct_events') }}
    where
        event_type in (select event_type from roles)
        and not is_noise
        and not is_excluded
        and event_on is not null
        and x_m is not null
        and y_m is not null
        and h3_10 is not null
        and coalesce(duplicate_method, '-') not in ('same_case_in_parts', 'live_tail')
),

-- Nearly every case has one version; of the others the first that told this type counts.
told as (
    select
        versions.event_key,
        versions.city,
        versions.feed,
        versions.part,
        versions.version_number,
        versions.observed_at,
        row_number() over (partition by versions.event_key order by versions.version_number) as telling
    from {{ ref('int_versions_numbered') }} as versions
    inner join events on versions.event_key = events.event_key
    inner join {{ ref('fct_event_versions') }} as states
        on versions.event_key = states.event_key
        and versions.version_number = states.version_number
        and events.event_type = states.event_type
),

arrivals as (
    select
        told.event_key,
        case
            when told.version_number = 1 and told.observed_at = first_deliveries.first_delivery_at then null
            else {{ arrival_day('told.observed_at', 'cities.time_zone') }}
        end as arrival_day
    from told
    inner join first_deliveries
        on told.city = first_deliveries.city
        and told.feed = first_deliveries.feed
        and told.part = first_deliveries.part
    inner join {{ ref('dim_city') }} as cities on told.city = cities.city
    where told.telling = 1
),

named as (
    select city, asset_type, asset_id, min(asset_key) as asset_key
    from {{ ref('dim_asset') }}
    group by city, asset_type, asset_id
),

records as (
    select
        roles.city,
        roles.outlook,
        roles.event_type,
        roles.is_failure,
        roles.window_days,
        events.event_key,
        events.is_canonical,
        events.x_m,
        events.y_m,
        {{ day_number('events.event_on') }} as day,
        greatest(
            {{ day_number('events.event_on') }},
            coalesce(arrivals.arrival_day, {{ day_number('events.event_on') }})
        ) as known_day,
        case
            when roles.asset_type is null then cast(events.h3_10 as varchar)
            when roles.is_failure then coalesce(named.asset_key, nearest.asset_key)
            else nearest.asset_key
        end as unit_key,
        {{ outlook_neighbourhood('roles.asset_type', 'events.h3_10', 'events.x_m', 'events.y_m') }} as neighbourhood,
        dense_rank() over (order by roles.city, roles.outlook, roles.event_type) as series
    from events
    inner join roles on events.city = roles.city and events.event_type = roles.event_type
    inner join arrivals on events.event_key = arrivals.event_key
    left join named
        on events.city = named.city
        and roles.asset_type = named.asset_type
        and events.asset_id = named.asset_id
    left join {{ ref('bridge_event_asset') }} as nearest
        on events.event_key = nearest.event_key
        and roles.asset_type = nearest.asset_type
),

searching as (
    select
        records.*,
        {{ space_time_bucket(
            bucket('x_m - ' ~ reach, 2 * reach) ~ ' + step_x.step',
            bucket('y_m - ' ~ reach, 2 * reach) ~ ' + step_y.step',
            bucket('day - ' ~ same_job_days(), days) ~ ' + step_t.step', 'series') }} as bucket
    from records
    {{ neighbour_steps() }}
),

earlier as (
    select
        *,
        {{ space_time_bucket(bucket('x_m', 2 * reach), bucket('y_m', 2 * reach), bucket('day', days), 'series') }} as bucket
    from records
),

-- What repeats a job by the day it happened, and what was known to repeat one when it arrived.
repeats as (
    select
        searching.outlook,
        searching.event_key,
        max(case when earlier.is_canonical then 1 else 0 end) = 1 as is_repeat,
        max(case when earlier.known_day <= searching.known_day then 1 else 0 end) = 1 as is_known_repeat
    from searching
    inner join earlier on searching.bucket = earlier.bucket
    where
        searching.day - earlier.day between 0 and {{ same_job_days() }}
        and (earlier.day < searching.day or earlier.event_key < searching.event_key)
        and {{ squared_distance('searching', 'earlier') }} <= {{ reach * reach }}
    group by searching.outlook, searching.event_key
)

select
    records.city,
    records.outlook,
    records.event_type,
    records.is_failure,
    records.window_days,
    records.event_key,
    records.unit_key,
    records.neighbourhood,
    records.day,
    records.known_day,
    records.is_failure and records.is_canonical and not coalesce(repeats.is_repeat, false) as is_outcome,
    not coalesce(repeats.is_known_repeat, false) as is_feature
from records
left join repeats
    on records.outlook = repeats.outlook
    and records.event_key = repeats.event_key
