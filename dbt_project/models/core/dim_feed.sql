with feeds as (
    select * from {{ ref('stg_feeds') }}
),

measures as (
    select * from {{ ref('int_feeds_measured') }}
)

select
    feeds.city,
    feeds.feed,
    feeds.kind,
    feeds.title,
    feeds.publisher,
    feeds.landing_page,
    feeds.licence,
    feeds.owner_agency,
    feeds.cadence,
    feeds.portal,
    feeds.is_verified,
    measures.as_of_at,
    coalesce(measures.tells_closure, false) as tells_closure
from feeds
left join measures on feeds.city = measures.city and feeds.feed = measures.feed
