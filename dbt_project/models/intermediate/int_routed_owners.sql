{%- set labels = ['city', 'feed', 'event_type', 'category', 'subcategory', 'agency'] -%}
with told as (
    {% for staging in event_stagings().values() %}
    select distinct {{ labels | join(', ') }} from {{ ref(staging) }}
    where quarantine_reason is null
    {{ 'union' if not loop.last }}
    {% endfor %}
),

feeds as (
    select * from {{ ref('stg_feeds') }}
),

agencies as (
    select * from {{ ref('int_agencies') }}
),

event_types as (
    select event_type, nullif(default_owner, 'unknown') as default_owner from {{ ref('event_types') }}
),

rules as (
    select
        rule_id,
        city,
        feed,
        priority,
        event_type,
        {{ normalised_text('category_like') }} as category_like,
        {{ normalised_text('agency_like') }} as agency_like,
        owner_agency
    from {{ ref('routing_rules') }}
),

normalised as (
    select
        *,
        {{ normalised_text('category') }} as category_key,
        {{ normalised_text('subcategory') }} as subcategory_key,
        {{ normalised_text('agency') }} as agency_key
    from told
),

-- Every rule that fits, the one that decides first; a condition that a rule does not state fits all.
ruled as (
    select
        {%- for label in labels %}
        told.{{ label }},
        {%- endfor %}
        rules.rule_id,
        rules.owner_agency,
        rules.agency_like is not null as names_agency,
        row_number() over (
            partition by {% for label in labels %}told.{{ label }}{{ ', ' if not loop.last }}{% endfor %}
            order by rules.priority, rules.rule_id
        ) as place
    from normalised as told
    left join rules
        on (rules.city is null or rules.city = told.city)
        and (rules.feed is null or rules.feed = told.feed)
        and (rules.event_type is null or rules.event_type = told.event_type)
        and (
            rules.category_like is null
            or told.category_key like rules.category_like
            or told.subcategory_key like rules.category_like
        )
        and (rules.agency_like is null or told.agency_key like rules.agency_like)
),

owned as (
    select
        {%- for label in labels %}
        ruled.{{ label }},
        {%- endfor %}
        ruled.rule_id,
        ruled.owner_agency as rule_owner,
        -- A rule that names the agency says whom the name stands for here.
        case when ruled.names_agency then ruled.owner_agency else agencies.agency_canonical end as agency_canonical,
        event_types.default_owner,
        feeds.owner_agency as feed_owner
    from ruled
    left join agencies on ruled.city = agencies.city and ruled.agency = agencies.agency
    left join event_types on ruled.event_type = event_types.event_type
    left join feeds on ruled.city = feeds.city and ruled.feed = feeds.feed
    where ruled.place = 1
)

select
    {{ labels | join(',\n    ') }},
    agency_canonical,
    coalesce(rule_owner, default_owner) as expected_agency,
    coalesce(rule_owner, agency_canonical, default_owner, feed_owner) as owner_agency,
    case
        when rule_owner is not null then 'rule'
        when agency_canonical is not null then 'agency'
        when default_owner is not null then 'event_type'
        else 'feed'
    end as owner_method,
    rule_id as routing_rule_id,
    agency_canonical <> coalesce(rule_owner, default_owner) as is_misrouted
from owned
