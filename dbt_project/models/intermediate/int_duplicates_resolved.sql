with told as (
    select * from {{ ref('int_duplicate_told') }}
),

clusters as (
    select * from {{ ref('int_duplicate_clusters') }}
),

labels as (
    select event_key from {{ ref('int_duplicate_reports') }} where is_duplicate
)

-- The case that the source names may itself repeat another one nearby.
select
    told.event_key,
    coalesce(clusters.canonical_event_key, told.canonical_event_key) as canonical_event_key,
    told.duplicate_method,
    case
        when clusters.event_key is null then told.rule_id
        when clusters.event_key = told.event_key then 'near_open_report'
        else 'case_repeats_another'
    end as rule_id
from told
left join clusters on told.canonical_event_key = clusters.event_key
union all
select
    clusters.event_key,
    clusters.canonical_event_key,
    case when labels.event_key is null then 'near' else 'source' end as duplicate_method,
    'near_open_report' as rule_id
from clusters
left join told on clusters.event_key = told.event_key
left join labels on clusters.event_key = labels.event_key
where told.event_key is null
