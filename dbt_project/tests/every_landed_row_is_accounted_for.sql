-- file = raw + quarantined by ingest + unchanged; raw = versions + quarantined by staging + exact repeats; one event per key.
select *
from {{ ref('reconciliation') }}
where not is_reconciled
