-- The days on which an outlook's outcome was observed in a city, and what its units are there.
with inventories as (
    select distinct city, asset_type from {{ ref('dim_asset') }}
)

select
    periods.city,
    outlooks.outlook,
    outlooks.outcome_type,
    inventories.asset_type,
    outlooks.horizon_days,
    outlooks.crew_units,
    outlooks.max_origins,
    periods.first_day,
    periods.last_day
from {{ ref('int_outcome_periods') }} as periods
inner join {{ ref('outlooks') }} as outlooks on periods.outcome_type = outlooks.outcome_type
left join inventories
    on periods.city = inventories.city
    and outlooks.asset_type = inventories.asset_type
