"""Bytes into the lake: fetch, stage, gate, rename, receipt; formats belong to parsing, protocols to portals.

A delivery is worked on in its own fetch folder. Its receipt is written as `receipt.pending.json` once all
is decided; from then on only renames remain, and the next landing completes them if this one is killed. The
cursor of a feed is what its last receipt says, so it moves with those renames. A fetch folder with neither
receipt was killed before: the next attempt goes on from its pages, or it is swept.
"""

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import duckdb
from filelock import FileLock, Timeout

from assets.ingest.alert_tables import write_no_alerts
from assets.ingest.building import Basis, build, merged_files
from assets.ingest.commit import commit, commit_rebuilt, lake_folders, planned, settle, tidy
from assets.ingest.feed import City, Feed
from assets.ingest.fetching import (
    Past,
    PortalFetch,
    make_wire,
    month_range,
    note_calls,
    take_unfinished,
)
from assets.ingest.lake import Lake
from assets.ingest.parsing import connect, stage
from assets.ingest.part import Part
from assets.ingest.portals import files
from assets.ingest.portals.page import Cursor
from assets.ingest.portals.pages_on_disk import NOTES, read_pages
from assets.ingest.portals.wire import shown
from assets.ingest.raw_files import files_of, said_of, write_empty
from assets.ingest.rebuilding import rebuild_part
from assets.ingest.receipts import (
    Delivery,
    DeliveryError,
    delivery_id,
    read_receipts,
    stored_bytes,
    write_receipt,
    write_receipts_table,
)

log = logging.getLogger(__name__)

#: How long a landing waits for another one of the same feed.
LOCK_SECONDS = 600.0
#: How often a part whose last day is long ago is asked.
SETTLED_EVERY = timedelta(days=30)
#: Rows that no cursor led to are not looked for by reading everything more often than this.
WHOLE_AGAIN_AFTER = timedelta(hours=20)
#: How far back lie the days that a day's volume is compared with.
LIKE_DAYS = timedelta(days=70)


def land_feed(
    lake: Lake,
    city: City,
    feed: Feed,
    *,
    now: datetime,
    progress: Callable[[str], None] | None = None,
    wire_options: Mapping[str, Any] | None = None,
) -> list[Delivery]:
    """Fetch every part of a feed and land what is new; a bad source is an outcome, not an exception.

    Args:
        lake: Where to.
        city: The feed's city.
        feed: The feed.
        now: The time of this attempt, UTC.
        progress: Is told one line per part.
        wire_options: Arguments of Wire, where not the usual ones.

    Returns:
        The deliveries in the order they were made, at least one per part: a changed declaration rebuilds a
        part from its stored bytes first, and rows that the cursor cannot have seen are read after.
    """
    with _Landing.of(lake, city, feed, now, progress, wire_options) as landing:
        for part in feed.parts:
            landing.land(part)
        return landing.made


def backfill_feed(
    lake: Lake,
    city: City,
    feed: Feed,
    *,
    since: date,
    until: date,
    now: datetime,
    progress: Callable[[str], None] | None = None,
    wire_options: Mapping[str, Any] | None = None,
) -> list[Delivery]:
    """Read the rows of some days again, by the time of the event; cursors stay where they are.

    Args:
        lake: Where to.
        city: The feed's city.
        feed: The feed.
        since: First day.
        until: First day after.
        now: The time of this attempt, UTC.
        progress: Is told one line per part.
        wire_options: Arguments of Wire, where not the usual ones.

    Returns:
        One delivery per part whose validity holds one of the days; a file is read whole.
    """
    with _Landing.of(lake, city, feed, now, progress, wire_options) as landing:
        for part in feed.parts:
            if (part.valid_from or since) < until and (part.valid_to or until) > since:
                landing.fetch(part, days=(since, until))
        return landing.made


