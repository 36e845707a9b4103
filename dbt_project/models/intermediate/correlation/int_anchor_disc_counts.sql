-- Outcomes near each anchor, by ring and window; `inside` counts those that also lie in the anchor's control area.
{%- set reach = '(' ~ correlation_bands() | max ~ ' * radius_m)' %}
{%- set days = '(3 * window_days + 1)' %}
with series as (

    select
        row_number() over (order by city, outcome_type, radius_m, window_days) as series_id,
        city, outcome_type, radius_m, window_days
    from (select distinct city, outcome_type, radius_m, window_days from {{ ref('int_correlation_anchors') }}) as settings

),

anchors as (

    select
        series.series_id, series.radius_m, series.window_days,
        anchors.anchor_id, anchors.day, anchors.x_m, anchors.y_m, anchors.control_cell,
        case anchors.control_level when 'h3_7' then 7 when 'h3_6' then 6 else 0 end as control_resolution
    from {{ ref('int_correlation_anchors') }} as anchors
    inner join series
        on anchors.city = series.city
        and anchors.outcome_type = series.outcome_type
        and anchors.radius_m = series.radius_m
        and anchors.window_days = series.window_days

),

searching as (

    select
        anchors.*,
        {{ space_time_bucket(
            bucket('x_m - ' ~ reach, '2 * ' ~ reach) ~ ' + step_x.step',
            bucket('y_m - ' ~ reach, '2 * ' ~ reach) ~ ' + step_y.step',
            bucket('day - 2 * window_days', days) ~ ' + step_t.step') }} as bucket
    from anchors
    cross join (values (0), (1)) as step_x (step)
    cross join (values (0), (1)) as step_y (step)
    cross join (values (0), (1)) as step_t (step)

),

outcomes as (

    select
        series.series_id,
        outcomes.day,
        outcomes.x_m,
        outcomes.y_m,
        outcomes.h3_7,
        {{ space_time_bucket(bucket('x_m', '2 * ' ~ reach), bucket('y_m', '2 * ' ~ reach), bucket('day', days)) }} as bucket
    from {{ ref('int_correlation_outcomes') }} as outcomes
    inner join series
        on outcomes.city = series.city
        and outcomes.outcome_type = series.outcome_type

),

pairs as (

    select
        searching.anchor_id,
        searching.window_days,
        searching.radius_m,
        outcomes.day - searching.day as lag_days,
        (searching.x_m - outcomes.x_m) * (searching.x_m - outcomes.x_m)
            + (searching.y_m - outcomes.y_m) * (searching.y_m - outcomes.y_m) as squared_distance,
        searching.control_cell = case searching.control_resolution
            when 7 then outcomes.h3_7
            when 6 then {{ h3_6_of('outcomes.h3_7') }}
            else 0
        end as is_inside
    from searching
    inner join outcomes
        on searching.bucket = outcomes.bucket
        and searching.series_id = outcomes.series_id
    where outcomes.day - searching.day between -2 * searching.window_days and searching.window_days
        and outcomes.day <> searching.day
        and (searching.x_m - outcomes.x_m) * (searching.x_m - outcomes.x_m)
            + (searching.y_m - outcomes.y_m) * (searching.y_m - outcomes.y_m)
            <= {{ (correlation_bands() | max) ** 2 }} * searching.radius_m * searching.radius_m

),

ringed as (

    select *, {{ band_of('squared_distance', 'radius_m') }} as band
    from pairs

)

select
    anchor_id,
    band
    {%- for name, window in correlation_windows().items() %},
    count(*) filter (where lag_days between {{ window[0] }} and {{ window[1] }}) as disc_{{ name }},
    count(*) filter (where is_inside and lag_days between {{ window[0] }} and {{ window[1] }}) as inside_{{ name }}
    {%- endfor %}
from ringed
group by anchor_id, band
