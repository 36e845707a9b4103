with declared as (
    select * from {{ source('declared', 'categories') }}
),

normalised as (
    select
        city,
        feed,
        {{ normalised_text('category') }} as category,
        {{ normalised_text('subcategory') }} as subcategory,
        {{ normalised_text('code') }} as code,
        event_type,
        event_subtype,
        target_days,
        coalesce(is_private, false) as is_private,
        coalesce(is_noise, false) as is_noise
    from declared
),

-- A row with a code and a category speaks for both.
levelled as (
    select *, 'code' as mapping_method, code as rule_key from normalised where code is not null
    union all
    select *, 'subcategory' as mapping_method, category || chr(31) || subcategory as rule_key
    from normalised
    where category is not null and subcategory is not null
    union all
    select *, 'category' as mapping_method, category as rule_key
    from normalised
    where category is not null and subcategory is null
)

-- Rules of one level that contradict each other are no rule: the label then counts as unmapped.
select
    city,
    feed,
    mapping_method,
    rule_key,
    min(event_type) as event_type,
    min(event_subtype) as event_subtype,
    min(target_days) as target_days,
    -- Where two rules of one label differ in this alone, nothing is published that either of them holds back.
    bool_or(is_private) as is_private,
    bool_or(is_noise) as is_noise
from levelled
group by city, feed, mapping_method, rule_key
having count(distinct event_type || chr(31) || coalesce(event_subtype, '')) = 1
