-- Rules of one status that contradict each other are no rule: the status then counts as unmapped.
select
    city,
    feed,
    {{ normalised_text('source_status') }} as status_key,
    min(status) as canonical_status
from {{ source('declared', 'statuses') }}
group by city, feed, {{ normalised_text('source_status') }}
having count(distinct status) = 1