def replay_feed(lake: Lake, city: City, feed: Feed, *, now: datetime) -> list[Delivery]:
    """Rebuild the raw rows of a feed from its stored bytes, every delivery of every declared part.

    What the gate kept out before is tried again: the declaration may have been corrected since.
    """
    with _Landing.of(lake, city, feed, now, None, None) as landing:
        for part in feed.parts:
            landing.rebuild(part)
        return landing.made


def ensure_lake(lake: Lake) -> None:
    """Write zero-row files wherever dbt reads, so that a kind without a feed is an empty table."""
    write_empty(lake)
    write_no_alerts(lake)
    write_receipts_table(lake)


@dataclass
class _Landing:
    """One feed, held alone, and what is made of it."""

    lake: Lake
    city: City
    feed: Feed
    now: datetime
    progress: Callable[[str], None] | None
    wire_options: Mapping[str, Any] | None
    past: list[Delivery]
    made: list[Delivery] = field(default_factory=list)

    @classmethod
    @contextmanager
    def of(
        cls,
        lake: Lake,
        city: City,
        feed: Feed,
        now: datetime,
        progress: Callable[[str], None] | None,
        wire_options: Mapping[str, Any] | None,
    ) -> "Iterator[_Landing]":
        """Hold the feed, finish or sweep what was killed, and go on from its receipts."""
        root = lake.landing(feed.city, feed.id)
        root.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(root / ".lock", timeout=LOCK_SECONDS):
                for fetch in sorted(each for each in root.iterdir() if each.is_dir()):
                    settle(lake, fetch)
                yield cls(lake, city, feed, _utc(now), progress, wire_options, read_receipts(root))
        except Timeout:
            raise DeliveryError(
                "FeedLocked",
                f"{feed.city}/{feed.id} is landed by another process; wait for it, then run again",
            ) from None

    @property
    def root(self) -> Path:
        return self.lake.landing(self.feed.city, self.feed.id)

    def land(self, part: Part) -> None:
        """Bring a part up to date."""
        if self._needs_rebuilding(part):
            self.rebuild(part)
        if self._is_settled(part):
            return
        # Rows that the portal has and that no cursor led to: they are read by the month they lie in, and
        # where none is known, with all others.
        unseen = self.fetch(part)
        if self._went_on(part):
            # Its upper bound was that of the attempt that was cut off; what came since is asked for at once.
            unseen = self.fetch(part)
        if "" in unseen and not self._was_read_whole(part):
            self.fetch(part, is_whole=True)
            return
        for days in filter(None, map(month_range, unseen)):
            self.fetch(part, days=days)

    def _went_on(self, part: Part) -> bool:
        made = self.made[-1]
        is_good = made.outcome in ("landed", "unchanged") and made.until is not None
        follows = self.feed.sync_of(part).mode in ("incremental", "tail")
        return follows and is_good and made.until < self.now

    def _was_read_whole(self, part: Part) -> bool:
        at = self._past_of(part).full_at
        return at is not None and self.now - at < WHOLE_AGAIN_AFTER

    def fetch(
        self, part: Part, *, days: tuple[date, date] | None = None, is_whole: bool = False
    ) -> list[str]:
        """Make one attempt; return the months in which the portal has rows that were never seen.

        Args:
            part: The part.
            days: Read these days by event time, and leave the cursor where it is.
            is_whole: Read all rows whatever the cursor says.
        """
        delivery = self._begin(part, "fetch")
        folder = self.root / delivery.fetch_id
        unseen: list[str] = []
        started = time.monotonic()
        try:
            if self.feed.portal_of(part) == "files":
                self._land_file(part, delivery, folder)
            else:
                if days is None and not is_whole:
                    take_unfinished(self.root, folder, self.feed, part, self.now)
                past = self._past_of(part)
                past = replace(past, cursor=None) if is_whole else past
                unseen = self._land_pages(part, delivery, folder, past, days)
        except DeliveryError as error:
            delivery.outcome, delivery.error_type = error.outcome, error.error_type
            delivery.message = _explained(delivery, str(error))
        except duckdb.Error as error:
            delivery.outcome, delivery.error_type = "failed", type(error).__name__
            reason = str(error).splitlines()[0]
            delivery.message = _explained(
                delivery, f"DuckDB cannot read it ({reason}); report it with the file"
            )
        except Exception as error:  # one part's surprise must not cost the others their day
            log.exception("%s/%s %s", self.feed.city, self.feed.id, part.id)
            delivery.outcome, delivery.error_type = "failed", "InternalError"
            said = f"{type(error).__name__}: {error}; this is a fault of Citysignal: report it with the log"
            delivery.message = _explained(delivery, said)
        delivery.seconds = round(time.monotonic() - started, 3)
        self._finish(delivery, folder)
        return unseen

    def _begin(self, part: Part, action: str) -> Delivery:
        mine = self._mine(part)
        landed = [receipt for receipt in mine if receipt.outcome == "landed"]
        delivery = Delivery(
            city=self.feed.city,
            feed=self.feed.id,
            part=part.id,
            kind=self.feed.kind,
            # The true moment in nanoseconds: attempts sort as they were made even where `now` is held fixed.
            fetch_id=f"{self.now:%Y%m%dT%H%M%SZ}-{part.id}-{time.time_ns():x}",
            outcome="failed",
            action=action,
            source=shown(part.source),
            attempted_at=self.now,
            fingerprint=self.feed.fingerprint(part),
            sequence=1 + max((receipt.sequence for receipt in landed), default=0),
        )
        (self.root / delivery.fetch_id).mkdir(parents=True)
        return delivery

    def _mine(self, part: Part) -> list[Delivery]:
        return [receipt for receipt in self.past if receipt.part == part.id]

    def _finish(self, delivery: Delivery, folder: Path) -> None:
        if delivery.outcome == "landed":
            merged = merged_files(folder, self._basis(self.feed.part(delivery.part)))
            commit(self.lake, delivery, folder, planned(self.lake, delivery, folder), merged)
        else:
            self._join_polls(delivery)
            write_receipt(delivery, folder)
        tidy(folder)
        self._note(delivery)

    def _note(self, delivery: Delivery) -> None:
        self.past.append(delivery)
        self.made.append(delivery)
        if self.progress is not None:
            self.progress(_line(delivery))

    def _join_polls(self, delivery: Delivery) -> None:
        """Let one receipt stand for a row of attempts that brought nothing."""
        mine = [receipt for receipt in self.past if receipt.part == delivery.part]
        if not mine or delivery.outcome != "unchanged" or delivery.mode not in ("tail", "snapshot"):
            return
        last = mine[-1]
        if last.outcome == "unchanged" and last.mode == delivery.mode:
            delivery.polls = last.polls + 1
            delivery.first_attempted_at = last.first_attempted_at or last.attempted_at
            for name in ("calls", "retries", "bytes_received"):
                setattr(delivery, name, getattr(delivery, name) + getattr(last, name))
            shutil.rmtree(self.root / last.fetch_id, ignore_errors=True)
            self.past.remove(last)

    def _basis(self, part: Part) -> Basis:
        folders, mine = lake_folders(self.lake, self.feed), self._mine(part)
        last = next((r for r in reversed(mine) if r.outcome in ("landed", "unchanged")), None)
        return Basis(
            raw=files_of(folders["raw"], part.id),
            known=files_of(folders["known"], part.id),
            quarantine=files_of(folders["quarantine"], part.id),
            months=dict(last.months) if last else {},
            suspects=dict(last.suspects) if last else {},
            rows_known=last.rows_known if last else 0,
            like_days=self._like_days(mine),
        )

    def _like_days(self, mine: list[Delivery]) -> list[tuple[datetime, int]]:
        """Return when and how many new rows came; a day of polls without any is a day of none."""
        brought = [
            r
            for r in mine
            if r.action == "fetch" and r.outcome in ("landed", "unchanged") and r.mode != "backfill"
        ]
        days: list[tuple[datetime, int]] = []
        # The first read brings all there is, which is like no day.
        for receipt in brought[1:]:
            silent = receipt.first_attempted_at or receipt.attempted_at
            while silent + timedelta(days=1) <= receipt.attempted_at:
                days.append((silent, 0))
                silent += timedelta(days=1)
            days.append((receipt.attempted_at, receipt.rows_new))
        return [(day, rows) for day, rows in days if self.now - day <= LIKE_DAYS]

    def _past_of(self, part: Part) -> Past:
        mine = self._mine(part)
        good = [r for r in mine if r.outcome in ("landed", "unchanged")]
        cursors = [r.cursor_to for r in good if r.cursor_to]
        whole = [r.attempted_at for r in good if r.mode == "full" and r.action == "fetch"]
        # A rebuild asks no portal: its declaration has seen no answer yet.
        told = [r for r in good if r.source_types and r.action == "fetch"]
        return Past(
            cursor=Cursor(**cursors[-1]) if cursors else None,
            until=good[-1].until if good else None,
            full_at=max(whole) if whole else None,
            types=told[-1].source_types if told else {},
            fingerprint=told[-1].fingerprint if told else None,
        )

    def _needs_rebuilding(self, part: Part) -> bool:
        """Whether the part has deliveries whose raw rows were made by another declaration, or are gone."""
        mine = self._mine(part)
        landed = [receipt for receipt in mine if receipt.outcome == "landed"]
        if not landed:
            return False
        judged = [receipt for receipt in mine if receipt.outcome != "failed"]
        if judged[-1].fingerprint != self.feed.fingerprint(part):
            return True
        newest = max((r.sequence for r in landed if r.rows_raw), default=0)
        there = files_of(lake_folders(self.lake, self.feed)["raw"], part.id)
        return newest > 0 and (not there or int(said_of(there[-1])["sequence"]) < newest)

    def _is_settled(self, part: Part) -> bool:
        """Whether a part's time is over and it was asked lately."""
        settles = timedelta(days=self.feed.sync_of(part).settles_after_days)
        if self.feed.portal_of(part) == "files" or part.valid_to is None:
            return False
        ended = datetime.combine(part.valid_to, datetime.min.time()) + settles
        good = [r.attempted_at for r in self._mine(part) if r.outcome in ("landed", "unchanged")]
        return bool(good) and max(good) >= ended and self.now - max(good) < SETTLED_EVERY

    def _land_file(self, part: Part, delivery: Delivery, folder: Path) -> None:
        mine = self._mine(part)
        self._fetch_file(part, mine, delivery, folder)
        last = next((r for r in reversed(mine) if r.outcome in ("landed", "unchanged")), None)
        if last is not None and last.sha == delivery.sha and last.fingerprint == delivery.fingerprint:
            _describe_current(delivery, last)
            return
        delivery.delivered_at = part.as_of or delivery.attempted_at
        delivery.delivery_id = delivery_id(delivery)
        with connect(folder) as con:
            staged = stage(con, stored_bytes(self.lake, delivery), self.feed, part, folder)
            build(con, staged, self.city, self.feed, part, delivery, folder, self._basis(part))
        _explain(delivery)

    def _fetch_file(self, part: Part, mine: list[Delivery], delivery: Delivery, folder: Path) -> None:
        """Bring the bytes into the fetch folder, or find that they lie in an earlier one."""
        known = [receipt for receipt in mine if receipt.sha and stored_bytes(self.lake, receipt)]
        last = known[-1] if known and known[-1].source == delivery.source else None
        wire = make_wire(self.lake, self.feed, part, self.wire_options)
        try:
            fetched = files.fetch(
                part, folder, wire, etag=last and last.etag, last_modified=last and last.last_modified
            )
        finally:
            note_calls(delivery, wire)
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

    def _land_pages(
        self,
        part: Part,
        delivery: Delivery,
        folder: Path,
        past: Past,
        days: tuple[date, date] | None,
    ) -> list[str]:
        fetch = PortalFetch(
            self.lake,
            self.city,
            self.feed,
            part,
            delivery,
            folder,
            past,
            days=days,
            wire_options=self.wire_options,
        )
        try:
            with connect(folder) as con:
                staged = fetch.stage(con)
                pages = [page for page in read_pages(folder) if page.purpose == "rows"]
                delivery.sha = sha256("".join(page.sha for page in pages).encode()).hexdigest()
                delivery.size_bytes = sum(page.size_bytes for page in pages)
                delivery.stored_in, delivery.stored_file = delivery.fetch_id, NOTES
                delivery.delivered_at = part.as_of or delivery.attempted_at
                delivery.delivery_id = delivery_id(delivery)
                basis = self._basis(part)
                unseen = build(con, staged, self.city, self.feed, part, delivery, folder, basis, fetch.sweep)
        finally:
            fetch.close()
        _explain(delivery)
        return unseen

    def rebuild(self, part: Part) -> None:
        """Make the raw rows of a part anew from its stored bytes, in the order they came.

        A delivery that the declaration of today does not fit keeps the rows it has. Of a part without any
        stored delivery nothing is said.
        """
        mine = [r for r in self._mine(part) if r.action == "fetch" and _is_stored(self.lake, r)]
        mine = [r for r in mine if r.outcome in ("landed", "blocked")]
        if not mine:
            return
        delivery = self._begin(part, "replay")
        folder = self.root / delivery.fetch_id
        started = time.monotonic()
        built, refused = rebuild_part(self.lake, self.city, self.feed, part, mine, delivery, folder)
        delivery.seconds = round(time.monotonic() - started, 3)
        if built:
            commit_rebuilt(self.lake, self.feed, part, delivery, folder, built)
        else:
            delivery.outcome, delivery.error_type = "blocked", refused[-1].error_type
            delivery.checks = refused[-1].checks
            delivery.message = _explained(delivery, refused[-1].message)
            write_receipt(delivery, folder)
        tidy(folder)
        self._note(delivery)


