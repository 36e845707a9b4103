-- The days of each type that this build's sums look at, as signals and as outcomes. In a first build they are all days.
with new_months as (

    select
        pairs.*,
        months.month,
        months.is_new,
        months.is_lag_new,
        {{ day_number('months.month') }} as month_first,
        {{ day_number(next_month('months.month')) }} - 1 as month_last
    from {{ ref('int_evidence_months') }} as months
    inner join {{ ref('int_correlation_pairs') }} as pairs on months.pair_id = pairs.pair_id
    where months.is_new or months.is_lag_new

),

spans as (

    select distinct
        city, 'signal' as role, signal_type as event_type,
        month_first - 2 * window_days - 7 - {{ episode_days() }}
            - case when cluster_size > 1 then {{ cluster_days() + cluster_days() }} else 0 end as first_day,
        month_last as last_day
    from new_months
    union
    select distinct
        city, 'outcome' as role, outcome_type as event_type,
        month_first - case when is_lag_new then {{ lag_reach() }} else 2 * window_days + 8 end as first_day,
        month_last + case when is_lag_new then {{ lag_reach() }} else window_days end as last_day
    from new_months

),

days as (

    select city, role, event_type, {{ each_integer('first_day', 'last_day') }} as day
    from spans

)

select distinct city, role, event_type, cast(day as integer) as day
from days
