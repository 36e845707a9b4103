{%- set rules = dossier_rules() -%}
-- Theil and Sen: the median of the slopes between all pairs of days, with Sen's interval from the variance of Kendall's S
-- (as scipy.stats.theilslopes has it). One wild reading moves it little. Days count alike however many readings they
-- have, and 90 of them make at most 4,005 pairs a sensor.
with readings as (
    select
        city,
        feed,
        coalesce(asset_id, cast(round(x_m) as varchar) || ' ' || cast(round(y_m) as varchar), 'one') as sensor_id,
        event_type,
        unit,
        quantity,
        event_on,
        x_m,
        y_m
    from {{ ref('fct_events') }}
    where
        kind = 'infrastructure'
        and event_group = 'sensor'
        and quantity is not null
        and is_canonical
        and not is_noise
        and not is_excluded
),

feeds as (
    select city, feed, max(event_on) as told_until_on from readings group by city, feed
),

days as (
    select
        city,
        feed,
        sensor_id,
        event_type,
        unit,
        event_on,
        count(*) as n_reading,
        {{ exact_sum('quantity', 6) }} / count(*) as quantity
    from readings
    group by city, feed, sensor_id, event_type, unit, event_on
),

sensors as (
    select
        city,
        feed,
        sensor_id,
        event_type,
        unit,
        count(*) as n_reading,
        max(event_on) as newest_on,
        {{ exact_sum('x_m', 3) }} / count(x_m) as x_m,
        {{ exact_sum('y_m', 3) }} / count(y_m) as y_m
    from readings
    group by city, feed, sensor_id, event_type, unit
),

recent as (
    select days.*, feeds.told_until_on
    from days
    inner join feeds on days.city = feeds.city and days.feed = feeds.feed
    where {{ days_between('days.event_on', 'feeds.told_until_on') }} < {{ rules.trend_days }}
),

counted as (
    select
        city,
        feed,
        sensor_id,
        event_type,
        unit,
        sum(n_reading) as n_recent_reading,
        count(*) as n_reading_day
    from recent
    group by city, feed, sensor_id, event_type, unit
),

alike as (
    select
        city,
        feed,
        sensor_id,
        event_type,
        unit,
        sum(n_alike * (n_alike - 1) * (2 * n_alike + 5)) as ties
    from (
        select city, feed, sensor_id, event_type, unit, count(*) as n_alike
        from recent
        group by city, feed, sensor_id, event_type, unit, quantity
    ) as values_alike
    group by city, feed, sensor_id, event_type, unit
),

slopes as (
    select
        earlier.city,
        earlier.feed,
        earlier.sensor_id,
        earlier.event_type,
        earlier.unit,
        (later.quantity - earlier.quantity) / {{ days_between('earlier.event_on', 'later.event_on') }} as slope
    from recent as earlier
    inner join recent as later
        on earlier.city = later.city
        and earlier.feed = later.feed
        and earlier.sensor_id = later.sensor_id
        and earlier.event_type = later.event_type
        and earlier.unit is not distinct from later.unit
        and earlier.event_on < later.event_on
),

ranked as (
    select
        *,
        row_number() over (partition by city, feed, sensor_id, event_type, unit order by slope) as place,
        count(*) over (partition by city, feed, sensor_id, event_type, unit) as n_slope
    from slopes
),

bounds as (
    select
        counted.city,
        counted.feed,
        counted.sensor_id,
        counted.event_type,
        counted.unit,
        counted.n_recent_reading,
        counted.n_reading_day,
        {{ two_sided_95() }} * sqrt(
            (n_reading_day * (n_reading_day - 1) * (2 * n_reading_day + 5) - alike.ties) / 18.0
        ) as spread
    from counted
    inner join alike
        on counted.city = alike.city
        and counted.feed = alike.feed
        and counted.sensor_id = alike.sensor_id
        and counted.event_type = alike.event_type
        and counted.unit is not distinct from alike.unit
),

trends as (
    select
        bounds.city,
        bounds.feed,
        bounds.sensor_id,
        bounds.event_type,
        bounds.unit,
        avg(case when 2 * ranked.place between ranked.n_slope and ranked.n_slope + 2 then ranked.slope end) as slope,
        max(case when ranked.place = greatest(floor((ranked.n_slope - bounds.spread) / 2 + 0.5), 1) then ranked.slope end)
            as slope_low,
        max(
            case
                when ranked.place = least(floor((ranked.n_slope + bounds.spread) / 2 + 0.5) + 1, ranked.n_slope)
                    then ranked.slope
            end
        ) as slope_high
    from bounds
    inner join ranked
        on bounds.city = ranked.city
        and bounds.feed = ranked.feed
        and bounds.sensor_id = ranked.sensor_id
        and bounds.event_type = ranked.event_type
        and bounds.unit is not distinct from ranked.unit
    where bounds.n_reading_day >= {{ rules.trend_least_days }}
    group by bounds.city, bounds.feed, bounds.sensor_id, bounds.event_type, bounds.unit
),

newest as (
    select
        sensors.*,
        days.quantity as newest_quantity
    from sensors
    inner join days
        on sensors.city = days.city
        and sensors.feed = days.feed
        and sensors.sensor_id = days.sensor_id
        and sensors.event_type = days.event_type
        and sensors.unit is not distinct from days.unit
        and sensors.newest_on = days.event_on
)

select
    newest.city,
    newest.feed,
    newest.sensor_id,
    newest.event_type,
    newest.unit,
    newest.x_m,
    newest.y_m,
    cast(newest.n_reading as integer) as n_reading,
    newest.newest_on,
    newest.newest_quantity,
    feeds.told_until_on,
    cast(coalesce(bounds.n_recent_reading, 0) as integer) as n_recent_reading,
    cast(coalesce(bounds.n_reading_day, 0) as integer) as n_reading_day,
    trends.slope * {{ rules.trend_days }} as trend,
    trends.slope_low * {{ rules.trend_days }} as trend_low,
    trends.slope_high * {{ rules.trend_days }} as trend_high,
    case
        when trends.slope is null then 'too_few_readings'
        when trends.slope_low > 0 then 'rising'
        when trends.slope_high < 0 then 'falling'
        else 'no_trend_shown'
    end as trend_verdict
from newest
inner join feeds on newest.city = feeds.city and newest.feed = feeds.feed
left join bounds
    on newest.city = bounds.city
    and newest.feed = bounds.feed
    and newest.sensor_id = bounds.sensor_id
    and newest.event_type = bounds.event_type
    and newest.unit is not distinct from bounds.unit
left join trends
    on newest.city = trends.city
    and newest.feed = trends.feed
    and newest.sensor_id = trends.sensor_id
    and newest.event_type = trends.event_type
    and newest.unit is not distinct from trends.unit
