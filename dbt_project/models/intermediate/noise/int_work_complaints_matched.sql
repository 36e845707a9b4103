{%- set reach_m = noise_rules().site_m -%}

-- Each complaint with the one site it is about: one at work on its parcel, else the nearest at work within reach. One
-- complaint counts at one site only; counted at all around, it would make neighbours of a site look like it.
with complaints as (
    select * from {{ ref('int_work_complaints') }}
),

sites as (
    select * from {{ ref('int_work_sites') }}
),

candidates as (
    select
        complaints.event_key,
        sites.site_key,
        'parcel' as match_basis,
        {{ squared_distance('complaints', 'sites') }} as distance2
    from complaints
    inner join sites
        on complaints.city = sites.city
        and complaints.parcel_id = sites.parcel_id
    where complaints.day between sites.starts_day and sites.ends_day
    union all
    select
        event_key,
        site_key,
        'distance' as match_basis,
        distance2
    from (
        {{ near_pairs(
            'complaints', 'sites', reach_m,
            'searching.event_key, found.site_key, searching.day, found.starts_day, found.ends_day'
        ) }}
    ) as near
    where day between starts_day and ends_day
),

ranked as (
    select
        *,
        row_number() over (
            partition by event_key
            order by case when match_basis = 'parcel' then 0 else 1 end, distance2 nulls last, site_key
        ) as preference
    from candidates
),

covered as (
    select distinct ranked.event_key
    from ranked
    inner join complaints on ranked.event_key = complaints.event_key
    inner join {{ ref('int_work_site_variances') }} as variances on ranked.site_key = variances.site_key
    where ranked.preference = 1 and complaints.day between variances.starts_day and variances.ends_day
)

select
    ranked.event_key,
    complaints.city,
    ranked.site_key,
    ranked.match_basis,
    sqrt(ranked.distance2) as distance_m,
    complaints.day,
    complaints.evening_day,
    complaints.is_after_hours,
    covered.event_key is not null as is_under_variance
from ranked
inner join complaints on ranked.event_key = complaints.event_key
left join covered on ranked.event_key = covered.event_key
where ranked.preference = 1
