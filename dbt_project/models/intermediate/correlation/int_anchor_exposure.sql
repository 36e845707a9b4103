-- Contamination c0: the share of an anchor's reference disc-days that another episode of the signal already exposed.
-- Without this correction a dense city understates an effect of 2.0 by 18 %.
with series as (

    select
        row_number() over (order by cities.city, settings.signal_key, settings.radius_m, settings.window_days) as series_id,
        cities.city,
        settings.*
    from (select distinct signal_key, radius_m, window_days from {{ ref('int_correlation_questions') }}) as settings
    inner join (select distinct signal_key, city from {{ ref('int_signal_episodes') }}) as cities
        on settings.signal_key = cities.signal_key

),

episodes as (

    select
        series.series_id, series.radius_m, series.window_days,
        episodes.episode_id, episodes.day, episodes.x_m, episodes.y_m
    from {{ ref('int_signal_episodes') }} as episodes
    inner join series
        on episodes.signal_key = series.signal_key
        and episodes.city = series.city

),

{% set reach = '(' ~ 2 * correlation_bands() | max ~ ' * radius_m)' %}
-- An exposure lasts window_days, and the guarded reference begins window_days + 7 before the anchor.
{% set lag = '(2 * window_days + 7)' %}
searching as (

    select
        episodes.*,
        {{ space_time_bucket(
            bucket('x_m - ' ~ reach, '2 * ' ~ reach) ~ ' + step_x.step',
            bucket('y_m - ' ~ reach, '2 * ' ~ reach) ~ ' + step_y.step',
            bucket('day - ' ~ lag, lag) ~ ' + step_t.step') }} as bucket
    from episodes
    cross join (values (0), (1)) as step_x (step)
    cross join (values (0), (1)) as step_y (step)
    cross join (values (0), (1)) as step_t (step)

),

earlier as (

    select
        episodes.*,
        {{ space_time_bucket(bucket('x_m', '2 * ' ~ reach), bucket('y_m', '2 * ' ~ reach), bucket('day', lag)) }} as bucket
    from episodes

),

pairs as (

    select
        searching.episode_id, searching.radius_m, searching.window_days,
        earlier.day - searching.day as lag_days,
        sqrt(
            (searching.x_m - earlier.x_m) * (searching.x_m - earlier.x_m)
            + (searching.y_m - earlier.y_m) * (searching.y_m - earlier.y_m)
        ) / searching.radius_m as distance
    from searching
    inner join earlier
        on searching.bucket = earlier.bucket
        and searching.series_id = earlier.series_id
    where earlier.day - searching.day between -2 * searching.window_days - 7 and -1
        and (searching.x_m - earlier.x_m) * (searching.x_m - earlier.x_m)
            + (searching.y_m - earlier.y_m) * (searching.y_m - earlier.y_m)
            < {{ (2 * correlation_bands() | max) ** 2 }} * searching.radius_m * searching.radius_m

),

near_pairs as (

    select
        *
        {%- for name in ['pre', 'guard'] -%}
        {%- set window = correlation_windows()[name] %},
        greatest(0, least(lag_days + window_days, {{ window[1] }}) - greatest(lag_days + 1, {{ window[0] }}) + 1)
            / cast(window_days as double) as {{ name }}_share
        {%- endfor %}
        {%- for band in correlation_bands() %},
        (
            {{ circle_overlap(band, band, 'distance') }}
            {%- if band > 1 %}
            - 2 * ({{ circle_overlap(band - 1, band, 'distance') }})
            + {{ circle_overlap(band - 1, band - 1, 'distance') }}
            {%- endif %}
        ) / (pi() * {{ band ** 2 - (band - 1) ** 2 }}) as band_{{ band }}_share
        {%- endfor %}
    from pairs

)

-- Every row here is a true pair: an anchor without one has no row, never a null inside the logarithm
-- (greatest() ignores nulls, which once turned c0 of a lone anchor into 1).
{% for band in correlation_bands() -%}
select
    episode_id,
    radius_m,
    window_days,
    {{ band }} as band,
    1 - exp({{ exact_sum('ln(greatest(1e-6, 1 - pre_share * band_' ~ band ~ '_share))') }}) as c0_pre,
    1 - exp({{ exact_sum('ln(greatest(1e-6, 1 - guard_share * band_' ~ band ~ '_share))') }}) as c0_guard,
    sum(case when lag_days >= -2 * window_days then 1 else 0 end) as n_earlier
from near_pairs
where distance < {{ 2 * band }}
group by episode_id, radius_m, window_days
{{ 'union all' if not loop.last }}
{% endfor %}
