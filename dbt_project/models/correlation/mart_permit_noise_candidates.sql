{{ config(tags=['verdict']) }}

{%- set near_m = noise_rules().near_m -%}

with sites as (
    select * from {{ ref('int_work_sites') }}
),

-- Inventories that a city has; where it has none of a type, nothing is known of how many lie near.
inventories as (
    select distinct city, asset_type from {{ ref('int_sensitive_sites') }}
),

sensitive as (
    select city, asset_key, asset_type, x_m, y_m from {{ ref('int_sensitive_sites') }}
),

near as (
    select site_key, asset_type, count(*) as n_near
    from ({{ near_pairs('sites', 'sensitive', near_m, 'searching.site_key, found.asset_type') }}) as pairs
    group by site_key, asset_type
),

exposures as (
    select
        sites.site_key,
        max(case when inventories.asset_type = 'school' then coalesce(near.n_near, 0) end) as n_schools_near,
        max(case when inventories.asset_type = 'senior_facility' then coalesce(near.n_near, 0) end)
            as n_senior_facilities_near
    from sites
    inner join inventories on sites.city = inventories.city
    left join near on sites.site_key = near.site_key and inventories.asset_type = near.asset_type
    where sites.x_m is not null and sites.y_m is not null
    group by sites.site_key
),

rules as (
    select * from {{ ref('int_work_rules') }}
),

judged as (
    select
        sites.*,
        counts.first_day,
        counts.last_day,
        counts.n_site_days,
        counts.n_variance_days,
        counts.n_daytime,
        counts.n_after_hours,
        counts.n_evenings,
        counts.n_under_variance,
        counts.n_without_hour,
        counts.first_evening_day,
        counts.last_evening_day,
        excess.expected,
        excess.p_value,
        excess.q_value,
        excess.is_candidate
    from {{ ref('int_work_site_counts') }} as counts
    inner join sites on counts.site_key = sites.site_key
    left join {{ source('after_hours', 'site_excess') }} as excess
        on counts.city = excess.city and counts.site_key = excess.site_key
),

contractors as (
    select
        city,
        contractor_licence,
        count(*) as n_sites,
        count(*) filter (where is_candidate) as n_candidates
    from judged
    where contractor_licence is not null
    group by city, contractor_licence
),

places as (
    select city, place, count(*) as n_sites, count(*) filter (where is_candidate) as n_candidates
    from judged
    group by city, place
)

select
    judged.city,
    judged.site_key,
    events.feed,
    events.source_id as permit_id,
    judged.event_type,
    judged.n_permits,
    judged.parcel_id,
    judged.x_m,
    judged.y_m,
    judged.contractor_licence,
    {{ date_of_day('judged.starts_day') }} as starts_on,
    {{ date_of_day('judged.ends_day') }} as ends_on,
    judged.is_end_assumed,
    {{ date_of_day('judged.first_day') }} as evaluated_from_on,
    {{ date_of_day('judged.last_day') }} as evaluated_to_on,
    judged.n_site_days,
    judged.n_variance_days,
    rules.are_variances_known,
    rules.work_hours_source,
    judged.n_daytime as n_daytime_complaints,
    judged.n_after_hours as n_after_hours_complaints,
    judged.n_evenings,
    {{ date_of_day('judged.first_evening_day') }} as first_evening_on,
    {{ date_of_day('judged.last_evening_day') }} as last_evening_on,
    judged.n_under_variance as n_complaints_under_variance,
    judged.n_without_hour as n_complaints_without_hour,
    judged.expected as expected_after_hours_complaints,
    judged.p_value,
    judged.q_value,
    judged.is_candidate,
    judged.n_after_hours > 0 as is_flagged_by_any_complaint,
    case
        when judged.is_candidate then 'inspection_candidate'
        when judged.is_candidate is null then 'not_estimated'
        when judged.n_after_hours > 0 then 'any_complaint_only'
        else 'none'
    end as rule_met,
    cast(exposures.n_schools_near as integer) as n_schools_near,
    cast(exposures.n_senior_facilities_near as integer) as n_senior_facilities_near,
    cast(places.n_sites as integer) as n_sites_of_place,
    cast(places.n_candidates as integer) as n_candidates_of_place,
    cast(contractors.n_sites as integer) as n_sites_of_contractor,
    cast(contractors.n_candidates as integer) as n_candidates_of_contractor
from judged
inner join {{ ref('fct_events') }} as events on judged.site_key = events.event_key
inner join rules on judged.city = rules.city
inner join places on judged.city = places.city and judged.place = places.place
left join exposures on judged.site_key = exposures.site_key
left join contractors
    on judged.city = contractors.city and judged.contractor_licence = contractors.contractor_licence
