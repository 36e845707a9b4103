{{ config(tags=['verdict']) }}

{%- set days = sensitive_site_days() -%}
{%- set near_m = noise_rules().near_m -%}

with sites as (
    select * from {{ ref('int_sensitive_sites') }}
),

type_periods as (
    select
        periods.city,
        periods.event_type,
        types.event_group,
        types.kind,
        periods.first_day,
        periods.last_day,
        periods.tells_whether_open
    from {{ ref('int_type_periods') }} as periods
    inner join {{ ref('dim_event_type') }} as types on periods.event_type = types.event_type
),

-- Each type counts for itself, in its group and in its kind.
memberships as (
    select 'event_type' as measure_kind, city, event_type as measure, event_type, first_day, last_day from type_periods
    union all
    select 'event_group', city, event_group, event_type, first_day, last_day from type_periods
    union all
    select 'event_kind', city, kind, event_type, first_day, last_day from type_periods
),

event_measures as (
    select
        measure_kind,
        city,
        measure,
        min(first_day) as first_day,
        max(last_day) as last_day
    from memberships
    group by measure_kind, city, measure
),

event_counts as (
    select
        memberships.measure_kind,
        memberships.measure,
        counted.asset_key,
        counted.year_back,
        sum(counted.n_events) as n_events
    from {{ ref('int_sensitive_site_events') }} as counted
    inner join sites on counted.asset_key = sites.asset_key
    inner join memberships on sites.city = memberships.city and counted.event_type = memberships.event_type
    group by memberships.measure_kind, memberships.measure, counted.asset_key, counted.year_back
),

permit_measures as (
    select
        'open_permit' as measure_kind,
        type_periods.city,
        type_periods.event_type as measure,
        type_periods.first_day,
        type_periods.last_day
    from type_periods
    inner join {{ ref('construction_noise_types') }} as types
        on type_periods.event_type = types.event_type and types.role = 'site'
    where type_periods.tells_whether_open
),

-- Sites whose evenings lie in a period, or run into it.
candidates as (
    select
        city,
        x_m,
        y_m,
        {{ day_number('first_evening_on') }} as first_day,
        {{ day_number('last_evening_on') }} as last_day
    from {{ ref('mart_permit_noise_candidates') }}
    where is_candidate
),

candidates_near as (
    {{ near_pairs(
        'sites', 'candidates', near_m,
        'searching.asset_key, searching.as_of_day, found.first_day, found.last_day'
    ) }}
),

years as (
    select 0 as year_back, 'trailing_365_days' as period
    union all
    select 1 as year_back, 'year_before' as period
),

candidate_counts as (
    select
        near.asset_key,
        years.year_back,
        count(*) as n_events
    from candidates_near as near
    inner join years
        on near.first_day <= near.as_of_day - {{ days }} * years.year_back
        and near.last_day > near.as_of_day - {{ days }} * (years.year_back + 1)
    group by near.asset_key, years.year_back
),

candidate_measures as (
    select
        'inspection_candidate' as measure_kind,
        city,
        'after_hours_noise' as measure,
        min({{ day_number('evaluated_from_on') }}) as first_day,
        max({{ day_number('evaluated_to_on') }}) as last_day
    from {{ ref('mart_permit_noise_candidates') }}
    where is_candidate is not null
    group by city
),

measures as (
    select *, false as is_stock from event_measures
    union all
    select *, true as is_stock from permit_measures
    union all
    select *, false as is_stock from candidate_measures
),

counts as (
    select * from event_counts
    union all
    select 'open_permit', event_type, asset_key, 0, n_events from {{ ref('int_sensitive_site_permits') }}
    union all
    select 'inspection_candidate', 'after_hours_noise', asset_key, year_back, n_events from candidate_counts
),

rings as (
    select
        sites.city,
        sites.asset_key,
        sites.asset_type,
        years.period,
        years.year_back,
        sites.as_of_day - {{ days }} * (years.year_back + 1) + 1 as from_day,
        sites.as_of_day - {{ days }} * years.year_back as to_day,
        measures.measure_kind,
        measures.measure,
        measures.is_stock,
        measures.first_day,
        measures.last_day
    from sites
    cross join years
    inner join measures on sites.city = measures.city
    -- What is open now was not observed a year ago.
    where years.year_back = 0 or not measures.is_stock
),

covered as (
    select
        *,
        greatest(least(to_day, last_day) - greatest(from_day, first_day) + 1, 0) as n_days_covered
    from rings
),

counted as (
    select
        covered.*,
        case
            when covered.n_days_covered >= {{ sensitive_site_days_needed() }} then coalesce(counts.n_events, 0)
        end as n_events
    from covered
    left join counts
        on covered.asset_key = counts.asset_key
        and covered.year_back = counts.year_back
        and covered.measure_kind = counts.measure_kind
        and covered.measure = counts.measure
),

compared as (
    select
        *,
        count(n_events) over of_all as n_sites_compared,
        rank() over (
            partition by city, asset_type, period, measure_kind, measure order by n_events
        ) - 1 as n_below,
        count(n_events) over (
            partition by city, asset_type, period, measure_kind, measure, n_events
        ) as n_alike
    from counted
    window of_all as (partition by city, asset_type, period, measure_kind, measure)
),

medians as (
    select
        city,
        asset_type,
        period,
        measure_kind,
        measure,
        cast(median(n_events) as double) as median_events
    from counted
    group by city, asset_type, period, measure_kind, measure
)

select
    compared.city,
    compared.asset_key,
    compared.asset_type,
    assets.asset_id,
    assets.asset_name,
    compared.period,
    {{ date_of_day('compared.from_day') }} as from_on,
    {{ date_of_day('compared.to_day') }} as to_on,
    compared.measure_kind,
    compared.measure,
    cast(compared.n_days_covered as integer) as n_days_covered,
    cast(compared.n_events as integer) as n_events,
    case
        when not compared.is_stock then cast(100.0 * compared.n_events / compared.n_days_covered as double)
    end as per_100_days,
    cast(compared.n_sites_compared as integer) as n_sites_compared,
    case when compared.n_sites_compared >= 10 then medians.median_events end as city_median_events,
    case
        when compared.n_sites_compared >= 10 and compared.n_events is not null
            then cast((compared.n_below + 0.5 * compared.n_alike) / compared.n_sites_compared as double)
    end as city_percentile_share
from compared
inner join medians
    on compared.city = medians.city
    and compared.asset_type = medians.asset_type
    and compared.period = medians.period
    and compared.measure_kind = medians.measure_kind
    and compared.measure = medians.measure
inner join {{ ref('dim_asset') }} as assets on compared.asset_key = assets.asset_key
