"""Recorded outages replayed as a live map: an outage ends where a good answer lacks it, and nowhere else."""

import csv
import gzip
import io
import json
from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from assets.ingest.feed import BUILT_IN, City, Feed, read_cities
from assets.ingest.lake import Lake
from assets.ingest.landing import land_feed
from assets.ingest.part import Request
from assets.ingest.portals.outages import Outages
from assets.ingest.portals.page import Page
from assets.ingest.receipts import Delivery
from tests.recorded_answers import unmapped_statuses
from tests.recorded_portal import Told, serve, told_json

pytestmark = pytest.mark.real

CITIES, _ = read_cities([BUILT_IN], {"CITYSIGNAL_HOME": "var"})
#: Columns that are numbers in a recorded snapshot of the same map; the archive of revisions has texts.
NUMBERS = {
    *("F_OUTAGE_ID", "OUTAGE_CIRCUIT_ID", "EST_CUSTOMERS", "OUTAGE_START", "LAST_UPDATE", "CURRENT_ETOR"),
    *("AUTO_ETOR", "OUTAGE_LATITUDE", "OUTAGE_LONGITUDE"),
}
#: What the shipped declaration maps; `_estimate` is the first that is told of two.
MAPPED = (
    *("OUTAGE_EXTENT", "CREW_CURRENT_STATUS", "OUTAGE_CAUSE", "EST_CUSTOMERS", "OUTAGE_START", "LAST_UPDATE"),
    *("OUTAGE_CIRCUIT_ID", "OUTAGE_LATITUDE", "OUTAGE_LONGITUDE"),
)
FAILURES = (
    Told(b"upstream is down", 500),
    Told(
        b"<!DOCTYPE html><html><body>Scheduled maintenance</body></html>",
        headers=(("Content-Type", "text/html"),),
    ),
    told_json({"error": {"code": 500, "message": "Service not started"}}),
    Told(b'{"outages": [{"F_OUTAGE_ID": 1'),
)

Record = dict[str, Any]


