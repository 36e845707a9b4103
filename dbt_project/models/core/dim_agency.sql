with owners as (
    select * from {{ ref('agencies') }}
),

event_types as (
    select default_owner as agency, count(*) as n_event_types
    from {{ ref('event_types') }}
    where default_owner <> 'unknown'
    group by default_owner
),

feeds as (
    select owner_agency as agency, count(*) as n_feeds from {{ ref('stg_feeds') }} group by owner_agency
),

source_names as (
    select agency, count(*) as n_source_names from {{ ref('stg_agency_names') }} group by agency
),

named as (
    select agency from owners
    union
    select agency from event_types
    union
    select agency from feeds
)

select
    named.agency,
    owners.label,
    owners.is_outside,
    cast(coalesce(event_types.n_event_types, 0) as integer) as n_event_types,
    cast(coalesce(feeds.n_feeds, 0) as integer) as n_feeds,
    cast(coalesce(source_names.n_source_names, 0) as integer) as n_source_names
from named
left join owners on named.agency = owners.agency
left join event_types on named.agency = event_types.agency
left join feeds on named.agency = feeds.agency
left join source_names on named.agency = source_names.agency
where named.agency is not null
