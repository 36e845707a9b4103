-- A parent may be a child itself, so pointers are followed; each step doubles how far. Whoever is still under way after
-- 16 stands in a ring or behind one (or behind 16 parents): the case with the least key of those stands for all of them.
with pointers as (
    select * from {{ ref('int_duplicate_pointers') }}
),

reached_1 as (
    select
        one.event_key,
        one.next_key as reached_key,
        one.event_key as least_key,
        other.event_key is not null as is_under_way
    from pointers as one
    left join pointers as other on one.next_key = other.event_key and other.next_key is not null
    where one.next_key is not null
),

{% for steps in [1, 2, 4, 8] %}
reached_{{ steps * 2 }} as (
    select
        one.event_key,
        coalesce(other.reached_key, one.reached_key) as reached_key,
        least(one.least_key, coalesce(other.least_key, one.least_key)) as least_key,
        coalesce(other.is_under_way, false) as is_under_way
    from reached_{{ steps }} as one
    left join reached_{{ steps }} as other on one.reached_key = other.event_key
),

{% endfor %}
followed as (
    select
        one.event_key,
        coalesce(ring.least_key, one.reached_key) as canonical_event_key,
        ring.event_key is not null as is_in_ring
    from reached_16 as one
    left join reached_16 as ring on case when one.is_under_way then one.reached_key end = ring.event_key
)

select
    pointers.event_key,
    coalesce(followed.canonical_event_key, pointers.event_key) as canonical_event_key,
    pointers.duplicate_method,
    case
        when followed.is_in_ring then 'ring'
        when followed.canonical_event_key <> pointers.next_key then 'parent_of_parent'
        else pointers.rule_id
    end as rule_id
from pointers
left join followed on pointers.event_key = followed.event_key
