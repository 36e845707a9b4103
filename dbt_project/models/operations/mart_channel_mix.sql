with cases as (
    select
        event_key,
        city,
        event_type,
        cast(date_trunc('month', event_on) as date) as month_on,
        is_open,
        is_timed_closing,
        duration_days,
        as_of_at
    from {{ ref('int_cases') }}
    where kind = 'service_request'
),

requests as (
    select event_key, {{ normalised_text('channel') }} as source_channel
    from {{ ref('fct_service_requests') }}
),

channels as (
    select source_channel, channel from {{ ref('channels') }}
),

told as (
    select
        cases.city,
        cases.event_type,
        cases.month_on,
        case when requests.source_channel is not null then coalesce(channels.channel, 'other') end as channel,
        requests.source_channel is not null and channels.channel is null as is_unmapped,
        cases.is_open,
        cases.is_timed_closing,
        cases.duration_days,
        cases.as_of_at
    from cases
    left join requests on cases.event_key = requests.event_key
    left join channels on requests.source_channel = channels.source_channel
),

cohorts as (
    select
        city,
        event_type,
        month_on,
        channel,
        count(*) as cases,
        count(case when is_unmapped then 1 end) as n_unmapped,
        count(case when not is_open then 1 end) as n_closed,
        count(case when is_timed_closing then 1 end) as n_timed_closings,
        max(as_of_at) as as_of_at
    from told
    group by city, event_type, month_on, channel
),

months as (
    select city, event_type, month_on, cast(sum(cases) as double) as cases
    from cohorts
    group by city, event_type, month_on
),

spans as (
    select city, event_type, month_on, channel, duration_days, is_timed_closing
    from told
    where is_timed_closing or is_open
),

estimates as (
    {{ kaplan_meier(
        'spans', ['city', 'event_type', 'month_on', 'channel'], 'duration_days', 'is_timed_closing',
        {'km_median_days_to_close': 0.5}
    ) }}
),

closings as (
    select
        city,
        event_type,
        month_on,
        channel,
        duration_days,
        row_number() over (partition by city, event_type, month_on, channel order by duration_days) as place,
        count(*) over (partition by city, event_type, month_on, channel) as n_closings
    from spans
    where is_timed_closing
),

closed_only as (
    select city, event_type, month_on, channel, min(duration_days) as median_days_to_close
    from closings
    where 2 * place >= n_closings
    group by city, event_type, month_on, channel
)

select
    cohorts.city,
    cohorts.event_type,
    cohorts.month_on,
    cohorts.channel,
    cohorts.cases,
    cohorts.cases / months.cases as channel_share,
    cohorts.n_unmapped,
    cohorts.n_closed,
    cohorts.n_closed / cast(cohorts.cases as double) as closed_share,
    cohorts.n_timed_closings,
    estimates.km_median_days_to_close,
    closed_only.median_days_to_close as closed_only_median_days_to_close,
    cohorts.as_of_at
from cohorts
inner join months
    on cohorts.city = months.city and cohorts.event_type = months.event_type and cohorts.month_on = months.month_on
left join estimates
    on cohorts.city = estimates.city
    and cohorts.event_type = estimates.event_type
    and cohorts.month_on = estimates.month_on
    and cohorts.channel is not distinct from estimates.channel
left join closed_only
    on cohorts.city = closed_only.city
    and cohorts.event_type = closed_only.event_type
    and cohorts.month_on = closed_only.month_on
    and cohorts.channel is not distinct from closed_only.channel
