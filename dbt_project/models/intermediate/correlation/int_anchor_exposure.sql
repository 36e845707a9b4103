-- Contamination c0: the share of an anchor's reference disc-days that another episode of the signal already exposed.
-- Without this correction a dense city understates an effect of 2.0 by 18 %.
{% set reach = '(2 * radius_m)' %}
-- An exposure lasts window_days, and the guarded reference begins window_days + 7 before the anchor.
{% set lag = '(2 * window_days + 7)' %}
with pairs_to_sum as (

    {{ pairs_to_sum('is_new') }}

),

signal_series as (

    select signal_id, series_id, radius_m, window_days, month, max(sample_below) as sample_below
    from pairs_to_sum
    group by signal_id, series_id, radius_m, window_days, month

),

searching as (

    select
        signal_series.series_id, signal_series.radius_m, signal_series.window_days,
        episodes.episode_id, episodes.signal_id, episodes.day, episodes.x_m, episodes.y_m,
        {{ space_time_bucket(
            bucket('x_m - ' ~ reach, '2 * ' ~ reach) ~ ' + step_x.step',
            bucket('y_m - ' ~ reach, '2 * ' ~ reach) ~ ' + step_y.step',
            bucket('day - ' ~ lag, lag) ~ ' + step_t.step', 'signal_series.signal_id') }} as bucket
    from {{ ref('int_signal_episodes') }} as episodes
    inner join signal_series
        on episodes.signal_id = signal_series.signal_id
        and episodes.month = signal_series.month
        and episodes.sample_value < signal_series.sample_below
    {{ neighbour_steps() }}

),

earlier as (

    select
        series.series_id, episodes.day, episodes.x_m, episodes.y_m,
        {{ space_time_bucket(
            bucket('x_m', '2 * ' ~ reach), bucket('y_m', '2 * ' ~ reach), bucket('day', lag), 'series.signal_id') }} as bucket
    from {{ ref('int_signal_episodes') }} as episodes
    inner join (select distinct signal_id, series_id, radius_m, window_days from signal_series) as series
        on episodes.signal_id = series.signal_id

),

pairs as (

    select
        searching.episode_id, searching.series_id, searching.window_days,
        earlier.day - searching.day as lag_days,
        sqrt({{ squared_distance('searching', 'earlier') }}) / searching.radius_m as distance
    from searching
    inner join earlier
        on searching.bucket = earlier.bucket
        and searching.series_id = earlier.series_id
    where earlier.day - searching.day between -2 * searching.window_days - 7 and -1
        and {{ squared_distance('searching', 'earlier') }} < 4 * searching.radius_m * searching.radius_m

),

shares as (

    select
        *
        {%- for name in ['pre', 'guard'] -%}
        {%- set window = correlation_windows()[name] %},
        greatest(0, least(lag_days + window_days, {{ window[1] }}) - greatest(lag_days + 1, {{ window[0] }}) + 1)
            / cast(window_days as double) as {{ name }}_share
        {%- endfor %},
        {{ disc_overlap_share('distance') }} as disc_share
    from pairs

)

-- Every row here is a true pair: an anchor without one has no row, never a null inside the logarithm
-- (greatest() ignores nulls, which once turned c0 of a lone anchor into 1).
select
    episode_id,
    cast(series_id as integer) as series_id,
    1 - exp({{ exact_sum('ln(greatest(1e-6, 1 - pre_share * disc_share))') }}) as c0_pre,
    1 - exp({{ exact_sum('ln(greatest(1e-6, 1 - guard_share * disc_share))') }}) as c0_guard,
    sum(case when lag_days >= -2 * window_days then 1 else 0 end) as n_earlier
from shares
group by episode_id, series_id
