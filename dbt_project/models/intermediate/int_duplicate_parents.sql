{%- set rules = duplicate_rules() -%}

-- What sources say of parents, and whether it can be so. What no rule maps has no type that could differ.
with reports as (
    select * from {{ ref('int_duplicate_reports') }}
),

measured as (
    select
        children.city,
        children.event_key,
        children.event_at,
        children.parent_key,
        children.is_duplicate,
        parents.event_key is not null as is_delivered,
        children.event_type <> parents.event_type
            and '{{ var("unmapped_event_type") }}' not in (children.event_type, parents.event_type) as is_of_other_type,
        sqrt({{ report_distance2('children', 'parents') }}) as distance_m,
        {{ report_lag_days('parents', 'children') }} as lag_days
    from reports as children
    left join reports as parents on children.parent_key = parents.event_key
    where children.parent_key is not null
)

select
    city,
    event_key,
    event_at,
    parent_key,
    is_duplicate,
    distance_m,
    lag_days,
    case
        when not is_delivered then 'parent_unknown'
        when is_of_other_type then 'parent_of_other_type'
        when distance_m > {{ rules.parent_m }} then 'parent_far_away'
        when lag_days < -{{ rules.parent_days }} then 'parent_younger'
        else 'sound'
    end as verdict
from measured
