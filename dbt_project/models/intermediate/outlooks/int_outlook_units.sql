-- Items of the inventory, or cells from the day on which the first record of any kind in them could be known: that a
-- place is there must not be learned from what happened there later.
with periods as (
    select * from {{ ref('int_outlook_periods') }}
),

first_deliveries as (
    select distinct city, feed, first_delivery_at from ({{ first_deliveries() }}) as deliveries
),

seen as (
    select
        events.city,
        events.h3_10,
        min(events.h3_7) as h3_7,
        min(
            case
                when first_deliveries.city is not null then {{ day_number('events.event_on') }}
                else greatest({{ day_number('events.event_on') }}, {{ arrival_day('events.first_observed_at', 'cities.time_zone') }})
            end
        ) as first_day
    from {{ ref('fct_events') }} as events
    inner join {{ ref('dim_city') }} as cities on events.city = cities.city
    left join first_deliveries
        on events.city = first_deliveries.city
        and events.feed = first_deliveries.feed
        and events.first_observed_at = first_deliveries.first_delivery_at
    where
        events.h3_10 is not null
        and events.x_m is not null
        and events.event_on is not null
        and not events.is_excluded
    group by events.city, events.h3_10
),

units as (
    select
        periods.city,
        periods.outlook,
        assets.asset_key as unit_key,
        periods.asset_type,
        assets.asset_id,
        cast(null as bigint) as h3_10,
        cast(null as bigint) as h3_7,
        {{ outlook_neighbourhood('periods.asset_type', 'cast(null as bigint)', 'assets.x_m', 'assets.y_m') }} as neighbourhood,
        {{ day_number('greatest(assets.installed_on, assets.valid_from)') }} as first_day,
        {{ day_number('assets.valid_to') }} - 1 as last_day,
        assets.length_m,
        {{ day_number('assets.installed_on') }} as installed_day,
        assets.material,
        assets.lon,
        assets.lat
    from periods
    inner join {{ ref('dim_asset') }} as assets
        on periods.city = assets.city
        and periods.asset_type = assets.asset_type
    union all
    select
        periods.city,
        periods.outlook,
        cast(seen.h3_10 as varchar) as unit_key,
        periods.asset_type,
        cast(null as varchar) as asset_id,
        seen.h3_10,
        seen.h3_7,
        {{ h3_9_of('seen.h3_10') }} as neighbourhood,
        seen.first_day,
        cast(null as integer) as last_day,
        cast(null as double) as length_m,
        cast(null as integer) as installed_day,
        cast(null as varchar) as material,
        cast(null as double) as lon,
        cast(null as double) as lat
    from periods
    inner join seen on periods.city = seen.city
    where periods.asset_type is null
)

select
    cast(row_number() over (partition by city, outlook order by md5(unit_key), unit_key) - 1 as integer) as unit_number,
    *
from units
