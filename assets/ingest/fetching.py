"""From a portal to pages on disk: what is asked, from where on, and whether the answer was whole.

How a protocol is spoken belongs to the connectors; what the pages are to the lake, to building.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb

from assets.ingest.building import Sweep
from assets.ingest.feed import City, Feed
from assets.ingest.known_rows import Comparison
from assets.ingest.lake import Lake
from assets.ingest.moments import capped, instant, month_days, shifted, step
from assets.ingest.page_records import stage_pages
from assets.ingest.parsing import Staged
from assets.ingest.part import Part
from assets.ingest.portals.connectors import connect_portal
from assets.ingest.portals.page import Ask, Connector, Cursor, Description
from assets.ingest.portals.pages_on_disk import NOTES, PageFolder, StoredPage, keep_all, read_pages
from assets.ingest.portals.wire import Wire, read_token, shown
from assets.ingest.receipts import RECEIPT, Delivery, DeliveryError
from assets.ingest.sql_expression import literal

#: What a fetch asked for, so that the next attempt can go on where a killed one stopped.
ASKED = "asked.json"
#: A fetch that began longer ago is begun anew: its upper bound is too old.
RESUMED_WITHIN = timedelta(hours=24)
#: Where more of a data set than this changed since the cursor, the publisher loaded it anew.
RELOAD_SHARE = 0.5
#: A portal that counts other rows in more months than this is asked for all ids at once.
MONTHS_SWEPT = 36


@dataclass
class Past:
    """What earlier deliveries of a part leave to the next one.

    Attributes:
        cursor: Where the next question begins; nothing where the part was never read whole.
        until: Upper bound of the question before.
        full_at: When it was last read whole.
        types: Source columns and types, as the portal told last.
        fingerprint: Of the declaration that the last delivery was read with.
    """

    cursor: Cursor | None = None
    until: datetime | None = None
    full_at: datetime | None = None
    types: dict[str, str] = field(default_factory=dict)
    fingerprint: str | None = None


def make_wire(lake: Lake, feed: Feed, part: Part, options: Mapping[str, Any] | None = None) -> Wire:
    """Return the way to a part's portal.

    Args:
        lake: Gives the slots of hosts.
        feed: The feed.
        part: The part.
        options: Arguments of Wire, where not the usual ones.

    Raises:
        DeliveryError: The declared token is not set.
    """
    request = feed.request_of(part)
    usual = {
        "token": read_token(request.token_env),
        "slots": lake.host_slots,
        "calls_at_once": request.calls_at_once,
    }
    return Wire(**{**usual, **(options or {})})


def note_calls(delivery: Delivery, wire: Wire) -> None:
    """Add to a delivery how often its portal was asked, and let go of the portal."""
    delivery.calls += wire.calls
    delivery.retries += wire.retries
    delivery.bytes_received += wire.bytes_received
    wire.close()


class PortalFetch:
    """One question to a portal, from the first call to the last page."""

    def __init__(
        self,
        lake: Lake,
        city: City,
        feed: Feed,
        part: Part,
        delivery: Delivery,
        folder: Path,
        past: Past,
        *,
        days: tuple[date, date] | None = None,
        wire_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepare; the portal is asked by `stage` and `sweep`.

        Args:
            lake: Gives the slots of hosts.
            city: Its time zone reads cursors.
            feed: The feed.
            part: The part.
            delivery: Gets mode, cursors, columns and counts of calls.
            folder: The fetch folder.
            past: What the deliveries before left.
            days: A backfill's first day and first day after, by event time.
            wire_options: Arguments of Wire, where not the usual ones.

        Raises:
            DeliveryError: The token is not set, or the source is no address of the protocol.
        """
        self._city, self._feed, self._part = city, feed, part
        self._delivery, self._folder, self._past, self._days = delivery, folder, past, days
        self._wire = make_wire(lake, feed, part, wire_options)
        self._connector: Connector = connect_portal(feed, part, self._wire)
        self._pages = PageFolder(folder)

    def close(self) -> None:
        """Note how often the portal was asked, and let go of it."""
        note_calls(self._delivery, self._wire)

    def stage(self, con: duckdb.DuckDBPyConnection) -> Staged:
        """Fetch the pages and stage their records while they come.

        Raises:
            DeliveryError: The portal refused, failed, lacks a mapped column, or did not give all rows.
        """
        description = self._connector.describe()
        note_schema(self._delivery, description, self._past, self._feed, self._part)
        ask = self._resumed() or self._ask(description)
        self._note_question(ask)
        self._delivery.until = ask.until
        there = list(self._pages.pages)
        is_complete = bool(there) and there[-1].next is None
        coming: Iterator[StoredPage] = (
            iter(()) if is_complete else keep_all(self._connector.pages(ask), self._pages)
        )
        staged = stage_pages(
            con,
            (page for page in chain(there, coming) if page.purpose == "rows"),
            self._folder,
            self._feed,
            self._part,
            self._folder,
            known_columns=tuple(description.columns),
        )
        self._verify(con, ask, description, staged)
        self._delivery.cursor_to = self._cursor_to(ask)
        return staged

    def _note_question(self, ask: Ask) -> None:
        said = {
            "mode": self._delivery.mode,
            "until": ask.until.isoformat(),
            "since": ask.since and vars(ask.since),
            **identity(self._feed, self._part),
        }
        if ask.days is None:
            (self._folder / ASKED).write_text(json.dumps(said), encoding="utf-8")

    def sweep(self, found: Comparison) -> Sweep | None:
        """Ask what the portal still has of the months whose counts differ, or of all."""
        sync = self._feed.sync_of(self._part)
        if sync.deletions == "never" or self._delivery.mode != "incremental":
            return None
        id_columns = self._feed.sources(self._part)["source_id"].columns()
        months: tuple[str, ...] | None = None
        if sync.deletions == "by_month" and sync.created is not None:
            counts = self._connector.months(sync.created)
            if counts is not None:
                months = differing(counts, found, self._delivery.attempted_at)
                if not months:
                    return None
                months = months if len(months) <= MONTHS_SWEPT else None
        asked: tuple[str | None, ...] = (None,) if months is None else months
        for month in asked:
            before = len(self._pages.pages)
            for page in self._connector.ids(id_columns, sync.created, month):
                self._pages.keep(page, "ids", month)
            if len(self._pages.pages) == before:
                raise DeliveryError("BrokenAnswer", "the portal gave no page of ids; try again later")
        return stored_sweep(self._feed, self._part, self._folder, self._pages.pages)

    def _ask(self, description: Description) -> Ask:
        delivery, sync = self._delivery, self._feed.sync_of(self._part)
        until = delivery.attempted_at
        if self._days is not None:
            delivery.mode = "backfill"
            return Ask("full", until, days=self._days)
        delivery.mode = sync.mode
        if sync.mode in ("full", "snapshot"):
            return Ask(sync.mode, until)
        since = self._past.cursor
        if sync.mode == "incremental" and (since is None or self._is_due(sync.full_every_days)):
            delivery.mode = "full"
            return Ask("full", until)
        delivery.cursor_from = since and vars(since)
        ask = Ask(sync.mode, until, since and self._overlapped(since, sync.overlap))
        if sync.mode == "incremental" and self._is_reloaded(ask, description):
            delivery.mode = "full"
            return Ask("full", until)
        return ask

    def _overlapped(self, cursor: Cursor, overlap: timedelta) -> Cursor:
        """Return where to begin: what changed shortly before the last question may be written after it.

        Rows whose change lies further back were all there then: a reload that gave every row the same time
        is not read again with every question.
        """
        at, before = instant(cursor.at, self._city.time_zone), self._past.until
        # Of rows told to the day, some of that day may be yet to come.
        if at is not None and before is not None and at + step(cursor.at) <= before - overlap:
            # A cursor without an id stands behind all rows of its time.
            return cursor if cursor.id else Cursor(shifted(cursor.at, step(cursor.at)))
        return Cursor(shifted(cursor.at, -overlap))

    def _is_due(self, every_days: float | None) -> bool:
        if every_days is None or self._past.full_at is None:
            return False
        return self._delivery.attempted_at - self._past.full_at >= timedelta(days=every_days)

    def _is_reloaded(self, ask: Ask, description: Description) -> bool:
        changed = self._connector.count(ask)
        if changed is None or not description.rows:
            return False
        is_reloaded = changed > RELOAD_SHARE * description.rows
        if is_reloaded:
            self._delivery.notes.append(
                f"the portal says {changed:,} of {description.rows:,} rows changed since the last read: "
                "taken for a reload, read whole and compared by content"
            )
        return is_reloaded

    def _resumed(self) -> Ask | None:
        """Return the question of the pages that an earlier attempt left in the folder."""
        if not self._pages.pages or self._days is not None:
            return None
        said = json.loads((self._folder / ASKED).read_text("utf-8"))
        self._delivery.mode = said["mode"]
        since = said["since"] and Cursor(**said["since"])
        if self._past.cursor is not None and said["mode"] != "full":
            self._delivery.cursor_from = vars(self._past.cursor)
        pages = [page for page in self._pages.pages if page.purpose == "rows"]
        self._delivery.notes.append(f"went on after {len(pages):,} pages of an attempt that was cut off")
        return Ask(said["mode"], datetime.fromisoformat(said["until"]), since, resume=pages[-1].next)

    def _verify(
        self, con: duckdb.DuckDBPyConnection, ask: Ask, description: Description, staged: Staged
    ) -> None:
        """Compare what came with what the portal counts; rows may come and go during a read."""
        if ask.mode != "full":
            return
        counted = self._connector.count(ask)
        if counted is None:
            return
        least = counted if ask.days or description.rows is None else min(counted, description.rows)
        gave, what = staged.rows_in_file, "rows"
        if ask.resume is not None and gave >= least and "source_id" in self._feed.sources(self._part):
            # Were the rows put into another order meanwhile, some came twice and others not at all.
            keys = "count(distinct source_id) + count(*) filter (source_id is null)"
            gave = con.execute(f"select {keys} from {staged.relation}").fetchone()[0]  # noqa: S608
            what = "different ones over two attempts"
        if gave < least:
            # Pages that do not add up are not gone on with.
            (self._folder / ASKED).unlink(missing_ok=True)
            raise DeliveryError(
                "CountMismatch",
                f"the portal counts {counted:,} rows and gave {gave:,} {what}; nothing was taken: "
                "run again, or lower page_rows",
            )

    def _cursor_to(self, ask: Ask) -> dict[str, str] | None:
        if self._days is not None:
            return self._past.cursor and vars(self._past.cursor)
        seen = [page.cursor for page in self._pages.pages if page.cursor is not None]
        cursor = seen[-1] if seen else None
        before = self._past.cursor
        if cursor is None:
            return before and vars(before)
        zone = self._city.time_zone
        at = capped(cursor.at, ask.until, zone)
        cursor = cursor if at == cursor.at else Cursor(at)
        if before is not None and ask.mode != "full":
            then, now = instant(before.at, zone), instant(cursor.at, zone)
            if then is not None and now is not None and now < then:
                cursor = before
        return vars(cursor)


