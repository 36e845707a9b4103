with feeds as (
    select * from {{ ref('stg_feeds') }}
),

receipts as (
    select * from {{ source('fetches', 'receipts') }} where outcome = 'landed'
),

numbered_receipts as (
    select
        *,
        row_number() over (partition by city, feed, part order by attempted_at, fetch_id) as attempt
    from receipts
),

replayed as (
    select city, feed, part, max(attempt) as attempt
    from numbered_receipts
    where action = 'replay'
    group by city, feed, part
),

-- A replay writes the part anew and its receipt carries the totals of all deliveries before it. The same bytes may
-- come twice and say something new the second time, so every other landed receipt counts.
files as (
    select
        receipts.city,
        receipts.feed,
        sum(receipts.rows_in_file) as rows_in_file,
        sum(coalesce(receipts.rows_unchanged, 0)) as rows_unchanged
    from numbered_receipts as receipts
    left join replayed
        on receipts.city = replayed.city and receipts.feed = replayed.feed and receipts.part = replayed.part
    where receipts.attempt >= coalesce(replayed.attempt, 0)
    group by receipts.city, receipts.feed
),

raw_rows as (
    {% for kind in landed_kinds() %}
    select city, feed, count(*) as n_rows from {{ source('raw', kind) }} group by city, feed
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

raw_counts as (
    select city, feed, sum(n_rows) as rows_raw from raw_rows group by city, feed
),

quarantined_rows as (
    {% for kind in landed_kinds() %}
    select city, feed, count(*) as n_rows from {{ source('quarantine', 'quarantined_' ~ kind) }} group by city, feed
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

ingest_quarantine as (
    select city, feed, sum(n_rows) as rows_quarantined from quarantined_rows group by city, feed
),

staging_quarantine as (
    select city, feed, count(*) as rows_quarantined from {{ ref('staging_quarantine') }} group by city, feed
),

versions as (
    select
        city,
        feed,
        count(*) as n_versions,
        sum(repeat_count) as n_repeats,
        count(distinct event_key) as n_keys
    from {{ ref('int_versions_numbered') }}
    group by city, feed
),

events as (
    select city, feed, count(*) as n_events from {{ ref('fct_events') }} group by city, feed
),

counted as (
    select
        feeds.city,
        feeds.feed,
        feeds.kind,
        cast(coalesce(files.rows_in_file, 0) as bigint) as rows_in_file,
        cast(coalesce(ingest_quarantine.rows_quarantined, 0) as bigint) as rows_quarantined_by_ingest,
        cast(coalesce(files.rows_unchanged, 0) as bigint) as rows_unchanged,
        cast(coalesce(raw_counts.rows_raw, 0) as bigint) as rows_raw,
        cast(coalesce(staging_quarantine.rows_quarantined, 0) as bigint) as rows_quarantined_by_staging,
        cast(coalesce(versions.n_repeats, 0) as bigint) as exact_repeats,
        cast(coalesce(versions.n_versions, 0) as bigint) as versions,
        cast(coalesce(versions.n_keys, 0) as bigint) as distinct_keys,
        cast(coalesce(events.n_events, 0) as bigint) as events
    from feeds
    left join files on feeds.city = files.city and feeds.feed = files.feed
    left join raw_counts on feeds.city = raw_counts.city and feeds.feed = raw_counts.feed
    left join ingest_quarantine
        on feeds.city = ingest_quarantine.city and feeds.feed = ingest_quarantine.feed
    left join staging_quarantine
        on feeds.city = staging_quarantine.city and feeds.feed = staging_quarantine.feed
    left join versions on feeds.city = versions.city and feeds.feed = versions.feed
    left join events on feeds.city = events.city and feeds.feed = events.feed
),

judged as (
    select
        *,
        rows_in_file = rows_raw + rows_quarantined_by_ingest + rows_unchanged as is_file_reconciled,
        kind in ('asset', 'boundary')
        or (
            rows_raw = versions + rows_quarantined_by_staging + exact_repeats
            and distinct_keys = events
        ) as is_warehouse_reconciled
    from counted
)

select *, is_file_reconciled and is_warehouse_reconciled as is_reconciled
from judged
