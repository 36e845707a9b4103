with feeds as (
    select * from {{ ref('stg_feeds') }}
),

canonical as (
    select * from {{ ref('statuses') }}
),

declared as (
    select * from {{ ref('stg_status_rules') }}
),

told as (
    {% for kind in event_stagings() %}
    select distinct city, feed, '{{ kind }}' as kind, {{ text_value('status') }} as source_status
    from {{ source('raw', kind) }}
    {{ 'union all' if not loop.last }}
    {% endfor %}
)

select
    told.city,
    told.feed,
    told.kind,
    told.source_status,
    coalesce(declared.canonical_status, 'unknown') as canonical_status,
    canonical.is_open,
    coalesce(canonical.is_duplicate, false) as is_duplicate
from told
inner join feeds on told.city = feeds.city and told.feed = feeds.feed and told.kind = feeds.kind
left join declared
    on told.city = declared.city
    and told.feed = declared.feed
    and {{ normalised_text('told.source_status') }} = declared.status_key
left join canonical on declared.canonical_status = canonical.status
where told.source_status is not null
