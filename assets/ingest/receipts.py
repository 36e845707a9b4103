"""What became of each attempt to land a part, on disk and as tables; landing decides what it says."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from assets.ingest.gate import CheckResult
from assets.ingest.lake import Lake

RECEIPT = "receipt.json"
#: A receipt whose renames are decided but perhaps not done; the next landing completes them.
PENDING = "receipt.pending.json"

Outcome = Literal["landed", "unchanged", "blocked", "failed"]


class DeliveryError(Exception):
    """Why a part could not be landed, in one line for people.

    Attributes:
        error_type: A steady short name for statistics and alerts.
        outcome: `failed` where the bytes are unusable, `blocked` where they are readable but not this feed's.
    """

    def __init__(self, error_type: str, message: str, outcome: Outcome = "failed") -> None:
        super().__init__(message)
        self.error_type = error_type
        self.outcome = outcome


@dataclass
class Delivery:
    """One attempt to land one part, as its receipt keeps it. Times are UTC without a zone.

    Attributes:
        action: `fetch` from the source, or `replay` from stored bytes.
        source: Where the part lies, without credentials and query values.
        stored_in: The fetch_id under which the bytes lie; an earlier one where they were seen before.
        rows_in_file: Records counted before and apart from the reader.
        rows_raw: Rows of the raw table that this delivery gives.
        quarantine_reasons: Quarantined rows by reason.
        delivered_at: As of when the bytes hold: declared, or when they were first fetched.
        notes: What a person may want to know although nothing failed.
        mode: How the part was read; `files` and `replay` read it whole.
        sequence: Number of this delivery among those of its part that landed, from 1.
        delivery_id: 12 hex digits that sort as deliveries do, unique within the part.
        cursor_from: Where the question began, as the portal writes it.
        cursor_to: Where the next one begins.
        until: Upper bound of the question.
        rows_new: Records whose key was not known.
        rows_changed: Records whose key was known with other content, or as vanished.
        rows_unchanged: Records that were known as they are, and rejects that were set aside before.
        rows_missing: Keys found gone by this delivery, for the first or the second time.
        rows_known: Live keys of the part after it.
        months: Live keys by month of their event.
        suspects: Keys found gone once, by month.
        source_types: Source columns and the portal's word for their type.
        schema_changes: `{column, change, before, after, is_mapped}` against the delivery before.
        polls: How many uneventful attempts in a row this receipt stands for.
        first_attempted_at: When the first of them was.
        renames: Of a pending receipt: what is put where, paths relative to the lake.
        removals: Of a pending receipt: what the renamed files replace.
    """

    city: str
    feed: str
    part: str
    kind: str
    fetch_id: str
    outcome: Outcome
    action: Literal["fetch", "replay"]
    source: str
    attempted_at: datetime
    delivered_at: datetime | None = None
    rows_in_file: int = 0
    rows_raw: int = 0
    rows_quarantined: int = 0
    quarantine_reasons: dict[str, int] = field(default_factory=dict)
    distinct_keys: int = 0
    sha: str | None = None
    size_bytes: int = 0
    fingerprint: str | None = None
    stored_in: str | None = None
    stored_file: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    source_columns: list[str] = field(default_factory=list)
    message: str = ""
    error_type: str | None = None
    notes: list[str] = field(default_factory=list)
    checks: list[CheckResult] = field(default_factory=list)
    seconds: float = 0.0
    mode: str = "full"
    sequence: int = 0
    delivery_id: str | None = None
    cursor_from: dict[str, str] | None = None
    cursor_to: dict[str, str] | None = None
    until: datetime | None = None
    rows_new: int = 0
    rows_changed: int = 0
    rows_unchanged: int = 0
    rows_missing: int = 0
    rows_known: int = 0
    months: dict[str, int] = field(default_factory=dict)
    suspects: dict[str, int] = field(default_factory=dict)
    calls: int = 0
    retries: int = 0
    bytes_received: int = 0
    source_types: dict[str, str] = field(default_factory=dict)
    schema_changes: list[dict[str, Any]] = field(default_factory=list)
    polls: int = 1
    first_attempted_at: datetime | None = None
    renames: list[tuple[str, str]] = field(default_factory=list)
    removals: list[str] = field(default_factory=list)


def delivery_id(delivery: Delivery) -> str:
    """Return a delivery's id: its sequence in hexadecimal, so that ids sort as deliveries do, and a hash."""
    said = f"{delivery.part}|{delivery.sequence}|{delivery.sha}"
    return f"{delivery.sequence:06x}{hashlib.sha256(said.encode()).hexdigest()[:6]}"


_TIMES = ("attempted_at", "delivered_at", "until", "first_attempted_at")

_TABLE = pa.schema(
    [
        ("city", pa.string()),
        ("feed", pa.string()),
        ("part", pa.string()),
        ("kind", pa.string()),
        ("fetch_id", pa.string()),
        ("outcome", pa.string()),
        ("action", pa.string()),
        ("source", pa.string()),
        ("attempted_at", pa.timestamp("us")),
        ("delivered_at", pa.timestamp("us")),
        ("rows_in_file", pa.int64()),
        ("rows_raw", pa.int64()),
        ("rows_quarantined", pa.int64()),
        ("quarantine_reasons", pa.string()),
        ("distinct_keys", pa.int64()),
        ("sha", pa.string()),
        ("size_bytes", pa.int64()),
        ("fingerprint", pa.string()),
        ("stored_in", pa.string()),
        ("stored_file", pa.string()),
        ("etag", pa.string()),
        ("last_modified", pa.string()),
        ("source_columns", pa.string()),
        ("message", pa.string()),
        ("error_type", pa.string()),
        ("notes", pa.string()),
        ("seconds", pa.float64()),
        ("mode", pa.string()),
        ("delivery_id", pa.string()),
        ("cursor_from", pa.string()),
        ("cursor_to", pa.string()),
        ("rows_new", pa.int64()),
        ("rows_changed", pa.int64()),
        ("rows_unchanged", pa.int64()),
        ("rows_missing", pa.int64()),
        ("rows_known", pa.int64()),
        ("calls", pa.int64()),
        ("retries", pa.int64()),
        ("bytes_received", pa.int64()),
        ("polls", pa.int64()),
        ("first_attempted_at", pa.timestamp("us")),
    ]
)

