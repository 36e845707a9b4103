{{ config(materialized='incremental', incremental_strategy='replace_keys') }}

with versions as (
    select * from {{ ref('int_versions_numbered') }} where {{ in_changed_keys('event_key') }}
),

feeds as (
    select * from {{ ref('stg_feeds') }}
),

absences as (
    select * from {{ ref('int_absences') }} where is_ended
),

status_rules as (
    select * from {{ ref('stg_status_rules') }}
),

agency_names as (
    select * from {{ ref('stg_agency_names') }}
),

-- The last history that was told holds, also where the newest record tells none.
notes as (
    select
        versions.event_key,
        versions.city,
        versions.feed,
        requests.delivered_at,
        {{ json_records('requests.status_history', ['at', 'status', 'agency']) }} as records,
        row_number() over (partition by versions.event_key order by versions.version_number desc) as recency
    from versions
    inner join {{ ref('stg_service_requests') }} as requests
        on versions.event_key = requests.event_key
        and versions.part = requests.part
        and versions.delivery_id = requests.delivery_id
        and versions.source_row = requests.source_row
    where requests.status_history is not null
),

numbered_notes as (
    select
        event_key,
        city,
        feed,
        delivered_at,
        records,
        {{ each_integer(1, list_length('records')) }} as position
    from notes
    where recency = 1 and {{ list_length('records') }} > 0
),

note_records as (
    select
        event_key,
        city,
        feed,
        delivered_at,
        position,
        {{ list_item('records', 'position') }} as record
    from numbered_notes
),

note_texts as (
    select
        note_records.event_key,
        note_records.city,
        note_records.feed,
        note_records.delivered_at,
        note_records.position,
        feeds.times,
        feeds.time_zone,
        {{ text_value('note_records.record.at') }} as noted_text,
        {{ text_value('note_records.record.status') }} as status_text,
        {{ text_value('note_records.record.agency') }} as agency_text
    from note_records
    inner join feeds on note_records.city = feeds.city and note_records.feed = feeds.feed
),

note_times as (
    select
        *,
        {{ is_instant('noted_text', 'times') }} as noted_is_instant,
        {{ read_wall_time(without_offset('noted_text')) }} as noted_wall
    from note_texts
    where status_text is not null or agency_text is not null
),

zoned_notes as (
    select *, {{ source_time_to_utc('noted', 'times', 'time_zone') }} as noted_told from note_times
),

dated_notes as (
    select *, {{ plausible_time('noted_told', 'delivered_at') }} as status_at from zoned_notes
),

-- A step without a usable time keeps its place among the others of its log.
places as (
    select
        event_key,
        position,
        max(status_at) over (
            partition by event_key order by position rows between unbounded preceding and current row
        ) as placed_at
    from dated_notes
    where event_key in (select event_key from dated_notes where status_at is null)
),

-- What a step does not tell stays as the step before left it.
noted as (
    select
        dated_notes.event_key,
        dated_notes.city,
        dated_notes.feed,
        {{ last_told('dated_notes.status_text') }} over placed as source_status,
        {{ last_told('dated_notes.agency_text') }} over placed as agency,
        row_number() over placed as seq,
        dated_notes.status_at,
        {{ source_time_to_local('noted', 'status_at', 'times', 'time_zone') }} as status_local
    from dated_notes
    left join places
        on dated_notes.event_key = places.event_key
        and dated_notes.position = places.position
    window placed as (
        partition by dated_notes.event_key
        order by coalesce(dated_notes.status_at, places.placed_at) nulls first, dated_notes.position
    )
),

noted_statuses as (
    select told.city, told.feed, told.source_status, status_rules.canonical_status
    from (select distinct city, feed, source_status from noted) as told
    inner join status_rules
        on told.city = status_rules.city
        and told.feed = status_rules.feed
        and {{ normalised_text('told.source_status') }} = status_rules.status_key
),

