{%- set least_basis = 30 -%}
with cases as (
    select * from {{ ref('int_cases') }}
),

open_cases as (
    select * from cases where is_open
),

-- A source that stopped has no openings in the year before as_of_at.
newest as (
    select city, feed, max(event_at) as newest_at from cases group by city, feed
),

-- Whole days, rounded up, keep the estimates of many small areas few rows.
recent as (
    select
        cases.event_key,
        cases.city,
        cases.event_type,
        cases.is_timed_closing,
        cast(ceil(cases.duration_days) as integer) as whole_days
    from cases
    inner join newest on cases.city = newest.city and cases.feed = newest.feed
    where (cases.is_open or cases.is_timed_closing) and cases.event_at > newest.newest_at - interval 365 day
),

locations as (
    select event_key, area_type, area_key
    from {{ ref('bridge_event_area') }}
    where event_key in (select event_key from recent) or event_key in (select event_key from open_cases)
),

-- The type of area with the most areas is the finest.
area_types as (
    select
        city,
        area_type,
        row_number() over (partition by city order by count(distinct area_id) desc, area_type) as coarseness
    from {{ ref('dim_area') }}
    group by city, area_type
),

-- Every case counts in each area it lies in, and in the city.
placed as (
    select
        recent.city,
        recent.event_type,
        locations.area_type,
        locations.area_key,
        recent.whole_days,
        recent.is_timed_closing
    from recent
    inner join locations on recent.event_key = locations.event_key
    union all
    select city, event_type, 'city' as area_type, city as area_key, whole_days, is_timed_closing
    from recent
),

references_all as (
    {{ kaplan_meier(
        'placed', ['city', 'event_type', 'area_type', 'area_key'], 'whole_days', 'is_timed_closing',
        {'age_p90_days': 0.1}
    ) | indent(4) }}
),

-- Where more than a tenth never ends, the wider area can still have a p90.
references_usable as (
    select * from references_all where n_ended >= {{ least_basis }} and age_p90_days is not null
),

candidates as (
    select
        open_cases.event_key,
        locations.area_type,
        locations.area_key,
        area_types.coarseness
    from open_cases
    inner join locations on open_cases.event_key = locations.event_key
    inner join area_types on open_cases.city = area_types.city and locations.area_type = area_types.area_type
    union all
    select event_key, 'city' as area_type, city as area_key, null as coarseness
    from open_cases
),

aged as (
    select
        open_cases.event_key,
        references_usable.area_type as age_reference,
        references_usable.area_key as age_reference_key,
        references_usable.n_ended as n_reference_closings,
        references_usable.age_p90_days,
        row_number() over (
            partition by open_cases.event_key order by candidates.coarseness nulls last, candidates.area_key
        ) as preference
    from open_cases
    inner join candidates on open_cases.event_key = candidates.event_key
    inner join references_usable
        on open_cases.city = references_usable.city
        and open_cases.event_type = references_usable.event_type
        and candidates.area_type = references_usable.area_type
        and candidates.area_key = references_usable.area_key
),

changes as (
    select * from {{ ref('int_status_changes') }} where is_preferred
),

gaps as (
    select
        recent.city,
        recent.event_type,
        changes.origin,
        count(*) as n_reference_gaps,
        percentile_disc(0.95) within group (
            order by {{ seconds_between('changes.previous_at', 'changes.changed_at') }} / 86400.0
        ) as change_gap_p95_days
    from changes
    inner join recent on changes.event_key = recent.event_key
    where changes.was_open and changes.changed_at >= changes.previous_at
    group by recent.city, recent.event_type, changes.origin
    having count(*) >= {{ least_basis }}
),

last_changes as (
    select event_key, origin, max(changed_at) as last_change_at
    from changes
    where event_key in (select event_key from open_cases)
    group by event_key, origin
),

events as (
    select event_key, first_observed_at
    from {{ ref('fct_events') }}
    where event_key in (select event_key from open_cases)
),

-- Of a case without any history we know that it has not changed since we first saw it.
unmoved as (
    select
        open_cases.event_key,
        coalesce(last_changes.origin, 'observed') as change_origin,
        {{ seconds_between('coalesce(last_changes.last_change_at, events.first_observed_at)', 'open_cases.as_of_at') }}
            / 86400.0 as days_since_change
    from open_cases
    inner join events on open_cases.event_key = events.event_key
    left join last_changes on open_cases.event_key = last_changes.event_key
),

last_owners as (
    select event_key, owner from {{ ref('int_owner_spells') }} where is_last
),

judged as (
    select
        open_cases.event_key,
        open_cases.city,
        open_cases.feed,
        open_cases.event_type,
        open_cases.owner_agency,
        last_owners.owner,
        open_cases.event_at,
        open_cases.duration_days as age_days,
        open_cases.duration_days > aged.age_p90_days as is_over_age,
        aged.age_p90_days,
        aged.age_reference,
        aged.age_reference_key,
        aged.n_reference_closings,
        unmoved.days_since_change > gaps.change_gap_p95_days as is_without_change,
        unmoved.days_since_change,
        gaps.change_gap_p95_days,
        unmoved.change_origin,
        gaps.n_reference_gaps,
        open_cases.as_of_at
    from open_cases
    inner join unmoved on open_cases.event_key = unmoved.event_key
    left join aged on open_cases.event_key = aged.event_key and aged.preference = 1
    left join gaps
        on open_cases.city = gaps.city
        and open_cases.event_type = gaps.event_type
        and unmoved.change_origin = gaps.origin
    left join last_owners on open_cases.event_key = last_owners.event_key
)

select * from judged where is_over_age or is_without_change
