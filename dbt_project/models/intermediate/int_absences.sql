-- What no part of its feed shows any more. An absence holds until its key is observed again in that part; a case that
-- moves from the open file to the closed one is absent from one part and present in the other, so it is not here.
with told as (
    {% for kind in event_stagings() %}
    select
        {{ event_key('city', 'feed', text_value('source_id')) }} as event_key,
        part,
        misses,
        observed_at,
        delivery_id,
        reason
    from {{ source('absences', 'absent_' ~ kind) }}
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

-- Few of all keys were ever absent; only they are looked up.
absent_keys as (
    select distinct event_key from told
),

observed as (
    {% for staging in event_stagings().values() %}
    select
        records.event_key,
        records.part,
        records.delivered_at,
        records.delivery_id,
        row_number() over (
            partition by records.event_key, records.part
            order by records.delivered_at desc, records.delivery_id desc
        ) as recency
    from {{ ref(staging) }} as records
    inner join absent_keys on records.event_key = absent_keys.event_key
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

-- Copies that are dated by declaration may hold as of one moment; ids of deliveries sort as these were made.
in_parts as (
    select
        observed.event_key,
        observed.part,
        min(told.observed_at) as absent_since_at,
        max(told.misses) as misses,
        coalesce(bool_or(told.reason = 'ended'), false) as is_ended
    from observed
    left join told
        on observed.event_key = told.event_key
        and observed.part = told.part
        and (
            told.observed_at > observed.delivered_at
            or (told.observed_at = observed.delivered_at and told.delivery_id > observed.delivery_id)
        )
    where observed.recency = 1
    group by observed.event_key, observed.part
)

select
    event_key,
    max(absent_since_at) as absent_since_at,
    min(misses) as misses,
    bool_or(is_ended) as is_ended
from in_parts
group by event_key
having count(*) = count(absent_since_at)
