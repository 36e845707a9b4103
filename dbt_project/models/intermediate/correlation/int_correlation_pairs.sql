-- Every pair of a signal and an outcome that is put to a city: the questions of the catalogue whose types the city has,
-- and, for the scan, all pairs of types with enough cases. Ids are short names within one build: joins over pairs of
-- events are several times faster on integers.
with types as (

    select city, outcome_type as event_type, first_day, last_day, n_outcomes as n_event
    from {{ ref('int_outcome_periods') }}

),

catalogue as (

    select
        signals.city,
        questions.question_id as pair_key,
        false as is_scan,
        questions.signal_type,
        questions.signal_subtype,
        questions.signal_cluster_size as cluster_size,
        questions.outcome_type,
        questions.radius_m,
        questions.window_days,
        questions.splits_by_hour
    from {{ ref('int_correlation_questions') }} as questions
    inner join types as signals on questions.signal_type = signals.event_type
    inner join types as outcomes on questions.outcome_type = outcomes.event_type and signals.city = outcomes.city

),

{% if scan_min_events() is not none -%}
scanned as (

    select
        signals.city,
        'scan/' || signals.event_type || '/' || outcomes.event_type as pair_key,
        true as is_scan,
        signals.event_type as signal_type,
        cast(null as varchar) as signal_subtype,
        1 as cluster_size,
        outcomes.event_type as outcome_type,
        cast({{ scan_setting().radius_m }} as double) as radius_m,
        cast({{ scan_setting().window_days }} as integer) as window_days,
        false as splits_by_hour
    from types as signals
    inner join types as outcomes on signals.city = outcomes.city and signals.event_type <> outcomes.event_type
    where least(signals.n_event, outcomes.n_event) >= {{ scan_min_events() }}

),

{% endif -%}
asked as (

    select * from catalogue
    {%- if scan_min_events() is not none %}
    union all
    select * from scanned
    {%- endif %}

),

cells as (

    select days.city, days.event_type, days.h3_7, sum(days.n_event) as n_event
    from {{ ref('int_evidence_cell_days') }} as days
    inner join types on days.city = types.city and days.event_type = types.event_type
    where days.day between types.first_day and types.last_day
    group by days.city, days.event_type, days.h3_7

),

areas as (

    {% for level in ['h3_7', 'h3_6', 'city'] -%}
    select
        city, event_type, '{{ level }}' as control_level, {{ control_cell("'" ~ level ~ "'", 'h3_7') }} as control_cell,
        sum(n_event) as n_event
    from cells
    group by city, event_type, {{ control_cell("'" ~ level ~ "'", 'h3_7') }}
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

-- Outcomes that the control area of a signal holds in one window, on average over the signal's reports.
expected as (

    select
        asked.city,
        asked.pair_key,
        areas.control_level,
        sum(cells.n_event * areas.n_event) * asked.window_days
            / (min(outcomes.last_day) - min(outcomes.first_day) + 1) / min(signals.n_event) as n_outcome
    from asked
    inner join cells on asked.city = cells.city and asked.signal_type = cells.event_type
    inner join types as signals on asked.city = signals.city and asked.signal_type = signals.event_type
    inner join types as outcomes on asked.city = outcomes.city and asked.outcome_type = outcomes.event_type
    inner join areas
        on asked.city = areas.city
        and asked.outcome_type = areas.event_type
        and areas.control_cell = {{ control_cell('areas.control_level', 'cells.h3_7') }}
    group by asked.city, asked.pair_key, asked.window_days, areas.control_level

),

-- The finest level whose window holds ten outcomes on average; sparser ones make the ratio noise.
levels as (

    select
        city,
        pair_key,
        case
            when max(case when control_level = 'h3_7' then n_outcome end) >= 10 then 'h3_7'
            when max(case when control_level = 'h3_6' then n_outcome end) >= 10 then 'h3_6'
            else 'city'
        end as control_level
    from expected
    group by city, pair_key

),

named as (

    select
        asked.*,
        asked.signal_type || '/' || coalesce(asked.signal_subtype, '')
            || case
                when asked.cluster_size > 1
                    then '/' || cast(asked.cluster_size as varchar) || '@' || cast(asked.radius_m as varchar)
                else ''
            end as signal_key,
        levels.control_level,
        types.first_day,
        types.last_day
    from asked
    inner join types on asked.city = types.city and asked.outcome_type = types.event_type
    inner join levels on asked.city = levels.city and asked.pair_key = levels.pair_key

)

select
    row_number() over (order by city, pair_key) as pair_id,
    dense_rank() over (order by city, signal_key) as signal_id,
    dense_rank() over (order by city, outcome_type) as outcome_id,
    dense_rank() over (order by city, radius_m, window_days) as series_id,
    dense_rank() over (order by city, is_scan, case when is_scan then '' else signal_key end, radius_m, window_days)
        as meeting_id,
    *
from named
