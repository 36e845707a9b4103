"""How each feed is doing, since when, why and what to do: the receipts' last word over the warehouse's."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from assets.ingest.consistency import late_after
from assets.ingest.feed import City
from assets.ingest.lake import Lake
from assets.ingest.trouble import trouble_line
from assets.warehouse.summary import FeedStatus, feed_status
from orchestration.recorded import FeedRecord, feed_records


@dataclass(frozen=True)
class FeedState:
    """One feed in one line; times are UTC without a zone.

    Attributes:
        verdict: As in `quality.feed_freshness`, in words; `never tried` and `not built yet` besides.
        since: Since when it is so, where it is not as it should be.
        rows: Live rows, after the last delivery of each part that arrived.
        rows_missing: Cases that the source no longer has, as of the last build.
        rows_quarantined: By ingest and staging, as of the last build.
        line: What is wrong and what to do; empty where nothing is.
    """

    name: str
    verdict: str
    since: datetime | None
    last_success: datetime | None
    newest_record: datetime | None
    rows: int
    rows_missing: int
    rows_quarantined: int
    line: str


def feed_states(lake: Lake, cities: Sequence[City]) -> list[FeedState]:
    """Return the state of every feed of some cities.

    Raises:
        WarehouseError: The published warehouse cannot be read.
    """
    published = lake.published_warehouse
    ids = [city.id for city in cities]
    built = {(one.city, one.feed): one for one in feed_status(published, ids)} if published.exists() else {}
    return [
        feed_state(record, built.get((record.feed.city, record.feed.id)))
        for record in feed_records(lake, cities)
    ]


def feed_state(record: FeedRecord, built: FeedStatus | None) -> FeedState:
    """Return the state of one feed.

    Args:
        record: What its receipts say, up to the last attempt.
        built: What the warehouse says, up to the last build.
    """
    verdict, since, line = judged(record, built)
    return FeedState(
        name=f"{record.feed.city}/{record.feed.id}",
        verdict=verdict,
        since=since,
        last_success=record.last_success,
        newest_record=built.newest_record_at if built else None,
        rows=record.rows_known,
        rows_missing=built.rows_missing if built else record.rows_missing,
        rows_quarantined=built.rows_quarantined if built else record.quarantined.total(),
        line=line,
    )


def judged(record: FeedRecord, built: FeedStatus | None) -> tuple[str, datetime | None, str]:
    """Return the verdict on a feed, since when it holds, and the line about it."""
    feed = record.feed
    name, again = f"{feed.city}/{feed.id}", f"`citysignal run --city {feed.city}`"
    if record.troubles:
        state = record.troubles[0].state if record.last_success else "never landed"
        return state, min(one.since for one in record.troubles), trouble_line(record.troubles)
    if record.last_success is None:
        return "never tried", None, f"{name} was never tried -> {again}"
    if built is None or built.last_success_at is None:
        return "not built yet", None, f"{name} landed and is not in the warehouse yet -> {again}"
    if built.verdict != "late":
        # What the warehouse knows of a failure is over: the receipts know of none.
        verdict = "not built yet" if built.verdict in ("failing", "blocked") else built.verdict
        line = f"{name} arrives again and is not in the warehouse yet -> {again}"
        return verdict, None, line if verdict == "not built yet" else ""
    days = late_after()[feed.cadence].total_seconds() / 86400
    late = f"{days:g} days" if days >= 1 else f"{days * 24:g} hours"
    return (
        "late",
        built.newest_record_at,
        f"{name} late since {built.newest_record_at or built.last_success_at:%Y-%m-%d}: "
        f"no newer record came, and what comes {feed.cadence} is late after {late} "
        f"-> look at {feed.landing_page} whether the publisher still updates it or has a successor",
    )
