{%- set rules = debt_rules() -%}
{%- set window_days = rules.quarters * rules.quarter_days -%}

with repair_types as (
    select work_order_type
    from {{ ref('maintained_assets') }}
    where asset_type = 'road_segment' and counts_as_debt
),

-- Who asks for such repairs.
demand_types as (
    select distinct request_type
    from {{ ref('repair_types') }}
    where work_order_type in (select work_order_type from repair_types)
),

repairs as (
    select event_key, city, event_on
    from {{ ref('fct_events') }}
    where
        kind = 'infrastructure'
        and is_canonical
        and not is_noise
        and not is_excluded
        and event_type in (select work_order_type from repair_types)
),

told_until as (
    select city, max(event_on) as told_until_on from repairs group by city
),

windows as (
    select
        told_until.city,
        told_until.told_until_on,
        {{ date_of_day(day_number('told_until.told_until_on') ~ ' - ' ~ (window_days | int)) }} as window_from,
        count(distinct floor({{ days_between('repairs.event_on', 'told_until.told_until_on') }} / {{ rules.quarter_days }}))
            as n_quarter
    from told_until
    inner join repairs on told_until.city = repairs.city
    where {{ days_between('repairs.event_on', 'told_until.told_until_on') }} < {{ window_days | int }}
    group by told_until.city, told_until.told_until_on
),

-- Work that names a duplicate answers its case.
answered as (
    select distinct coalesce(events.canonical_event_key, events.event_key) as case_key
    from {{ ref('bridge_event_link') }} as links
    inner join {{ ref('fct_events') }} as events on links.from_event_key = events.event_key
    where links.link_type = 'repaired_by'
),

requests as (
    select
        events.event_key,
        events.city,
        events.event_on,
        events.h3_7,
        answered.case_key is null as is_without_repair
    from {{ ref('fct_events') }} as events
    left join answered on events.event_key = answered.case_key
    where
        events.kind = 'service_request'
        and events.is_canonical
        and not events.is_noise
        and not events.is_excluded
        and events.event_type in (select request_type from demand_types)
),

demand_cities as (
    select distinct city from requests
),

recent_requests as (
    select requests.*
    from requests
    inner join windows
        on requests.city = windows.city
        and requests.event_on > windows.window_from
        and requests.event_on <= windows.told_until_on
),

segments as (
    select
        asset_key,
        city,
        asset_id,
        asset_name,
        installed_on,
        length_m,
        valid_from,
        coalesce({{ json_text('attributes', 'class') }}, 'not told') as road_class,
        try_cast({{ json_text('attributes', 'aadt') }} as double) as vehicles_a_day
    from {{ ref('dim_asset') }}
    where asset_type = 'road_segment'
),

on_segments as (
    select event_key, asset_key from {{ ref('bridge_event_asset') }} where asset_type = 'road_segment'
),

-- What one crew does on one day is one repair, however many records it fills.
segment_repairs as (
    select works.asset_key, count(distinct works.event_on) as n_repair
    from {{ ref('int_work_assets') }} as works
    inner join repairs on works.event_key = repairs.event_key
    inner join windows on works.city = windows.city and works.event_on > windows.window_from
    where works.asset_type = 'road_segment'
    group by works.asset_key
),

segment_requests as (
    select
        on_segments.asset_key,
        count(*) as n_request,
        count(case when requests.is_without_repair then 1 end) as n_without_repair
    from recent_requests as requests
    inner join on_segments on requests.event_key = on_segments.event_key
    group by on_segments.asset_key
),

segment_cells as (
    select
        events.city,
        on_segments.asset_key,
        events.h3_7,
        row_number() over (
            partition by events.city, on_segments.asset_key order by count(*) desc, events.h3_7
        ) as preference
    from {{ ref('fct_events') }} as events
    inner join on_segments on events.event_key = on_segments.event_key
    where events.kind = 'service_request' and events.is_canonical and events.h3_7 is not null
    group by events.city, on_segments.asset_key, events.h3_7
),

