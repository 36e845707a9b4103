-- Costs some 1.2 s per million events on two cores: the joins of cases and the steps that tell of re-openings.
with cases as (
    select
        event_key,
        city,
        event_type,
        owner_agency,
        event_on,
        is_open,
        is_timed_closing,
        cast(closed_local as date) as closed_on,
        due_at is not null as has_target,
        case when due_at < as_of_at then cast(due_local as date) end as due_on,
        as_of_at,
        cast(as_of_local as date) as as_of_on
    from {{ ref('int_cases') }}
),

spans as (
    select
        city,
        event_type,
        max(as_of_at) as as_of_at,
        greatest(max(as_of_on), max(event_on)) as last_on
    from cases
    group by city, event_type
),

-- From when until when a case is in the stock: the day it leaves no more, and no earlier than it came. The clock of a
-- city can be set back across midnight.
stays as (
    select
        cases.event_key,
        cases.city,
        cases.event_type,
        cases.owner_agency,
        cases.event_on,
        cases.is_timed_closing,
        cases.has_target,
        case when cases.due_on is not null then greatest(cases.event_on, cases.due_on) end as overdue_on,
        case
            when cases.is_open then null
            when cases.closed_on is null then cases.event_on
            else greatest(cases.event_on, least(cases.closed_on, spans.last_on))
        end as left_on,
        spans.last_on
    from cases
    inner join spans on cases.city = spans.city and cases.event_type = spans.event_type
),

statuses as (
    select status, is_open from {{ ref('statuses') }}
),

steps as (
    select
        history.event_key,
        history.origin,
        history.seq,
        cast(history.status_local as date) as status_on,
        statuses.is_open
    from {{ ref('fct_status_history') }} as history
    inner join statuses on history.status = statuses.status
    where history.origin in ('source_note', 'observed') and statuses.is_open is not null
),

-- Few cases were ever open again; the others' steps need not be put in order.
logs as (
    select
        event_key,
        bool_or(origin = 'source_note') as has_log,
        coalesce(
            max(case when origin = 'source_note' and is_open then seq end)
            > min(case when origin = 'source_note' and not is_open then seq end), false
        ) as is_reopened_by_log,
        coalesce(
            max(case when origin = 'observed' and is_open then seq end)
            > min(case when origin = 'observed' and not is_open then seq end), false
        ) as is_reopened_by_sight
    from steps
    group by event_key
),

-- The source's own log where there is one, else what deliveries showed.
reopened as (
    select
        event_key,
        case when has_log then 'source_note' else 'observed' end as origin
    from logs
    where is_reopened_by_log or is_reopened_by_sight
),

watched_types as (
    select stays.city, stays.event_type
    from stays
    inner join logs on stays.event_key = logs.event_key
    group by stays.city, stays.event_type
),

switches as (
    select
        steps.event_key,
        steps.seq,
        steps.status_on,
        steps.is_open,
        lag(steps.is_open) over (partition by steps.event_key order by steps.seq) as was_open
    from steps
    inner join reopened on steps.event_key = reopened.event_key and steps.origin = reopened.origin
),

turns as (
    select
        event_key,
        is_open,
        status_on,
        lead(status_on) over (partition by event_key order by seq) as next_on
    from switches
    where is_open is distinct from was_open
),

-- A pause ends for the stock when the case leaves it, which a source that keeps the first closing date tells too early.
pauses as (
    select
        stays.city,
        stays.event_type,
        stays.owner_agency,
        greatest(stays.event_on, turns.status_on) as paused_on,
        least(turns.next_on, coalesce(stays.left_on, stays.last_on)) as pause_ends_on,
        turns.next_on as reopened_on
    from turns
    inner join stays on turns.event_key = stays.event_key
    where
        not turns.is_open
        and turns.next_on >= turns.status_on
        and turns.next_on between stays.event_on and stays.last_on
),

