select event_key, count(*) as n_versions, max(version_number) as last_number
from {{ ref('fct_event_versions') }}
group by event_key
having count(*) <> max(version_number) or min(version_number) <> 1
