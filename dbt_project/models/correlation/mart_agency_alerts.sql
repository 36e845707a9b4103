-- A revision that was kept twice, by two processes at once, is one.
with revisions as (
    select
        *,
        row_number() over (partition by alert_id order by revision desc) as recency,
        row_number() over (
            partition by alert_id order by case when message = 'Cancel' then 1 else 0 end, revision desc
        ) as content_recency
    from (
        select
            *,
            row_number() over (partition by alert_id, revision order by alerted_at, context) as copy_number
        from {{ source('alerts', 'revisions') }}
    ) as kept
    where copy_number = 1
),

acknowledged as (
    select alert_id, min(acknowledged_at) as acknowledged_at
    from {{ source('alerts', 'acknowledged') }}
    group by alert_id
),

-- An alert runs out by what is known, not by the clock of whoever builds: a second build changes no row.
moments as (
    select city, as_of_at as known_at from {{ ref('dim_feed') }}
    union all
    select city, alerted_at from revisions
    union all
    select revisions.city, acknowledged.acknowledged_at
    from acknowledged
    inner join revisions on acknowledged.alert_id = revisions.alert_id and revisions.recency = 1
),

known as (
    select city, max(known_at) as as_of_at from moments group by city
),

alerts as (
    select
        newest.alert_id,
        newest.city,
        newest.rule,
        newest.agency,
        first_told.event_key,
        first_told.event_type,
        newest.severity,
        content.headline,
        newest.report_count,
        newest.revision as revision_count,
        newest.message as last_message,
        content.context,
        content.lon,
        content.lat,
        content.radius_m,
        first_told.reported_at,
        first_told.available_at,
        first_told.alerted_at,
        newest.alerted_at as updated_at,
        acknowledged.acknowledged_at,
        case when newest.message = 'Cancel' then newest.alerted_at end as cancelled_at,
        case when newest.message = 'Cancel' then {{ json_text('newest.context', 'ended[0].why') }} end
            as cancelled_because,
        newest.expires_at,
        case
            when newest.message <> 'Cancel' and newest.expires_at <= known.as_of_at then newest.expires_at
        end as expired_at,
        known.as_of_at,
        newest.is_simulated
    from revisions as newest
    inner join revisions as first_told
        on newest.alert_id = first_told.alert_id and first_told.revision = 1
    inner join revisions as content
        on newest.alert_id = content.alert_id and content.content_recency = 1
    inner join known on newest.city = known.city
    left join acknowledged on newest.alert_id = acknowledged.alert_id
    where newest.recency = 1
)

select
    alert_id,
    city,
    rule,
    agency,
    case
        when cancelled_at is not null then 'cancelled'
        when expired_at is not null then 'expired'
        when acknowledged_at is not null then 'acknowledged'
        else 'open'
    end as status,
    event_key,
    event_type,
    severity,
    headline,
    report_count,
    revision_count,
    last_message,
    context,
    lon,
    lat,
    radius_m,
    reported_at,
    available_at,
    alerted_at,
    updated_at,
    acknowledged_at,
    cancelled_at,
    cancelled_because,
    expires_at,
    expired_at,
    as_of_at,
    cast({{ seconds_between('reported_at', 'alerted_at') }} as double) as report_to_alert_seconds,
    cast({{ seconds_between('available_at', 'alerted_at') }} as double) as available_to_alert_seconds,
    cast({{ seconds_between('alerted_at', 'acknowledged_at') }} as double) as alert_to_acknowledged_seconds,
    is_simulated
from alerts
