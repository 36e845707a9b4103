{#- What the sentence is made of: labels of the vocabulary, dates, counts, and the street and area that an inventory and
    a boundary name. No address, no note, nobody. -#}
with events as (
    select * from {{ ref('fct_events') }}
),

event_types as (
    select event_type, label from {{ ref('dim_event_type') }}
),

feeds as (
    select city, feed, as_of_at, tells_closure from {{ ref('dim_feed') }}
),

links as (
    select * from {{ ref('bridge_event_link') }}
),

assets as (
    select * from {{ ref('dim_asset') }}
),

-- The copy of a case that another part or feed tells better is the same report, and no story of its own.
requests as (
    select
        event_key,
        city,
        feed,
        source_id,
        event_type,
        event_on,
        is_deleted or is_withdrawn as is_withheld,
        coalesce(canonical_event_key, event_key) as case_key,
        is_duplicate and canonical_event_key is null as is_case_untold,
        x_m is not null as is_located
    from events
    where
        kind = 'service_request'
        and not is_noise
        and coalesce(duplicate_method not in ('live_tail', 'same_case_in_parts'), true)
),

joined as (
    select
        requests.case_key,
        count(*) as n_report,
        count(case when links.method = 'inferred' then 1 end) as n_inferred
    from requests
    left join links
        on requests.event_key = links.from_event_key
        and requests.case_key = links.to_event_key
        and links.link_type = 'duplicate_of'
    where not requests.is_withheld
    group by requests.case_key
),

reported_again as (
    select to_event_key as case_key, count(distinct from_event_key) as n_report_again
    from links
    where link_type = 'reported_again'
    group by to_event_key
),

feeds_with_closings as (
    select distinct city, feed from events where closed_at is not null
),

cases as (
    select
        events.event_key as case_key,
        events.source_id as case_id,
        -- Without a status and in a feed without closing times, nobody knows.
        case when events.status <> 'unknown' or closings.feed is not null then events.is_open end as is_open,
        -- A date that a case still bears while it is open is left from an earlier closing; one after the delivery is wrong.
        case when not events.is_open and events.closed_at <= feeds.as_of_at then cast(events.closed_local as date) end
            as closed_on,
        events.status,
        statuses.meaning as status_meaning
    from events
    inner join feeds on events.city = feeds.city and events.feed = feeds.feed
    left join feeds_with_closings as closings on events.city = closings.city and events.feed = closings.feed
    left join {{ ref('statuses') }} as statuses on events.status = statuses.status
    where events.kind = 'service_request'
),

-- Work that names a duplicate answers its case.
works as (
    select
        requests.case_key,
        work.source_id as work_order_id,
        event_types.label as work_label,
        work.event_on as work_begun_on,
        case when not work.is_open then cast(work.closed_local as date) end as work_finished_on,
        links.method as work_method,
        count(*) over (partition by requests.case_key) as n_work_order,
        -- What a source says comes before what lies near; then the work that was done first.
        row_number() over (
            partition by requests.case_key
            order by
                case when links.method = 'source' then 0 else 1 end,
                case when not work.is_open then work.closed_at end nulls last,
                work.event_on,
                links.to_event_key,
                links.from_event_key
        ) as preference
    from links
    inner join requests on links.from_event_key = requests.event_key
    inner join events as work on links.to_event_key = work.event_key
    inner join event_types on work.event_type = event_types.event_type
    where links.link_type = 'repaired_by'
),

-- For which types of request a city tells work or failures at all: where it tells none, none can be found.
works_told as (
    select distinct events.city, repair_types.request_type
    from events
    inner join {{ ref('repair_types') }} as repair_types on events.event_type = repair_types.work_order_type
),

failures_told as (
    select distinct events.city, failure_types.request_type
    from events
    inner join {{ ref('failure_types') }} as failure_types on events.event_type = failure_types.failure_type
    inner join (select distinct city, asset_type from assets) as inventories
        on events.city = inventories.city and failure_types.asset_type = inventories.asset_type
),

failures as (
    select
        failures.case_key,
        assets.asset_id as failed_asset_id,
        replace(failures.asset_type, '_', ' ') as failed_asset_label,
        event_types.label as failure_label,
        failures.failed_on,
        failures.lag_days as failure_lag_days,
        failures.n_failure,
        failures.repaired_on as failure_repaired_on
    from {{ ref('int_case_failures') }} as failures
    inner join assets on failures.asset_key = assets.asset_key
    inner join event_types on failures.failure_type = event_types.event_type
),

-- What the report lies at, by inventory; items that were put in place later are not told of earlier reports.
at_items as (
    select
        places.event_key,
        max(case when places.asset_type = 'road_segment' then assets.asset_name end) as street_name,
        max(case when places.asset_type = 'road_segment' then assets.asset_id end) as segment_id,
        max(case when places.asset_type = 'road_segment' and assets.installed_on <= requests.event_on
            then {{ days_between('assets.installed_on', 'requests.event_on') }} / 365.25 end) as pavement_age_years,
        max(case when places.asset_type = 'water_main' then assets.asset_id end) as main_id,
        max(case when places.asset_type = 'water_main' then assets.material end) as main_material,
        max(case when places.asset_type = 'water_main' and assets.installed_on <= requests.event_on
            then {{ days_between('assets.installed_on', 'requests.event_on') }} / 365.25 end) as main_age_years,
        max(case when places.asset_type = 'school_route' then 1 else 0 end) = 1 as is_on_school_route,
        max(case when places.asset_type = 'bus_route' then 1 else 0 end) = 1 as is_on_bus_route
    from {{ ref('bridge_event_asset') }} as places
    inner join requests on places.event_key = requests.event_key
    inner join assets on places.asset_key = assets.asset_key
    group by places.event_key
),

inventories as (
    select
        city,
        max(case when asset_type = 'school_route' then 1 else 0 end) = 1 as tells_school_routes,
        max(case when asset_type = 'bus_route' then 1 else 0 end) = 1 as tells_bus_routes
    from assets
    group by city
),

-- The smallest area around the report that has a name.
at_areas as (
    select
        places.event_key,
        areas.area_name,
        row_number() over (
            partition by places.event_key order by areas.area_km2, areas.area_type, areas.area_key
        ) as smallness
    from {{ ref('bridge_event_area') }} as places
    inner join requests on places.event_key = requests.event_key
    inner join {{ ref('dim_area') }} as areas on places.area_key = areas.area_key
    where areas.area_name is not null
),

steps as (
    select
        event_key,
        count(*) as n_step,
        {{ joined_texts("coalesce(cast(date_trunc('minute', status_local) as varchar), 'undated') || ' ' || status || ' (' || origin || ')'", '; ') }} as steps
    from {{ ref('fct_status_history') }}
    where event_key in (select event_key from requests)
    group by event_key
),

told as (
    select
        requests.event_key,
        requests.city,
        requests.feed,
        requests.source_id as service_request_id,
        requests.event_type,
        event_types.label,
        requests.event_on as reported_on,
        not requests.is_withheld as is_publishable,
        requests.is_case_untold,
        requests.case_key,
        cases.case_id,
        requests.event_key = requests.case_key as is_case,
        case when requests.event_key = requests.case_key then 'It' else 'The case it joined' end as case_subject,
        joined.n_report - 1 as n_other_report,
        joined.n_inferred as n_inferred_report,
        coalesce(reported_again.n_report_again, 0) as n_report_again,
        cases.is_open as is_case_open,
        cases.status as case_status,
        cases.status_meaning,
        cases.closed_on as case_closed_on,
        failures_told.city is not null as tells_failures,
        failures.failure_label,
        failures.failed_asset_id,
        failures.failed_asset_label,
        failures.failed_on,
        failures.failure_lag_days,
        coalesce(failures.n_failure, 0) as n_failure,
        failures.failure_repaired_on,
        works_told.city is not null as tells_work,
        coalesce(works.n_work_order, 0) as n_work_order,
        works.work_order_id,
        works.work_label,
        works.work_method,
        works.work_begun_on,
        works.work_finished_on,
        at_items.street_name,
        at_areas.area_name,
        at_items.segment_id,
        at_items.pavement_age_years,
        at_items.main_id,
        at_items.main_material,
        at_items.main_age_years,
        case when requests.is_located and inventories.tells_school_routes then coalesce(at_items.is_on_school_route, false) end
            as is_on_school_route,
        case when requests.is_located and inventories.tells_bus_routes then coalesce(at_items.is_on_bus_route, false) end
            as is_on_bus_route,
        coalesce(steps.n_step, 0) as n_step,
        steps.steps,
        feeds.as_of_at
    from requests
    inner join event_types on requests.event_type = event_types.event_type
    inner join feeds on requests.city = feeds.city and requests.feed = feeds.feed
    inner join cases on requests.case_key = cases.case_key
    left join joined on requests.case_key = joined.case_key
    left join reported_again on requests.case_key = reported_again.case_key
    left join failures_told on requests.city = failures_told.city and requests.event_type = failures_told.request_type
    left join failures on requests.case_key = failures.case_key
    left join works_told on requests.city = works_told.city and requests.event_type = works_told.request_type
    left join works on requests.case_key = works.case_key and works.preference = 1
    left join at_items on requests.event_key = at_items.event_key
    left join at_areas on requests.event_key = at_areas.event_key and at_areas.smallness = 1
    left join inventories on requests.city = inventories.city
    left join steps on requests.event_key = steps.event_key
),

-- One part of the sentence for each thing there is to say, with words of its own for what the source does not tell.
phrases as (
    select
        event_key,
        'Reported on ' || cast(reported_on as varchar)
        || coalesce(' on ' || street_name, '') || coalesce(' in ' || area_name, '')
        || case when street_name is null and area_name is null then ', place not told by the source' else '' end
        || ': ' || label || '.' as of_report,
        case
            when is_case_untold then ' The source calls it a duplicate and does not tell of what.'
            when n_other_report = 0 then ' It joined no other report.'
            else ' It joined ' || cast(n_other_report as varchar)
                || case when n_other_report = 1 then ' other report' else ' other reports' end || ' of one case'
                || case
                    when n_inferred_report = 0 then ''
                    else ' (' || cast(n_inferred_report as varchar) || ' matched by place and time only)'
                end || '.'
        end as of_others,
        case
            when failed_on is not null
                then ' At the same ' || failed_asset_label || ', on ' || cast(failed_on as varchar) || ' ('
                    || case
                        when failure_lag_days = 0 then 'the day of the first report'
                        else cast(abs(failure_lag_days) as varchar)
                            || case when abs(failure_lag_days) = 1 then ' day ' else ' days ' end
                            || case when failure_lag_days < 0 then 'before' else 'after' end || ' the first report'
                    end
                    || '): ' || failure_label || '; '
                    || coalesce(
                        'it was repaired on ' || cast(failure_repaired_on as varchar),
                        'its repair is not told by the source'
                    ) || '.'
            else ''
        end as of_failure,
        case
            when n_work_order > 0
                then ' Work that answers it: ' || work_label || ', begun on ' || cast(work_begun_on as varchar) || ', '
                    || coalesce('finished on ' || cast(work_finished_on as varchar), 'its end is not told by the source')
                    || case when work_method = 'inferred' then ' (matched by place and time)' else '' end || '.'
            when tells_work then ' No work order is linked to it.'
            else ' Work on such requests is not told by the source.'
        end as of_work,
        case
            when is_case_open is null then ' Whether ' || lower(case_subject) || ' is closed is not told by the source.'
            when is_case_open then ' ' || case_subject || ' is open as of ' || cast(cast(as_of_at as date) as varchar) || '.'
            else ' ' || case_subject || ' was closed' || coalesce(' on ' || cast(case_closed_on as varchar), ', the day is not told by the source')
                || coalesce(': ' || status_meaning, '') || '.'
        end as of_closing,
        case
            when n_report_again > 0
                then ' ' || case_subject || ' was reported again after the closing ' || cast(n_report_again as varchar)
                    || case when n_report_again = 1 then ' time.' else ' times.' end
            else ''
        end as of_repeat
    from told
)

select
    told.event_key,
    told.city,
    told.feed,
    told.service_request_id,
    told.event_type,
    told.label,
    told.reported_on,
    told.street_name,
    told.area_name,
    told.is_publishable,
    told.case_key,
    told.case_id,
    told.is_case,
    cast(told.n_other_report as integer) as n_other_report,
    cast(told.n_inferred_report as integer) as n_inferred_report,
    cast(told.n_report_again as integer) as n_report_again,
    told.tells_failures,
    cast(case when told.tells_failures then told.n_failure end as integer) as n_failure,
    told.failure_label,
    told.failed_asset_id,
    told.failed_on,
    told.failure_lag_days,
    told.failure_repaired_on,
    told.tells_work,
    cast(case when told.tells_work or told.n_work_order > 0 then told.n_work_order end as integer) as n_work_order,
    told.work_order_id,
    told.work_label,
    told.work_method,
    told.work_begun_on,
    told.work_finished_on,
    told.is_case_open,
    told.case_status,
    told.case_closed_on,
    told.segment_id,
    cast(told.pavement_age_years as double) as pavement_age_years,
    told.main_id,
    told.main_material,
    cast(told.main_age_years as double) as main_age_years,
    told.is_on_school_route,
    told.is_on_bus_route,
    cast(told.n_step as integer) as n_step,
    told.steps,
    case
        when told.is_publishable
            then phrases.of_report || phrases.of_others || phrases.of_failure || phrases.of_work || phrases.of_closing
                || phrases.of_repeat
    end as story,
    told.as_of_at
from told
inner join phrases on told.event_key = phrases.event_key
