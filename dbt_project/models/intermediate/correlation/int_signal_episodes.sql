-- First reports: a report is dropped when the same signal was reported within 50 m in the 14 days before. Repeats of one
-- fault would otherwise put its own earlier exposure into the reference window. A cluster's episode is the first report
-- that completes it. Only days that this build's sums look at.
with signals as (

    select distinct city, signal_id, signal_type, signal_subtype, cluster_size, radius_m * sign(cluster_size - 1) as cluster_m
    from {{ ref('int_correlation_pairs') }}

),

reports as (

    select
        signals.signal_id,
        signals.cluster_size,
        signals.cluster_m,
        events.city,
        events.event_key,
        {{ day_number('events.event_on') }} as day,
        cast(date_trunc('month', events.event_on) as date) as month,
        events.x_m,
        events.y_m,
        events.h3_7
    from {{ ref('fct_events') }} as events
    inner join signals
        on events.city = signals.city
        and events.event_type = signals.signal_type
        and (signals.signal_subtype is null or events.event_subtype = signals.signal_subtype)
    inner join {{ ref('int_evidence_reach') }} as reach
        on events.city = reach.city
        and events.event_type = reach.event_type
        and {{ day_number('events.event_on') }} = reach.day
    where reach.role = 'signal' and {{ is_evidence('events') }}

),

numbered as (

    select row_number() over (order by signal_id, event_key) as report_id, *
    from reports

),

repeats as (

    {{ earlier_neighbours('numbered', episode_m() | string, episode_days()) }}

),

firsts as (

    select numbered.*
    from numbered
    left join repeats on numbered.report_id = repeats.report_id
    where repeats.report_id is null

),

clustered as (

    select * from firsts where cluster_size > 1

),

near_firsts as (

    {{ earlier_neighbours('clustered', 'cluster_m', cluster_days()) }}

),

clusters as (

    select clustered.*
    from clustered
    inner join near_firsts on clustered.report_id = near_firsts.report_id
    where near_firsts.n_earlier >= clustered.cluster_size - 1

),

grown_clusters as (

    {{ earlier_neighbours('clusters', 'cluster_m', cluster_days()) }}

),

episodes as (

    select * from firsts where cluster_size = 1
    union all
    select clusters.*
    from clusters
    left join grown_clusters on clusters.report_id = grown_clusters.report_id
    where grown_clusters.report_id is null

)

select
    cast(episodes.report_id as integer) as episode_id,
    cast(episodes.signal_id as integer) as signal_id,
    episodes.city,
    episodes.event_key,
    episodes.day,
    episodes.month,
    episodes.x_m,
    episodes.y_m,
    episodes.h3_7,
    -- Keys are hashes, so their first digits draw a sample; a key that is none is in every sample.
    coalesce({{ hex_value('substr(episodes.event_key, 1, 4)') }}, 0) as sample_value
from episodes
