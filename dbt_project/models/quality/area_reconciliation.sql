-- The bridge is counted as it stands; what it should hold is counted from events and places, so that a delta that
-- left rows behind or forgot some is seen. Costs about a second per million events, which is the join of the two.
with events as (
    select
        event_key,
        city,
        event_on,
        cast(date_trunc('month', event_on) as date) as month_on,
        x_m,
        y_m
    from {{ ref('fct_events') }}
),

areas as (
    select
        city,
        area_type,
        valid_from,
        valid_to
    from {{ ref('dim_area') }}
),

places as (
    select * from {{ ref('int_event_areas') }}
),

area_types as (
    select distinct city, area_type from areas
),

days as (
    select
        city,
        month_on,
        event_on,
        count(*) as events,
        count(x_m) as located
    from events
    group by city, month_on, event_on
),

days_with_boundary as (
    select distinct
        days.city,
        areas.area_type,
        days.event_on
    from days
    inner join areas on days.city = areas.city
    where {{ holds_on('areas', 'days.event_on') }}
),

months as (
    select
        days.city,
        area_types.area_type,
        days.month_on,
        cast(sum(days.events) as bigint) as events,
        cast(sum(days.events - days.located) as bigint) as without_location,
        cast(sum(case when days_with_boundary.event_on is null then days.located else 0 end) as bigint)
            as without_boundary
    from days
    inner join area_types on days.city = area_types.city
    left join days_with_boundary
        on area_types.city = days_with_boundary.city
        and area_types.area_type = days_with_boundary.area_type
        and days.event_on = days_with_boundary.event_on
    group by days.city, area_types.area_type, days.month_on
),

-- What the bridge should hold.
expected as (
    select
        events.city,
        places.area_type,
        events.month_on,
        count(*) as area_rows
    from events
    inner join places
        on events.city = places.city
        and events.x_m = places.x_m
        and events.y_m = places.y_m
    where {{ holds_on('places', 'events.event_on') }}
    group by events.city, places.area_type, events.month_on
),

-- Days on which another area of the type, with a lower key, holds the place of an area too.
overlapping as (
    select distinct
        places.city,
        places.x_m,
        places.y_m,
        places.area_type,
        places.area_key,
        greatest(places.valid_from, lower_keyed.valid_from) as valid_from,
        least(places.valid_to, lower_keyed.valid_to) as valid_to
    from places
    inner join places as lower_keyed
        on places.city = lower_keyed.city
        and places.x_m = lower_keyed.x_m
        and places.y_m = lower_keyed.y_m
        and places.area_type = lower_keyed.area_type
        and places.area_key > lower_keyed.area_key
    where places.is_overlapping and {{ hold_on_one_day('places', 'lower_keyed') }}
),

further_rows as (
    select distinct
        events.city,
        overlapping.area_type,
        events.month_on,
        events.event_key,
        overlapping.area_key
    from events
    inner join overlapping
        on events.city = overlapping.city
        and events.x_m = overlapping.x_m
        and events.y_m = overlapping.y_m
    where {{ holds_on('overlapping', 'events.event_on') }}
),

further as (
    select
        city,
        area_type,
        month_on,
        count(*) as further_areas
    from further_rows
    group by city, area_type, month_on
),

bridge as (
    select
        city,
        area_type,
        cast(date_trunc('month', event_on) as date) as month_on,
        count(*) as area_rows
    from {{ ref('bridge_event_area') }}
    group by city, area_type, cast(date_trunc('month', event_on) as date)
),

counted as (
    select
        coalesce(months.city, bridge.city) as city,
        coalesce(months.area_type, bridge.area_type) as area_type,
        coalesce(months.month_on, bridge.month_on) as month_on,
        coalesce(months.events, 0) as events,
        coalesce(months.without_location, 0) as without_location,
        coalesce(months.without_boundary, 0) as without_boundary,
        coalesce(expected.area_rows, 0) - coalesce(further.further_areas, 0) as in_areas,
        coalesce(further.further_areas, 0) as further_areas,
        coalesce(bridge.area_rows, 0) as area_rows
    from months
    full outer join bridge
        on months.city = bridge.city
        and months.area_type = bridge.area_type
        and months.month_on = bridge.month_on
    left join expected
        on months.city = expected.city
        and months.area_type = expected.area_type
        and months.month_on = expected.month_on
    left join further
        on months.city = further.city
        and months.area_type = further.area_type
        and months.month_on = further.month_on
)

select
    city,
    area_type,
    month_on,
    events,
    in_areas,
    events - without_location - without_boundary - in_areas as outside_areas,
    without_boundary,
    without_location,
    further_areas,
    area_rows,
    area_rows = in_areas + further_areas as is_reconciled
from counted
