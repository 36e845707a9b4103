with cases as (
    select
        city,
        feed,
        event_type,
        event_on,
        event_local,
        is_timed_closing,
        closed_local,
        as_of_at,
        cast(as_of_local as date) as as_of_on
    from {{ ref('int_cases') }}
),

cities as (
    select city, time_zone from {{ ref('dim_city') }}
),

storm_days as (
    select city, date_on, is_storm from {{ ref('int_storm_days') }}
),

seasons as (
    select *
    from (values (0, 'dec_feb'), (1, 'mar_may'), (2, 'jun_aug'), (3, 'sep_nov')) as named (season_number, season)
),

hours as (
    select cast({{ each_integer(0, 23) }} as integer) as hour
),

-- A feed that fell silent tells nothing of the days since: hours without cases in it are not hours without work.
feed_ends as (
    select
        city,
        feed,
        max(case when is_timed_closing then greatest(event_on, cast(closed_local as date)) else event_on end) as newest_on
    from cases
    group by city, feed
),

-- Whole days only: the one of the newest delivery is not over.
spans as (
    select
        cases.city,
        cases.event_type,
        min(cases.event_on) as first_on,
        least(max(cases.as_of_on), cast(max(feed_ends.newest_on) + interval 1 day as date)) as ends_on,
        max(cases.as_of_at) as as_of_at
    from cases
    inner join feed_ends on cases.city = feed_ends.city and cases.feed = feed_ends.feed
    group by cases.city, cases.event_type
),

city_spans as (
    select city, min(first_on) as first_on, max(ends_on) as ends_on from spans group by city
),

city_days as (
    select city, cast({{ day_series('first_on', 'ends_on') }} as date) as date_on from city_spans
),

calendar as (
    select
        city_days.city,
        city_days.date_on,
        seasons.season,
        storm_days.is_storm,
        {{ iso_weekday('city_days.date_on') }} as iso_weekday
    from city_days
    inner join seasons on cast(floor(extract(month from city_days.date_on) % 12 / 3) as integer) = seasons.season_number
    left join storm_days on city_days.city = storm_days.city and city_days.date_on = storm_days.date_on
),

-- On the day that clocks go forward an hour is missing, on the day that they go back one comes twice.
day_bounds as (
    select
        calendar.city,
        calendar.date_on,
        cities.time_zone,
        {{ wall_to_utc('cast(calendar.date_on as timestamp)', 'cities.time_zone') }} as begins_at,
        {{ wall_to_utc("cast(calendar.date_on as timestamp) + interval 1 day", 'cities.time_zone') }} as ends_at
    from calendar
    inner join cities on calendar.city = cities.city
),

odd_days as (
    select
        *,
        cast({{ seconds_between('begins_at', 'ends_at') }} / 3600 as integer) as length_hours
    from day_bounds
    where {{ seconds_between('begins_at', 'ends_at') }} <> 86400
),

odd_moments as (
    select
        city,
        date_on,
        time_zone,
        begins_at,
        {{ each_integer(0, 'length_hours - 1') }} as elapsed_hours
    from odd_days
),

odd_hours as (
    select
        city,
        date_on,
        cast(extract(hour from {{ utc_to_wall(plus_days('begins_at', '(elapsed_hours + 0.5) / 24'), 'time_zone') }}) as integer)
            as hour,
        count(*) as times
    from odd_moments
    group by 1, 2, 3
),

hour_changes as (
    select
        odd_days.city,
        odd_days.date_on,
        hours.hour,
        coalesce(odd_hours.times, 0) - 1 as change
    from odd_days
    cross join hours
    left join odd_hours
        on odd_days.city = odd_hours.city and odd_days.date_on = odd_hours.date_on and hours.hour = odd_hours.hour
    where coalesce(odd_hours.times, 0) <> 1
),

type_days as (
    select
        spans.city,
        spans.event_type,
        calendar.date_on,
        calendar.season,
        calendar.is_storm,
        calendar.iso_weekday
    from spans
    inner join calendar
        on spans.city = calendar.city and calendar.date_on >= spans.first_on and calendar.date_on < spans.ends_on
),

kinds_of_day as (
    select city, event_type, season, is_storm, iso_weekday, count(*) as n_days
    from type_days
    group by city, event_type, season, is_storm, iso_weekday
),

