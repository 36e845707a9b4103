with declared as (
    select city, {{ normalised_text('source_agency') }} as agency_key, agency
    from {{ source('declared', 'agencies') }}
)

-- Names that contradict each other are no name: the agency then counts as unmapped.
select city, agency_key, min(agency) as agency
from declared
where agency_key is not null
group by city, agency_key
having count(distinct agency) = 1
