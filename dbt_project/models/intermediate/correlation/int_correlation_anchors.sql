-- Episodes as anchors of a question: which variants' windows the outcome's observed period covers, and how many
-- outcomes the control area holds in each window (the disc is taken off where the block sums are made).
with episodes as (

    select
        questions.question_id,
        questions.signal_key,
        questions.outcome_type,
        questions.radius_m,
        questions.window_days,
        row_number() over (order by questions.question_id, episodes.episode_id) as anchor_id,
        episodes.episode_id,
        episodes.city,
        episodes.event_key,
        episodes.day,
        cast(date_trunc('month', episodes.event_on) as date) as month,
        episodes.x_m,
        episodes.y_m,
        episodes.h3_7,
        episodes.day - questions.window_days >= periods.first_day
            and episodes.day + questions.window_days <= periods.last_day as is_primary,
        episodes.day - questions.window_days - 7 >= periods.first_day
            and episodes.day + questions.window_days <= periods.last_day as is_guarded,
        episodes.day - 2 * questions.window_days >= periods.first_day
            and episodes.day - 1 <= periods.last_day as is_placebo
    from {{ ref('int_signal_episodes') }} as episodes
    inner join {{ ref('int_correlation_questions') }} as questions
        on episodes.signal_key = questions.signal_key
    inner join {{ ref('int_outcome_periods') }} as periods
        on episodes.city = periods.city
        and questions.outcome_type = periods.outcome_type

),

covered as (

    select * from episodes where is_primary or is_placebo

),

levels as (

    {% for level, cell in [('h3_7', 'h3_7'), ('h3_6', h3_6_of('h3_7')), ('city', '0')] -%}
    select question_id, city, outcome_type, day, window_days, '{{ level }}' as control_level, {{ cell }} as control_cell
    from covered
    where is_primary
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

reference_counts as (

    select
        levels.question_id,
        levels.city,
        levels.control_level,
        avg(coalesce(until.n_outcomes_to_date, 0) - coalesce(start.n_outcomes_to_date, 0)) as mean_reference_count
    from levels
    left join {{ ref('int_outcome_running_totals') }} as until
        on levels.city = until.city
        and levels.outcome_type = until.outcome_type
        and levels.control_level = until.control_level
        and levels.control_cell = until.control_cell
        and levels.day - 1 = until.day
    left join {{ ref('int_outcome_running_totals') }} as start
        on levels.city = start.city
        and levels.outcome_type = start.outcome_type
        and levels.control_level = start.control_level
        and levels.control_cell = start.control_cell
        and levels.day - levels.window_days - 1 = start.day
    group by levels.question_id, levels.city, levels.control_level

),

-- The finest level whose reference window holds ten outcomes on average; sparser ones make the ratio noise.
control_levels as (

    select
        question_id,
        city,
        case
            when max(case when control_level = 'h3_7' then mean_reference_count end) >= 10 then 'h3_7'
            when max(case when control_level = 'h3_6' then mean_reference_count end) >= 10 then 'h3_6'
            else 'city'
        end as control_level
    from reference_counts
    group by question_id, city

),

controlled as (

    select
        covered.*,
        control_levels.control_level,
        case control_levels.control_level
            when 'h3_7' then covered.h3_7
            when 'h3_6' then {{ h3_6_of('covered.h3_7') }}
            else 0
        end as control_cell
    from covered
    inner join control_levels
        on covered.question_id = control_levels.question_id
        and covered.city = control_levels.city

)

select
    controlled.*
    {%- for name, window in correlation_windows().items() %},
    coalesce({{ name }}_end.n_outcomes_to_date, 0)
        - coalesce({{ name }}_start.n_outcomes_to_date, 0) as control_{{ name }}
    {%- endfor %}
from controlled
{%- for name, window in correlation_windows().items() %}
{%- for edge, offset in [('start', window[0] ~ ' - 1'), ('end', window[1])] %}
left join {{ ref('int_outcome_running_totals') }} as {{ name }}_{{ edge }}
    on controlled.city = {{ name }}_{{ edge }}.city
    and controlled.outcome_type = {{ name }}_{{ edge }}.outcome_type
    and controlled.control_level = {{ name }}_{{ edge }}.control_level
    and controlled.control_cell = {{ name }}_{{ edge }}.control_cell
    and controlled.day + ({{ offset }}) = {{ name }}_{{ edge }}.day
{%- endfor %}
{%- endfor %}
