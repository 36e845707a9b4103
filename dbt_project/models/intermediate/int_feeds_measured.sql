with measured as (
    {% for kind, staging in event_stagings().items() %}
    select
        city,
        feed,
        max(delivered_at) as as_of_at,
        coalesce(bool_or(is_open_status is not null or closed_at is not null), false) as tells_closure
    from {{ ref(staging) }}
    group by city, feed
    {{ 'union all' if not loop.last }}
    {% endfor %}
)

select * from measured
