-- The same in the rings around the disc, for the pairs of the catalogue and the windows that rings compare.
with pairs as (

    {{ pairs_to_sum('is_new', 'not pairs.is_scan') }}

),

near as (

    {{ outcomes_near_anchors(correlation_bands() | max, '-2 * window_days', 'window_days') }}

)

select
    near.episode_id,
    cast(pairs.pair_id as integer) as pair_id,
    near.band
    {%- for name, part in correlation_counts(in_rings=true) %}
    {%- set first, last = correlation_windows(of='near.window_days')[name] %},
    cast(count(*) filter (where near.lag_days between {{ first }} and {{ last }}) as integer) as disc_{{ name }},
    cast(count(*) filter (
        where near.lag_days between {{ first }} and {{ last }} and {{ is_in_control_area() }}
    ) as integer) as inside_{{ name }}
    {%- endfor %}
from near
inner join pairs on {{ asks_for_near() }}
group by near.episode_id, pairs.pair_id, near.band
