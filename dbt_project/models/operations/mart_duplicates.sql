with reports as (
    select
        event_key,
        city,
        event_type,
        cast(date_trunc('month', event_local) as date) as month_on,
        event_at,
        is_canonical,
        canonical_event_key,
        case when not is_canonical then duplicate_method end as duplicate_method
    from {{ ref('fct_events') }}
    where kind = 'service_request' and not is_noise and not is_excluded and not is_deleted
),

counted as (
    select
        city,
        event_type,
        month_on,
        count(*) as reports,
        count(*) filter (where is_canonical) as cases,
        count(*) filter (where duplicate_method = 'source') as duplicates_source,
        count(*) filter (where duplicate_method = 'near') as duplicates_near,
        count(*) filter (where duplicate_method = 'same_case_in_parts') as duplicates_same_case_in_parts,
        count(*) filter (where duplicate_method = 'live_tail') as duplicates_live_tail,
        count(*) filter (where duplicate_method is not null and canonical_event_key is null) as n_without_case
    from reports
    group by city, event_type, month_on
),

-- Copies of a case in another part or feed are no further reports of it.
clusters as (
    select
        canonical_event_key,
        count(*) as n_reports,
        {{ seconds_between('min(event_at)', 'max(event_at)') }} / 3600.0 as first_to_last_hours
    from reports
    where canonical_event_key is not null and coalesce(duplicate_method, 'source') in ('source', 'near')
    group by canonical_event_key
),

sizes as (
    select
        reports.city,
        reports.event_type,
        reports.month_on,
        max(clusters.n_reports) as largest_cluster,
        count(*) filter (where clusters.n_reports > 1) as n_clusters,
        cast(median(case when clusters.n_reports > 1 then clusters.first_to_last_hours end) as double)
            as median_hours_first_to_last,
        cast(max(case when clusters.n_reports > 1 then clusters.first_to_last_hours end) as double)
            as longest_hours_first_to_last
    from reports
    inner join clusters on reports.event_key = clusters.canonical_event_key
    where reports.is_canonical
    group by reports.city, reports.event_type, reports.month_on
),

final as (
    select
        counted.city,
        counted.event_type,
        counted.month_on,
        counted.reports,
        counted.cases,
        counted.duplicates_source,
        counted.duplicates_near,
        counted.duplicates_same_case_in_parts,
        counted.duplicates_live_tail,
        counted.n_without_case,
        (counted.duplicates_source + counted.duplicates_near)
        / nullif(cast(counted.cases + counted.duplicates_source + counted.duplicates_near as double), 0)
            as duplicate_share,
        coalesce(sizes.n_clusters, 0) as n_clusters,
        sizes.largest_cluster,
        sizes.median_hours_first_to_last,
        sizes.longest_hours_first_to_last
    from counted
    left join sizes
        on counted.city = sizes.city
        and counted.event_type = sizes.event_type
        and counted.month_on = sizes.month_on
)

select * from final
