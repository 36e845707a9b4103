"""What the relay keeps of alerts: revisions and acknowledgements, one file per day, rows only ever added.

A file is replaced by a longer one and never removed, so that dbt can read it at any time.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
from filelock import FileLock

from assets.ingest.alert_tables import ALERT_TABLES, alerts_folder, write_file
from assets.ingest.lake import Lake
from assets.relay.alert import Alert

_TIMES = ("reported_at", "available_at", "alerted_at", "expires_at")
_JSON = ("event_keys", "context")


class UnknownAlertError(Exception):
    """An alert that was never raised, and how to find those that were."""


def store_alerts(lake: Lake, alerts: Sequence[Alert]) -> list[Alert]:
    """Keep revisions, all or none of them; one that is there already is not written again.

    Args:
        lake: Where to.
        alerts: Revisions, in any order.

    Returns:
        Those that were not there.
    """
    if not alerts:
        return []
    with _held(lake):
        days = {one.alerted_at.astimezone(UTC).date() for one in alerts}
        # A killed caller raises again within moments: the days beside those of the alerts are enough.
        near = {day + timedelta(days=step) for day in days for step in (-1, 0, 1)}
        there = {(row["alert_id"], row["revision"]) for row in _rows(lake, "revisions", near)}
        keyed = {(one.alert_id, one.revision): one for one in alerts}
        new = {key: one for key, one in keyed.items() if key not in there}
        _add(lake, "revisions", [_row(one) for _, one in sorted(new.items())], "alerted_at")
    return [new[key] for key in sorted(new)]


def read_alerts(lake: Lake, *, since: datetime | None = None) -> list[Alert]:
    """Return the stored revisions, those of one alert in order.

    Args:
        lake: Where they lie.
        since: Only those made on or after the day of this time; None: all.
    """
    days = None if since is None else _days_from(lake, "revisions", since)
    rows = {(row["alert_id"], row["revision"]): row for row in _rows(lake, "revisions", days)}
    return [_alert(rows[key]) for key in sorted(rows)]


def read_acknowledgements(lake: Lake) -> dict[str, datetime]:
    """Return when alerts were taken up first, with a zone, by alert id."""
    taken: dict[str, datetime] = {}
    for row in _rows(lake, "acknowledged"):
        at = row["acknowledged_at"].replace(tzinfo=UTC)
        taken[row["alert_id"]] = min(at, taken.get(row["alert_id"], at))
    return taken


def acknowledge(lake: Lake, alert_id: str, *, now: datetime) -> int:
    """Note that whom an alert is for has taken it up; who did is not noted. A second time changes nothing.

    Args:
        lake: Where alerts lie.
        alert_id: The alert.
        now: When, with a zone.

    Returns:
        The revision that was the newest then.

    Raises:
        UnknownAlertError: No such alert was raised.
    """
    with _held(lake):
        known = [row["revision"] for row in _rows(lake, "revisions") if row["alert_id"] == alert_id]
        if not known:
            raise UnknownAlertError(
                f"{alert_id!r} is no alert; take the id from the message or correlation.mart_agency_alerts"
            )
        taken = [row["revision"] for row in _rows(lake, "acknowledged") if row["alert_id"] == alert_id]
        if not taken:
            row = {"alert_id": alert_id, "revision": max(known), "acknowledged_at": _utc(now)}
            _add(lake, "acknowledged", [row], "acknowledged_at")
    return min(taken, default=max(known))


def _held(lake: Lake) -> FileLock:
    lake.derived.joinpath("alerts").mkdir(parents=True, exist_ok=True)
    return FileLock(lake.derived / "alerts" / ".lock", timeout=60)


def _add(lake: Lake, table: str, rows: Sequence[dict[str, Any]], at: str) -> None:
    if not rows:
        return
    # One file and one rename, also where the rows are of two days: all of them are kept, or none.
    day = max(row[at] for row in rows).date()
    table_rows = [*_rows(lake, table, [day]), *rows]
    path = alerts_folder(lake, table) / f"{day}.parquet"
    write_file(path, pa.Table.from_pylist(table_rows, schema=ALERT_TABLES[table]))


def _rows(lake: Lake, table: str, days: Iterable[Any] | None = None) -> list[dict[str, Any]]:
    files = sorted(alerts_folder(lake, table).glob("*.parquet"))
    if days is not None:
        stems = {f"{day}" for day in days}
        files = [path for path in files if path.stem in stems]
    if not files:
        return []
    return ds.dataset([str(path) for path in files], schema=ALERT_TABLES[table]).to_table().to_pylist()


def _days_from(lake: Lake, table: str, since: datetime) -> list[str]:
    first = f"{since.astimezone(UTC).date()}"
    return [path.stem for path in alerts_folder(lake, table).glob("*.parquet") if path.stem >= first]


def _row(alert: Alert) -> dict[str, Any]:
    said = alert.model_dump(mode="python") | {"report_count": len(alert.event_keys)}
    said |= {name: _utc(said[name]) for name in _TIMES}
    said |= {name: json.dumps(said[name], sort_keys=True, ensure_ascii=False) for name in _JSON}
    return said | {"message": alert.message.value, "severity": alert.severity.value}


def _alert(row: dict[str, Any]) -> Alert:
    said = row | {name: row[name].replace(tzinfo=UTC) for name in _TIMES}
    del said["report_count"]
    return Alert(**(said | {name: json.loads(row[name]) for name in _JSON}))


def _utc(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(tzinfo=None)
