select event_key, asset_type, distance_m, reach_m
from {{ ref('bridge_event_asset') }}
where distance_m > reach_m