changes as (
    select
        type_days.city,
        type_days.event_type,
        type_days.season,
        type_days.is_storm,
        type_days.iso_weekday,
        hour_changes.hour,
        sum(hour_changes.change) as change
    from type_days
    inner join hour_changes on type_days.city = hour_changes.city and type_days.date_on = hour_changes.date_on
    group by 1, 2, 3, 4, 5, 6
),

-- Exactly midnight is a date that was told without its time.
moments as (
    select
        city,
        event_type,
        event_on as date_on,
        case when event_local <> date_trunc('day', event_local) then cast(extract(hour from event_local) as integer) end
            as hour,
        count(*) as arrivals,
        0 as closings
    from cases
    group by 1, 2, 3, 4
    union all
    select
        city,
        event_type,
        cast(closed_local as date) as date_on,
        case when closed_local <> date_trunc('day', closed_local) then cast(extract(hour from closed_local) as integer) end
            as hour,
        0 as arrivals,
        count(*) as closings
    from cases
    where is_timed_closing
    group by 1, 2, 3, 4
),

counts as (
    select
        moments.city,
        moments.event_type,
        calendar.season,
        calendar.is_storm,
        calendar.iso_weekday,
        moments.hour,
        cast(sum(moments.arrivals) as bigint) as arrivals,
        cast(sum(moments.closings) as bigint) as closings
    from moments
    inner join spans on moments.city = spans.city and moments.event_type = spans.event_type
    inner join calendar on moments.city = calendar.city and moments.date_on = calendar.date_on
    where moments.date_on >= spans.first_on and moments.date_on < spans.ends_on
    group by 1, 2, 3, 4, 5, 6
),

-- What has no hour at all is not 0 in every hour.
timed as (
    select
        city,
        event_type,
        sum(arrivals) > 0 as has_arrivals,
        sum(closings) > 0 as has_closings
    from counts
    where hour is not null
    group by city, event_type
),

by_hour as (
    select
        kinds_of_day.city,
        kinds_of_day.event_type,
        kinds_of_day.season,
        kinds_of_day.is_storm,
        kinds_of_day.iso_weekday,
        hours.hour,
        cast(kinds_of_day.n_days + coalesce(changes.change, 0) as bigint) as n_hours,
        case when timed.has_arrivals then coalesce(counts.arrivals, 0) end as arrivals,
        case when timed.has_closings then coalesce(counts.closings, 0) end as closings
    from kinds_of_day
    inner join timed on kinds_of_day.city = timed.city and kinds_of_day.event_type = timed.event_type
    cross join hours
    left join changes
        on kinds_of_day.city = changes.city
        and kinds_of_day.event_type = changes.event_type
        and kinds_of_day.season = changes.season
        and kinds_of_day.is_storm is not distinct from changes.is_storm
        and kinds_of_day.iso_weekday = changes.iso_weekday
        and hours.hour = changes.hour
    left join counts
        on kinds_of_day.city = counts.city
        and kinds_of_day.event_type = counts.event_type
        and kinds_of_day.season = counts.season
        and kinds_of_day.is_storm is not distinct from counts.is_storm
        and kinds_of_day.iso_weekday = counts.iso_weekday
        and hours.hour = counts.hour
    union all
    select
        city,
        event_type,
        season,
        is_storm,
        iso_weekday,
        hour,
        cast(null as bigint) as n_hours,
        arrivals,
        closings
    from counts
    where hour is null
),

totals as (
    select
        city,
        event_type,
        cast(sum(n_hours) as double) as n_hours,
        cast(sum(arrivals) as double) as arrivals,
        cast(sum(closings) as double) as closings
    from by_hour
    where hour is not null
    group by city, event_type
)

select
    by_hour.city,
    by_hour.event_type,
    by_hour.season,
    by_hour.is_storm,
    by_hour.iso_weekday,
    by_hour.hour,
    by_hour.n_hours,
    by_hour.arrivals,
    by_hour.closings,
    by_hour.arrivals / nullif(cast(by_hour.n_hours as double), 0) as arrivals_per_hour,
    by_hour.closings / nullif(cast(by_hour.n_hours as double), 0) as closings_per_hour,
    by_hour.arrivals * totals.n_hours / nullif(by_hour.n_hours * totals.arrivals, 0) as arrivals_index,
    by_hour.closings * totals.n_hours / nullif(by_hour.n_hours * totals.closings, 0) as closings_index,
    spans.as_of_at
from by_hour
inner join spans on by_hour.city = spans.city and by_hour.event_type = spans.event_type
left join totals on by_hour.city = totals.city and by_hour.event_type = totals.event_type
where by_hour.hour is null or by_hour.n_hours > 0
