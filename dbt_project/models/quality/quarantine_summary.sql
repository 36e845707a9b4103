with ingest as (
    {% for kind in landed_kinds() %}
    select city, feed, '{{ kind }}' as kind, 'ingest' as stage, part, reason, delivered_at
    from {{ source('quarantine', 'quarantined_' ~ kind) }}
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

staging as (
    select city, feed, kind, 'staging' as stage, part, reason, delivered_at
    from {{ ref('staging_quarantine') }}
),

feeds as (
    select * from {{ ref('stg_feeds') }}
),

quarantined as (
    select * from ingest
    union all
    select * from staging
)

select
    quarantined.city,
    quarantined.feed,
    quarantined.kind,
    quarantined.stage,
    quarantined.part,
    quarantined.reason,
    count(*) as n_rows,
    min(quarantined.delivered_at) as first_delivered_at,
    max(quarantined.delivered_at) as last_delivered_at
from quarantined
inner join feeds on quarantined.city = feeds.city and quarantined.feed = feeds.feed
group by 1, 2, 3, 4, 5, 6
