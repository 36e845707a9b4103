{%- set rules = duplicate_rules() -%}

with events as (
    select event_key, city, event_at, event_on, time_precision, x_m, y_m from {{ ref('fct_events') }}
),

-- Ids of methods for what int_duplicates_resolved tells in its own words.
resolved as (
    select
        event_key,
        canonical_event_key,
        case
            when duplicate_method in ('same_case_in_parts', 'live_tail') then 'same_case_other_system'
            else 'duplicate_of'
        end as link_type,
        case
            when rule_id in ('near_open_report', 'case_repeats_another') then 'inferred'
            when rule_id = 'same_lost_parent' or duplicate_method in ('same_case_in_parts', 'live_tail') then 'rule'
            else 'source'
        end as method,
        rule_id
    from {{ ref('int_duplicates_resolved') }}
    where event_key <> canonical_event_key
),

duplicates as (
    select
        later.city,
        resolved.event_key as from_event_key,
        resolved.canonical_event_key as to_event_key,
        resolved.link_type,
        resolved.method,
        resolved.rule_id,
        sqrt({{ report_distance2('later', 'cases') }}) as distance_m,
        {{ report_lag_days('cases', 'later') }} as lag_days
    from resolved
    inner join events as later on resolved.event_key = later.event_key
    inner join events as cases on resolved.canonical_event_key = cases.event_key
),

links as (
    select
        city,
        from_event_key,
        to_event_key,
        link_type,
        method,
        -- How near and how soon, from 1 to 0 at the end of the longest chain: an order of trust, no probability.
        case
            when method = 'inferred'
                then 1
                    - coalesce(least(distance_m / {{ rules.diameter_m }}, 1), 1) / 2
                    - least(abs(lag_days) / {{ rules.span_days }}, 1) / 2
            else 1
        end as score,
        distance_m,
        lag_days,
        rule_id
    from duplicates
    union all
    select
        city,
        event_key as from_event_key,
        parent_key as to_event_key,
        'child_of' as link_type,
        'source' as method,
        case when verdict = 'sound' then 1 else 0 end as score,
        distance_m,
        lag_days,
        case when verdict = 'sound' then 'told' else verdict end as rule_id
    from {{ ref('int_duplicate_parents') }}
    union all
    select
        city,
        event_key as from_event_key,
        earlier_key as to_event_key,
        'reported_again' as link_type,
        'inferred' as method,
        1 - distance_m / {{ 2 * rules.radius_m }} - days_since_closure / {{ 2 * rules.again_days }} as score,
        distance_m,
        lag_days,
        'near_closed_case' as rule_id
    from {{ ref('int_reports_again') }}
    union all
    select
        city,
        request_key as from_event_key,
        work_order_key as to_event_key,
        'repaired_by' as link_type,
        case when method = 'told' then 'source' else 'inferred' end as method,
        score,
        distance_m,
        lag_days,
        'work_order_' || method as rule_id
    from {{ ref('int_request_work_orders') }}
)

select
    city,
    from_event_key,
    to_event_key,
    link_type,
    method,
    cast(score as double) as score,
    cast(distance_m as double) as distance_m,
    cast(lag_days as double) as lag_days,
    rule_id
from links
