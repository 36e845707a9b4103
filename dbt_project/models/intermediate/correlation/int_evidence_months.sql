{%- set built = built_evidence() %}
-- What the sums of a pair in a month rest on, as one text each for the block sums and the lag curves: the records of
-- signal and outcome on the days that can reach the month, how the pair is asked, and the outcome's period as far as it
-- cuts the month's windows. Where it differs from what the last build rested on, the month is summed again; a late record
-- so touches its month and the next within two windows, and nothing else.
with days as (

    select
        city, event_type, day, sum(n_event) as n_event, {{ rows_fingerprint_of('fingerprint') }} as fingerprint
    from {{ ref('int_evidence_cell_days') }}
    group by city, event_type, day

),

type_months as (

    select city, event_type, {{ month_of_day('day') }} as month, sum(n_event) as n_event
    from days
    group by city, event_type, {{ month_of_day('day') }}

),

pairs as (

    select * from {{ ref('int_correlation_pairs') }}

),

months as (

    select
        pairs.*,
        type_months.month,
        {{ day_number('type_months.month') }} as month_first,
        {{ day_number(next_month('type_months.month')) }} - 1 as month_last,
        -- Of the 65,536 values that draw the sample of the scan.
        case
            when pairs.is_scan then cast(least(65536, ceil(65536.0 * {{ scan_anchors_a_month() }} / type_months.n_event)) as integer)
            else 65536
        end as sample_below,
        -- Exposures reach back over two windows and a week, their first reports over an episode, clusters over more.
        2 * pairs.window_days + 7 + {{ episode_days() }}
            + case when pairs.cluster_size > 1 then {{ cluster_days() + cluster_days() }} else 0 end as signal_reach
    from pairs
    inner join type_months on pairs.city = type_months.city and pairs.signal_type = type_months.event_type
    where {{ day_number(next_month('type_months.month')) }} > pairs.first_day
        and {{ day_number('type_months.month') }} <= pairs.last_day

),

-- Many pairs ask for the same days of the same type.
reaches as (

    select city, signal_type as event_type, month, month_first - signal_reach as first_day, month_last as last_day
    from months
    union
    select
        city, outcome_type as event_type, month, month_first - 2 * window_days - 8 as first_day,
        month_last + window_days as last_day
    from months
    union
    select
        city, outcome_type as event_type, month, month_first - {{ lag_reach() }} as first_day,
        month_last + {{ lag_reach() }} as last_day
    from months
    where not is_scan

),

marks as (

    select
        reaches.city, reaches.event_type, reaches.first_day, reaches.last_day,
        coalesce({{ rows_fingerprint_of('days.fingerprint') }}, 0) as mark
    from reaches
    left join days
        on reaches.city = days.city
        and reaches.event_type = days.event_type
        and days.day between reaches.first_day and reaches.last_day
    group by reaches.city, reaches.event_type, reaches.first_day, reaches.last_day

),

signed as (

    select
        months.city,
        months.pair_key,
        months.pair_id,
        months.month,
        months.sample_below,
        md5(concat_ws(
            '|', months.signal_key, months.outcome_type, months.radius_m, months.window_days, months.control_level,
            months.splits_by_hour, months.sample_below, signals.mark, outcomes.mark,
            greatest(months.first_day, months.month_first - 2 * months.window_days - 8),
            least(months.last_day, months.month_last + months.window_days)
        )) as signature,
        md5(concat_ws(
            '|', months.signal_key, months.outcome_type, months.radius_m, months.control_level, signals.mark, lags.mark,
            greatest(months.first_day, months.month_first - {{ lag_reach() }}),
            least(months.last_day, months.month_last + {{ lag_reach() }})
        )) as lag_signature,
        months.is_scan
    from months
    inner join marks as signals
        on months.city = signals.city
        and months.signal_type = signals.event_type
        and months.month_first - months.signal_reach = signals.first_day
        and months.month_last = signals.last_day
    inner join marks as outcomes
        on months.city = outcomes.city
        and months.outcome_type = outcomes.event_type
        and months.month_first - 2 * months.window_days - 8 = outcomes.first_day
        and months.month_last + months.window_days = outcomes.last_day
    left join marks as lags
        on months.city = lags.city
        and months.outcome_type = lags.event_type
        and months.month_first - {{ lag_reach() }} = lags.first_day
        and months.month_last + {{ lag_reach() }} = lags.last_day

),

built as (

    {% if built is not none -%}
    select city, pair_key, month, signature, lag_signature from {{ built }}
    {%- else -%}
    select city, pair_key, month, signature, lag_signature from signed where false
    {%- endif %}

)

select
    coalesce(signed.city, built.city) as city,
    coalesce(signed.pair_key, built.pair_key) as pair_key,
    signed.pair_id,
    coalesce(signed.month, built.month) as month,
    signed.sample_below,
    signed.signature,
    signed.lag_signature,
    signed.pair_id is not null and signed.signature is distinct from built.signature as is_new,
    signed.pair_id is not null and not signed.is_scan
        and signed.lag_signature is distinct from built.lag_signature as is_lag_new,
    signed.pair_id is null as is_gone
from signed
full outer join built
    on signed.city = built.city
    and signed.pair_key = built.pair_key
    and signed.month = built.month
