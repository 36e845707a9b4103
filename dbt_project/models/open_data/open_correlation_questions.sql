-- A table and not a view, because the seed's schema is private. The seed has the name that the extract should have.
{{ config(materialized='table', alias='correlation_questions') }}
with questions as (
    select * from {{ ref('correlation_questions') }}
)

select
    questions.question_id,
    questions.title,
    questions.signal_type,
    questions.signal_subtype,
    questions.signal_cluster_size,
    questions.outcome_type,
    questions.radius_m,
    questions.window_days,
    questions.is_negative_control,
    questions.splits_by_hour,
    questions.expected_sign,
    questions.hypothesis,
    questions.mechanism,
    questions.source
from questions
