-- A view: it adds two joins of few rows to fct_events, and each mart reads only some of its columns.
{{ config(materialized='view') }}

with feeds as (
    select
        feeds.city,
        feeds.feed,
        cities.time_zone,
        feeds.as_of_at,
        {{ utc_to_wall('feeds.as_of_at', 'cities.time_zone') }} as as_of_local
    from {{ ref('dim_feed') }} as feeds
    inner join {{ ref('dim_city') }} as cities on feeds.city = cities.city
),

statuses as (
    select * from {{ ref('statuses') }}
),

cases as (
    select
        events.event_key,
        events.city,
        events.feed,
        events.kind,
        events.event_type,
        events.event_subtype,
        events.owner_agency,
        events.event_at,
        events.event_local,
        events.event_on,
        events.time_precision,
        events.is_open,
        -- A delivery cannot know of a closing after it: the case is closed, on a day that was not told. A closing
        -- date on a case that its source calls open is left from an earlier closing, or wrong.
        case when not events.is_open and events.closed_at <= feeds.as_of_at then events.closed_at end as closed_at,
        case when not events.is_open and events.closed_at <= feeds.as_of_at then events.closed_local end
            as closed_local,
        events.due_at,
        {{ utc_to_wall('events.due_at', 'feeds.time_zone') }} as due_local,
        feeds.as_of_at,
        feeds.as_of_local,
        statuses.ending as status_ending,
        events.h3_7,
        events.x_m,
        events.y_m
    from {{ ref('fct_events') }} as events
    inner join feeds on events.city = feeds.city and events.feed = feeds.feed
    left join statuses on events.status = statuses.status
    where
        events.is_canonical
        and not events.is_noise
        and not events.is_excluded
        and events.is_open is not null
        and events.event_at <= feeds.as_of_at
        and events.kind in ('service_request', 'infrastructure', 'permit', 'utility')
),

measured as (
    select
        *,
        case
            when is_open and time_precision = 'day' then {{ days_between('event_on', 'cast(as_of_local as date)') }}
            when is_open then {{ seconds_between('event_at', 'as_of_at') }} / 86400.0
            -- A closing at exactly midnight is a date that was told without its time.
            when time_precision = 'day' or closed_local = date_trunc('day', closed_local)
                then {{ days_between('event_on', 'cast(closed_local as date)') }}
            else {{ seconds_between('event_at', 'closed_at') }} / 86400.0
        end as duration_days
    from cases
)

select
    event_key,
    city,
    feed,
    kind,
    event_type,
    event_subtype,
    owner_agency,
    event_at,
    event_local,
    event_on,
    is_open,
    closed_at,
    closed_local,
    due_at,
    due_local,
    as_of_at,
    as_of_local,
    cast(duration_days as double) as duration_days,
    not is_open and closed_at is not null and duration_days >= 0 as is_timed_closing,
    not is_open and closed_at is null as is_undated,
    not is_open and closed_at is not null and duration_days < 0 as is_reversed,
    case
        when is_open then 'open'
        when closed_at is null then 'undated'
        when duration_days < 0 then 'reversed'
        else coalesce(status_ending, 'done')
    end as ending,
    is_open or status_ending is not null as is_ending_told,
    h3_7,
    x_m,
    y_m
from measured
