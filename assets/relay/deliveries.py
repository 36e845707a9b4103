"""How long alerts took, per delivery, as Parquet; the receipts that it is made of are outbox's.

From report to agency is `delivered_at - available_at` of revision 1: the times of an update are those of the
report that the alert was raised for.
"""

import io
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from assets.ingest.lake import Lake
from assets.relay.durable import put
from assets.relay.outbox import Outbox

_TIMES = ("reported_at", "available_at", "alerted_at", "delivered_at")
SCHEMA = pa.schema(
    {
        "alert_id": pa.string(),
        "revision": pa.int32(),
        "subscription": pa.string(),
        **dict.fromkeys(_TIMES, pa.timestamp("us")),
        "attempts": pa.int32(),
    }
)


def deliveries_folder(lake: Lake) -> Path:
    """Return the folder: one file per subscription and month of delivery, and an empty one."""
    return lake.derived / "alerts" / "deliveries"


def write_no_deliveries(lake: Lake) -> None:
    """Write a file without rows, so that a reader finds the columns before anything was delivered."""
    path = deliveries_folder(lake) / "none.parquet"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, _parquet([]))


def write_deliveries(lake: Lake, outbox: Outbox) -> None:
    """Write the months of a subscription whose receipts are there; older months stay as they are."""
    write_no_deliveries(lake)
    months: dict[str, list[dict]] = {}
    for receipt in outbox.receipts():
        row = receipt | {name: _utc(receipt[name]) for name in _TIMES}
        months.setdefault(f"{row['delivered_at']:%Y-%m}", []).append(row)
    # Of the oldest month some receipts may be gone already: it was written while they were there.
    for month in sorted(months)[-2:]:
        put(deliveries_folder(lake) / f"{outbox.subscription}-{month}.parquet", _parquet(months[month]))


def _parquet(rows: Iterable[dict]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA), sink)
    return sink.getvalue()


def _utc(text: str) -> datetime:
    """Return a time as the warehouse keeps it, UTC without a zone."""
    return datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None)
