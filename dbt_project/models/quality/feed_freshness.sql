with feeds as (
    select * from {{ ref('dim_feed') }}
),

cadences as (
    select * from {{ ref('cadences') }}
),

fetches as (
    select * from {{ ref('feed_fetches') }}
),

newest as (
    select city, feed, max(event_at) as newest_event_at, max(updated_at) as newest_update_at, count(*) as events
    from {{ ref('fct_events') }}
    where event_at <= as_of_at
    group by city, feed
),

rows_told as (
    select city, feed, rows_raw, rows_quarantined_by_ingest + rows_quarantined_by_staging as rows_quarantined
    from {{ ref('reconciliation') }}
),

ranked as (
    select
        *,
        row_number() over (partition by city, feed, part order by attempted_at desc, fetch_id desc) as recency
    from fetches
),

attempts as (
    select
        city,
        feed,
        max(attempted_at) as last_attempt_at,
        max(case when outcome in ('landed', 'unchanged') then attempted_at end) as last_success_at,
        max(case when outcome in ('landed', 'unchanged') then delivered_at end) as newest_delivery_at,
        count(*) filter (where recency = 1 and outcome = 'failed') as parts_failing,
        count(*) filter (where recency = 1 and outcome = 'blocked') as parts_blocked
    from ranked
    group by city, feed
),

dated as (
    select
        feeds.city,
        feeds.feed,
        feeds.kind,
        feeds.cadence,
        cadences.late_after_days,
        attempts.last_attempt_at,
        attempts.last_success_at,
        coalesce(feeds.as_of_at, attempts.newest_delivery_at) as as_of_at,
        newest.newest_event_at,
        newest.newest_update_at,
        coalesce(rows_told.rows_raw, 0) as rows_raw,
        coalesce(rows_told.rows_quarantined, 0) as rows_quarantined,
        coalesce(newest.events, 0) as events,
        coalesce(attempts.parts_failing, 0) as parts_failing,
        coalesce(attempts.parts_blocked, 0) as parts_blocked,
        {{ seconds_between('coalesce(newest.newest_event_at, feeds.as_of_at)', 'attempts.last_attempt_at') }}
            / 86400.0 as record_age_days
    from feeds
    left join cadences on feeds.cadence = cadences.cadence
    left join attempts on feeds.city = attempts.city and feeds.feed = attempts.feed
    left join newest on feeds.city = newest.city and feeds.feed = newest.feed
    left join rows_told on feeds.city = rows_told.city and feeds.feed = rows_told.feed
)

select
    *,
    case
        when last_success_at is null then 'never_landed'
        when parts_failing > 0 then 'failing'
        when parts_blocked > 0 then 'blocked'
        when late_after_days is null then 'finished'
        when record_age_days > late_after_days then 'late'
        else 'current'
    end as verdict
from dated
