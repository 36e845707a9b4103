-- Outcomes in the disc of each anchor, by window; `inside` counts those that also lie in the anchor's control area.
with pairs as (

    {{ pairs_to_sum('is_new') }}

),

near as (

    {%- set is_far = correlation_counts() | map('first') | select('in', ['far', 'guard']) | list %}
    {{ outcomes_near_anchors(1, '-2 * window_days' if is_far else '-window_days', 'window_days', with_part_of_day=true) }}

)

select
    near.episode_id,
    cast(pairs.pair_id as integer) as pair_id
    {%- for name, part in correlation_counts() %}
    {%- set first, last = correlation_windows(of='near.window_days')[name] %}
    {%- set condition -%}
    near.lag_days between {{ first }} and {{ last }}{% if part %} and near.part_of_day = '{{ part[1:] }}'{% endif %}
    {%- endset %},
    cast(count(*) filter (where {{ condition }}) as integer) as disc_{{ name }}{{ part }},
    cast(count(*) filter (where {{ condition }} and {{ is_in_control_area() }}) as integer) as inside_{{ name }}{{ part }}
    {%- endfor %}
from near
inner join pairs on {{ asks_for_near() }}
group by near.episode_id, pairs.pair_id