def note_schema(delivery: Delivery, description: Description, past: Past, feed: Feed, part: Part) -> None:
    """Note the columns that came, went and changed their type.

    Raises:
        DeliveryError: A mapped column is not there, or has another type and the declaration is as before.
    """
    now, before = description.columns, past.types
    delivery.source_types = dict(now)
    if not now:
        return
    mapped = {
        name: canonical for canonical, source in feed.sources(part).items() for name in source.columns()
    }
    derived = {"geometry_x", "geometry_y"}
    lost = sorted(name for name in mapped if name not in now and name not in derived)
    changes = []
    if before:
        changes += [("added", name, None, now[name]) for name in now if name not in before]
        changes += [("removed", name, before[name], None) for name in before if name not in now]
        changes += [
            ("retyped", name, before[name], now[name])
            for name in now
            if name in before and before[name] != now[name]
        ]
    delivery.schema_changes = [
        {"column": name, "change": change, "before": was, "after": is_, "is_mapped": name in mapped}
        for change, name, was, is_ in changes
    ]
    if changes:
        said = ", ".join(f"{name} {change}" for change, name, _, _ in changes[:6])
        delivery.notes.append(f"the portal's columns changed: {said}{', …' if len(changes) > 6 else ''}")
    if lost:
        said = ", ".join(f"{name!r} (for {mapped[name]})" for name in lost[:6])
        fresh = ", ".join(name for change, name, _, _ in changes if change == "added")
        hint = f"; new there: {fresh}" if fresh else f"; it has {', '.join(list(now)[:15])}"
        raise DeliveryError(
            "ColumnsGone",
            f"the portal no longer has the mapped column{'s' if len(lost) > 1 else ''} {said}{hint}; "
            "correct `columns`",
            "blocked",
        )
    retyped = [name for change, name, _, _ in changes if change == "retyped" and name in mapped]
    if retyped and past.fingerprint == delivery.fingerprint:
        raise DeliveryError(
            "ColumnsRetyped",
            f"the portal changed the type of {', '.join(retyped[:6])}; check that the mapping still holds, "
            "then say so by a change of it, for example `{sql: '\"name\"'}`",
            "blocked",
        )