described as (
    select
        segments.*,
        windows.told_until_on,
        windows.window_from,
        windows.n_quarter,
        -- Of the state in which the window found it; who paved since did so as a repair.
        case
            when segments.installed_on is null or windows.window_from is null then 'not told'
            when segments.installed_on > windows.window_from then 'paved in the window'
            when {{ days_between('segments.installed_on', 'windows.window_from') }} < 10 * 365.25 then 'under 10 years'
            when {{ days_between('segments.installed_on', 'windows.window_from') }} < 25 * 365.25 then '10 to 25 years'
            else 'over 25 years'
        end as age_band,
        case
            when segments.vehicles_a_day is null then 'not told'
            when segments.vehicles_a_day < 1000 then 'under 1,000 a day'
            when segments.vehicles_a_day < 10000 then '1,000 to 10,000 a day'
            else 'over 10,000 a day'
        end as traffic_band,
        coalesce(segment_repairs.n_repair, 0) as n_repair,
        segments.length_m / 1000 * greatest(
            {{ days_between('greatest(coalesce(segments.valid_from, windows.window_from), windows.window_from)', 'windows.told_until_on') }},
            0
        ) / 365.25 as km_years
    from segments
    left join windows on segments.city = windows.city
    left join segment_repairs on segments.asset_key = segment_repairs.asset_key
),

rates as (
    select
        city,
        road_class,
        age_band,
        traffic_band,
        count(*) as n_alike,
        sum(n_repair) / ({{ exact_sum('km_years', 6) }}) as repairs_per_km_year
    from described
    where km_years > 0
    group by city, road_class, age_band, traffic_band
),

expected as (
    select
        described.*,
        rates.n_alike,
        described.km_years * rates.repairs_per_km_year as expected_repair
    from described
    left join rates
        on described.city = rates.city
        and described.road_class = rates.road_class
        and described.age_band = rates.age_band
        and described.traffic_band = rates.traffic_band
        and described.km_years > 0
),

-- How much segments of a class truly differ: what their squared misses hold beyond Poisson's.
priors as (
    select
        city,
        road_class,
        greatest(
            0.0,
            coalesce(
                ({{ exact_sum('(n_repair - expected_repair) * (n_repair - expected_repair)', 6) }} - {{ exact_sum('expected_repair', 6) }})
                / nullif({{ exact_sum('expected_repair * expected_repair', 6) }}, 0),
                0.0
            )
        ) as prior_variance
    from expected
    where expected_repair is not null
    group by city, road_class
),

judged as (
    select
        expected.*,
        priors.prior_variance,
        case
            when expected.told_until_on is null then 'no_repairs_told'
            when expected.n_quarter < {{ rules.least_quarters }} then 'not_covered'
            when expected.expected_repair is null then 'no_length'
            when expected.n_alike < {{ rules.least_alike }} then 'too_few_alike'
            else 'estimated'
        end as state
    from expected
    left join priors on expected.city = priors.city and expected.road_class = priors.road_class
),

estimates as (
    select
        asset_key,
        expected_repair,
        prior_variance,
        n_alike,
        -- Where nothing tells segments apart, all are what is expected of them.
        case when prior_variance > 0 then 1 / prior_variance + n_repair end as shape,
        case when prior_variance > 0 then (1 / prior_variance + expected_repair) * {{ rules.under }} end as x
    from judged
    where state = 'estimated'
),

