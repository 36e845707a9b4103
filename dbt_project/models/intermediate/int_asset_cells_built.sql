-- Read by the next build. It is written after the answers, so a build that was killed between looks at the same cells again.
-- depends_on: {{ ref('int_event_assets') }}
-- depends_on: {{ ref('bridge_event_asset') }}
select city, cell, fingerprint
from {{ ref('int_asset_cells') }}
where fingerprint is not null
