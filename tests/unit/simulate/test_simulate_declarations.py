"""The built-in declarations fit the files: nothing amiss, every category and status in use is mapped."""

import duckdb
import pandas as pd
import pytest

from assets.ingest.check import check_cities
from assets.ingest.contracts import ASSET_TYPES, EVENT_KINDS
from assets.ingest.feed import BUILT_IN, load_cities
from assets.simulate.catalogue import CRIME_SUBTYPES, REQUEST_SUBTYPES, SERVICES

UNKNOWN = {"Drone Nuisance", "Sidewalk Robot Blocked", "Fountain Colour"}


@pytest.fixture(scope="module")
def variables(small_city):
    # Other built-in cities need their own variables; what they stand for is not this test's matter.
    return {"CITYSIGNAL_HOME": str(small_city.folder.parent), "CITYSIGNAL_REAL_DATA": "/nowhere"}


@pytest.fixture(scope="module")
def declared(variables):
    return load_cities([BUILT_IN], variables)["simulated"]


def test_the_declarations_fit_the_files(variables):
    mine = [problem for problem in check_cities([BUILT_IN], variables) if "/simulated/" in problem.file]
    assert mine == []


def test_a_renamed_column_would_be_found(small_city, variables, tmp_path):
    portal = tmp_path / "simulated" / "portal"
    portal.mkdir(parents=True)
    for path in (small_city.folder / "portal").iterdir():
        (portal / path.name).write_bytes(path.read_bytes())
    signals = portal / "traffic_signals.csv"
    signals.write_text(signals.read_text().replace("controller", "kontroller"))
    found = check_cities([BUILT_IN], variables | {"CITYSIGNAL_HOME": str(tmp_path)})
    assert ["kontroller" in p.message for p in found if "/simulated/" in p.file] == [True]


def test_all_kinds_inventories_and_generations_are_declared(declared, small_city):
    feeds = declared.feeds.values()
    assert {feed.kind for feed in feeds} >= set(EVENT_KINDS)
    assert {feed.asset_type for feed in feeds if feed.kind == "asset"} == set(ASSET_TYPES)
    assert {part.format for feed in feeds for part in feed.parts} == {
        "csv", "geojson", "json", "jsonl", "parquet", "shapefile"
    }  # fmt: skip
    assert all(part.as_of is not None for feed in feeds for part in feed.parts)
    published = {part.source.rsplit("/", 1)[1] for feed in feeds for part in feed.parts}
    assert published == set(small_city.rows)


@pytest.mark.parametrize(
    ("feed", "subtypes"), [("service_requests", REQUEST_SUBTYPES), ("crimes", CRIME_SUBTYPES)]
)
def test_categories_say_what_the_city_means(declared, feed, subtypes):
    rules = {
        (rule.category, rule.subcategory or "", rule.code): (rule.event_type, rule.event_subtype or "")
        for rule in declared.feeds[feed].categories
    }
    assert rules == {
        (row.category, row.subcategory, row.code): (row.event_type, row.event_subtype) for row in subtypes
    }


def test_targets_are_those_the_city_works_to(declared):
    targets = {rule.event_type: rule.target_days for rule in declared.feeds["service_requests"].categories}
    assert targets == {service.event_type: service.target_days for service in SERVICES}


def test_only_the_planted_strangers_are_unmapped(declared, small_city):
    feed = declared.feeds["service_requests"]
    files = [part.source for part in feed.parts]
    frame = pd.concat(
        duckdb.sql(f"select * from read_csv('{file}', all_varchar=true, ignore_errors=true)").df()
        for file in files
    )
    plain = frame.SR_TYPE.str.lower().str.split().str.join(" ")
    mapped = {rule.category.lower() for rule in feed.categories}
    assert set(frame.SR_TYPE[~plain.isin(mapped)].dropna()) <= UNKNOWN
    assert 0 < (~plain.isin(mapped)).mean() < 0.005
    assert set(frame.STATUS.dropna()) - set(feed.statuses) == {"Pending Vendor"}
