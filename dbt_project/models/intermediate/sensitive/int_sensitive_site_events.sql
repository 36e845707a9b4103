{%- set reach_m = noise_rules().near_m -%}
{%- set days = sensitive_site_days() -%}

-- What began near a sensitive site in the two years up to its city's last day, by type and year: 0 is the last one.
with sites as (
    select * from {{ ref('int_sensitive_sites') }}
),

cities as (
    select distinct city, as_of_day from sites
),

events as (
    select
        events.city,
        events.event_type,
        events.x_m,
        events.y_m,
        cast(floor((cities.as_of_day - {{ day_number('events.event_on') }}) / {{ days }}.0) as integer) as year_back
    from {{ ref('fct_events') }} as events
    inner join cities on events.city = cities.city
    where
        events.is_canonical
        and not events.is_noise
        and not events.is_excluded
        and {{ day_number('events.event_on') }} between cities.as_of_day - {{ 2 * days - 1 }} and cities.as_of_day
)

select asset_key, event_type, year_back, cast(count(*) as integer) as n_events
from (
    {{ near_pairs('sites', 'events', reach_m, 'searching.asset_key, found.event_type, found.year_back') }}
) as near
group by asset_key, event_type, year_back
