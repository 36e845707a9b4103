-- The days on which a city's feeds tell of an event type: a feed that has ever told it tells it on all its days.
select
    types.city,
    types.event_type,
    min(periods.first_day) as first_day,
    max(periods.last_day) as last_day,
    bool_or(types.tells_whether_open) as tells_whether_open
from (
    select city, feed, event_type, bool_or(is_open is not null) as tells_whether_open
    from {{ ref('fct_events') }}
    where is_canonical and not is_noise and not is_excluded
    group by city, feed, event_type
) as types
inner join {{ ref('int_feed_periods') }} as periods on types.city = periods.city and types.feed = periods.feed
group by types.city, types.event_type