of_segments as (
    select
        judged.city,
        'segment' as unit_type,
        judged.asset_key as unit_key,
        judged.asset_id as unit_id,
        judged.asset_name as unit_name,
        judged.road_class,
        judged.age_band,
        judged.traffic_band,
        judged.length_m,
        judged.told_until_on,
        judged.window_from,
        judged.n_quarter,
        judged.state,
        case when judged.told_until_on is not null then judged.n_repair end as n_repair,
        estimates.n_alike,
        estimates.expected_repair,
        estimates.prior_variance,
        estimates.prior_variance * estimates.expected_repair
            / (1 + estimates.prior_variance * estimates.expected_repair) as own_weight,
        (1 + estimates.prior_variance * judged.n_repair)
            / (1 + estimates.prior_variance * estimates.expected_repair) as repair_ratio,
        case
            when estimates.shape is not null then {{ gamma_below('estimates.shape', 'estimates.x') }}
            when estimates.asset_key is not null then 0
        end as p_under_half,
        case when demand_cities.city is not null and judged.told_until_on is not null
            then coalesce(segment_requests.n_request, 0) end as n_request,
        case when demand_cities.city is not null and judged.told_until_on is not null
            then coalesce(segment_requests.n_without_repair, 0) end as n_without_repair,
        speed.stratum as reporting_stratum
    from judged
    left join estimates on judged.asset_key = estimates.asset_key
    left join segment_requests on judged.asset_key = segment_requests.asset_key
    left join demand_cities on judged.city = demand_cities.city
    left join segment_cells
        on judged.city = segment_cells.city
        and judged.asset_key = segment_cells.asset_key
        and segment_cells.preference = 1
    left join {{ ref('mart_reporting_speed') }} as speed
        on segment_cells.city = speed.city and segment_cells.h3_7 = speed.h3_7
),

-- Where no inventory tells length, class and age, there is nothing to expect; what was done and asked for is told.
areas as (
    select areas.*
    from {{ ref('dim_area') }} as areas
    inner join windows on areas.city = windows.city
    where areas.city not in (select city from segments) and {{ holds_on('areas', 'windows.told_until_on') }}
),

area_counts as (
    select
        bridge.area_key,
        count(case when repairs.event_key is not null then 1 end) as n_repair,
        count(case when requests.event_key is not null then 1 end) as n_request,
        count(case when requests.is_without_repair then 1 end) as n_without_repair
    from {{ ref('bridge_event_area') }} as bridge
    inner join areas on bridge.area_key = areas.area_key
    inner join windows on bridge.city = windows.city and bridge.event_on > windows.window_from
    left join repairs on bridge.event_key = repairs.event_key
    left join recent_requests as requests on bridge.event_key = requests.event_key
    group by bridge.area_key
),

of_areas as (
    select
        areas.city,
        areas.area_type as unit_type,
        areas.area_key as unit_key,
        areas.area_id as unit_id,
        areas.area_name as unit_name,
        windows.told_until_on,
        windows.window_from,
        windows.n_quarter,
        case when windows.n_quarter < {{ rules.least_quarters }} then 'not_covered' else 'no_inventory' end as state,
        coalesce(area_counts.n_repair, 0) as n_repair,
        case when demand_cities.city is not null then coalesce(area_counts.n_request, 0) end as n_request,
        case when demand_cities.city is not null then coalesce(area_counts.n_without_repair, 0) end as n_without_repair
    from areas
    inner join windows on areas.city = windows.city
    left join area_counts on areas.area_key = area_counts.area_key
    left join demand_cities on areas.city = demand_cities.city
),

units as (
    select * from of_segments
    union all
    select
        city, unit_type, unit_key, unit_id, unit_name, null as road_class, null as age_band, null as traffic_band,
        null as length_m, told_until_on, window_from, n_quarter, state, n_repair, null as n_alike, null as expected_repair,
        null as prior_variance, null as own_weight, null as repair_ratio, null as p_under_half, n_request, n_without_repair,
        null as reporting_stratum
    from of_areas
)

select
    city,
    unit_type,
    unit_key,
    unit_id,
    unit_name,
    road_class,
    age_band,
    traffic_band,
    cast(length_m as double) as length_m,
    window_from,
    told_until_on,
    cast(coalesce(n_quarter, 0) / 4.0 as double) as covered_years,
    state,
    cast(n_repair as integer) as n_repair,
    cast(n_alike as integer) as n_alike,
    cast(expected_repair as double) as expected_repair,
    cast(prior_variance as double) as prior_variance,
    cast(own_weight as double) as own_weight,
    cast(repair_ratio as double) as repair_ratio,
    cast(p_under_half as double) as p_under_half,
    cast(n_request as integer) as n_request,
    cast(n_without_repair as integer) as n_without_repair,
    reporting_stratum
from units
