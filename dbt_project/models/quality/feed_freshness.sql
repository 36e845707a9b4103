with feeds as (
    select * from {{ ref('dim_feed') }}
),

cadences as (
    select * from {{ ref('cadences') }}
),

errors as (
    select * from {{ ref('fetch_errors') }}
),

-- A part that is no longer declared is not asked any more, so how its last attempt went says nothing.
attempts as (
    select fetches.*
    from {{ ref('feed_fetches') }} as fetches
    inner join {{ source('declared', 'parts') }} as parts
        on fetches.city = parts.city and fetches.feed = parts.feed and fetches.part = parts.part
),

newest as (
    select
        events.city,
        events.feed,
        max(case when events.event_at <= feeds.as_of_at then events.event_at end) as newest_event_at,
        max(case when events.updated_at <= feeds.as_of_at then events.updated_at end) as newest_update_at,
        count(*) filter (where events.event_at <= feeds.as_of_at) as events,
        count(*) filter (where events.missing_since_at is not null) as rows_missing
    from {{ ref('fct_events') }} as events
    inner join feeds on events.city = feeds.city and events.feed = feeds.feed
    group by events.city, events.feed
),

rows_told as (
    select city, feed, rows_raw, rows_quarantined_by_ingest + rows_quarantined_by_staging as rows_quarantined
    from {{ ref('reconciliation') }}
),

tried as (
    select
        city,
        feed,
        max(attempted_at) as last_attempt_at,
        max(case when outcome in ('landed', 'unchanged') then attempted_at end) as last_success_at,
        max(case when outcome in ('landed', 'unchanged') then delivered_at end) as newest_delivery_at
    from attempts
    group by city, feed
),

numbered as (
    select
        *,
        sum(case when action = 'fetch' then 1 else 0 end) over (
            partition by city, feed, part
            order by attempted_at, fetch_id
            rows between unbounded preceding and current row
        ) as fetch_number
    from attempts
),

-- A fetch with the replays that came before the next one. Where bytes came and were refused, a replay that lands them
-- settles it; where none came, the portal still has to bring some.
rounds as (
    select
        city,
        feed,
        part,
        fetch_number,
        max(case when action = 'fetch' then first_attempted_at end) as first_attempted_at,
        max(case when action = 'fetch' then attempted_at end) as attempted_at,
        max(case when action = 'fetch' then outcome end) as outcome,
        max(case when action = 'fetch' then error_type end) as error_type,
        max(case when action = 'fetch' then message end) as message,
        max(case when action = 'fetch' then delivery_sha end) is not null
        and bool_or(action = 'replay' and outcome = 'landed') as is_replayed
    from numbered
    group by city, feed, part, fetch_number
),

settled as (
    select city, feed, part, max(fetch_number) as fetch_number
    from rounds
    where outcome in ('landed', 'unchanged') or is_replayed
    group by city, feed, part
),

-- Fetches after the last one that was settled, the newest of each part first.
unsettled as (
    select
        rounds.*,
        min(rounds.first_attempted_at) over (
            partition by rounds.city, rounds.feed, rounds.part
        ) as failing_since_at,
        row_number() over (
            partition by rounds.city, rounds.feed, rounds.part order by rounds.fetch_number desc
        ) as recency
    from rounds
    left join settled
        on rounds.city = settled.city and rounds.feed = settled.feed and rounds.part = settled.part
    where rounds.outcome is not null and rounds.fetch_number > coalesce(settled.fetch_number, 0)
),

failing as (
    select
        *,
        row_number() over (
            partition by city, feed
            order by case when outcome = 'failed' then 0 else 1 end, attempted_at desc, part
        ) as worst
    from unsettled
    where recency = 1
),

failures as (
    select
        city,
        feed,
        min(failing_since_at) as failing_since_at,
        max(case when worst = 1 then coalesce(error_type, 'other') end) as last_error_type,
        max(case when worst = 1 then message end) as last_error_message,
        count(*) filter (where outcome = 'failed') as parts_failing,
        count(*) filter (where outcome = 'blocked') as parts_blocked
    from failing
    group by city, feed
),

dated as (
    select
        feeds.city,
        feeds.feed,
        feeds.kind,
        feeds.cadence,
        cadences.late_after_days,
        tried.last_attempt_at,
        tried.last_success_at,
        failures.failing_since_at,
        failures.last_error_type,
        failures.last_error_message,
        coalesce(exact.remedy, family.remedy, fallback.remedy) as advice,
        coalesce(feeds.as_of_at, tried.newest_delivery_at) as as_of_at,
        newest.newest_event_at,
        newest.newest_update_at,
        -- An old case that is touched today shows that the publisher is at work.
        greatest(newest.newest_event_at, newest.newest_update_at) as newest_record_at,
        coalesce(rows_told.rows_raw, 0) as rows_raw,
        coalesce(rows_told.rows_quarantined, 0) as rows_quarantined,
        coalesce(newest.rows_missing, 0) as rows_missing,
        coalesce(newest.events, 0) as events,
        coalesce(failures.parts_failing, 0) as parts_failing,
        coalesce(failures.parts_blocked, 0) as parts_blocked,
        {{ seconds_between(
            'coalesce(greatest(newest.newest_event_at, newest.newest_update_at), feeds.as_of_at)',
            'tried.last_attempt_at'
        ) }} / 86400.0 as record_age_days
    from feeds
    left join cadences on feeds.cadence = cadences.cadence
    left join tried on feeds.city = tried.city and feeds.feed = tried.feed
    left join failures on feeds.city = failures.city and feeds.feed = failures.feed
    left join newest on feeds.city = newest.city and feeds.feed = newest.feed
    left join rows_told on feeds.city = rows_told.city and feeds.feed = rows_told.feed
    left join errors as exact on failures.last_error_type = exact.error_type
    left join errors as family
        on failures.last_error_type like 'Http%'
        and substr(failures.last_error_type, 1, 5) || 'xx' = family.error_type
    left join errors as fallback on failures.last_error_type is not null and fallback.error_type = 'other'
)

select
    *,
    coalesce(record_age_days > late_after_days, false) as is_stale,
    case
        when last_success_at is null then 'never_landed'
        when parts_failing > 0 then 'failing'
        when parts_blocked > 0 then 'blocked'
        when late_after_days is null then 'finished'
        when record_age_days > late_after_days then 'late'
        else 'current'
    end as verdict
from dated
