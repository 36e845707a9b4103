-- The failure nearest in time that was recorded at the item a case lies at. Place and time are all that joins them.
with cases as (
    select
        events.event_key as case_key,
        events.city,
        events.event_on,
        failure_types.failure_type,
        failure_types.asset_type,
        failure_types.repair_type,
        failure_types.within_days,
        places.asset_key
    from {{ ref('fct_events') }} as events
    inner join {{ ref('failure_types') }} as failure_types on events.event_type = failure_types.request_type
    inner join {{ ref('bridge_event_asset') }} as places
        on events.event_key = places.event_key
        and failure_types.asset_type = places.asset_type
    where
        events.kind = 'service_request'
        and not events.is_noise
        and coalesce(events.canonical_event_key, events.event_key) = events.event_key
),

works as (
    select * from {{ ref('int_work_assets') }}
),

met as (
    select
        cases.case_key,
        cases.city,
        cases.asset_type,
        cases.asset_key,
        cases.repair_type,
        works.event_key as failure_key,
        works.event_type as failure_type,
        works.event_on as failed_on,
        works.closed_on,
        works.method,
        {{ days_between('cases.event_on', 'works.event_on') }} as lag_days,
        count(*) over (partition by cases.case_key) as n_failure,
        row_number() over (
            partition by cases.case_key
            order by
                abs({{ days_between('cases.event_on', 'works.event_on') }}),
                works.event_on,
                works.event_key
        ) as nearness
    from cases
    inner join works
        on cases.asset_key = works.asset_key
        and cases.failure_type = works.event_type
        and cases.asset_type = works.asset_type
    where abs({{ days_between('cases.event_on', 'works.event_on') }}) <= cases.within_days
),

nearest as (
    select * from met where nearness = 1
),

-- Where the mending is a record of its own: the first at the item from the day of the failure on.
mended as (
    select nearest.case_key, min(works.closed_on) as repaired_on
    from nearest
    inner join works
        on nearest.asset_key = works.asset_key
        and nearest.asset_type = works.asset_type
        and nearest.repair_type = works.event_type
    where works.closed_on >= nearest.failed_on and {{ days_between('nearest.failed_on', 'works.event_on') }} between 0 and 30
    group by nearest.case_key
)

select
    nearest.case_key,
    nearest.city,
    nearest.asset_type,
    nearest.asset_key,
    nearest.failure_key,
    nearest.failure_type,
    nearest.failed_on,
    cast(nearest.lag_days as integer) as lag_days,
    nearest.method,
    cast(nearest.n_failure as integer) as n_failure,
    case when nearest.closed_on >= nearest.failed_on then nearest.closed_on else mended.repaired_on end as repaired_on
from nearest
left join mended on nearest.case_key = mended.case_key
