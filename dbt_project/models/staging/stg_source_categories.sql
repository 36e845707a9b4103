with feeds as (
    select * from {{ ref('stg_feeds') }}
),

rules as (
    select * from {{ ref('stg_category_rules') }}
),

labels as (
    {% for kind in event_stagings() %}
    select distinct
        city,
        feed,
        '{{ kind }}' as kind,
        {{ text_value('category') }} as category,
        {{ text_value('subcategory') }} as subcategory,
        {{ text_value('code') }} as code
    from {{ source('raw', kind) }}
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

normalised as (
    select
        labels.*,
        feeds.event_type as feed_event_type,
        feeds.event_subtype as feed_event_subtype,
        {{ normalised_text('labels.code') }} as code_key,
        {{ normalised_text('labels.category') }} || chr(31) || {{ normalised_text('labels.subcategory') }} as subcategory_key,
        {{ normalised_text('labels.category') }} as category_key
    from labels
    inner join feeds on labels.city = feeds.city and labels.feed = feeds.feed and labels.kind = feeds.kind
)

select
    labels.city,
    labels.feed,
    labels.kind,
    labels.category,
    labels.subcategory,
    labels.code,
    coalesce(
        by_code.event_type, by_subcategory.event_type, by_category.event_type, labels.feed_event_type, '{{ var("unmapped_event_type") }}'
    ) as event_type,
    {% for said, otherwise in [
        ('event_subtype', 'labels.feed_event_subtype'), ('target_days', 'null'), ('is_private', 'false'), ('is_noise', 'false')
    ] %}
    case
        when by_code.event_type is not null then by_code.{{ said }}
        when by_subcategory.event_type is not null then by_subcategory.{{ said }}
        when by_category.event_type is not null then by_category.{{ said }}
        else {{ otherwise }}
    end as {{ said }},
    {% endfor %}
    case
        when by_code.event_type is not null then 'code'
        when by_subcategory.event_type is not null then 'subcategory'
        when by_category.event_type is not null then 'category'
        when labels.feed_event_type is not null then 'feed'
        else 'none'
    end as mapping_method
from normalised as labels
left join rules as by_code
    on labels.city = by_code.city
    and labels.feed = by_code.feed
    and labels.code_key = by_code.rule_key
    and by_code.mapping_method = 'code'
left join rules as by_subcategory
    on labels.city = by_subcategory.city
    and labels.feed = by_subcategory.feed
    and labels.subcategory_key = by_subcategory.rule_key
    and by_subcategory.mapping_method = 'subcategory'
left join rules as by_category
    on labels.city = by_category.city
    and labels.feed = by_category.feed
    and labels.category_key = by_category.rule_key
    and by_category.mapping_method = 'category'
