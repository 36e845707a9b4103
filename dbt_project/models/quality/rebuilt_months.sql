with cases as (
    select events.city, cast(date_trunc('month', events.event_on) as date) as month, count(*) as n_cases
    from {{ ref('fct_events') }} as events
    inner join {{ ref('int_changed_keys') }} as changed on events.event_key = changed.event_key
    where events.event_on is not null
    group by events.city, cast(date_trunc('month', events.event_on) as date)
),

evidence as (
    select
        city,
        month,
        count(*) filter (where is_new and not starts_with(pair_key, 'scan/')) as n_question_sums,
        count(*) filter (where is_new and starts_with(pair_key, 'scan/')) as n_scan_sums,
        count(*) filter (where is_lag_new) as n_lag_curves
    from {{ ref('int_evidence_months') }}
    where is_new or is_lag_new
    group by city, month
)

select
    coalesce(cases.city, evidence.city) as city,
    coalesce(cases.month, evidence.month) as month,
    coalesce(cases.n_cases, 0) as n_cases,
    coalesce(evidence.n_question_sums, 0) as n_question_sums,
    coalesce(evidence.n_scan_sums, 0) as n_scan_sums,
    coalesce(evidence.n_lag_curves, 0) as n_lag_curves
from cases
full outer join evidence on cases.city = evidence.city and cases.month = evidence.month
