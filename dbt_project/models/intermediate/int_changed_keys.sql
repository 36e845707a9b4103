-- Keys with a row or an absence in a new batch, whatever staging makes of the row: one that it set aside, or whose feed
-- is declared no more, may have had a usable row before.
with told as (
    {% for kind in event_stagings() %}
    select {{ event_key('city', 'feed', text_value('source_id')) }} as event_key, '{{ kind }}' as kind, city
    from {{ source('raw', kind) }}
    where {{ is_of_new_batch(kind) }}
    union all
    select {{ event_key('city', 'feed', text_value('source_id')) }} as event_key, '{{ kind }}' as kind, city
    from {{ source('absences', 'absent_' ~ kind) }}
    where {{ is_of_new_batch(kind) }}
    {{ 'union all' if not loop.last }}
    {% endfor %}
)

select distinct event_key, kind, city from told where event_key is not null