def _point_to(delivery: Delivery, earlier: Delivery) -> None:
    delivery.sha, delivery.size_bytes = earlier.sha, earlier.size_bytes
    delivery.etag, delivery.last_modified = earlier.etag, earlier.last_modified
    delivery.stored_in, delivery.stored_file = earlier.stored_in, earlier.stored_file


def _describe_current(delivery: Delivery, landed: Delivery) -> None:
    """Repeat the counts of the delivery that is already in raw, and how it was judged."""
    for name in (
        "delivered_at",
        "delivery_id",
        "rows_in_file",
        "rows_raw",
        "rows_unchanged",
        "rows_quarantined",
        "quarantine_reasons",
        "distinct_keys",
        "source_columns",
        "checks",
        "rows_known",
        "months",
        "suspects",
    ):
        setattr(delivery, name, getattr(landed, name))
    delivery.outcome = "unchanged"
    delivery.message = "the same bytes as before"


def _explain(delivery: Delivery) -> None:
    if delivery.outcome == "blocked":
        delivery.message = _explained(delivery, delivery.message)


def _explained(delivery: Delivery, what: str) -> str:
    line = " ".join(what.split()).removeprefix(f"{delivery.source} ")
    return f"{delivery.city}/{delivery.feed}, part {delivery.part}, {delivery.source}: {line}"


def _is_stored(lake: Lake, receipt: Delivery) -> bool:
    return stored_bytes(lake, receipt) is not None


def _line(delivery: Delivery) -> str:
    figures = (
        f"{delivery.rows_raw:,} rows, {delivery.rows_quarantined:,} quarantined, {delivery.seconds:.1f} s"
    )
    tail = f" ({delivery.message})" if delivery.message else ""
    return f"{delivery.city}/{delivery.feed} {delivery.part}: {delivery.outcome}, {figures}{tail}"


def _utc(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(tzinfo=None) if now.tzinfo else now
