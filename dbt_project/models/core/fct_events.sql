{{ config(materialized='incremental', incremental_strategy='replace_keys') }}
{%- set changed_keys = ref('int_changed_keys') %}
{%- set is_delta = not builds_whole() %}

{#- Beside the changed keys: whose duplicate they are may follow from another case's change, and a feed that tells
    closure for the first time settles which of its older cases are open. -#}
with {% if is_delta %}changed as (
    select event_key from {{ changed_keys }}
    union
    select coalesce(now.event_key, before.event_key) as event_key
    from {{ ref('int_duplicates_resolved') }} as now
    full outer join (
        select event_key, canonical_event_key, duplicate_method
        from {{ this }}
        where canonical_event_key is not null and duplicate_method is not null
    ) as before on now.event_key = before.event_key
    where
        now.canonical_event_key is distinct from before.canonical_event_key
        or (before.duplicate_method <> 'source' and now.duplicate_method <> before.duplicate_method)
    union
    select before.event_key
    from {{ this }} as before
    inner join {{ ref('int_feeds_measured') }} as measures
        on before.city = measures.city and before.feed = measures.feed
    where before.is_open is null and measures.tells_closure
),

{% endif %}latest as (
    select * from {{ ref('int_versions_numbered') }}
    where is_latest {% if is_delta %}and event_key in (select event_key from changed){% endif %}
),

events as (
    select * from {{ ref('int_events_unioned') }}
),

duplicates as (
    select * from {{ ref('int_duplicates_resolved') }}
),

measures as (
    select * from {{ ref('int_feeds_measured') }}
),

event_types as (
    select * from {{ ref('event_types') }}
),

feeds as (
    select * from {{ ref('stg_feeds') }}
),

owners as (
    select * from {{ ref('int_routed_owners') }}
),

absences as (
    select
        event_key,
        case when not is_ended then absent_since_at end as missing_since_at,
        not is_ended and misses >= 2 as is_deleted,
        case when is_ended then absent_since_at end as ended_at
    from {{ ref('int_absences') }}
),

excluded_days as (
    select * from {{ ref('int_excluded_days') }}
),

final as (
    select
        events.event_key,
        events.city,
        events.feed,
        events.kind,
        events.source_id,
        events.event_type,
        events.event_subtype,
        event_types.event_group,
        events.category,
        events.subcategory,
        events.code,
        events.status,
        events.source_status,
        case
            when absences.ended_at is not null then false
            when events.is_open_status is not null then events.is_open_status
            when measures.tells_closure then events.closed_at is null
        end as is_open,
        events.agency,
        owners.agency_canonical,
        coalesce(owners.owner_agency, feeds.owner_agency) as owner_agency,
        coalesce(owners.owner_method, 'feed') as owner_method,
        owners.routing_rule_id,
        owners.expected_agency,
        events.event_at,
        events.event_local,
        cast(events.event_local as date) as event_on,
        events.time_precision,
        events.is_time_ambiguous,
        events.updated_at,
        coalesce(events.closed_at, absences.ended_at) as closed_at,
        coalesce(events.closed_local, {{ utc_to_wall('absences.ended_at', 'feeds.time_zone') }}) as closed_local,
        events.due_at,
        events.lon,
        events.lat,
        events.x_m,
        events.y_m,
        events.h3_7,
        events.h3_9,
        events.h3_10,
        events.location_quality,
        events.address,
        events.postal_code,
        events.parcel_id,
        events.asset_id,
        events.source_areas,
        events.quantity,
        events.unit,
        events.is_noise_category or coalesce(event_types.is_noise, false) as is_noise,
        events.is_duplicate or duplicates.event_key is not null as is_duplicate,
        case
            when events.is_duplicate then 'source'
            else duplicates.duplicate_method
        end as duplicate_method,
        case
            when events.is_duplicate then duplicates.canonical_event_key
            else coalesce(duplicates.canonical_event_key, events.event_key)
        end as canonical_event_key,
        (
            (not events.is_duplicate and duplicates.event_key is null)
            or coalesce(events.event_key = duplicates.canonical_event_key, false)
        )
        and not coalesce(absences.is_deleted, false) as is_canonical,
        absences.missing_since_at,
        coalesce(absences.is_deleted, false) as is_deleted,
        events.is_private as is_withdrawn,
        excluded_days.event_on is not null as is_excluded,
        latest.version_count,
        latest.first_observed_at,
        latest.last_observed_at,
        events.content_hash,
        events.delivery_sha,
        events.dq_flags
    from events
    inner join latest
        on events.event_key = latest.event_key
        and events.part = latest.part
        and events.delivery_id = latest.delivery_id
        and events.source_row = latest.source_row
    left join duplicates on events.event_key = duplicates.event_key
    left join absences on events.event_key = absences.event_key
    left join excluded_days
        on events.city = excluded_days.city
        and events.feed = excluded_days.feed
        and cast(events.event_local as date) = excluded_days.event_on
    left join measures on events.city = measures.city and events.feed = measures.feed
    left join event_types on events.event_type = event_types.event_type
    left join feeds on events.city = feeds.city and events.feed = feeds.feed
    left join owners
        on events.city = owners.city
        and events.feed = owners.feed
        and events.event_type = owners.event_type
        and events.category is not distinct from owners.category
        and events.subcategory is not distinct from owners.subcategory
        and events.agency is not distinct from owners.agency
)

select * from final
