-- Complaints about noise of work, with whether they came after hours. A complaint so shortly outside the hours as the
-- grace allows is about work within them. One whose hour is not told is neither within nor after.
with complaints as (
    select
        events.event_key,
        events.city,
        events.feed,
        events.x_m,
        events.y_m,
        {{ told_parcel('events.parcel_id') }} as parcel_id,
        events.event_on,
        {{ day_number('events.event_on') }} as day,
        -- Midnight to the second is how many sources write "no time".
        case
            when
                events.time_precision <> 'day'
                and events.event_local <> date_trunc('day', events.event_local)
                then 60 * extract(hour from events.event_local) + extract(minute from events.event_local)
        end as minute_of_day
    from {{ ref('fct_events') }} as events
    inner join {{ ref('construction_noise_types') }} as types
        on events.event_type = types.event_type and types.role = 'complaint'
    inner join {{ ref('dim_feed') }} as feeds on events.city = feeds.city and events.feed = feeds.feed
    where
        events.is_canonical
        and not events.is_noise
        and not events.is_excluded
        and events.event_at <= feeds.as_of_at
)

select
    complaints.event_key,
    complaints.city,
    complaints.feed,
    complaints.x_m,
    complaints.y_m,
    complaints.parcel_id,
    complaints.day,
    -- Before six in the morning it is still the evening of the day before.
    cast(complaints.day - case when complaints.minute_of_day < 6 * 60 then 1 else 0 end as integer) as evening_day,
    case
        when complaints.minute_of_day is null then null
        when holidays.holiday_on is not null or hours.opens_minute is null then true
        else
            complaints.minute_of_day < hours.opens_minute - hours.grace_minutes
            or complaints.minute_of_day >= hours.closes_minute + hours.grace_minutes
    end as is_after_hours
from complaints
inner join {{ ref('stg_work_hours') }} as hours
    on complaints.city = hours.city and {{ iso_weekday('complaints.event_on') }} = hours.weekday
left join {{ ref('stg_work_holidays') }} as holidays
    on complaints.city = holidays.city and complaints.event_on = holidays.holiday_on
