with latest as (
    select event_key, part, delivery_id, source_row
    from {{ ref('int_versions_numbered') }}
    where is_latest
),

events as (
    select
        told.event_key,
        told.city,
        told.feed,
        told.part,
        told.event_type,
        cast(told.event_local as date) as event_on,
        {{ normalised_text('told.address') }} as address,
        told.is_duplicate,
        told.parent_id,
        told.source_id,
        feeds.live_tail_of
    from {{ ref('int_events_unioned') }} as told
    inner join latest
        on told.event_key = latest.event_key
        and told.part = latest.part
        and told.delivery_id = latest.delivery_id
        and told.source_row = latest.source_row
    inner join {{ ref('stg_feeds') }} as feeds on told.city = feeds.city and told.feed = feeds.feed
    where
        (told.is_duplicate and told.parent_id is not null)
        or feeds.one_case_in_parts
        or feeds.live_tail_of is not null
),

told_duplicates as (
    select event_key, {{ event_key('city', 'feed', 'parent_id') }} as parent_key
    from events
    where is_duplicate and parent_id is not null
),

-- A case that is its own parent, or that stands in a ring of duplicates, leads to no case that stands for it: the one
-- with the least key of the ring does. After 16 steps whoever is still under way is in a ring (or behind 16 parents).
steps_1 as (
    select told_duplicates.event_key, told_duplicates.parent_key as reached_key, told_duplicates.event_key as least_key
    from told_duplicates
    inner join latest as parents on told_duplicates.parent_key = parents.event_key
),

{% for steps in [1, 2, 4, 8] %}
steps_{{ steps * 2 }} as (
    select
        one.event_key,
        other.reached_key,
        least(one.least_key, other.least_key) as least_key
    from steps_{{ steps }} as one
    inner join steps_{{ steps }} as other on one.reached_key = other.event_key
),

{% endfor %}
in_rings as (
    select one.event_key, ring.least_key as canonical_event_key
    from steps_16 as one
    inner join steps_16 as ring on one.reached_key = ring.event_key
),

-- The part that speaks of later days is the system in use; where none says so, the one declared later.
parts as (
    select
        city,
        feed,
        part,
        row_number() over (
            partition by city, feed
            order by coalesce(valid_from, date '0001-01-01'), position
        ) as part_rank
    from {{ source('declared', 'parts') }}
),

-- Only what may stand for a case: a duplicate stands for none, a deleted case neither. What no rule maps has the
-- fallback type in common and nothing else.
candidates as (
    select
        events.event_key,
        events.city,
        events.feed,
        events.part,
        events.address,
        events.event_type,
        events.event_on,
        parts.part_rank
    from events
    inner join {{ ref('stg_feeds') }} as feeds on events.city = feeds.city and events.feed = feeds.feed
    inner join parts
        on events.city = parts.city and events.feed = parts.feed and events.part = parts.part
    left join {{ ref('int_absences') }} as absences on events.event_key = absences.event_key
    where
        feeds.one_case_in_parts
        and not events.is_duplicate
        and events.address is not null
        and events.event_type <> '{{ var("unmapped_event_type") }}'
        and not coalesce(absences.misses >= 2 and not absences.is_ended, false)
),

-- With two of them on one side nobody can say which of the two is meant, so they stay apart.
pairs as (
    select
        city,
        feed,
        address,
        event_type,
        event_on,
        max(part_rank) as canonical_rank
    from candidates
    group by city, feed, address, event_type, event_on
    having count(*) = count(distinct part) and count(*) > 1
),

paired as (
    select
        candidates.event_key,
        candidates.part_rank,
        pairs.canonical_rank,
        max(case when candidates.part_rank = pairs.canonical_rank then candidates.event_key end) over (
            partition by
                candidates.city, candidates.feed, candidates.address, candidates.event_type, candidates.event_on
        ) as canonical_event_key
    from candidates
    inner join pairs
        on candidates.city = pairs.city
        and candidates.feed = pairs.feed
        and candidates.address = pairs.address
        and candidates.event_type = pairs.event_type
        and candidates.event_on = pairs.event_on
),

-- A live tail tells the cases of the bulk feed before it does, by the same ids.
live as (
    select event_key, {{ event_key('city', 'live_tail_of', 'source_id') }} as bulk_key
    from events
    where live_tail_of is not null and not is_duplicate
)

-- A parent that was never delivered cannot stand for anything.
select
    told_duplicates.event_key,
    coalesce(in_rings.canonical_event_key, told_duplicates.parent_key) as canonical_event_key,
    'source' as duplicate_method
from told_duplicates
inner join latest as parents on told_duplicates.parent_key = parents.event_key
left join in_rings on told_duplicates.event_key = in_rings.event_key
union all
select event_key, canonical_event_key, 'same_case_in_parts' as duplicate_method
from paired
where part_rank <> canonical_rank
union all
select live.event_key, live.bulk_key as canonical_event_key, 'live_tail' as duplicate_method
from live
inner join latest as bulk on live.bulk_key = bulk.event_key
