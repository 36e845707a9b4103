with told as (
    {% for kind, staging in event_stagings().items() %}
    select
        city,
        feed,
        max(delivered_at) as newest_record_at,
        coalesce(bool_or(is_open_status is not null or closed_at is not null), false) as tells_closure
    from {{ ref(staging) }}
    group by city, feed
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

-- A delivery that brought nothing new says so too: what was known held until then.
deliveries as (
    select city, feed, max(delivered_at) as newest_delivery_at
    from {{ source('fetches', 'receipts') }}
    where outcome in ('landed', 'unchanged')
    group by city, feed
),

absences as (
    {% for kind in event_stagings() %}
    select city, feed, max(observed_at) as newest_absence_at, bool_or(reason = 'ended') as shows_ends
    from {{ source('absences', 'absent_' ~ kind) }}
    group by city, feed
    {{ 'union all' if not loop.last }}
    {% endfor %}
)

select
    told.city,
    told.feed,
    greatest(told.newest_record_at, deliveries.newest_delivery_at, absences.newest_absence_at) as as_of_at,
    told.tells_closure or coalesce(absences.shows_ends, false) as tells_closure
from told
left join deliveries on told.city = deliveries.city and told.feed = deliveries.feed
left join absences on told.city = absences.city and told.feed = absences.feed
