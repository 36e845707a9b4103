"""Staged rows become what a delivery adds to the lake: raw rows, rejects, the index, absences, a verdict.

Where the bytes came from does not matter here, nor when the files take effect: that is landing's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import duckdb

from assets.ingest import known_rows
from assets.ingest.contracts import EVENT_KINDS
from assets.ingest.feed import City, Feed
from assets.ingest.gate import latest_plausible, validate_delivery
from assets.ingest.known_rows import Comparison
from assets.ingest.locate import locate
from assets.ingest.outage_splits import note_splits
from assets.ingest.parsing import Staged
from assets.ingest.part import Part
from assets.ingest.raw_files import (
    drop_known_rejects,
    write_absences,
    write_changed,
    write_quarantine,
    write_raw,
)
from assets.ingest.receipts import Delivery
from assets.ingest.sql_expression import literal

RAW, QUARANTINE, KNOWN, ABSENCES = "raw.parquet", "quarantine.parquet", "known.parquet", "absences.parquet"

#: Under this share of the known keys a source is taken for half loaded, and nothing for gone, unless the
#: declaration says what is usual (a file of open cases loses many a day).
WHOLE_SHARE = 0.95
#: The index of a part is put together when it lies in so many files.
INDEX_FILES = 48

_RECEIVED = "received.parquet"


@dataclass
class Basis:
    """What a delivery is compared with.

    Attributes:
        raw: The part's rows.
        known: The part's index.
        quarantine: The part's rejects.
        months: Live keys by month, as the delivery before left them.
        suspects: Keys found gone once, by month.
        rows_known: Live keys.
        like_days: When and how many new rows earlier deliveries brought.
    """

    raw: list[Path] = field(default_factory=list)
    known: list[Path] = field(default_factory=list)
    quarantine: list[Path] = field(default_factory=list)
    months: dict[str, int] = field(default_factory=dict)
    suspects: dict[str, int] = field(default_factory=dict)
    rows_known: int = 0
    like_days: list[tuple[datetime, int]] = field(default_factory=list)


@dataclass
class Sweep:
    """What a portal still has.

    Attributes:
        months: The months that were looked at; nothing: all.
        make: Makes the table `swept` (id, month).
    """

    months: tuple[str, ...] | None
    make: Callable[[duckdb.DuckDBPyConnection], None]


def build(
    con: duckdb.DuckDBPyConnection,
    staged: Staged,
    city: City,
    feed: Feed,
    part: Part,
    delivery: Delivery,
    folder: Path,
    basis: Basis,
    sweep: Callable[[Comparison], Sweep | None] = lambda found: None,
) -> list[str]:
    """Make the delivery's files in its fetch folder, count what it brings and let the gate judge it.

    Args:
        con: Where `rejects` lies and the staged relation can be read.
        staged: The rows.
        city: The feed's city.
        feed: The feed.
        part: The part.
        delivery: Gets counts, checks, outcome and message; its mode says whether the rows are all rows.
        folder: The fetch folder; RAW, QUARANTINE, KNOWN and ABSENCES appear in it where they hold rows.
        basis: What is known before.
        sweep: Is asked, once the delivery is compared, what the portal still has.

    Returns:
        Months in which the portal has rows that were never seen: they are to be read.
    """
    delivery.rows_in_file = staged.rows_in_file
    delivery.source_columns = list(staged.source_columns)
    delivery.notes += staged.notes
    con.execute(f"create or replace temp view staged as select * from {staged.relation}")  # noqa: S608
    locate(con, "staged", city, crs=feed.crs_of(part), default_points=feed.default_points)
    received = folder / _RECEIVED
    write_raw(con, "staged", feed, part, delivery, received)
    con.execute("drop table places")
    relation = f"read_parquet({literal(str(received))})"
    rejects, known_rejects = _rejects(con, part, delivery, folder, basis)

    unseen: list[str] = []
    if feed.kind in EVENT_KINDS:
        found, unseen = _compared(con, relation, feed, part, delivery, basis, sweep)
    else:
        # Areas and inventories land as whole copies: a district may be several rows, and few rows they are.
        found = _copied(con, relation)
    delivery.rows_new, delivery.rows_changed = found.rows_new, found.rows_changed
    delivery.rows_unchanged = found.rows_unchanged + known_rejects
    delivery.rows_missing, delivery.rows_known = found.gone, found.known
    delivery.months, delivery.suspects = found.months, found.suspects
    _judge(con, received, folder / QUARANTINE, city, feed, part, delivery, basis, found)
    _write(con, feed, received, delivery, folder, basis, found, rejects)
    return unseen


def _rejects(
    con: duckdb.DuckDBPyConnection, part: Part, delivery: Delivery, folder: Path, basis: Basis
) -> tuple[int, int]:
    """Write what could not be parsed; return how much of it is new and how much was set aside before."""
    write_quarantine(con, part, delivery, folder / QUARANTINE)
    known = drop_known_rejects(con, basis.quarantine)
    delivery.quarantine_reasons = dict(
        con.execute("select reason, count(*) from rejects group by all order by 2 desc, 1").fetchall()
    )
    delivery.rows_quarantined = sum(delivery.quarantine_reasons.values())
    return delivery.rows_quarantined, known


def _compared(
    con: duckdb.DuckDBPyConnection,
    relation: str,
    feed: Feed,
    part: Part,
    delivery: Delivery,
    basis: Basis,
    sweep: Callable[[Comparison], Sweep | None],
) -> tuple[Comparison, list[str]]:
    is_whole = delivery.mode in ("full", "snapshot")
    is_file = feed.portal_of(part) == "files"
    known_rows.receive(con, relation, known_rows.month_of(feed, part), is_ordered=is_file)
    known_rows.compare(con, basis.known, is_whole=is_whole)
    con.execute(
        "create or replace temp table gone (source_id varchar, month varchar, misses integer, reason varchar)"
    )
    if is_whole:
        _find_gone(con, feed, delivery, basis)
        if delivery.mode == "snapshot" and feed.kind == "utility":
            note_splits(con, relation, basis.raw, feed, part)
    found = _summary(con, basis, is_whole=is_whole)
    asked = None if is_whole else sweep(found)
    if asked is None:
        return found, []
    asked.make(con)
    unseen = known_rows.find_gone_of_months(con, basis.known, asked.months)
    _doubt_half_loaded(con, feed, delivery, basis)
    return _summary(con, basis, is_whole=False), unseen


def _find_gone(con: duckdb.DuckDBPyConnection, feed: Feed, delivery: Delivery, basis: Basis) -> None:
    is_snapshot = delivery.mode == "snapshot"
    if not is_snapshot and (feed.part(delivery.part).sync or feed.sync).deletions == "never":
        # A source that shows a window of time only: what left the window is not gone.
        return
    known_rows.find_gone(con, ends_at_once=is_snapshot)
    if not is_snapshot:
        _doubt_half_loaded(con, feed, delivery, basis)


def _doubt_half_loaded(con: duckdb.DuckDBPyConnection, feed: Feed, delivery: Delivery, basis: Basis) -> None:
    """Take nothing for gone where too much of what is known is."""
    gone = con.execute("select count(*) from gone where misses = 1").fetchone()[0]
    if basis.rows_known and gone > (1 - _whole_share(feed)) * basis.rows_known:
        con.execute("delete from gone")
        delivery.notes.append(
            f"{gone:,} of {basis.rows_known:,} known rows are not there: the source is taken for half loaded "
            "and no row for gone; look again tomorrow, or ask the publisher"
        )


def _whole_share(feed: Feed) -> float:
    is_said = "min_volume_ratio" in feed.expect.model_fields_set
    return min(WHOLE_SHARE, feed.expect.min_volume_ratio) if is_said else WHOLE_SHARE


def _summary(con: duckdb.DuckDBPyConnection, basis: Basis, *, is_whole: bool) -> Comparison:
    return known_rows.summarise(
        con, is_whole=is_whole, months_before=basis.months, suspects_before=basis.suspects
    )


def _copied(con: duckdb.DuckDBPyConnection, relation: str) -> Comparison:
    rows = con.execute(f"select count(*) from {relation}").fetchone()[0]  # noqa: S608
    return Comparison(rows_new=rows, known=rows)


def _judge(
    con: duckdb.DuckDBPyConnection,
    received: Path,
    quarantine: Path,
    city: City,
    feed: Feed,
    part: Part,
    delivery: Delivery,
    basis: Basis,
    found: Comparison,
) -> None:
    delivery.distinct_keys = con.execute(
        f"select count(distinct source_id) from read_parquet({literal(str(received))})"  # noqa: S608
    ).fetchone()[0]
    delivery.checks = validate_delivery(
        con,
        received,
        quarantine,
        city,
        feed,
        part,
        mode="incremental" if delivery.mode == "backfill" else delivery.mode,
        rows_seen=delivery.rows_in_file,
        rows_known_before=basis.rows_known or None,
        new_rows=None if delivery.mode == "backfill" else found.rows_new,
        like_days=basis.like_days,
        delivered_at=delivery.delivered_at,
        latest=latest_plausible(feed, delivery.delivered_at),
        rows_in_file=delivery.rows_in_file,
    )
    failed = [check for check in delivery.checks if not check.passed]
    blocking = [check for check in failed if check.blocking]
    delivery.outcome = "blocked" if blocking else "landed"
    if blocking:
        delivery.error_type = "GateFailed"
        delivery.message = "; ".join(check.message for check in blocking)
        return
    delivery.message = "; ".join([*(f"{check.name}: {check.message}" for check in failed), *delivery.notes])


def _write(
    con: duckdb.DuckDBPyConnection,
    feed: Feed,
    received: Path,
    delivery: Delivery,
    folder: Path,
    basis: Basis,
    found: Comparison,
    rejects: int,
) -> None:
    """Write what takes effect; a delivery that brings nothing leaves no file."""
    (folder / QUARANTINE).unlink()
    is_event = feed.kind in EVENT_KINDS
    records = found.rows_new + found.rows_changed
    delivery.rows_raw = records
    if delivery.outcome == "blocked":
        received.unlink()
        delivery.rows_raw = delivery.rows_in_file - delivery.rows_quarantined
        return
    if records and not found.rows_unchanged:
        received.rename(folder / RAW)
    elif records:
        write_changed(con, received, delivery, folder / RAW)
    received.unlink(missing_ok=True)
    if rejects:
        write_quarantine(con, feed.part(delivery.part), delivery, folder / QUARANTINE)
    if is_event and (records or found.gone):
        older = basis.known if len(basis.known) >= INDEX_FILES else ()
        known_rows.write_known(con, delivery.sequence, folder / KNOWN, older)
    if is_event and found.gone:
        write_absences(con, delivery, folder / ABSENCES)
    if not records and not rejects and not found.gone:
        delivery.outcome = "unchanged"


def merged_files(folder: Path, basis: Basis) -> Sequence[Path]:
    """Return the index files that the one in the fetch folder replaces."""
    return basis.known if len(basis.known) >= INDEX_FILES and (folder / KNOWN).is_file() else ()
