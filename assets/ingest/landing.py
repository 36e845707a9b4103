"""Bytes into the lake: fetch, stage, gate, rename, receipt; formats belong to parsing, Parquet to raw_files.

A delivery is worked on in its own fetch folder. Its receipt is written as `receipt.pending.json` once all is
decided; from then on only renames remain, and the next landing completes them if this one is killed. A fetch
folder with neither receipt was killed before and is swept.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
from filelock import FileLock, Timeout

from assets.ingest.feed import City, Feed
from assets.ingest.gate import CheckResult, latest_plausible, validate_delivery
from assets.ingest.lake import Lake
from assets.ingest.locate import locate
from assets.ingest.parsing import connect, stage
from assets.ingest.part import Part
from assets.ingest.portals import files
from assets.ingest.raw_files import versions, write_empty, write_quarantine, write_raw
from assets.ingest.receipts import (
    PENDING,
    RECEIPT,
    Delivery,
    DeliveryError,
    read_receipt,
    read_receipts,
    stored_bytes,
    write_receipt,
    write_receipts_table,
)
from assets.ingest.sql_expression import literal

#: How long a landing waits for another one of the same feed.
LOCK_SECONDS = 600.0

_RAW, _QUARANTINE = "raw.parquet", "quarantine.parquet"


def land_feed(
    lake: Lake,
    city: City,
    feed: Feed,
    *,
    now: datetime,
    progress: Callable[[str], None] | None = None,
) -> list[Delivery]:
    """Fetch every part of a feed and land what is new; a bad source is an outcome, not an exception.

    Args:
        lake: Where to.
        city: The feed's city.
        feed: The feed.
        now: The time of this attempt, UTC.
        progress: Is told one line per part.

    Returns:
        One delivery per part, in declared order.
    """
    now = _utc(now)
    with _landing(lake, feed) as past:
        deliveries = []
        for part in feed.parts:
            delivery = _attempt(lake, city, feed, part, past, now)
            deliveries.append(delivery)
            past.append(delivery)
            if progress is not None:
                progress(_line(delivery))
        return deliveries


def replay_feed(lake: Lake, city: City, feed: Feed, *, now: datetime) -> list[Delivery]:
    """Rebuild the raw rows of a feed from its stored bytes, every delivery of every declared part.

    What the gate kept out before is tried again: the declaration may have been corrected since.
    """
    now = _utc(now)
    with _landing(lake, feed) as past:
        deliveries = []
        parts = {part.id: part for part in feed.parts}
        latest = {(r.part, r.sha): r for r in past if r.part in parts and stored_bytes(lake, r)}
        for receipt in sorted(latest.values(), key=lambda r: (r.part, r.delivered_at or r.attempted_at)):
            delivery = _attempt(lake, city, feed, parts[receipt.part], past, now, replayed=receipt)
            deliveries.append(delivery)
            past.append(delivery)
        return deliveries


def ensure_lake(lake: Lake) -> None:
    """Write zero-row files wherever dbt reads, so that a kind without a feed is an empty table."""
    write_empty(lake)
    write_receipts_table(lake)


@contextmanager
def _landing(lake: Lake, feed: Feed) -> Iterator[list[Delivery]]:
    """Hold the feed alone, finish or sweep what was killed, and yield its receipts, oldest first."""
    folder = lake.landing(feed.city, feed.id)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=LOCK_SECONDS):
            for fetch in sorted(each for each in folder.iterdir() if each.is_dir()):
                if (fetch / PENDING).is_file():
                    _complete(lake, read_receipt(fetch / PENDING), fetch)
                elif not (fetch / RECEIPT).is_file():
                    shutil.rmtree(fetch)
                _tidy(fetch)
            yield read_receipts(folder)
    except Timeout:
        raise DeliveryError(
            "FeedLocked",
            f"{feed.city}/{feed.id} is landed by another process; wait for it, then run again",
        ) from None


def _attempt(
    lake: Lake,
    city: City,
    feed: Feed,
    part: Part,
    past: list[Delivery],
    now: datetime,
    replayed: Delivery | None = None,
) -> Delivery:
    started = time.monotonic()
    delivery = Delivery(
        city=feed.city,
        feed=feed.id,
        part=part.id,
        kind=feed.kind,
        # The true moment in nanoseconds: attempts sort as they were made even where `now` is held fixed.
        fetch_id=f"{now:%Y%m%dT%H%M%SZ}-{part.id}-{time.time_ns():x}",
        outcome="failed",
        action="replay" if replayed else "fetch",
        source=files.shown(part.source),
        attempted_at=now,
        fingerprint=feed.fingerprint(part),
    )
    folder = lake.landing(feed.city, feed.id) / delivery.fetch_id
    folder.mkdir(parents=True)
    mine = [receipt for receipt in past if receipt.part == part.id]
    try:
        if replayed is None:
            _fetch(lake, part, mine, delivery, folder)
        else:
            _point_to(delivery, replayed)
        current = versions(lake, feed, part)
        if replayed is None and _is_unchanged(delivery, current):
            delivery.outcome = "unchanged"
            _describe_current(delivery, current[-1], mine)
        else:
            _date(delivery, part, current, replayed)
            _build(lake, city, feed, part, delivery, folder, current)
    except DeliveryError as error:
        delivery.outcome = error.outcome
        delivery.error_type = error.error_type
        delivery.message = _explained(delivery, str(error))
    except duckdb.Error as error:
        delivery.error_type = type(error).__name__
        reason = str(error).splitlines()[0]
        delivery.message = _explained(delivery, f"DuckDB cannot read it ({reason}); report it with the file")
    delivery.seconds = round(time.monotonic() - started, 3)
    if delivery.outcome == "landed":
        write_receipt(delivery, folder, PENDING)
        _complete(lake, delivery, folder)
    else:
        write_receipt(delivery, folder)
    _tidy(folder)
    return delivery


def _fetch(lake: Lake, part: Part, mine: list[Delivery], delivery: Delivery, folder: Path) -> None:
    """Bring the bytes into the fetch folder, or find that they lie in an earlier one."""
    known = [receipt for receipt in mine if receipt.sha and stored_bytes(lake, receipt)]
    last = known[-1] if known and known[-1].source == delivery.source else None
    fetched = files.fetch(part, folder, etag=last and last.etag, last_modified=last and last.last_modified)
    if fetched.path is None:
        _point_to(delivery, last)
        return
    delivery.sha, delivery.size_bytes = fetched.sha, fetched.size_bytes
    delivery.etag, delivery.last_modified = fetched.etag, fetched.last_modified
    delivery.stored_in, delivery.stored_file = delivery.fetch_id, fetched.path.name
    same = next((receipt for receipt in known if receipt.sha == fetched.sha), None)
    if same is not None:
        # The same bytes are kept once.
        fetched.path.unlink()
        delivery.stored_in, delivery.stored_file = same.stored_in, same.stored_file


def _point_to(delivery: Delivery, earlier: Delivery) -> None:
    delivery.sha, delivery.size_bytes = earlier.sha, earlier.size_bytes
    delivery.etag, delivery.last_modified = earlier.etag, earlier.last_modified
    delivery.stored_in, delivery.stored_file = earlier.stored_in, earlier.stored_file


def _is_unchanged(delivery: Delivery, current: list[dict[str, Any]]) -> bool:
    # A source may go back to bytes it had before: then they are the newest again, and land again.
    newest = current[-1]["delivered_at"] if current else None
    return any(
        version["sha"] == delivery.sha
        and version["fingerprint"] == delivery.fingerprint
        and version["delivered_at"] == newest
        for version in current
    )


def _describe_current(delivery: Delivery, version: dict[str, Any], mine: list[Delivery]) -> None:
    """Repeat the counts of the delivery that is already in raw, and how it was judged."""
    landed = next((r for r in reversed(mine) if r.sha == delivery.sha and r.outcome == "landed"), None)
    delivery.delivered_at = datetime.fromisoformat(version["delivered_at"])
    delivery.rows_raw, delivery.rows_in_file = version["rows"], int(version["rows_in_file"])
    if landed is not None:
        delivery.rows_quarantined = landed.rows_quarantined
        delivery.quarantine_reasons = landed.quarantine_reasons
        delivery.distinct_keys = landed.distinct_keys
        delivery.source_columns = landed.source_columns
        delivery.checks = landed.checks
    delivery.message = "the same bytes as before"


def _date(delivery: Delivery, part: Part, current: list[dict[str, Any]], replayed: Delivery | None) -> None:
    """Say as of when the bytes hold: declared, else when they were first seen as the newest."""
    if part.as_of is not None:
        delivery.delivered_at = part.as_of
    elif replayed is not None:
        delivery.delivered_at = replayed.delivered_at or replayed.attempted_at
    elif current and current[-1]["sha"] == delivery.sha:
        delivery.delivered_at = datetime.fromisoformat(current[-1]["delivered_at"])
    else:
        delivery.delivered_at = delivery.attempted_at


def _build(
    lake: Lake,
    city: City,
    feed: Feed,
    part: Part,
    delivery: Delivery,
    folder: Path,
    current: list[dict[str, Any]],
) -> None:
    """Make raw.parquet and quarantine.parquet in the fetch folder, and let the gate judge them."""
    stored = stored_bytes(lake, delivery)
    with connect(folder) as con:
        staged = stage(con, stored, feed, part, folder)
        delivery.rows_in_file = staged.rows_in_file
        delivery.source_columns, delivery.notes = list(staged.source_columns), staged.notes
        con.execute(f"create temp view staged as from read_parquet({literal(str(staged.path))})")
        locate(con, "staged", city, crs=feed.crs_of(part), default_points=feed.default_points)
        write_raw(con, staged.path, feed, part, delivery, folder / _RAW)
        write_quarantine(con, part, delivery, folder / _QUARANTINE)
        counts = con.execute(
            f"select count(*), count(distinct source_id) from read_parquet({literal(str(folder / _RAW))})"  # noqa: S608
        ).fetchone()
        delivery.rows_raw, delivery.distinct_keys = counts
        delivery.quarantine_reasons = dict(
            con.execute("select reason, count(*) from rejects group by all order by 2 desc, 1").fetchall()
        )
        delivery.rows_quarantined = sum(delivery.quarantine_reasons.values())
        before = [v for v in current if v["sha"] != delivery.sha and _is_before(v, delivery)]
        delivery.checks = validate_delivery(
            con,
            folder / _RAW,
            folder / _QUARANTINE,
            city,
            feed,
            part,
            previous_rows=before[-1]["rows"] if before else None,
            latest=latest_plausible(feed, delivery.delivered_at),
            rows_in_file=staged.rows_in_file,
        )
    _decide(delivery)


def _is_before(version: dict[str, Any], delivery: Delivery) -> bool:
    return datetime.fromisoformat(version["delivered_at"]) <= delivery.delivered_at


def _decide(delivery: Delivery) -> None:
    failed: list[CheckResult] = [check for check in delivery.checks if not check.passed]
    blocking = [check for check in failed if check.blocking]
    delivery.outcome = "blocked" if blocking else "landed"
    if blocking:
        delivery.error_type = "GateFailed"
        delivery.message = _explained(delivery, "; ".join(check.message for check in blocking))
        return
    said = [*(f"{check.name}: {check.message}" for check in failed), *delivery.notes]
    delivery.message = "; ".join(said)


def _explained(delivery: Delivery, what: str) -> str:
    line = " ".join(what.split()).removeprefix(f"{delivery.source} ")
    return f"{delivery.city}/{delivery.feed}, part {delivery.part}, {delivery.source}: {line}"


def _complete(lake: Lake, delivery: Delivery, folder: Path) -> None:
    """Rename what a pending receipt speaks of and is not renamed yet; raw last, then the receipt."""
    name = f"{delivery.part}-{delivery.sha[:12]}.parquet"
    targets = {
        folder / _QUARANTINE: lake.quarantine(delivery.kind, delivery.city, delivery.feed) / name,
        folder / _RAW: lake.raw(delivery.kind, delivery.city, delivery.feed) / name,
    }
    for source, target in targets.items():
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, target)  # noqa: PTH105  the one call that tests make fail
    os.replace(folder / PENDING, folder / RECEIPT)  # noqa: PTH105


def _tidy(folder: Path) -> None:
    """Leave the verbatim bytes and the receipt."""
    if not folder.is_dir():
        return
    kept = {RECEIPT}
    if (folder / RECEIPT).is_file():
        receipt = read_receipt(folder / RECEIPT)
        kept |= {receipt.stored_file} if receipt.stored_in == folder.name else set()
    for each in folder.iterdir():
        if each.is_dir():
            shutil.rmtree(each)
        elif each.name not in kept:
            each.unlink()


def _line(delivery: Delivery) -> str:
    figures = (
        f"{delivery.rows_raw:,} rows, {delivery.rows_quarantined:,} quarantined, {delivery.seconds:.1f} s"
    )
    tail = f" ({delivery.message})" if delivery.message else ""
    return f"{delivery.city}/{delivery.feed} {delivery.part}: {delivery.outcome}, {figures}{tail}"


def _utc(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(tzinfo=None) if now.tzinfo else now
