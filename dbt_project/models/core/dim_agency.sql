with named as (
    select default_owner as agency from {{ ref('event_types') }}
    union
    select owner_agency as agency from {{ ref('stg_feeds') }}
),

event_types as (
    select default_owner as agency, count(*) as n_event_types from {{ ref('event_types') }} group by default_owner
),

feeds as (
    select owner_agency as agency, count(*) as n_feeds from {{ ref('stg_feeds') }} group by owner_agency
)

select
    named.agency,
    cast(coalesce(event_types.n_event_types, 0) as integer) as n_event_types,
    cast(coalesce(feeds.n_feeds, 0) as integer) as n_feeds
from named
left join event_types on named.agency = event_types.agency
left join feeds on named.agency = feeds.agency
where named.agency is not null
