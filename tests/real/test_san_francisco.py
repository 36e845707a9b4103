"""What recorded outages must give: revisions are versions, ends are as told, a collapse shows."""

import csv
import gzip
import io
from collections import Counter
from datetime import UTC, date, datetime
from itertools import groupby, pairwise
from pathlib import Path
from statistics import median
from zoneinfo import ZoneInfo

import pytest

pytestmark = [pytest.mark.real, pytest.mark.slow]

FILES = (
    "pge_power_outages_versions_2019_2022.csv.gz",
    "pge_power_outages_versions_2024_2026.csv.gz",
    "pge_power_outages_final_state_all_cities_2024_2026.csv.gz",
)
PACIFIC = ZoneInfo("America/Los_Angeles")
#: The city's box, as its declaration says it.
WEST, SOUTH, EAST, NORTH = -122.53, 37.69, -122.32, 37.85

Rows = list[dict[str, str]]
#: What the declaration maps, named after it; the names of a row's columns in the two eras.
MAPPED = {
    "source_id": ("outageNumber", "F_OUTAGE_ID"),
    "subcategory": ("", "OUTAGE_EXTENT"),
    "status": ("crewCurrentStatus", "CREW_CURRENT_STATUS"),
    "started_at": ("outageStartTime", "OUTAGE_START"),
    "updated_at": ("lastUpdateTime", "LAST_UPDATE"),
    "customers_affected": ("estCustAffected", "EST_CUSTOMERS"),
    "cause": ("cause", "OUTAGE_CAUSE"),
    "asset_id": ("", "OUTAGE_CIRCUIT_ID"),
    "x": ("longitude", "OUTAGE_LONGITUDE"),
    "y": ("latitude", "OUTAGE_LATITUDE"),
}
ESTIMATES = (("currentEtor", "autoEtor"), ("CURRENT_ETOR", "AUTO_ETOR"))


@pytest.fixture(scope="module")
def files(real_data: Path) -> tuple[Rows, ...]:
    found = []
    for name in FILES:
        with (
            gzip.open(real_data / "san_francisco" / name) as packed,
            io.TextIOWrapper(packed, encoding="utf-8", newline="") as lines,
        ):
            found.append(list(csv.DictReader(lines)))
    return tuple(found)


@pytest.fixture(scope="module")
def states(files) -> dict[str, list[dict[str, str]]]:
    """The states of each outage in the order they were recorded, under the names of the declaration."""
    last_snapshot = max((moment(row["_last_seen"]), row["_last_seen"]) for row in files[2])[1]
    found: dict[str, list[dict[str, str]]] = {}
    for number, rows in enumerate(files):
        era = min(number, 1)
        for row in rows:
            state = {name: row[columns[era]] for name, columns in MAPPED.items() if columns[era]}
            now, automatic = ESTIMATES[era]
            state["estimate"] = row[now] or row[automatic]
            if number == 2:
                is_over = row["_last_seen"] != last_snapshot
                state["restored_at"] = row["_last_seen"] if is_over else ""
                state["status"] = "over" if is_over else state["status"]
            # An empty field and one that is not mapped are the same.
            told = {name: value for name, value in state.items() if value}
            found.setdefault(state["source_id"], []).append(told)
    return found


def moment(said: str) -> datetime:
    return datetime.fromisoformat(said).astimezone(UTC).replace(tzinfo=None)


def instant(epoch: str) -> datetime:
    """Read seconds of the years before 2023, milliseconds after."""
    seconds = int(epoch) / (1000 if len(epoch) > 10 else 1)
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None, microsecond=0)


def versions(states: list[dict[str, str]], without: str = "") -> int:
    """How often an outage's state differs from the one before."""
    shown = [{name: value for name, value in state.items() if name != without} for state in states]
    return sum(1 for _ in groupby(shown))


def test_every_row_of_every_file_is_a_row(san_francisco, files):
    [(in_file, raw, quarantined, events)] = san_francisco.rows(
        "select rows_in_file, rows_raw, rows_quarantined_by_ingest,"
        " (select count(*) from core.fct_events) from quality.reconciliation"
    )
    assert (in_file, raw, quarantined) == (sum(map(len, files)), 97_678, 0)
    assert events == 16_196 + 45_729
    assert san_francisco.rows("select count(*) from quality.staging_quarantine") == [(0,)]
    assert san_francisco.rows("select count(*) from quality.unmapped_categories") == [(0,)]
    assert san_francisco.rows("select count(*) from quality.unmapped_statuses") == [(0,)]


