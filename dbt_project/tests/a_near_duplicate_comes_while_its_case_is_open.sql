-- Of what int_duplicate_clusters put together nothing was reported after its case was closed.
select
    clusters.event_key,
    clusters.canonical_event_key,
    cases.closed_at,
    reports.event_at
from {{ ref('int_duplicate_clusters') }} as clusters
inner join {{ ref('int_duplicate_reports') }} as reports on clusters.event_key = reports.event_key
inner join {{ ref('int_duplicate_reports') }} as cases on clusters.canonical_event_key = cases.event_key
where {{ is_after_closing('cases', 'reports') }}
