-- What the sums now rest on: read by the next build. It is written after them, so a build that was killed between sums
-- the same months again.
-- depends_on: {{ ref('mart_correlation_blocks') }}
-- depends_on: {{ ref('int_scan_blocks') }}
-- depends_on: {{ ref('int_lag_blocks') }}
select city, pair_key, month, signature, lag_signature
from {{ ref('int_evidence_months') }}
where not is_gone