def rows_of(file: Path) -> list[dict[str, str]]:
    with gzip.open(file) as packed, io.TextIOWrapper(packed, encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def moment(said: str) -> datetime:
    return datetime.fromisoformat(said).astimezone(UTC).replace(tzinfo=None)


@dataclass
class Archive:
    """The city's outages of 2024 to 2026 as they were recorded.

    Attributes:
        instants: When a snapshot was taken.
        shown: First and last snapshot that held an outage.
        revisions: When a record of an outage was first seen, and the record.
    """

    instants: list[datetime]
    shown: dict[str, tuple[datetime, datetime]]
    revisions: dict[str, list[tuple[datetime, Record]]]

    def at(self, instant: datetime) -> dict[str, Record]:
        """What the map showed."""
        found = {}
        for source_id, (first, last) in self.shown.items():
            if first <= instant <= last:
                revisions = self.revisions[source_id]
                found[source_id] = revisions[bisect_right([at for at, _ in revisions], instant) - 1][1]
        return found

    def next(self, instant: datetime) -> datetime:
        """The first snapshot from then on."""
        return self.instants[bisect_left(self.instants, instant)]


@pytest.fixture(scope="module")
def archive(real_data: Path) -> Archive:
    folder = real_data / "san_francisco"
    revised = rows_of(folder / "pge_power_outages_versions_2024_2026.csv.gz")
    ended = rows_of(folder / "pge_power_outages_final_state_all_cities_2024_2026.csv.gz")
    revisions: dict[str, list[tuple[datetime, Record]]] = {}
    for row in revised:
        record = {
            name: None if value == "" else json.loads(value) if name in NUMBERS else value
            for name, value in row.items()
            if not name.startswith("_")
        }
        revisions.setdefault(row["F_OUTAGE_ID"], []).append((moment(row["_scraped_at"]), record))
    spans = {row["F_OUTAGE_ID"]: (moment(row["_first_seen"]), moment(row["_last_seen"])) for row in ended}
    seen = {at for span in spans.values() for at in span} | {moment(row["_scraped_at"]) for row in revised}
    return Archive(sorted(seen), {each: spans[each] for each in revisions}, revisions)


class Map:
    """The live map, polled into a lake by the shipped declaration over the protocol of outage maps."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.told = told_json({})
        self.asked = 0

    def __call__(self, asked: Any) -> Told:
        self.asked += 1
        return self.told

    def feed(self, base: str) -> tuple[City, Feed]:
        city = CITIES["san_francisco"]
        feed = city.feeds["outages_pge"]
        part = feed.parts[0].model_copy(update={"source": f"{base}/outages.json"})
        said = {"portal": "outages", "request": Request(records="/outages"), "parts": (part,)}
        return city, feed.model_copy(update=said)

    def poll(self, base: str, told: Told, now: datetime) -> Delivery:
        self.told = told
        city, feed = self.feed(base)
        options = {"attempts": 2, "first_wait_seconds": 0.001}
        [delivery] = land_feed(self.lake, city, feed, now=now, wire_options=options)
        return delivery

    def query(self, zone: str, select: str) -> list[tuple]:
        files = [str(path) for path in self.lake.home.glob(f"lake/{zone}/utility/city=san_francisco/*/*")]
        with duckdb.connect() as con:
            return con.execute(f"select {select} from read_parquet($1)", [files]).fetchall()


def shown(outages: dict[str, Record]) -> Told:
    return told_json({"outages": list(outages.values())})


def content(record: Record) -> tuple:
    return (record["CURRENT_ETOR"] or record["AUTO_ETOR"], *(record[name] for name in MAPPED))


def expected(polls: list[tuple[datetime, dict[str, Record]]]) -> tuple[set, set]:
    """Return (id, time) of every row and of every end that good answers tell."""
    rows, ends, live = set(), set(), {}
    for at, outages in polls:
        now = {source_id: content(record) for source_id, record in outages.items()}
        ends |= {(source_id, at) for source_id in live if source_id not in now}
        rows |= {(source_id, at) for source_id, said in now.items() if live.get(source_id) != said}
        live = now
    return rows, ends


def chosen_instants(archive: Archive) -> list[datetime]:
    """A storm every six hours, then the calm, with hours that have no outage at all."""
    storm = [datetime(2024, 2, 4, 21) + timedelta(hours=6) * number for number in range(26)]  # noqa: DTZ001
    calm = [datetime(2024, 2, 13) + timedelta(hours=71) * number for number in range(15)]  # noqa: DTZ001
    return [archive.next(at) for at in storm + calm]


def test_every_status_of_all_cities_is_known(real_data: Path):
    rows = rows_of(real_data / "san_francisco/pge_power_outages_final_state_all_cities_2024_2026.csv.gz")
    statuses = {row["CREW_CURRENT_STATUS"] for row in rows}
    assert len(statuses) == 7
    assert unmapped_statuses(CITIES["san_francisco"].feeds["outages_pge"], statuses) == Counter()


def test_outages_end_where_a_good_answer_lacks_them(archive: Archive, tmp_path: Path):
    instants = chosen_instants(archive)
    polls = [(at, archive.at(at)) for at in instants]
    lake_map = Map(Lake(tmp_path))
    failed_at, outcomes = [], []
    with serve(lake_map) as base:
        for number, (at, outages) in enumerate(polls):
            if number % 3 == 2:
                # The map is in trouble ten minutes before it tells who has power again.
                failed_at.append(at - timedelta(minutes=10))
                before = lake_map.asked
                failed = lake_map.poll(base, FAILURES[len(failed_at) % len(FAILURES)], failed_at[-1])
                assert (failed.outcome, failed.rows_missing, lake_map.asked - before) == ("failed", 0, 2)
            outcomes.append(lake_map.poll(base, shown(outages), at).outcome)
            assert outcomes[-1] in ("landed", "unchanged")

    rows, ends = expected(polls)
    assert set(lake_map.query("raw", "source_id, delivered_at")) == rows
    assert len(lake_map.query("raw", "source_id")) == len(rows)
    absences = lake_map.query("absences", "source_id, observed_at, misses, reason")
    assert {(source_id, at) for source_id, at, *_ in absences} == ends
    assert {tuple(said) for _, _, *said in absences} == {(2, "ended")}
    # The replay holds what it is to show: revisions, many ends, ends after a failure, hours without outages.
    assert len(failed_at) > 10
    assert len(ends) == len({source_id for source_id, _ in ends}) > 150
    assert len(rows) > len({source_id for source_id, _ in rows}) + 20
    after_failure = {instants[bisect_left(instants, at)] for at in failed_at}
    assert len([at for _, at in ends if at in after_failure]) > 50
    empty = [at for at, outages in polls if not outages]
    assert len(empty) >= 3
    assert "unchanged" in outcomes


def test_a_map_that_shows_nothing_for_once_ends_all_and_each_returns_as_a_row(
    archive: Archive, tmp_path: Path
):
    """Nobody can tell such an answer from a real one."""
    start = datetime(2024, 2, 5, 3)  # noqa: DTZ001
    first, blank, back, later = (archive.next(start + timedelta(hours=hours)) for hours in range(4))
    half = {source_id: record for source_id, record in archive.at(back).items() if int(source_id) % 2}
    polls = [(first, archive.at(first)), (blank, {}), (back, half), (later, archive.at(later))]
    lake_map = Map(Lake(tmp_path))
    with serve(lake_map) as base:
        deliveries = [lake_map.poll(base, shown(outages), at) for at, outages in polls]
    rows, ends = expected(polls)
    assert set(lake_map.query("raw", "source_id, delivered_at")) == rows
    assert set(lake_map.query("absences", "source_id, observed_at")) == ends
    assert deliveries[1].rows_missing == len(polls[0][1]) == len([at for _, at in ends if at == blank])
    returned = polls[0][1].keys() & half.keys()
    assert len(returned) > 5
    # What came back as it was before is a row all the same: it says that power is out again.
    same = [each for each in returned if content(polls[0][1][each]) == content(half[each])]
    assert same
    assert {(source_id, back) for source_id in same} <= rows
    assert [each.rows_known for each in deliveries] == [len(outages) for _, outages in polls]


def test_were_a_failure_read_as_an_empty_map_all_outages_would_end_with_it(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = archive.next(datetime(2024, 2, 5, 3))  # noqa: DTZ001
    failed_at, last = first + timedelta(minutes=2), archive.next(first + timedelta(minutes=3))
    for is_guarded in (True, False):
        lake_map = Map(Lake(tmp_path / str(is_guarded)))
        with serve(lake_map) as base, monkeypatch.context() as patch:
            lake_map.poll(base, shown(archive.at(first)), first)
            if not is_guarded:
                nothing = Page(b'{"outages": []}', 0, None, "$.outages[*]")
                patch.setattr(Outages, "pages", lambda self, ask, nothing=nothing: iter([nothing]))
            lake_map.poll(base, FAILURES[0], failed_at)
            patch.undo()
            lake_map.poll(base, shown(archive.at(last)), last)
        ended_at_failure = sum(at == failed_at for (at,) in lake_map.query("absences", "observed_at"))
        assert ended_at_failure == (0 if is_guarded else len(archive.at(first)))
