"""The fast lane: Open311 feeds looked at every 15 seconds, and landed when there is something new.

The sensor only looks, with one question and no retries, and starts a run of `fast_lane` when an answer holds
a record that the look before did not. It does not land itself: a landing while the warehouse is built would
put rows into raw that the receipts of that build do not count, and the build would be thrown away. A run
waits in Dagster's queue for the build, and only one waits or works at a time. Looking leaves no run and no
receipt, so an idle night leaves nothing in the history; of the runs that landed something the newest are
kept. Nothing is built from a fast landing until the hourly schedule of the feed does. Agency alerts wait
neither for the landing nor for the build: `alert_lane.py` looks for itself.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

import dagster as dg

from assets.ingest.clock import Clock
from assets.ingest.feed import City, Feed
from assets.ingest.lake import Lake
from assets.ingest.part import Part
from assets.ingest.portals.page import Cursor, Page
from assets.ingest.raw_tables import raw_key
from assets.ingest.receipts import RECEIPT, DeliveryError, read_receipt

FAST_LANE = "fast_lane"
FAST_CADENCE = "hourly"
EVERY_SECONDS = 15
#: The whole tick has 60 seconds, and what it does not come to is first in the next.
TICK_SECONDS = 30.0
#: Pages of one look. The records since the last landing fill no more, or a run is due anyway.
LOOK_PAGES = 2
#: Ticks that a portal which refuses or fails is left alone at most: a quarter of an hour.
LONGEST_REST = 60
RUNS_KEPT = 100
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

Look = Callable[[Lake, Feed, Part, Cursor, datetime], frozenset[str]]


@dataclass
class Memory:
    """What the sensor knows of one part between two ticks.

    Attributes:
        seen: Hashes of the records of the last look.
        failures: Looks in a row that failed.
        rest: Ticks that are sat out before the next look.
    """

    seen: list[str] = field(default_factory=list)
    failures: int = 0
    rest: int = 0


def fast_feeds(cities: Mapping[str, City], *, is_simulated: bool) -> list[tuple[Feed, Part]]:
    """Return the Open311 parts of hourly feeds, of real or of simulated cities."""
    return [
        (feed, part)
        for city in cities.values()
        if city.is_simulated == is_simulated
        for feed in city.feeds.values()
        if feed.cadence == FAST_CADENCE
        for part in feed.parts
        if feed.portal_of(part) == "open311"
    ]


def fast_lane_jobs(cities: Mapping[str, City]) -> list[Any]:
    """Return the job that lands fast feeds, where there are any; it builds nothing."""
    feeds = [feed for flag in (False, True) for feed, _ in fast_feeds(cities, is_simulated=flag)]
    if not feeds:
        return []
    return [
        dg.define_asset_job(
            FAST_LANE,
            selection=dg.AssetSelection.assets(*{raw_key(feed.city, feed.id) for feed in feeds}),
            description="Open311 feeds, as far as the lake, as soon as their portal has something new.",
            # A second of landing goes before a build of minutes.
            tags={"dagster/priority": "1"},
        )
    ]


def fast_lane_sensors(cities: Mapping[str, City], lake: Lake, clock: Clock) -> list[dg.SensorDefinition]:
    """Return the sensors over fast feeds: that of simulated cities is off until someone turns it on."""
    sensors = []
    for is_simulated in (False, True):
        if parts := fast_feeds(cities, is_simulated=is_simulated):
            sensors.append(fast_lane_sensor(parts, lake, clock, is_simulated=is_simulated))
    return sensors


def fast_lane_sensor(
    parts: list[tuple[Feed, Part]],
    lake: Lake,
    clock: Clock,
    *,
    is_simulated: bool = False,
    look: Look | None = None,
) -> dg.SensorDefinition:
    """Return the sensor over some Open311 parts.

    Args:
        parts: What to look at.
        lake: Where what landed last is told.
        clock: Up to when a look asks.
        is_simulated: Whether it is off until someone turns it on.
        look: How to look, where not by asking the portal.
    """
    watched = {f"{feed.city}/{feed.id}/{part.id}": (feed, part) for feed, part in parts}

    @dg.sensor(
        name=f"{FAST_LANE}_simulated" if is_simulated else FAST_LANE,
        job_name=FAST_LANE,
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.STOPPED if is_simulated else dg.DefaultSensorStatus.RUNNING,
        description="Lands Open311 feeds of cities in use as soon as their portal has something new.",
    )
    def fast_lane(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        if is_running(context.instance):
            return dg.SkipReason("What was new before is still being landed.")
        memories = remembered(context.cursor, watched)
        fresh, said = look_around(watched, memories, lake, clock.now(), look or records_after)
        context.update_cursor(noted(memories))
        if not fresh:
            return dg.SkipReason("; ".join(said) or "Nothing is new.")
        forget_old_runs(context.instance)
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(
                    asset_selection=sorted({raw_key(feed.city, feed.id) for feed in fresh}),
                    tags={"citysignal/news": ",".join(sorted(f"{one.city}/{one.id}" for one in fresh))},
                )
            ]
        )

    return fast_lane


def look_around(
    watched: Mapping[str, tuple[Feed, Part]],
    memories: dict[str, Memory],
    lake: Lake,
    now: datetime,
    look: Look,
) -> tuple[list[Feed], list[str]]:
    """Look at each part whose turn it is, and remember what was seen.

    Returns:
        The feeds that have something new, and one line for each part that could not be looked at.
    """
    fresh, said = [], []
    deadline = time.monotonic() + TICK_SECONDS
    # Those that were looked at go to the end of the line.
    for name in list(memories):
        memory = memories[name]
        feed, part = watched[name]
        if memory.rest:
            memory.rest -= 1
            said.append(f"{name} is left alone after {memory.failures} failed looks.")
            continue
        if time.monotonic() > deadline:
            break
        memories[name] = memories.pop(name)
        cursor = last_cursor(lake, feed, part) if lake.is_in_use(feed.city) else None
        if cursor is None:
            # The first landing reads much; it belongs to a person or to the schedule.
            continue
        try:
            found = look(lake, feed, part, cursor, now)
        except DeliveryError as error:
            memory.failures += 1
            memory.rest = min(2**memory.failures, LONGEST_REST)
            said.append(f"{name}: {error}")
            continue
        if not found <= set(memory.seen):
            fresh.append(feed)
        memories[name] = Memory(sorted(found))
    return fresh, said


def records_after(lake: Lake, feed: Feed, part: Part, cursor: Cursor, now: datetime) -> frozenset[str]:
    """Return a hash of each record that a portal has after a cursor, as far as one look reaches.

    Raises:
        DeliveryError: The portal gave no usable answer at once.
    """
    from assets.ingest.news import pages_after

    with closing(pages_after(lake, feed, part, cursor, now)) as pages:
        return frozenset(one for page in islice(pages, LOOK_PAGES) for one in hashes(page))


def hashes(page: Page) -> Iterable[str]:
    """Yield a short hash of each record of a page, whatever it says."""
    if page.content == "xml":
        tag = re.escape(page.records.encode())
        records = re.findall(rb"<%b[\s>].*?</%b\s*>" % (tag, tag), page.body, re.DOTALL)
    else:
        said = json.loads(page.body)
        rows = said if isinstance(said, list) else [said]
        records = [json.dumps(row, sort_keys=True).encode() for row in rows]
    return (hashlib.sha256(record).hexdigest()[:12] for record in records)


def last_cursor(lake: Lake, feed: Feed, part: Part) -> Cursor | None:
    """Return up to where a part was read last, nothing where it never landed."""
    # Newest first, and no further than needed: a fast feed has thousands of receipts, looked at every tick.
    folders = sorted(lake.landing(feed.city, feed.id).glob(f"*/{RECEIPT}"), reverse=True)
    receipts = (read_receipt(path) for path in folders)
    return next((Cursor(**one.cursor_to) for one in receipts if one.part == part.id and one.cursor_to), None)


def remembered(cursor: str | None, watched: Iterable[str]) -> dict[str, Memory]:
    """Read what `noted` wrote, in its order; parts that it does not tell of are looked at first."""
    told = json.loads(cursor) if cursor else {}
    names = [*(name for name in watched if name not in told), *(name for name in told if name in watched)]
    return {name: Memory(**told.get(name, {})) for name in names}


def noted(memories: Mapping[str, Memory]) -> str:
    """Return what the sensor knows, for its next tick."""
    return json.dumps({name: vars(memory) for name, memory in memories.items()}, separators=(",", ":"))


def is_running(instance: dg.DagsterInstance) -> bool:
    """Return whether a run of the fast lane waits or works."""
    return bool(instance.get_runs(dg.RunsFilter(job_name=FAST_LANE, statuses=UNFINISHED), limit=1))


def forget_old_runs(instance: dg.DagsterInstance) -> None:
    """Take all but the newest runs that went through from the history; Dagster itself keeps them for ever."""
    went_through = dg.RunsFilter(job_name=FAST_LANE, statuses=[dg.DagsterRunStatus.SUCCESS])
    for run in instance.get_runs(went_through, limit=2 * RUNS_KEPT)[RUNS_KEPT:]:
        instance.delete_run(run.run_id)
