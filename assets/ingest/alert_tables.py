"""The columns of what the relay keeps of alerts, and files without rows for dbt; rows are relay's."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from assets.ingest.lake import Lake

#: UTC without a zone, as everywhere in the lake.
_AT = pa.timestamp("us")
#: One row of `revisions` is one revision of one alert; `context` and `event_keys` are JSON text.
ALERT_TABLES: dict[str, pa.Schema] = {
    "revisions": pa.schema(
        {
            "alert_id": pa.string(),
            "revision": pa.int32(),
            "message": pa.string(),
            "city": pa.string(),
            "rule": pa.string(),
            "agency": pa.string(),
            "event_key": pa.string(),
            "event_keys": pa.string(),
            "report_count": pa.int32(),
            "event_type": pa.string(),
            "severity": pa.string(),
            "headline": pa.string(),
            "context": pa.string(),
            "lon": pa.float64(),
            "lat": pa.float64(),
            "radius_m": pa.float64(),
            "reported_at": _AT,
            "available_at": _AT,
            "alerted_at": _AT,
            "expires_at": _AT,
            "is_simulated": pa.bool_(),
        }
    ),
    "acknowledged": pa.schema({"alert_id": pa.string(), "revision": pa.int32(), "acknowledged_at": _AT}),
}


def alerts_folder(lake: Lake, table: str) -> Path:
    """Return where the files of a table lie, one per day."""
    return lake.derived / "alerts" / table


def write_no_alerts(lake: Lake) -> None:
    """Write a file without rows for each table, so that dbt can read them before the first alert."""
    for table, schema in ALERT_TABLES.items():
        path = alerts_folder(lake, table) / "empty.parquet"
        if not path.exists():
            write_file(path, schema.empty_table())


def write_file(path: Path, table: pa.Table) -> None:
    """Put a Parquet file in its place whole, by a name that no glob matches; on disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