def differing(counts: Mapping[str, int], found: Comparison, until: datetime) -> tuple[str, ...]:
    """Return the months of which the portal has another number of rows than is known, and those in doubt.

    More rows than known in this month or the last are rows that came after the upper bound of the question.
    Months far ahead hold no events but stand-ins (9999-12-31), for which no portal can be asked by days.
    """
    lately, far = f"{until - timedelta(days=31):%Y-%m}", f"{until + timedelta(days=730):%Y-%m}"
    wanted = {
        month
        for month in {*counts, *found.months}
        if counts.get(month, 0) < found.months.get(month, 0)
        or (counts.get(month, 0) > found.months.get(month, 0) and month < lately)
    }
    return tuple(sorted(month for month in wanted | set(found.suspects) if month <= far))


def stored_sweep(feed: Feed, part: Part, folder: Path, pages: list[StoredPage]) -> Sweep | None:
    """Return the sweep whose pages of ids lie in a folder, if there are any."""
    ids = [page for page in pages if page.purpose == "ids"]
    if not ids:
        return None
    months = tuple(dict.fromkeys(page.month for page in ids if page.month is not None))

    def make(con: duckdb.DuckDBPyConnection) -> None:
        con.execute("create or replace temp table swept (id varchar, month varchar)")
        con.execute("alter table rejects rename to rejects_of_rows")
        for month in months or (None,):
            work = folder / f"swept-{month or 'all'}"
            work.mkdir(exist_ok=True)
            named = [page for page in ids if page.month == month]
            columns = feed.sources(part)["source_id"].columns()
            staged = stage_pages(
                con, named, folder, feed, part, work, known_columns=columns, names=("source_id",)
            )
            told = literal(month) if month is not None else "null"
            con.execute(f"insert into swept select source_id, {told} from {staged.relation}")  # noqa: S608
        con.execute("drop table rejects; alter table rejects_of_rows rename to rejects")

    return Sweep(months or None, make)


