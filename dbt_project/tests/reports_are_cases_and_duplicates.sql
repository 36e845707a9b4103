-- Every report of a month is a case or one kind of duplicate.
select *
from {{ ref('mart_duplicates') }}
where
    reports
    <> cases + duplicates_source + duplicates_near + duplicates_same_case_in_parts + duplicates_live_tail
