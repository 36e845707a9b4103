"""What the relay keeps of alerts: revisions and acknowledgements, one file per day, rows only ever added.

A file is replaced by a longer one and never removed, so that dbt can read it at any time.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
from filelock import FileLock

from assets.ingest.alert_tables import ALERT_TABLES, alerts_folder, write_file
from assets.ingest.lake import Lake
from assets.relay.alert import Alert, Message

_TIMES = ("reported_at", "available_at", "alerted_at", "expires_at")
_JSON = ("event_keys", "context")


@dataclass(frozen=True)
class Told:
    """An alert as it stands: its newest revision without its context, which is most of it.

    Attributes:
        row: The newest revision as it is kept.
        raised_for: The report that the first revision was made for.
        raised_at: When that was.
    """

    row: dict[str, Any]
    raised_for: str
    raised_at: datetime

    @property
    def alert_id(self) -> str:
        """Its name."""
        return self.row["alert_id"]

    @property
    def revision(self) -> int:
        """Number of the newest revision."""
        return self.row["revision"]

    @property
    def is_cancelled(self) -> bool:
        """Whether the newest revision ends it."""
        return self.row["message"] == Message.CANCEL

    def is_over(self, at: datetime) -> bool:
        """Return whether it has ended by a time."""
        return self.is_cancelled or _utc(at) >= self.row["expires_at"]

    def tells_of(self, event_key: str, event_keys: Sequence[str]) -> bool:
        """Return whether it was told of just these reports, of which the one is the first."""
        return (self.row["event_key"], json.loads(self.row["event_keys"])) == (event_key, list(event_keys))

    def alert(self, **changes: Any) -> Alert:
        """Return the newest revision with changes, its context among them."""
        return _alert(self.row | {"context": "{}"}).model_copy(update=changes)


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


def read_told(lake: Lake, *, since: datetime) -> list[Told]:
    """Return how the alerts stand that have a revision on or after the day of a time, oldest first."""
    newest: dict[str, dict[str, Any]] = {}
    first: dict[str, dict[str, Any]] = {}
    names = [name for name in ALERT_TABLES["revisions"].names if name != "context"]
    for row in _rows(lake, "revisions", _days_from(lake, "revisions", since), names):
        key = row["alert_id"]
        newest[key] = max(newest.get(key, row), row, key=lambda one: one["revision"])
        first[key] = min(first.get(key, row), row, key=lambda one: one["revision"])
    told = [Told(newest[key], first[key]["event_key"], first[key]["alerted_at"]) for key in newest]
    return sorted(told, key=lambda one: (one.raised_at, one.alert_id))


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


def _rows(
    lake: Lake, table: str, days: Iterable[Any] | None = None, columns: list[str] | None = None
) -> list[dict[str, Any]]:
    files = sorted(alerts_folder(lake, table).glob("*.parquet"))
    if days is not None:
        stems = {f"{day}" for day in days}
        files = [path for path in files if path.stem in stems]
    if not files:
        return []
    kept = ds.dataset([str(path) for path in files], schema=ALERT_TABLES[table])
    return kept.to_table(columns=columns).to_pylist()


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
