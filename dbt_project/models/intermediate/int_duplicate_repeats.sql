-- The earliest open case that a report repeats. What the source already told counts: a report near a told duplicate
-- repeats the case that one stands for, and a told duplicate repeats nothing else.
with reports as (
    select * from {{ ref('int_duplicate_reports') }}
),

told as (
    select * from {{ ref('int_duplicate_told') }}
),

repeats as (
    select
        later.event_key,
        cases.event_key as case_key,
        row_number() over (partition by later.event_key order by cases.event_at, cases.event_key) as preference
    from {{ ref('int_duplicate_pairs') }} as pairs
    left join told as told_of_earlier on pairs.earlier_key = told_of_earlier.event_key
    left join told as told_of_later on pairs.later_key = told_of_later.event_key
    inner join reports as cases on coalesce(told_of_earlier.canonical_event_key, pairs.earlier_key) = cases.event_key
    inner join reports as later on pairs.later_key = later.event_key
    where
        coalesce(told_of_later.canonical_event_key, pairs.later_key) = pairs.later_key
        and cases.is_comparable
        and {{ is_before('cases', 'later') }}
        and not {{ is_after_closing('cases', 'later') }}
)

select event_key, case_key from repeats where preference = 1
