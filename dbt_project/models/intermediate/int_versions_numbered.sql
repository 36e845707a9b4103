{{ config(materialized='incremental', incremental_strategy='replace_keys') }}

-- Narrow on purpose: the wide columns are joined to the rows that are left (fct_events, fct_event_versions).
-- Of two states of a case in one delivery the one that was updated later holds: a portal's rows come in the order of
-- its row ids, which says nothing of time. A file's order counts where no update is told.
with records as (
    select * from {{ ref('int_records_keyed') }} where {{ in_changed_keys('event_key') }}
),

compared as (
    select
        *,
        lag(content_hash) over delivered as previous_hash,
        row_number() over delivered as record_number,
        count(*) over (partition by event_key) as record_count,
        max(delivered_at) over (partition by event_key) as last_observed_at
    from records
    window delivered as (
        partition by event_key order by delivered_at, part, delivery_id, updated_at nulls first, source_row
    )
),

changed as (
    select * from compared where previous_hash is distinct from content_hash
),

numbered as (
    select
        *,
        row_number() over delivered as version_number,
        lead(record_number, 1, record_count + 1) over delivered - record_number - 1 as repeat_count,
        count(*) over (partition by event_key) as version_count,
        min(delivered_at) over (partition by event_key) as first_observed_at
    from changed
    window delivered as (
        partition by event_key order by delivered_at, part, delivery_id, updated_at nulls first, source_row
    )
)

select
    event_key,
    kind,
    city,
    feed,
    part,
    delivery_id,
    source_row,
    delivered_at as observed_at,
    content_hash,
    cast(version_number as integer) as version_number,
    cast(version_count as integer) as version_count,
    cast(repeat_count as integer) as repeat_count,
    version_number = version_count as is_latest,
    first_observed_at,
    last_observed_at
from numbered
