with declared as (
    select * from {{ source('declared', 'feeds') }}
),

cities as (
    select * from {{ ref('stg_cities') }}
)

select
    declared.city,
    declared.feed,
    declared.kind,
    declared.title,
    declared.publisher,
    declared.landing_page,
    declared.licence,
    declared.owner_agency,
    declared.cadence,
    declared.portal,
    coalesce(declared.is_verified, false) as is_verified,
    coalesce(declared.one_case_in_parts, false) as one_case_in_parts,
    declared.live_tail_of,
    declared.times,
    declared.time_precision,
    declared.event_type,
    declared.event_subtype,
    declared.target_days,
    declared.max_unmapped_share,
    cities.time_zone
from declared
inner join cities on declared.city = cities.city
