select
    question_id,
    title,
    signal_type,
    nullif(signal_subtype, '') as signal_subtype,
    {{ signal_key('signal_type', 'signal_subtype') }} as signal_key,
    outcome_type,
    cast(radius_m as double) as radius_m,
    cast(window_days as integer) as window_days,
    cast(is_negative_control as boolean) as is_negative_control,
    mechanism
from {{ ref('correlation_questions') }}
