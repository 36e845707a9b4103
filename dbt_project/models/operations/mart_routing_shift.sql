{#- A day is tested with so many cases at least, against so many of the days before. -#}
{%- set least_cases = 10 -%}
{%- set least_reference_cases = 30 -%}
{#- The reference: 28 days that end a week before the day, so that a shift of some days is not its own yardstick. -#}
{%- set reference_days = [35, 8] -%}
{#- Natural logarithm of 1e-6: of a million usual days one is flagged at most, if cases come alone. -#}
{%- set most_log_p = -13.8155 -%}
{#- Cases do not come alone (one clerk enters a heap of them), so the shift must be large besides. -#}
{%- set least_share = 0.5 -%}
{%- set least_rise = 0.25 -%}
{#- Flagged days further apart than this are two shifts, whatever lies between. -#}
{%- set most_days_between = 7 -%}

with feeds as (
    select city, feed, as_of_at from {{ ref('dim_feed') }}
),

agencies as (
    select * from {{ ref('int_agencies') }}
),

history as (
    select event_key, origin, seq, agency from {{ ref('fct_status_history') }}
),

-- Who had a case first: as the source's notes say, else as it was first seen. Who has it now is the third best.
noted as (
    select event_key, agency from history where origin = 'source_note' and seq = 1 and agency is not null
    union all
    -- Few first steps name no agency; to look for the first that does among all steps of all cases takes as long as
    -- the rest of this model.
    select event_key, min_by(agency, seq) as agency
    from history
    where
        origin = 'source_note'
        and agency is not null
        and event_key in (select event_key from history where origin = 'source_note' and seq = 1 and agency is null)
    group by event_key
),

first_seen as (
    select event_key, agency from history where origin = 'observed' and seq = 1 and agency is not null
),

requests as (
    select
        events.city,
        events.event_type,
        {{ day_number('events.event_on') }} as day,
        coalesce(noted.agency, first_seen.agency, events.agency) as agency,
        events.expected_agency,
        count(*) as n_cases
    from {{ ref('fct_events') }} as events
    inner join feeds on events.city = feeds.city and events.feed = feeds.feed
    left join noted on events.event_key = noted.event_key
    left join first_seen on events.event_key = first_seen.event_key
    where
        events.kind = 'service_request'
        and events.is_canonical
        and not events.is_noise
        and not events.is_excluded
        and events.event_at <= feeds.as_of_at
        and coalesce(noted.agency, first_seen.agency, events.agency) is not null
    group by 1, 2, 3, 4, 5
),

named as (
    select
        requests.*,
        {{ normalised_text('requests.agency') }} as agency_key,
        agencies.agency_canonical
    from requests
    left join agencies on requests.city = agencies.city and requests.agency = agencies.agency
),

at_agencies as (
    select
        city,
        event_type,
        day,
        agency_key,
        min(agency) as agency,
        max(agency_canonical) as agency_canonical,
        sum(n_cases) as n_agency_cases,
        sum(
            case
                when agency_canonical <> expected_agency then n_cases
                when agency_canonical = expected_agency then 0
            end
        ) as n_misrouted
    from named
    group by city, event_type, day, agency_key
),

days as (
    select
        city,
        event_type,
        day,
        sum(n_agency_cases) as n_cases,
        -- Days with too few cases are passed over when days are joined into one shift.
        sum(case when sum(n_agency_cases) >= {{ least_cases }} then 1 else 0 end)
            over (partition by city, event_type order by day) as tested_day
    from at_agencies
    group by city, event_type, day
),

-- Twice: the second time, days that the first found shifted are in no reference. Else the return to the usual would be
-- a shift back, and a long shift would end with its own beginning.
{% for turn in [1, 2] %}
judged_{{ turn }} as (
    {% if turn == 1 %}
    select *, false as is_shifted from days
    {% else %}
    select days.*, shifted.day is not null as is_shifted
    from days
    left join (select distinct city, event_type, day from flagged_1) as shifted
        on days.city = shifted.city and days.event_type = shifted.event_type and days.day = shifted.day
    {% endif %}
),

day_references_{{ turn }} as (
    select
        *,
        sum(case when is_shifted then 0 else n_cases end) over (
            partition by city, event_type order by day
            range between {{ reference_days[0] }} preceding and {{ reference_days[1] }} preceding
        ) as n_reference_cases
    from judged_{{ turn }}
),

agency_references_{{ turn }} as (
    select
        at_agencies.*,
        coalesce(
            sum(case when judged.is_shifted then 0 else at_agencies.n_agency_cases end) over (
                partition by at_agencies.city, at_agencies.event_type, at_agencies.agency_key order by at_agencies.day
                range between {{ reference_days[0] }} preceding and {{ reference_days[1] }} preceding
            ), 0
        ) as n_agency_reference_cases
    from at_agencies
    inner join judged_{{ turn }} as judged
        on at_agencies.city = judged.city
        and at_agencies.event_type = judged.event_type
        and at_agencies.day = judged.day
),

shares_{{ turn }} as (
    select
        agencies.*,
        days.tested_day,
        days.n_cases,
        days.n_reference_cases,
        agencies.n_agency_cases / cast(days.n_cases as double) as agency_share,
        agencies.n_agency_reference_cases / cast(days.n_reference_cases as double) as reference_share,
        (agencies.n_agency_cases + agencies.n_agency_reference_cases)
            / cast(days.n_cases + days.n_reference_cases as double) as pooled_share
    from agency_references_{{ turn }} as agencies
    inner join day_references_{{ turn }} as days
        on agencies.city = days.city and agencies.event_type = days.event_type and agencies.day = days.day
    where days.n_cases >= {{ least_cases }} and days.n_reference_cases >= {{ least_reference_cases }}
),

-- Hoeffding's bound on the tail of the share, given how many cases the agency has on the day and before together:
-- exp(-n * (s ln(s / p) + (1 - s) ln((1 - s) / (1 - p)))), s the day's share and p the share of both together.
bounded_{{ turn }} as (
    select
        *,
        -n_cases * (
            agency_share * ln(agency_share / pooled_share)
            + case
                when agency_share < 1 then (1 - agency_share) * ln((1 - agency_share) / (1 - pooled_share)) else 0
            end
        ) as log_p_bound
    from shares_{{ turn }}
    where agency_share >= {{ least_share }} and agency_share - reference_share >= {{ least_rise }}
),

flagged_{{ turn }} as (
    select * from bounded_{{ turn }} where log_p_bound <= {{ most_log_p }}
),
{% endfor %}
followed as (
    select
        *,
        lag(day) over (partition by city, event_type, agency_key order by day) as flagged_before,
        lag(tested_day) over (partition by city, event_type, agency_key order by day) as tested_before
    from flagged_2
),

numbered as (
    select
        *,
        sum(
            case
                when tested_day - tested_before = 1 and day - flagged_before <= {{ most_days_between }} then 0 else 1
            end
        ) over (partition by city, event_type, agency_key order by day) as shift_number
    from followed
),

shifts as (
    select
        city,
        event_type,
        min(agency) as agency,
        max(agency_canonical) as agency_canonical,
        min(day) as first_day,
        max(day) as last_day,
        count(*) as n_days,
        sum(n_cases) as n_cases,
        sum(n_agency_cases) as n_agency_cases,
        sum(n_misrouted) as n_misrouted,
        min_by(n_agency_reference_cases, day) as n_agency_reference_cases,
        min_by(n_reference_cases, day) as n_reference_cases,
        min(log_p_bound) as least_log_p_bound
    from numbered
    group by city, event_type, agency_key, shift_number
)

select
    city,
    event_type,
    agency,
    agency_canonical,
    {{ date_of_day('first_day') }} as first_on,
    {{ date_of_day('last_day') }} as last_on,
    cast(n_days as integer) as n_days,
    cast(n_cases as bigint) as n_cases,
    cast(n_agency_cases as bigint) as n_agency_cases,
    n_agency_cases / cast(n_cases as double) as agency_share,
    cast(n_reference_cases as bigint) as n_reference_cases,
    n_agency_reference_cases / cast(n_reference_cases as double) as reference_share,
    cast(n_misrouted as bigint) as n_misrouted,
    least_log_p_bound / ln(10.0) as log10_p_bound
from shifts
