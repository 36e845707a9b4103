"""What the relay keeps is what the mart shows, and a second build of the same shows the same."""

import json
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from assets.relay.alert_store import acknowledge, read_alerts, store_alerts
from assets.relay.alerting import raise_alerts
from assets.relay.rules import load_rules
from tests.unit.relay.town import CITY, NOW, Town, utc
from tests.unit.warehouse.test_rules import make_empty_lake, run

#: All that the mart and its tests read but int_feeds_measured, which needs the staging of all kinds.
MODELS = (
    *("agencies", "event_types", "stg_cities", "stg_feeds", "stg_agency_names"),
    *("dim_agency", "dim_event_type", "dim_city", "dim_feed", "mart_agency_alerts"),
)
SHOWN = "select * from correlation.mart_agency_alerts order by alert_id"


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Town:
    """A town in which a flood was told twice and taken up by one agency, and a pothole was closed."""
    town = Town(tmp_path_factory.mktemp("alerts"))
    make_empty_lake(town.home)
    flood, hole = (
        town.request(name, *what, 0, 0, NOW)
        for name, what in (("A", ["Water on Street"]), ("H", ["Pothole"]))
    )
    town.land([flood, hole], NOW + timedelta(minutes=2))
    town.publish()
    steps = (
        [],
        [
            town.request("B", "Water on Street", 20, 0, NOW + timedelta(minutes=5)),
            hole | {"status": "closed"},
        ],
    )
    for number, rows in enumerate(steps, start=1):
        at = NOW + timedelta(minutes=10 * number)
        if rows:
            town.land(rows, at)
        store_alerts(town.lake, raise_alerts(town.lake, load_rules(), now=at))
    water = next(one for one in read_alerts(town.lake) if one.agency == "water")
    acknowledge(town.lake, water.alert_id, now=NOW + timedelta(minutes=15))
    return town


def do(home: Path, verb: str, *models: str) -> None:
    leave = ("unit_test", "test") if verb == "run" else ("unit_test",)
    told = run(
        home,
        "build" if verb == "run" else verb,
        "--select",
        *models,
        *(f"--exclude-resource-type={kind}" for kind in leave),
    )
    assert told
    assert {name: said for name, said in told.items() if said not in ("success", "pass", "no-op")} == {}


def test_the_mart_shows_what_was_told(town: Town, rows) -> None:
    town.lake.build_warehouse.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(town.lake.build_warehouse)) as con:
        con.execute("create schema intermediate")
        con.execute(
            "create table intermediate.int_feeds_measured as "
            "select ? as city, 'live' as feed, ? as as_of_at, true as tells_closure",
            [CITY, utc(NOW)],
        )
    do(town.home, "run", *MODELS)
    do(town.home, "test", "mart_agency_alerts")
    shown = rows(town.home, SHOWN)
    stored = read_alerts(town.lake)
    assert {row["alert_id"] for row in shown} == {one.alert_id for one in stored}
    by_agency = {(row["rule"], row["agency"]): row for row in shown}
    water = by_agency["flooded_intersection", "water"]
    assert (water["status"], water["report_count"], water["revision_count"]) == ("acknowledged", 2, 2)
    assert water["acknowledged_at"] == utc(NOW + timedelta(minutes=15))
    assert (water["report_to_alert_seconds"], water["available_to_alert_seconds"]) == (600, 480)
    assert water["alert_to_acknowledged_seconds"] == 300
    newest = [one for one in stored if one.alert_id == water["alert_id"]][-1]
    assert json.loads(water["context"]) == newest.context
    assert by_agency["flooded_intersection", "fire"]["status"] == "open"
    hole = by_agency["pothole", "transportation"]
    assert (hole["status"], hole["cancelled_because"]) == ("cancelled", "every report is closed")
    assert {row["as_of_at"] for row in shown} == {utc(NOW + timedelta(minutes=20))}
    do(town.home, "run", "mart_agency_alerts")
    assert rows(town.home, SHOWN) == shown
