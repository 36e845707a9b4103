{{ config(tags=['verdict']) }}

with rules as (
    select * from {{ ref('int_work_rules') }}
),

complaints as (
    select
        complaints.city,
        count(*) as n_complaints,
        count(*) filter (where complaints.is_after_hours is null) as n_without_hour,
        count(matched.event_key) as n_matched
    from {{ ref('int_work_complaints') }} as complaints
    left join {{ ref('int_work_complaints_matched') }} as matched on complaints.event_key = matched.event_key
    group by complaints.city
),

sites as (
    select
        city,
        count(*) as n_sites,
        count(*) filter (where is_candidate) as n_candidates,
        count(*) filter (where is_flagged_by_any_complaint) as n_flagged_by_any_complaint
    from {{ ref('mart_permit_noise_candidates') }}
    group by city
),

outcomes as (
    select
        cities.city,
        rules.work_hours_source,
        rules.are_variances_known,
        coalesce(complaints.n_complaints, 0) as n_complaints,
        coalesce(complaints.n_without_hour, 0) as n_without_hour,
        coalesce(complaints.n_matched, 0) as n_matched,
        coalesce(sites.n_sites, 0) as n_sites,
        coalesce(sites.n_candidates, 0) as n_candidates,
        coalesce(sites.n_flagged_by_any_complaint, 0) as n_flagged_by_any_complaint,
        fits.n_fitted,
        fits.per_100_site_days,
        fits.per_daytime_complaint,
        fits.dispersion,
        case
            when rules.city is null then 'no_work_hours'
            when complaints.city is null then 'no_complaints'
            when complaints.n_complaints = complaints.n_without_hour then 'no_hours_told'
            when sites.city is null then 'no_sites'
            when not coalesce(fits.is_fitted, false) then 'too_few'
            else 'estimated'
        end as outcome
    from {{ ref('dim_city') }} as cities
    left join rules on cities.city = rules.city
    left join complaints on cities.city = complaints.city
    left join sites on cities.city = sites.city
    left join {{ source('after_hours', 'site_fits') }} as fits on cities.city = fits.city
)

select
    outcomes.city,
    outcomes.outcome,
    reasons.reason,
    outcomes.work_hours_source,
    outcomes.are_variances_known,
    case when outcomes.work_hours_source is not null then cast(outcomes.n_complaints as integer) end as n_complaints,
    case when outcomes.work_hours_source is not null then cast(outcomes.n_without_hour as integer) end
        as n_complaints_without_hour,
    case when outcomes.work_hours_source is not null then cast(outcomes.n_matched as integer) end
        as n_complaints_at_a_site,
    cast(outcomes.n_sites as integer) as n_sites,
    cast(outcomes.n_flagged_by_any_complaint as integer) as n_flagged_by_any_complaint,
    cast(outcomes.n_candidates as integer) as n_candidates,
    cast(outcomes.n_fitted as integer) as n_fitted,
    outcomes.per_100_site_days,
    outcomes.per_daytime_complaint,
    outcomes.dispersion
from outcomes
inner join {{ ref('permit_noise_outcomes') }} as reasons on outcomes.outcome = reasons.outcome