_SCHEMA_CHANGES = pa.schema(
    [
        ("city", pa.string()),
        ("feed", pa.string()),
        ("part", pa.string()),
        ("fetch_id", pa.string()),
        ("column_name", pa.string()),
        ("change", pa.string()),
        ("before", pa.string()),
        ("after", pa.string()),
        ("is_mapped", pa.bool_()),
        ("attempted_at", pa.timestamp("us")),
    ]
)

#: Columns of every file in lake/derived/check_results, whichever tool the results are of.
CHECK_RESULTS = pa.schema(
    [
        ("city", pa.string()),
        ("feed", pa.string()),
        ("part", pa.string()),
        ("fetch_id", pa.string()),
        ("check_name", pa.string()),
        ("tool", pa.string()),
        ("passed", pa.bool_()),
        ("blocking", pa.bool_()),
        ("observed", pa.string()),
        ("expected", pa.string()),
        ("message", pa.string()),
        ("checked_at", pa.timestamp("us")),
    ]
)


def write_receipt(delivery: Delivery, folder: Path, name: str = RECEIPT) -> None:
    """Write a receipt into a fetch folder, whole or not at all."""
    said = asdict(delivery)
    for key in _TIMES:
        said[key] = said[key] and said[key].isoformat()
    temporary = folder / f".{name}.tmp"
    temporary.write_text(json.dumps(said, indent=1, ensure_ascii=False), encoding="utf-8")
    os.replace(temporary, folder / name)  # noqa: PTH105  the one call that tests make fail


def read_receipt(path: Path) -> Delivery:
    """Read one receipt; keys that this version does not know are passed over."""
    known = {each.name for each in fields(Delivery)}
    said = {key: value for key, value in json.loads(path.read_text("utf-8")).items() if key in known}
    for key in _TIMES:
        said[key] = said.get(key) and datetime.fromisoformat(said[key])
    said["checks"] = [CheckResult(**check) for check in said.get("checks", [])]
    return Delivery(**said)


def read_receipts(folder: Path) -> list[Delivery]:
    """Return the receipts of a feed's landing folder, oldest attempt first."""
    receipts = [read_receipt(path) for path in folder.glob(f"*/{RECEIPT}")]
    return sorted(receipts, key=lambda receipt: (receipt.attempted_at, receipt.fetch_id))


def stored_bytes(lake: Lake, receipt: Delivery) -> Path | None:
    """Return where the bytes a receipt speaks of lie, nothing where they are gone."""
    if not (receipt.stored_in and receipt.stored_file):
        return None
    path = lake.landing(receipt.city, receipt.feed) / receipt.stored_in / receipt.stored_file
    return path if path.is_file() else None


def write_receipts_table(lake: Lake) -> None:
    """Write all receipts, and all results of the delivery gate, as the two tables that dbt reads."""
    receipts = list(_all_receipts(lake))
    rows = [
        {
            **{name: getattr(receipt, name) for name in _TABLE.names},
            "quarantine_reasons": json.dumps(receipt.quarantine_reasons, ensure_ascii=False),
            "source_columns": json.dumps(receipt.source_columns, ensure_ascii=False),
            "cursor_from": receipt.cursor_from and json.dumps(receipt.cursor_from),
            "cursor_to": receipt.cursor_to and json.dumps(receipt.cursor_to),
            "first_attempted_at": receipt.first_attempted_at or receipt.attempted_at,
            "notes": "; ".join(receipt.notes),
        }
        for receipt in receipts
    ]
    checks = [
        {
            "city": receipt.city,
            "feed": receipt.feed,
            "part": receipt.part,
            "fetch_id": receipt.fetch_id,
            "check_name": check.name,
            "tool": "great_expectations",
            "passed": check.passed,
            "blocking": check.blocking,
            "observed": check.observed,
            "expected": check.expected,
            "message": check.message,
            "checked_at": receipt.attempted_at,
        }
        for receipt in receipts
        if receipt.outcome != "unchanged"  # it repeats the results of the landing before
        for check in receipt.checks
    ]
    changes = [
        {
            "city": receipt.city,
            "feed": receipt.feed,
            "part": receipt.part,
            "fetch_id": receipt.fetch_id,
            "column_name": change["column"],
            "attempted_at": receipt.attempted_at,
            **{key: change[key] for key in ("change", "before", "after", "is_mapped")},
        }
        for receipt in receipts
        for change in receipt.schema_changes
    ]
    fetches = lake.derived / "fetches"
    _write_table(pa.Table.from_pylist(rows, _TABLE), fetches / "receipts.parquet")
    _write_table(pa.Table.from_pylist(changes, _SCHEMA_CHANGES), fetches / "schema_changes.parquet")
    _write_table(
        pa.Table.from_pylist(checks, CHECK_RESULTS), lake.derived / "check_results" / "deliveries.parquet"
    )


def _all_receipts(lake: Lake) -> Iterator[Delivery]:
    for folder in sorted((lake.home / "lake" / "landing").glob("*/*")):
        if folder.is_dir():
            yield from read_receipts(folder)


def _write_table(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    pq.write_table(table, temporary, compression="zstd")
    temporary.replace(path)
