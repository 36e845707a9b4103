select
    question_id,
    title,
    signal_type,
    nullif(signal_subtype, '') as signal_subtype,
    coalesce(cast(signal_cluster_size as integer), 1) as signal_cluster_size,
    outcome_type,
    cast(radius_m as double) as radius_m,
    cast(window_days as integer) as window_days,
    cast(is_negative_control as boolean) as is_negative_control,
    coalesce(cast(splits_by_hour as boolean), false) as splits_by_hour,
    expected_sign,
    hypothesis,
    mechanism,
    source
from {{ ref('correlation_questions') }}
