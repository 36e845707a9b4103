"""The shipped city folders: they parse, speak the vocabulary, keep people out and ask what can be asked."""

import os
import re
from pathlib import Path

import pytest

from assets.ingest.consistency import canonical_agencies, event_types, seed_rows
from assets.ingest.contracts import EVENT_KINDS
from assets.ingest.feed import BUILT_IN, City, Feed, read_cities
from assets.ingest.part import Part
from tests.recorded_answers import REAL_DATA, RECORDED, Recorded, keys_of, missing_columns

CITIES, PROBLEMS = read_cities([BUILT_IN], {"CITYSIGNAL_SIMULATED_PORTAL": "http://127.0.0.1"})
FOLDERS = sorted(
    folder.name for folder in BUILT_IN.iterdir() if folder.name != "simulated" and any(folder.glob("*.yaml"))
)
FEEDS = [feed for name in FOLDERS if name in CITIES for feed in CITIES[name].feeds.values()]
PARTS = [(feed, part) for feed in FEEDS for part in feed.parts]

#: What tells who somebody is: names, addresses to reach them at, and what is said of victims and suspects.
PERSONAL = re.compile(
    r"(^|_)(owners?|applicants?|permittees?|contacts?|phone|telephone|agentphone|fax|e?mail|susp|vic|victims?"
    r"|suspects?|agent|inspector|representative|superintendent|contractor|reporter|officer"
    r"|(first|last|middle)_?(name|initial))(_|\d|$)"
)
#: Columns that sound like a person and hold an office.
OFFICES = {
    ("chicago", "service_requests"): {"owner_department"},
    ("los_angeles", "service_requests"): {"owner"},
}
#: How the address of a data set has to look for its protocol to find the id in it.
ADDRESS = {
    "socrata": r"https://[\w.-]+/resource/[a-z0-9]{4}-[a-z0-9]{4}$",
    "ckan": r"https://[\w.-]+/dataset/[\w-]+/resource/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
    "arcgis": r"https://\S+/(Feature|Map)Server/\d+$",
    "carto": r"https://[\w.-]+/tables/\w+$",
    "opendatasoft": r"https://[\w.-]+/explore/dataset/[\w-]+$",
    "open311": r"https?://\S+/open311/v2$",
    "outages": r"https://\S+$",
    "files": r"https://\S+$",
}


def named(value: object) -> str:
    if isinstance(value, Feed):
        return f"{value.city}.{value.id}"
    return value.id if isinstance(value, (Part, City)) else str(value)


def personal_columns(feed: Feed) -> set[str]:
    mapped = [source for part in feed.parts for source in feed.sources(part).values()]
    found = {name for source in mapped for name in source.columns() if PERSONAL.search(name.lower())}
    return found - OFFICES.get((feed.city, feed.id), set())


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_city_is_declared_without_a_problem(folder: str):
    of_the_city = [problem for problem in PROBLEMS if Path(problem.file).parent.name == folder]
    assert of_the_city == []
    assert CITIES[folder].feeds


@pytest.mark.parametrize("name", ["chicago", "new_york_city", "boston", "san_francisco"])
def test_a_large_city_has_a_feed_of_every_kind_of_event(name: str):
    assert {feed.kind for feed in CITIES[name].feeds.values()} >= set(EVENT_KINDS)


def test_a_city_whose_feeds_tell_agencies_says_whom_they_stand_for():
    tells = {
        city.id
        for city in CITIES.values()
        for feed in city.feeds.values()
        for part in feed.parts
        if feed.kind == "service_request" and "agency" in feed.sources(part)
    }
    assert tells == {city.id for city in CITIES.values() if city.agencies}


def test_a_routing_rule_speaks_of_what_is_declared():
    rules = seed_rows("routing_rules.csv")
    assert {rule["owner_agency"] for rule in rules} <= set(canonical_agencies())
    assert {rule["event_type"] for rule in rules} - {""} <= set(event_types())
    assert {rule["city"] for rule in rules} - {""} <= set(CITIES)
    assert {rule["feed"] for rule in rules} - {""} <= {feed.id for feed in FEEDS}
    assert all(rule["event_type"] or rule["category_like"] for rule in rules)
    patterns = [rule[name] for rule in rules for name in ("category_like", "agency_like")]
    assert [pattern for pattern in patterns if pattern != " ".join(pattern.lower().split())] == []