def stage_stored(
    con: duckdb.DuckDBPyConnection, delivery: Delivery, source: Path, feed: Feed, part: Part, folder: Path
) -> tuple[Staged, Sweep | None]:
    """Stage the pages of an earlier delivery again.

    Args:
        con: The connection.
        delivery: The earlier delivery; gives the columns that its portal told.
        source: Its fetch folder.
        feed: The feed, perhaps with another mapping by now.
        part: The part.
        folder: Where to put what is made.
    """
    pages = read_pages(source)
    if not pages:
        raise DeliveryError("BytesGone", "its pages are no longer stored; fetch the feed again")
    rows = (page for page in pages if page.purpose == "rows")
    staged = stage_pages(con, rows, source, feed, part, folder, known_columns=tuple(delivery.source_types))
    return staged, stored_sweep(feed, part, source, pages)


def identity(feed: Feed, part: Part) -> dict[str, Any]:
    """Return what must be the same for a fetch to go on: the data set, and how it is asked."""
    return {
        "part": part.id,
        "source": shown(part.source),
        "request": feed.request_of(part).model_dump(mode="json"),
        "sync": feed.sync_of(part).model_dump(mode="json"),
    }


def take_unfinished(root: Path, folder: Path, feed: Feed, part: Part, now: datetime) -> None:
    """Move the pages of the newest attempt that was cut off into a fetch folder; sweep older leftovers.

    Args:
        root: The feed's landing folder.
        folder: The new fetch folder.
        feed: The feed.
        part: The part.
        now: UTC without a zone.
    """
    for earlier in sorted(
        (each for each in root.iterdir() if each.is_dir() and each != folder), reverse=True
    ):
        if not (earlier / NOTES).is_file() or not (earlier / ASKED).is_file():
            continue
        said = json.loads((earlier / ASKED).read_text("utf-8"))
        asked = {key: said.get(key) for key in identity(feed, part)}
        if asked != identity(feed, part):
            continue
        if now - datetime.fromisoformat(said["until"]) <= RESUMED_WITHIN and not any(folder.iterdir()):
            rows = [page for page in read_pages(earlier) if page.purpose == "rows"]
            names = [ASKED, *(page.file for page in rows)]
            # What failed although every page was there would fail again.
            is_hopeless = bool(rows) and rows[-1].next is None and (earlier / RECEIPT).is_file()
            if rows and not is_hopeless and all((earlier / name).is_file() for name in names):
                for name in names:
                    shutil.copyfile(earlier / name, folder / name)
                notes = (earlier / NOTES).read_text("utf-8").splitlines(keepends=True)
                (folder / NOTES).write_text("".join(notes[: len(rows)]), encoding="utf-8")
        (earlier / NOTES).unlink()
        (earlier / ASKED).unlink()


def month_range(month: str) -> tuple[date, date] | None:
    """Return the days of a month, nothing for rows without one."""
    return month_days(month) if month else None