def test_every_revision_is_a_version_and_nothing_else_is(san_francisco, states):
    expected = {source_id: versions(seen) for source_id, seen in states.items()}
    found = dict(
        san_francisco.rows(
            "select e.source_id, count(*) from core.fct_event_versions v"
            " join core.fct_events e using (event_key) group by 1"
        )
    )
    assert found == expected
    assert found == dict(san_francisco.rows("select source_id, version_count from core.fct_events"))
    # Rows that repeat the state before them, for only what is not mapped had changed.
    assert sum(map(len, states.values())) - sum(found.values()) == 152


def test_a_late_estimate_alone_makes_a_version(san_francisco, states):
    moved = {
        source_id: sum(one.get("estimate") != other.get("estimate") for one, other in pairwise(seen))
        for source_id, seen in states.items()
    }
    assert sum(moved.values()) > 5_000
    only = {
        source_id: versions(seen) - versions(seen, without="estimate") for source_id, seen in states.items()
    }
    # Mostly the status or the time of the last update changes with it.
    assert sum(only.values()) == 43
    revised = [source_id for source_id, count in moved.items() if count]
    counts = dict(san_francisco.rows("select source_id, version_count from core.fct_events"))
    assert all(counts[source_id] > moved[source_id] for source_id in revised)
    # What holds now is the newest of them.
    told = dict(
        san_francisco.rows(
            "select source_id, estimated_restoration_at from core.fct_utility_outages"
            " where estimated_restoration_at is not null"
        )
    )
    newest = {source_id: seen[-1].get("estimate") for source_id, seen in states.items()}
    assert told == {source_id: instant(said) for source_id, said in newest.items() if said}


def test_versions_come_in_the_order_they_were_recorded(san_francisco, states):
    most = max(states, key=lambda source_id: len(states[source_id]))
    told = san_francisco.rows(
        "select v.updated_at from core.fct_event_versions v join core.fct_events e using (event_key)"
        f" where e.source_id = '{most}' order by version_number"
    )
    expected = [instant(state["updated_at"]) for state, _ in groupby(states[most])]
    assert [at for (at,) in told] == expected
    assert len(expected) > 20


def test_outages_begin_and_end_as_they_were_recorded(san_francisco, states):
    found = {
        source_id: (started, restored, origin)
        for source_id, started, restored, origin in san_francisco.rows(
            "select source_id, started_at, restored_at, restored_at_origin from core.fct_utility_outages"
        )
    }
    expected = {}
    for source_id, seen in states.items():
        restored = seen[-1].get("restored_at")
        start = instant(seen[-1]["started_at"])
        expected[source_id] = (start, moment(restored) if restored else None, "told" if restored else None)
    assert found == expected

    hours = sorted(
        (restored - started).total_seconds() / 3600 for started, restored, _ in found.values() if restored
    )
    assert len(hours) == 45_728
    assert hours[0] >= 0
    assert 8 < median(hours) < 11
    assert hours[int(len(hours) * 0.99)] < 24 * 4
    # Entries that the map went on showing with a start of the year before.
    assert sum(each > 24 * 30 for each in hours) == 81
    open_status = "select is_open, count(*) from core.fct_events group by 1 order by 1"
    assert san_francisco.rows(open_status) == [(False, 45_728), (True, 16_197)]


def test_points_of_other_cities_are_told_from_the_citys_own(san_francisco, states):
    inside = Counter(
        WEST <= float(seen[-1]["x"]) <= EAST and SOUTH <= float(seen[-1]["y"]) <= NORTH
        for seen in states.values()
    )
    qualities = san_francisco.rows("select location_quality, count(*) from core.fct_events group by 1")
    assert dict(qualities) == {"ok": inside[True], "outside_city": inside[False]}
    assert inside[True] > 18_000


def test_the_source_collapses_without_a_word(san_francisco, states):
    """In April 2024 the publisher changed the source; every answer since is good, and nearly empty."""
    local = [
        instant(seen[-1]["started_at"]).replace(tzinfo=UTC).astimezone(PACIFIC) for seen in states.values()
    ]
    expected = Counter(date(at.year, at.month, 1) for at in local)
    found = dict(
        san_francisco.rows(
            "select date_trunc('month', started_local)::date, count(*)"
            " from core.fct_utility_outages group by 1"
        )
    )
    assert found == expected
    before = [found[date(2024, month, 1)] for month in (2, 3, 4)]
    after = [count for month, count in found.items() if month > date(2024, 4, 1)]
    assert min(before) > 8_900
    assert (len(after), max(after)) == (28, 313)
    assert median(after) < 150
    # Within the city the same: from twenty a day to less than one.
    in_city = dict(
        san_francisco.rows(
            "select event_on < '2024-05-01', count(*) from core.fct_events"
            " where location_quality = 'ok' and event_on >= '2024-02-04' group by 1"
        )
    )
    assert in_city[True] > 10 * in_city[False]
