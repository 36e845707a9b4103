-- An allow-list: what is not named here is not published. Counts are of a whole city; no place is named.
with answers as (
    select * from {{ ref('mart_correlations') }}
),

cities as (
    select * from {{ ref('dim_city') }}
)

select
    answers.city,
    {{ city_label('cities') }} as city_name,
    cities.is_simulated,
    answers.question_id,
    answers.title,
    answers.signal_type,
    answers.signal_subtype,
    answers.signal_cluster_size,
    answers.outcome_type,
    answers.is_negative_control,
    answers.expected_sign,
    answers.hypothesis,
    answers.mechanism,
    answers.source,
    answers.band,
    answers.from_m,
    answers.to_m,
    answers.radius_m,
    answers.window_days,
    answers.verdict,
    answers.reason,
    answers.estimator,
    answers.control_level,
    answers.n_anchor,
    answers.n_block,
    answers.d0,
    answers.d1,
    answers.mean_c0,
    answers.rr,
    answers.ci_low,
    answers.ci_high,
    answers.p_value,
    answers.p_adjusted,
    answers.n_tests,
    answers.df,
    answers.placebo_rr,
    answers.placebo_p,
    answers.guarded_rr,
    answers.guarded_ci_low,
    answers.guarded_ci_high,
    answers.isolated_rr,
    answers.first_half_rr,
    answers.second_half_rr,
    answers.case_crossover_rr,
    answers.naive_ratio,
    answers.raw_after_before_ratio,
    answers.extra_per_100_signals,
    answers.minimal_detectable_rr,
    answers.n_negative_controls,
    answers.n_negative_controls_positive
from answers
inner join cities on answers.city = cities.city