records as (
    select
        versions.event_key,
        versions.city,
        versions.feed,
        versions.kind,
        versions.version_number,
        versions.version_count,
        versions.is_latest,
        versions.observed_at,
        events.is_open_status,
        case when events.status = 'unknown' and events.closed_at is not null then 'closed' else events.status end as status,
        events.source_status,
        events.agency,
        events.event_at,
        events.event_local,
        events.closed_at,
        events.closed_local
    from versions
    inner join {{ ref('int_events_unioned') }} as events
        on versions.event_key = events.event_key
        and versions.part = events.part
        and versions.delivery_id = events.delivery_id
        and versions.source_row = events.source_row
    where versions.is_latest or versions.version_count > 1
),

-- A single state is no history, unless its end was observed as an absence.
watched as (
    select
        event_key,
        city,
        feed,
        version_number,
        observed_at,
        status,
        source_status,
        agency
    from records
    where version_count > 1 or event_key in (select event_key from absences)
    union all
    select
        records.event_key,
        records.city,
        records.feed,
        records.version_number + 1 as version_number,
        absences.absent_since_at as observed_at,
        'closed' as status,
        cast(null as varchar) as source_status,
        records.agency
    from records
    inner join absences on records.event_key = absences.event_key
    where records.is_latest and records.is_open_status is distinct from false and records.closed_at is null
),

compared as (
    select
        *,
        lag(status) over watched_in_turn as previous_status,
        lag(source_status) over watched_in_turn as previous_source_status,
        lag(agency) over watched_in_turn as previous_agency
    from watched
    window watched_in_turn as (partition by event_key order by version_number)
),

observed as (
    select *, count(*) over (partition by event_key) as n_states
    from compared
    where
        version_number = 1
        or status is distinct from previous_status
        or source_status is distinct from previous_source_status
        or agency is distinct from previous_agency
),

steps as (
    select
        noted.event_key,
        'source_note' as origin,
        noted.seq,
        noted.city,
        coalesce(noted_statuses.canonical_status, 'unknown') as status,
        noted.source_status,
        noted.agency,
        noted.status_at,
        noted.status_local
    from noted
    left join noted_statuses
        on noted.city = noted_statuses.city
        and noted.feed = noted_statuses.feed
        and noted.source_status = noted_statuses.source_status
    union all
    select
        event_key,
        'source_column' as origin,
        1 as seq,
        city,
        'open' as status,
        null as source_status,
        null as agency,
        event_at as status_at,
        event_local as status_local
    from records
    where is_latest and kind <> 'crime'
    union all
    select
        event_key,
        'source_column' as origin,
        2 as seq,
        city,
        case when is_open_status then 'closed' else status end as status,
        case when not is_open_status then source_status end as source_status,
        null as agency,
        closed_at as status_at,
        closed_local as status_local
    from records
    where is_latest and kind <> 'crime' and closed_at is not null
    union all
    select
        observed.event_key,
        'observed' as origin,
        row_number() over (partition by observed.event_key order by observed.version_number) as seq,
        observed.city,
        observed.status,
        observed.source_status,
        observed.agency,
        observed.observed_at as status_at,
        {{ utc_to_wall('observed.observed_at', 'feeds.time_zone') }} as status_local
    from observed
    inner join feeds on observed.city = feeds.city and observed.feed = feeds.feed
    where observed.n_states > 1
),

agencies as (
    select told.city, told.agency, agency_names.agency as agency_canonical
    from (select distinct city, agency from steps) as told
    inner join agency_names
        on told.city = agency_names.city
        and {{ normalised_text('told.agency') }} = agency_names.agency_key
)

select
    steps.event_key,
    steps.origin,
    cast(steps.seq as integer) as seq,
    steps.status,
    steps.source_status,
    steps.agency,
    agencies.agency_canonical,
    steps.status_at,
    steps.status_local
from steps
left join agencies on steps.city = agencies.city and steps.agency = agencies.agency
