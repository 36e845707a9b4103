"""New records of Open311 portals as alerts need them, before they land; raising alerts is alerting's.

A landing while the warehouse is built would put rows into raw that the receipts of that build do not count.
So a look keeps what it saw in its own files, `lake/derived/alerts/seen/<city>.<feed>.<part>/<day>.parquet`:
one row per state of a record, with the columns of raw that an alert needs, still as text. Nothing is lost or
told twice for it: the record lands under the same id when its turn comes.
"""

import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from assets.ingest.feed import City, Feed
from assets.ingest.lake import Lake
from assets.ingest.locate import locate
from assets.ingest.moments import instant, shifted
from assets.ingest.news import pages_after
from assets.ingest.page_records import stage_pages
from assets.ingest.parsing import connect
from assets.ingest.part import Part
from assets.ingest.portals.page import Cursor, Page
from assets.ingest.portals.pages_on_disk import PageFolder
from assets.ingest.receipts import DeliveryError
from assets.ingest.sql_expression import literal, quoted
from assets.relay.durable import put

#: Records show up at a portal somewhat after the time that they bear.
LATE = timedelta(hours=1)
#: A record that comes again within so many days is known; by then it landed, from here or from the bulk feed.
KNOWN_DAYS = 3
DAYS_KEPT = 35
#: Ten thousand records within LATE; who has more is looked at by landing only.
MOST_PAGES = 20

LAST_LOOK = "last_look.json"

#: What an alert needs to know of a record, as its portal says it.
TEXTS = ("source_id", "category", "subcategory", "code", "status", "requested_at", "closed_at")
PLACE = ("x_m", "y_m", "lon", "lat")
SEEN = pa.schema(
    {
        **dict.fromkeys(("city", "feed", *TEXTS), pa.string()),
        **dict.fromkeys(PLACE, pa.float64()),
        "seen_at": pa.timestamp("us"),
    }
)


@dataclass(frozen=True)
class Arrivals:
    """What one look brought.

    Attributes:
        fresh: Records that were not known, and states of known ones that are new.
        records: Records in the answer, known ones too.
    """

    fresh: int
    records: int


def look(lake: Lake, city: City, feed: Feed, part: Part, landed: Cursor, now: datetime) -> Arrivals:
    """Ask a portal for what came lately and keep what is new.

    Args:
        lake: Where to.
        city: The feed's city.
        feed: A feed of service requests.
        part: Behind Open311.
        landed: Up to where the part landed last: a first look begins there.
        now: Now, with a zone.

    Raises:
        DeliveryError: The portal gave no whole, usable answer at once.
    """
    folder = seen_folder(lake, feed, part)
    folder.mkdir(parents=True, exist_ok=True)
    before = _last_look(folder)
    since = _since(before["at"], landed, city.time_zone) if before else landed
    with tempfile.TemporaryDirectory(prefix="citysignal-look-") as work:
        pages = PageFolder(Path(work))
        for page in _pages(lake, feed, part, since, now):
            pages.keep(page)
        said = [page.sha for page in pages.pages]
        # Most looks bring what the one before brought; reading it takes longer than asking for it.
        is_other = not before or said != before["said"]
        fresh = _read(city, feed, part, pages, folder, now) if is_other else 0
    if reached := [page.cursor.at for page in pages.pages if page.cursor]:
        # After the records: cut off here, the next look reads them again and knows them.
        put(folder / LAST_LOOK, json.dumps({"at": reached[-1], "said": said}).encode())
    return Arrivals(fresh, sum(page.rows for page in pages.pages))


def _since(looked: str, landed: Cursor, time_zone: str) -> Cursor:
    """Return from where on to ask: looking or landing got there, less what shows up late.

    What landed is read from raw. After a rest of days the last look lies more pages back than a look reads,
    and only landing can go past them.
    """
    of_look, of_landing = instant(looked, time_zone), instant(landed.at, time_zone)
    is_landing_ahead = of_look is not None and of_landing is not None and of_landing > of_look
    return Cursor(shifted(landed.at if is_landing_ahead else looked, -LATE))


