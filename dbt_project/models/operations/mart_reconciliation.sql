{#- What counts as told for most, how many answers make a p90, and how late one system may learn of the other. -#}
{%- set least_told_share = 0.5 -%}
{%- set least_answered = 30 -%}
{%- set grace = 'interval 1 day' -%}

with cases as (
    select * from {{ ref('int_cases') }} where kind = 'service_request'
),

claims as (
    select * from {{ ref('int_work_order_claims') }}
),

requests as (
    select
        event_key,
        city,
        feed,
        source_id,
        event_type,
        owner_agency,
        event_at,
        is_open,
        status,
        closed_at,
        coalesce(canonical_event_key, event_key) as case_key,
        -- A report that only place and time show to be a duplicate has a state of its own.
        case when duplicate_method = 'near' then event_key else coalesce(canonical_event_key, event_key) end
            as state_key,
        is_noise or is_excluded or is_deleted as is_left_out
    from {{ ref('fct_events') }}
    where kind = 'service_request'
),

work_orders as (
    select
        event_key,
        city,
        feed,
        source_id,
        event_type,
        owner_agency,
        event_at,
        closed_at,
        is_open,
        is_excluded
    from {{ ref('fct_events') }}
    where kind = 'infrastructure' and is_canonical and not is_noise
),

-- From when to when a feed can speak: one whose records stopped says nothing of what came later, however lately it
-- was asked.
request_spans as (
    select
        requests.city,
        requests.feed,
        min(requests.event_at) as since_at,
        least(max(requests.event_at), max(feeds.as_of_at)) as until_at
    from requests
    inner join {{ ref('dim_feed') }} as feeds on requests.city = feeds.city and requests.feed = feeds.feed
    group by requests.city, requests.feed
),

city_spans as (
    select city, min(since_at) as since_at, min(until_at) as until_at
    from request_spans
    group by city
),

work_feed_spans as (
    select
        work_orders.city,
        work_orders.feed,
        least(max(work_orders.event_at), max(feeds.as_of_at)) as until_at
    from work_orders
    inner join {{ ref('dim_feed') }} as feeds on work_orders.city = feeds.city and work_orders.feed = feeds.feed
    group by work_orders.city, work_orders.feed
),

work_spans as (
    select
        work_orders.city,
        work_orders.feed,
        work_orders.event_type,
        min(work_orders.event_at) as since_at,
        count(*) as n_work_orders,
        count(claims.work_order_key) as n_told
    from work_orders
    left join claims on work_orders.event_key = claims.work_order_key
    group by work_orders.city, work_orders.feed, work_orders.event_type
),

-- Only where most work orders name their request does it mean anything that none names this one.
reconcilable as (
    select
        work_spans.city,
        repair_types.request_type as event_type,
        max(work_spans.since_at) as since_at,
        min(work_feed_spans.until_at) as until_at
    from work_spans
    inner join work_feed_spans on work_spans.city = work_feed_spans.city and work_spans.feed = work_feed_spans.feed
    inner join {{ ref('repair_types') }} as repair_types on work_spans.event_type = repair_types.work_order_type
    where work_spans.n_told >= {{ least_told_share }} * work_spans.n_work_orders
    group by work_spans.city, repair_types.request_type
),

-- A work order that names a duplicate answers the case it stands for.
answers as (
    select
        requests.case_key,
        requests.state_key,
        links.method,
        work_orders.event_key as work_order_key,
        work_orders.feed,
        work_orders.event_at,
        work_orders.closed_at,
        work_orders.is_open,
        links.distance_m
    from {{ ref('int_request_work_orders') }} as links
    inner join requests on links.request_key = requests.event_key
    inner join work_orders on links.work_order_key = work_orders.event_key
),

answered as (
    select distinct case_key from answers
),

first_answers as (
    select
        cases.city,
        cases.event_type,
        greatest({{ seconds_between('cases.event_at', 'min(answers.event_at)') }} / 86400.0, 0) as lag_days
    from answers
    inner join cases on answers.case_key = cases.event_key
    where answers.method = 'told'
    group by cases.event_key, cases.city, cases.event_type, cases.event_at
),

ranked_answers as (
    select
        *,
        row_number() over (partition by city, event_type order by lag_days) as lag_rank,
        count(*) over (partition by city, event_type) as n_answered
    from first_answers
),

expectations as (
    select city, event_type, min(lag_days) as expected_within_days
    from ranked_answers
    where n_answered >= {{ least_answered }} and lag_rank * 10 >= n_answered * 9
    group by city, event_type
),

unanswered as (
    select
        cases.*,
        reconcilable.until_at,
        expectations.expected_within_days
    from cases
    inner join reconcilable on cases.city = reconcilable.city and cases.event_type = reconcilable.event_type
    left join expectations on cases.city = expectations.city and cases.event_type = expectations.event_type
    left join answered on cases.event_key = answered.case_key
    where answered.case_key is null and cases.event_at >= reconcilable.since_at
),

missing as (
    select
        city,
        'missing' as kind,
        cast(null as varchar) as reason,
        event_key as request_key,
        cast(null as varchar) as named_request_id,
        cast(null as varchar) as work_order_key,
        cast(null as double) as distance_m,
        cast(null as double) as expected_within_days,
        closed_at as since_at
    from unanswered
    where ending = 'done' and is_ending_told and closed_at <= until_at - {{ grace }}
),

not_transferred as (
    select
        city,
        'not_transferred' as kind,
        cast(null as varchar) as reason,
        event_key as request_key,
        cast(null as varchar) as named_request_id,
        cast(null as varchar) as work_order_key,
        cast(null as double) as distance_m,
        expected_within_days,
        {{ plus_days('event_at', 'expected_within_days') }} as since_at
    from unanswered
    where is_open and {{ plus_days('event_at', 'expected_within_days') }} < least(as_of_at, until_at)
),

-- A request that nobody knows may be one that its feed has not told yet, or one from before its beginning.
wrong_log as (
    select
        claims.city,
        'wrong_log' as kind,
        claims.verdict as reason,
        claims.request_key,
        claims.named_request_id,
        claims.work_order_key,
        claims.distance_m,
        cast(null as double) as expected_within_days,
        work_orders.event_at as since_at
    from claims
    inner join work_orders on claims.work_order_key = work_orders.event_key
    inner join city_spans on claims.city = city_spans.city
    where
        claims.verdict <> 'sound'
        and not work_orders.is_excluded
        and (
            claims.verdict <> 'unknown_request'
            or (
                work_orders.event_at >= city_spans.since_at + interval 60 day
                and work_orders.event_at <= city_spans.until_at
            )
        )
),

-- What two systems say of one request; its latest work order stands for all of them.
told_answers as (
    select
        states.event_key,
        states.city,
        states.feed,
        states.is_open,
        states.status,
        states.closed_at,
        states.event_at,
        answers.work_order_key,
        answers.distance_m,
        answers.feed as work_feed,
        row_number() over (
            partition by states.event_key order by answers.event_at desc, answers.work_order_key
        ) as recency,
        count(*) over (partition by states.event_key) as n_work_orders,
        sum(case when answers.is_open then 1 else 0 end) over (partition by states.event_key) as n_open,
        sum(case when not answers.is_open then 1 else 0 end) over (partition by states.event_key) as n_closed,
        max(answers.closed_at) over (partition by states.event_key) as work_closed_at
    from answers
    inner join requests as states on answers.state_key = states.event_key
    where answers.method = 'told' and not states.is_left_out
),

disagreeing as (
    select
        told_answers.*,
        case when told_answers.is_open then 'request_open' else 'work_order_open' end as reason
    from told_answers
    inner join {{ ref('statuses') }} as statuses on told_answers.status = statuses.status
    where
        told_answers.recency = 1
        and (
            (
                told_answers.is_open
                and told_answers.n_closed = told_answers.n_work_orders
                and told_answers.work_closed_at > told_answers.event_at
            )
            or (
                not told_answers.is_open
                and statuses.ending is distinct from 'transferred'
                and told_answers.n_open = told_answers.n_work_orders
            )
        )
),

opening_statuses as (
    select
        history.event_key,
        history.status_at,
        statuses.is_open,
        lag(statuses.is_open) over (partition by history.event_key, history.origin order by history.seq) as was_open
    from {{ ref('fct_status_history') }} as history
    inner join {{ ref('statuses') }} as statuses on history.status = statuses.status
    where
        statuses.is_open is not null
        and history.event_key in (select event_key from disagreeing)
),

reopenings as (
    select event_key, max(status_at) as reopened_at
    from opening_statuses
    where is_open and not was_open
    group by event_key
),

-- A case that was opened again after the work, or nobody knows when, is open for a reason.
closed_in_one_open_in_other as (
    select
        disagreeing.city,
        'closed_in_one_open_in_other' as kind,
        disagreeing.reason,
        disagreeing.event_key as request_key,
        cast(null as varchar) as named_request_id,
        disagreeing.work_order_key,
        disagreeing.distance_m,
        cast(null as double) as expected_within_days,
        case when disagreeing.is_open then disagreeing.work_closed_at else disagreeing.closed_at end as since_at
    from disagreeing
    inner join request_spans
        on disagreeing.city = request_spans.city
        and disagreeing.feed = request_spans.feed
    inner join work_feed_spans
        on disagreeing.city = work_feed_spans.city
        and disagreeing.work_feed = work_feed_spans.feed
    left join reopenings on disagreeing.event_key = reopenings.event_key
    where
        case
            when disagreeing.is_open
                then disagreeing.work_closed_at <= request_spans.until_at - {{ grace }}
                    and (reopenings.event_key is null or reopenings.reopened_at < disagreeing.work_closed_at)
            else disagreeing.closed_at <= work_feed_spans.until_at - {{ grace }}
        end
),

found as (
    select * from missing
    union all
    select * from not_transferred
    union all
    select * from wrong_log
    union all
    select * from closed_in_one_open_in_other
)

select
    found.city,
    found.kind,
    found.reason,
    found.request_key,
    coalesce(requests.source_id, found.named_request_id) as request_id,
    requests.event_type,
    requests.owner_agency,
    requests.event_at as request_opened_at,
    requests.closed_at as request_closed_at,
    found.work_order_key,
    work_orders.source_id as work_order_id,
    work_orders.event_type as work_order_type,
    work_orders.owner_agency as work_order_agency,
    work_orders.event_at as work_order_opened_at,
    work_orders.closed_at as work_order_closed_at,
    found.distance_m,
    found.expected_within_days,
    found.since_at
from found
left join requests on found.request_key = requests.event_key
left join work_orders on found.work_order_key = work_orders.event_key