flows as (
    select
        city,
        event_type,
        owner_agency,
        event_on as date_on,
        count(*) as opened,
        0 as closed,
        0 as ended_untimed,
        count(case when has_target then 1 end) as target_change,
        0 as overdue_change,
        0 as reopened,
        0 as pause_change
    from stays
    group by city, event_type, owner_agency, event_on
    union all
    select
        city,
        event_type,
        owner_agency,
        left_on as date_on,
        0 as opened,
        count(case when is_timed_closing then 1 end) as closed,
        count(case when not is_timed_closing then 1 end) as ended_untimed,
        -count(case when has_target then 1 end) as target_change,
        -count(case when overdue_on < left_on then 1 end) as overdue_change,
        0 as reopened,
        0 as pause_change
    from stays
    where left_on is not null
    group by city, event_type, owner_agency, left_on
    union all
    select
        city,
        event_type,
        owner_agency,
        overdue_on as date_on,
        0 as opened,
        0 as closed,
        0 as ended_untimed,
        0 as target_change,
        count(*) as overdue_change,
        0 as reopened,
        0 as pause_change
    from stays
    where overdue_on is not null and (left_on is null or overdue_on < left_on)
    group by city, event_type, owner_agency, overdue_on
    union all
    select
        city,
        event_type,
        owner_agency,
        reopened_on as date_on,
        0 as opened,
        0 as closed,
        0 as ended_untimed,
        0 as target_change,
        0 as overdue_change,
        count(*) as reopened,
        0 as pause_change
    from pauses
    group by city, event_type, owner_agency, reopened_on
    union all
    select
        city,
        event_type,
        owner_agency,
        paused_on as date_on,
        0 as opened,
        0 as closed,
        0 as ended_untimed,
        0 as target_change,
        0 as overdue_change,
        0 as reopened,
        count(*) as pause_change
    from pauses
    where paused_on < pause_ends_on
    group by city, event_type, owner_agency, paused_on
    union all
    select
        city,
        event_type,
        owner_agency,
        pause_ends_on as date_on,
        0 as opened,
        0 as closed,
        0 as ended_untimed,
        0 as target_change,
        0 as overdue_change,
        0 as reopened,
        -count(*) as pause_change
    from pauses
    where paused_on < pause_ends_on
    group by city, event_type, owner_agency, pause_ends_on
),

changes as (
    select
        city,
        event_type,
        owner_agency,
        date_on,
        sum(opened) as opened,
        sum(closed) as closed,
        sum(ended_untimed) as ended_untimed,
        sum(target_change) as target_change,
        sum(overdue_change) as overdue_change,
        sum(reopened) as reopened,
        sum(pause_change) as pause_change
    from flows
    group by city, event_type, owner_agency, date_on
),

queues as (
    select
        stays.city,
        stays.event_type,
        stays.owner_agency,
        min(stays.event_on) as first_on,
        max(stays.last_on) as last_on,
        bool_or(stays.has_target) as has_targets
    from stays
    group by stays.city, stays.event_type, stays.owner_agency
),

days as (
    select
        city,
        event_type,
        owner_agency,
        has_targets,
        cast({{ day_series('first_on', 'last_on') }} as date) as date_on
    from queues
),

final as (
    select
        days.city,
        days.event_type,
        days.owner_agency,
        days.date_on,
        cast(coalesce(changes.opened, 0) as bigint) as opened,
        cast(coalesce(changes.closed, 0) as bigint) as closed,
        cast(coalesce(changes.ended_untimed, 0) as bigint) as ended_untimed,
        cast(
            sum(coalesce(changes.opened, 0) - coalesce(changes.closed, 0) - coalesce(changes.ended_untimed, 0)) over queue
            as bigint
        ) as open_at_end,
        case when days.has_targets then cast(sum(coalesce(changes.target_change, 0)) over queue as bigint) end
            as open_with_target_at_end,
        case when days.has_targets then cast(sum(coalesce(changes.overdue_change, 0)) over queue as bigint) end
            as overdue_at_end,
        case when watched_types.city is not null then cast(coalesce(changes.reopened, 0) as bigint) end as reopened,
        case
            when watched_types.city is not null
                then cast(sum(coalesce(changes.pause_change, 0)) over queue as bigint)
        end as closed_meanwhile_at_end,
        spans.as_of_at
    from days
    inner join spans on days.city = spans.city and days.event_type = spans.event_type
    left join changes
        on days.city = changes.city
        and days.event_type = changes.event_type
        and days.owner_agency = changes.owner_agency
        and days.date_on = changes.date_on
    left join watched_types on days.city = watched_types.city and days.event_type = watched_types.event_type
    window queue as (partition by days.city, days.event_type, days.owner_agency order by days.date_on)
)

select * from final
