"""A made-up delivery and what the gate says of it, for the tests of the gate."""

from datetime import datetime
from pathlib import Path

import duckdb

from assets.ingest import gate
from assets.ingest.contracts import column_names
from assets.ingest.feed import City
from tests.declared_feed import declared_feed

LATEST = datetime(2026, 3, 2)  # noqa: DTZ001  as landing passes it
#: A Sunday, 6:00 in the morning in Chicago.
DELIVERED = datetime(2026, 3, 1, 12)  # noqa: DTZ001
CITY = City(
    id="town",
    folder=Path("town"),
    name="Town",
    country="US",
    state="IL",
    time_zone="America/Chicago",
    crs="EPSG:26916",
    bbox=(-88, 41, -87, 43),
)
GOOD = {
    "source_id": "i",
    "category": "'noise'",
    "requested_at": "'2026-01-02T03:04:05'",
    "quantity": "i",
    "location_quality": "'ok'",
}


ONE_PART = ({"id": "one", "source": "one.csv"},)


def judge(
    tmp_path,
    *,
    rows=100,
    expect=None,
    columns=None,
    quarantined=0,
    leave_out=(),
    parts=ONE_PART,
    said=None,
    **kwargs,
):
    """Judge a made-up delivery: SQL per column over i = 0..rows-1; return the checks by name."""
    feed = declared_feed(
        columns={"source_id": "id", "category": "what", "requested_at": "at", "quantity": "n"},
        parts=list(parts),
        expect=expect or {},
        **(said or {}),
    )
    values = GOOD | (columns or {})
    names = [name for name in (*column_names("service_request"), "location_quality") if name not in leave_out]
    selected = ", ".join(f'cast({values.get(name, "null")} as varchar) as "{name}"' for name in names)
    raw, quarantine = tmp_path / "raw.parquet", tmp_path / "quarantine.parquet"
    con = duckdb.connect()
    con.execute(f"copy (select {selected} from range({rows}) r(i)) to '{raw}'")
    con.execute(f"copy (select i as source_row from range({quarantined}) r(i)) to '{quarantine}'")
    settings = {
        "mode": "full",
        "rows_seen": rows + quarantined,
        "rows_known_before": None,
        "new_rows": rows,
        "delivered_at": DELIVERED,
        "latest": LATEST,
    } | kwargs
    checks = gate.validate_delivery(con, raw, quarantine, CITY, feed, feed.parts[0], **settings)
    assert tuple(check.name for check in checks) == gate.CHECK_NAMES
    return {check.name: check for check in checks}


def failed(checks) -> dict[str, bool]:
    """Return the failed checks and whether each blocks."""
    return {name: check.blocking for name, check in checks.items() if not check.passed}
