"""The built-in declarations fit the portals: every part lands, every category and status in use is mapped."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from assets.ingest.check import check_cities
from assets.ingest.contracts import ASSET_TYPES, EVENT_KINDS
from assets.ingest.feed import BUILT_IN, City, load_cities
from assets.ingest.lake import Lake
from assets.ingest.landing import land_feed
from assets.ingest.receipts import Delivery
from assets.simulate.catalogue import CRIME_SUBTYPES, REQUEST_SUBTYPES, SERVICES
from assets.simulate.serving.city import CRIMES_ID, REQUESTS_IDS, open_city
from assets.simulate.serving.server import MODULE_OF_PROTOCOL, serve
from assets.simulate.serving.store import Store

UNKNOWN = {"Drone Nuisance", "Sidewalk Robot Blocked", "Fountain Colour"}
NOW = datetime(2026, 1, 2, 6, tzinfo=UTC)
#: The files whose rows a data set gives over the wire, by the data set's id.
BEHIND = {
    REQUESTS_IDS[2025]: "service_requests_2025.csv.gz",
    CRIMES_ID: "crimes.csv.gz",
    "permits": "permits.csv.gz",
    "work_orders": "work_orders.geojson.gz",
    "flood_sensors": "flood_sensors.parquet",
    "street_lights": "street_lights.csv.gz",
}
#: Views of what is going on, whose rows lie in the files of other parts too.
LIVE = {("requests_live", "live"), ("outages", "live")}


@pytest.fixture(scope="module")
def store(small_city) -> Store:
    return open_city(small_city.folder)


@pytest.fixture(scope="module")
def address(store) -> Iterator[str]:
    with serve(store) as address:
        yield address


@pytest.fixture(scope="module")
def variables(small_city, address):
    # Other built-in cities need their own variables; what they stand for is not this test's matter.
    return {
        "CITYSIGNAL_HOME": str(small_city.folder.parent),
        "CITYSIGNAL_REAL_DATA": "/nowhere",
        "CITYSIGNAL_SIMULATED_PORTAL": address,
    }


@pytest.fixture(scope="module")
def declared(variables) -> City:
    return load_cities([BUILT_IN], variables)["simulated"]


def landed(home: Path, city: City, *feeds: str) -> list[Delivery]:
    return [delivery for name in feeds for delivery in land_feed(Lake(home), city, city.feeds[name], now=NOW)]


def test_the_declarations_fit_the_portals(variables, declared, tmp_path):
    mine = [problem for problem in check_cities([BUILT_IN], variables) if "/simulated/" in problem.file]
    assert mine == []
    deliveries = landed(tmp_path, declared, *declared.feeds)
    assert [d.message for d in deliveries if d.outcome != "landed"] == []
    parts = {(feed.id, part.id) for feed in declared.feeds.values() for part in feed.parts}
    assert sorted((d.feed, d.part) for d in deliveries) == sorted(parts)


def test_a_renamed_column_of_a_file_would_be_found(small_city, variables, tmp_path):
    copy = tmp_path / "simulated"
    shutil.copytree(small_city.folder, copy, ignore=shutil.ignore_patterns("truth"))
    signals = copy / "portal" / "traffic_signals.csv"
    signals.write_text(signals.read_text().replace("controller", "kontroller"))
    with serve(open_city(copy)) as address:
        city = load_cities([BUILT_IN], variables | {"CITYSIGNAL_SIMULATED_PORTAL": address})["simulated"]
        [delivery] = landed(tmp_path, city, "traffic_signals")
    assert delivery.outcome == "blocked"
    assert "kontroller" in delivery.message


def test_a_renamed_column_of_a_data_set_would_be_found(small_city, variables, tmp_path):
    store = open_city(small_city.folder)
    store.find("opendatasoft", "flood_sensors").rename_column("peak_depth_mm", "peak_depth")
    with serve(store) as address:
        city = load_cities([BUILT_IN], variables | {"CITYSIGNAL_SIMULATED_PORTAL": address})["simulated"]
        [delivery] = landed(tmp_path, city, "flood_sensors")
    assert (delivery.outcome, delivery.error_type) == ("blocked", "ColumnsGone")
    assert "'peak_depth_mm' (for quantity)" in delivery.message


def test_all_kinds_inventories_and_generations_are_declared(declared, small_city):
    feeds = declared.feeds.values()
    assert {feed.kind for feed in feeds} >= set(EVENT_KINDS)
    assert {feed.asset_type for feed in feeds if feed.kind == "asset"} == set(ASSET_TYPES)
    parts = [(feed, part) for feed in feeds for part in feed.parts]
    assert {part.format for _, part in parts} == {
        "csv", "geojson", "json", "jsonl", "parquet", "shapefile"
    }  # fmt: skip
    assert {feed.portal_of(part) for feed, part in parts} == set(MODULE_OF_PROTOCOL)
    # A copy that lies still says when it was taken; what grows is as of the time that it is asked.
    growing = {(feed.id, part.id) for feed, part in parts if feed.portal_of(part) != "files"}
    undated = {(feed.id, part.id) for feed, part in parts if part.as_of is None}
    assert undated == growing | {("outages", "all")}


def test_every_published_file_is_declared_once(declared, small_city):
    named = [
        next((name for name in part.source.split("/") if name in BEHIND), part.source.rsplit("/", 1)[1])
        for feed in declared.feeds.values()
        for part in feed.parts
        if (feed.id, part.id) not in LIVE
    ]
    assert sorted(BEHIND.get(name, name) for name in named) == sorted(small_city.rows)


@pytest.mark.parametrize(
    ("feed", "subtypes"),
    [
        ("service_requests", REQUEST_SUBTYPES),
        ("requests_live", REQUEST_SUBTYPES),
        ("crimes", CRIME_SUBTYPES),
    ],
)
def test_categories_say_what_the_city_means(declared, feed, subtypes):
    rules = {
        (rule.category, rule.subcategory or "", rule.code): (rule.event_type, rule.event_subtype or "")
        for rule in declared.feeds[feed].categories
    }
    assert rules == {
        (row.category, row.subcategory, row.code): (row.event_type, row.event_subtype) for row in subtypes
    }


@pytest.mark.parametrize("feed", ["service_requests", "requests_live"])
def test_targets_are_those_the_city_works_to(declared, feed):
    targets = {rule.event_type: rule.target_days for rule in declared.feeds[feed].categories}
    assert targets == {service.event_type: service.target_days for service in SERVICES}


def test_only_the_planted_strangers_are_unmapped(declared, small_city):
    feed = declared.feeds["service_requests"]
    files = sorted((small_city.folder / "portal").glob("service_requests_*.csv.gz"))
    assert len(files) == len(feed.parts)
    frame = pd.concat(
        duckdb.sql(f"select * from read_csv('{file}', all_varchar=true, ignore_errors=true)").df()
        for file in files
    )
    plain = frame.SR_TYPE.str.lower().str.split().str.join(" ")
    mapped = {rule.category.lower() for rule in feed.categories}
    assert set(frame.SR_TYPE[~plain.isin(mapped)].dropna()) <= UNKNOWN
    assert 0 < (~plain.isin(mapped)).mean() < 0.005
    assert set(frame.STATUS.dropna()) - set(feed.statuses) == {"Pending Vendor"}


def test_the_live_tail_knows_every_status_of_its_service(declared, store):
    tail = store.find("open311", "requests").query("distinct status").column("status").to_pylist()
    assert set(tail) == set(declared.feeds["requests_live"].statuses)
