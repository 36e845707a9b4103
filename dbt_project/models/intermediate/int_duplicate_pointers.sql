-- What points to what without a look at the neighbourhood: as sources say, or as two parts or feeds tell one case.
with latest as (
    select event_key, part, delivery_id, source_row
    from {{ ref('int_versions_numbered') }}
    where is_latest
),

labelled as (
    select * from {{ ref('int_duplicate_parents') }} where is_duplicate
),

-- Of duplicates whose parent was never delivered the first stands for the others: all of them are one case, and it is
-- nowhere else.
orphans as (
    select
        event_key,
        first_value(event_key) over (partition by parent_key order by event_at, event_key) as first_key
    from labelled
    where verdict = 'parent_unknown'
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
        told.source_id,
        feeds.one_case_in_parts,
        feeds.live_tail_of
    from {{ ref('int_events_unioned') }} as told
    inner join latest
        on told.event_key = latest.event_key
        and told.part = latest.part
        and told.delivery_id = latest.delivery_id
        and told.source_row = latest.source_row
    inner join {{ ref('stg_feeds') }} as feeds on told.city = feeds.city and told.feed = feeds.feed
    where not told.is_duplicate and (feeds.one_case_in_parts or feeds.live_tail_of is not null)
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
    inner join parts
        on events.city = parts.city and events.feed = parts.feed and events.part = parts.part
    left join {{ ref('int_absences') }} as absences on events.event_key = absences.event_key
    where
        events.one_case_in_parts
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
    where live_tail_of is not null
)

select event_key, parent_key as next_key, 'source' as duplicate_method, 'told' as rule_id
from labelled
where verdict = 'sound'
union all
select event_key, first_key as next_key, 'source' as duplicate_method, 'same_lost_parent' as rule_id
from orphans
where event_key <> first_key
union all
select
    event_key,
    canonical_event_key as next_key,
    'same_case_in_parts' as duplicate_method,
    'same_case_in_parts' as rule_id
from paired
where part_rank <> canonical_rank
union all
select live.event_key, live.bulk_key as next_key, 'live_tail' as duplicate_method, 'live_tail' as rule_id
from live
inner join latest as bulk on live.bulk_key = bulk.event_key
union all
-- A parent that cannot be one hides nothing: its child stands for itself, and points nowhere.
select
    labelled.event_key,
    cast(null as varchar) as next_key,
    'source' as duplicate_method,
    labelled.verdict as rule_id
from labelled
left join orphans on labelled.event_key = orphans.event_key
where labelled.verdict <> 'sound' and coalesce(orphans.first_key = labelled.event_key, true)
