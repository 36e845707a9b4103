-- What work orders say themselves: which request they answer, and whether that can be so. An id is looked for in all
-- request feeds of the city, as a work order does not say which one it means: one whose type fits comes before others,
-- the case before its duplicates.
with work_orders as (
    select
        events.event_key,
        events.city,
        events.event_type,
        events.event_at,
        events.x_m,
        events.y_m,
        nullif(trim({{ json_text('infrastructure.attributes', 'sr_number') }}), '') as sr_number,
        case when infrastructure.work_order_id <> events.source_id then infrastructure.work_order_id end
            as foreign_id
    from {{ ref('fct_events') }} as events
    inner join {{ ref('fct_infrastructure') }} as infrastructure on events.event_key = infrastructure.event_key
    where events.kind = 'infrastructure' and events.is_canonical and not events.is_noise
),

naming as (
    select
        *,
        coalesce(sr_number, foreign_id) as named_request_id
    from work_orders
    where sr_number is not null or foreign_id is not null
),

requests as (
    select
        event_key,
        city,
        source_id,
        event_type,
        event_at,
        x_m,
        y_m,
        is_canonical
    from {{ ref('fct_events') }}
    where kind = 'service_request'
),

repair_types as (
    select * from {{ ref('repair_types') }}
),

judged_types as (
    select distinct work_order_type from {{ ref('repair_types') }}
),

read_claims as (
    select
        naming.city,
        naming.event_key as work_order_key,
        naming.named_request_id,
        naming.sr_number is not null as is_said_to_be_request,
        requests.event_key as request_key,
        -- What no rule maps may be of any type.
        repair_types.request_type is not null
            or judged_types.work_order_type is null
            or requests.event_type = '{{ var("unmapped_event_type") }}' as is_fitting_type,
        sqrt(
            (naming.x_m - requests.x_m) * (naming.x_m - requests.x_m)
            + (naming.y_m - requests.y_m) * (naming.y_m - requests.y_m)
        ) as distance_m,
        {{ seconds_between('requests.event_at', 'naming.event_at') }} / 86400.0 as lag_days,
        row_number() over (
            partition by naming.event_key
            order by
                case when repair_types.request_type is not null then 0 else 1 end,
                case when requests.is_canonical then 0 else 1 end,
                requests.event_key
        ) as preference
    from naming
    left join requests
        on naming.city = requests.city
        and naming.named_request_id = requests.source_id
    left join judged_types on naming.event_type = judged_types.work_order_type
    left join repair_types
        on requests.event_type = repair_types.request_type
        and naming.event_type = repair_types.work_order_type
)

select
    city,
    work_order_key,
    named_request_id,
    request_key,
    distance_m,
    lag_days,
    case
        when request_key is null then 'unknown_request'
        when not is_fitting_type then 'other_type'
        when distance_m > 200 then 'far_away'
        else 'sound'
    end as verdict
from read_claims
-- A work order id that is no request's id is nothing but the id of a work order.
where preference = 1 and (is_said_to_be_request or request_key is not null)