def _last_look(folder: Path) -> dict[str, Any] | None:
    """Return up to where the portal was asked last, and the hashes of what it said."""
    path = folder / LAST_LOOK
    return json.loads(path.read_bytes()) if path.is_file() else None


def _read(city: City, feed: Feed, part: Part, pages: PageFolder, folder: Path, now: datetime) -> int:
    """Keep what is new in some pages, and return how much that is."""
    with connect(pages.folder) as con:
        staged = stage_pages(con, pages.pages, pages.folder, feed, part, pages.folder)
        con.execute(f"create temp view staged as select * from {staged.relation}")  # noqa: S608
        locate(con, "staged", city, crs=feed.crs_of(part), default_points=feed.default_points)
        read_records(con, "staged", feed, part)
        return _keep(con, folder, now)


def seen_folder(lake: Lake, feed: Feed, part: Part) -> Path:
    """Return the folder of what was seen of a part."""
    return lake.derived / "alerts" / "seen" / f"{feed.city}.{feed.id}.{part.id}"


def _pages(lake: Lake, feed: Feed, part: Part, since: Cursor, now: datetime) -> Iterator[Page]:
    with closing(pages_after(lake, feed, part, since, now)) as asked:
        for number, page in enumerate(asked):
            if number == MOST_PAGES:
                raise DeliveryError(
                    "TooMuchNews",
                    f"{feed.city}/{feed.id} has over {MOST_PAGES} pages of new records; land the feed, "
                    "or raise `request.page_rows`",
                )
            yield page


def read_records(con: duckdb.DuckDBPyConnection, relation: str, feed: Feed, part: Part) -> None:
    """Create the temporary table `arrived`: one row per record with an id, SEEN without its time.

    Args:
        con: Sees the relation, of canonical columns as text, and the table `places` of its locations.
        relation: Name of a table or view; of a record that stands in it twice the later row counts.
        feed: The feed.
        part: Says which columns there are.
    """
    mapped = feed.mapping(part)
    texts = ", ".join(
        f"{relation}.{quoted(name)}" if name in mapped else f"null::varchar as {quoted(name)}"
        for name in TEXTS
    )
    con.execute(
        f"""
        create or replace temp table arrived as
        select {literal(feed.city)} as city, {literal(feed.id)} as feed, {texts},
            {", ".join(f"places.{name}" for name in PLACE)}
        from {relation}
        left join places
            on {relation}.x is not distinct from places.x and {relation}.y is not distinct from places.y
        where nullif(trim({relation}.source_id), '') is not null
        qualify row_number() over (partition by {relation}.source_id order by source_row desc) = 1
        """  # noqa: S608
    )


def _keep(con: duckdb.DuckDBPyConnection, folder: Path, now: datetime) -> int:
    """Add to the file of today what of `arrived` is not known so; return how much that is."""
    at = now.astimezone(UTC).replace(tzinfo=None)
    first = f"{at - timedelta(days=KNOWN_DAYS):%Y-%m-%d}.parquet"
    files = sorted(folder.glob("????-??-??.parquet"))
    known = [pq.read_table(path, partitioning=None) for path in files if path.name >= first]
    con.register("known", pa.concat_tables([SEEN.empty_table(), *known]))
    said = ", ".join(name for name in SEEN.names if name != "seen_at")
    fresh = con.execute(
        f"""
        with newest as (
            select {said} from known
            qualify row_number() over (partition by source_id order by seen_at desc) = 1
        )
        select {said}, {literal(at.isoformat())}::timestamp as seen_at
        from (select {said} from arrived except select {said} from newest)
        order by source_id
        """  # noqa: S608
    ).to_arrow_table()
    con.unregister("known")
    if fresh.num_rows:
        today = folder / f"{at:%Y-%m-%d}.parquet"
        before = [pq.read_table(today, partitioning=None)] if today.is_file() else []
        sink = io.BytesIO()
        pq.write_table(pa.concat_tables([*before, fresh.cast(SEEN)]), sink)
        put(today, sink.getvalue())
        for path in files:
            if path.name < f"{at - timedelta(days=DAYS_KEPT):%Y-%m-%d}.parquet":
                path.unlink()
    return fresh.num_rows