@pytest.mark.parametrize("feed", [feed for feed in FEEDS if feed.categories], ids=named)
def test_categories_name_types_of_the_feeds_kind_once(feed: Feed):
    assert {event_types()[rule.event_type] for rule in feed.categories} == {feed.kind}
    lookups = [(rule.category, rule.subcategory, rule.code) for rule in feed.categories]
    assert len({tuple((text or "").lower() for text in lookup) for lookup in lookups}) == len(lookups)


@pytest.mark.parametrize("feed", [feed for feed in FEEDS if feed.categories], ids=named)
def test_what_the_categories_look_up_is_mapped(feed: Feed):
    for part in feed.parts:
        for level in ("category", "subcategory", "code"):
            if any(getattr(rule, level) for rule in feed.categories):
                assert level in feed.sources(part)


@pytest.mark.parametrize(("feed", "part"), PARTS, ids=named)
def test_the_address_holds_what_the_protocol_looks_for(feed: Feed, part: Part):
    assert re.match(ADDRESS[feed.portal_of(part)], part.source)


@pytest.mark.parametrize("feed", FEEDS, ids=named)
def test_no_column_that_tells_of_a_person_is_mapped(feed: Feed):
    assert personal_columns(feed) == set()


def test_a_column_that_tells_of_a_person_would_be_found():
    feed = CITIES["chicago"].feeds["building_permits"]
    told = feed.model_copy(update={"columns": {**feed.columns, "agency": _column(feed, "contact_1_name")}})
    assert personal_columns(told) == {"contact_1_name"}


@pytest.mark.parametrize(("feed", "part"), PARTS, ids=named)
def test_a_part_that_is_counted_by_month_says_by_which_column(feed: Feed, part: Part):
    sync = feed.sync_of(part)
    assert sync.deletions != "by_month" or sync.created is not None


@pytest.mark.parametrize(("feed", "part"), PARTS, ids=named)
def test_an_answer_without_rows_is_plausible_where_only_the_present_is_told(feed: Feed, part: Part):
    if feed.sync_of(part).mode in ("snapshot", "tail"):
        assert feed.expect.min_rows == 0 or "min_rows" not in feed.expect.model_fields_set
        assert feed.expect.min_volume_ratio == 0


@pytest.mark.parametrize(("feed", "part"), PARTS, ids=named)
def test_times_without_a_zone_are_declared_where_the_portal_floats_them(feed: Feed, part: Part):
    if feed.portal_of(part) in ("socrata", "ckan") and feed.kind in EVENT_KINDS:
        assert feed.times in ("local", "utc")


@pytest.mark.real
@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: f"{recorded.city}.{recorded.feed}")
def test_a_recorded_answer_holds_every_mapped_column(recorded: Recorded):
    _require(recorded)
    feed = CITIES[recorded.city].feeds[recorded.feed]
    assert missing_columns(feed, feed.part(recorded.part), keys_of(recorded.records())) == []


@pytest.mark.real
def test_a_column_that_a_recorded_answer_lacks_would_be_found():
    recorded = RECORDED[0]
    _require(recorded)
    feed = CITIES[recorded.city].feeds[recorded.feed]
    misspelt = feed.model_copy(update={"columns": {**feed.columns, "status": _column(feed, "state")}})
    assert missing_columns(misspelt, feed.part(recorded.part), keys_of(recorded.records())) == ["state"]


def _column(feed: Feed, name: str):
    return feed.columns["source_id"].model_copy(update={"column": name, "sql": None})


def _require(recorded: Recorded) -> None:
    if not (REAL_DATA / recorded.files[0]).is_file():
        if os.environ.get("CITYSIGNAL_REQUIRE_REAL"):
            pytest.fail(f"no recorded answers at {REAL_DATA}; set CITYSIGNAL_REAL_DATA")
        pytest.skip(f"no recorded answers at {REAL_DATA}; set CITYSIGNAL_REAL_DATA")
