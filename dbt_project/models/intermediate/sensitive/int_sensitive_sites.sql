-- Sensitive sites that exist on the last day that their city's events tell of, the day as of which they are shown.
with cities as (
    select city, max(last_day) as as_of_day
    from {{ ref('int_feed_periods') }}
    group by city
)

select
    assets.asset_key,
    assets.city,
    assets.asset_type,
    assets.x_m,
    assets.y_m,
    cities.as_of_day
from {{ ref('dim_asset') }} as assets
inner join {{ ref('sensitive_site_types') }} as types on assets.asset_type = types.asset_type
inner join cities on assets.city = cities.city
where
    assets.x_m is not null
    and assets.y_m is not null
    and {{ holds_on('assets', date_of_day('cities.as_of_day')) }}
