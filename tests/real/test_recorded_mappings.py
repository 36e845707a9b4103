"""What the shipped mappings make of answers that portals really gave: every column, label and status."""

import csv
import gzip
import io
import json
from collections import Counter

import pytest

from assets.ingest.feed import BUILT_IN, Feed, read_cities
from tests.recorded_answers import RECORDED, mapped_rows, unmapped_labels, unmapped_statuses

pytestmark = pytest.mark.real

CITIES, _ = read_cities([BUILT_IN], {"CITYSIGNAL_HOME": "var"})
#: A recorded label that no rule knows is listed here, and all together are under this share.
ACCEPTED_UNMAPPED_SHARE = 0.005


@pytest.fixture(scope="module")
def answers(real_data) -> dict[str, tuple[Feed, list[dict]]]:
    """The mapped rows of the recorded answers that hold whole records, by city and feed."""
    mapped = {}
    for recorded in RECORDED:
        feed = CITIES[recorded.city].feeds[recorded.feed]
        if feed.kind != "boundary":
            rows = mapped_rows(feed, feed.part(recorded.part), recorded.records())
            mapped[f"{recorded.city}.{recorded.feed}"] = feed, rows
    return mapped


def labels(rows: list[dict]) -> list[tuple]:
    return [(row.get("category"), row.get("subcategory"), row.get("code")) for row in rows]


@pytest.mark.parametrize(
    "name",
    ["new_york_city.service_requests", "boston.requests_live", "chicago.crimes", "san_francisco.outages_pge"],
)
def test_every_recorded_label_has_a_type_and_every_status_a_meaning(answers, name):
    feed, rows = answers[name]
    # A record of which everything is null has no label to look up: one in 4,000 of Boston's.
    told = [row for row in rows if row["category"] is not None]
    assert len(told) >= len(rows) * (1 - ACCEPTED_UNMAPPED_SHARE)
    assert unmapped_labels(feed, labels(told)) == Counter()
    assert unmapped_statuses(feed, [row.get("status") for row in rows]) == Counter()


def test_a_rule_that_is_missing_would_be_found(answers):
    feed, rows = answers["boston.requests_live"]
    rules = tuple(rule for rule in feed.categories if rule.category != "Illegal Parking")
    found = unmapped_labels(feed.model_copy(update={"categories": rules}), labels(rows))
    assert found == {("Illegal Parking", None, None): 1000}


def test_codes_of_the_water_department_decide_before_the_descriptor(answers):
    _, rows = answers["new_york_city.service_requests"]
    codes = Counter(row["code"] for row in rows if row["agency"] == "DEP")
    assert codes["NM1"] == 16
    assert codes["WA1"] == 3
    # Other agencies write details where this one writes its code.
    assert {row["code"] for row in rows if row["agency"] != "DEP"} == {None}


def test_literals_that_stand_for_nothing_are_null(answers):
    _, rows = answers["new_york_city.service_requests"]
    values = {value for row in rows for name, value in row.items() if name != "attributes"}
    assert values.isdisjoint({"N/A", "Unspecified", "UNKNOWN"})


def test_ids_and_times_are_told_and_points_lie_in_the_city(answers):
    for name, (feed, rows) in answers.items():
        ids = [row["source_id"] for row in rows if row["source_id"] is not None]
        assert len(ids) >= len(rows) * 0.999, name
        assert sum(row[feed.event_time_columns[0]] is not None for row in rows) >= len(rows) * 0.999, name
    west, south, east, north = CITIES["boston"].bbox
    _, rows = answers["boston.requests_live"]
    inside = [
        row for row in rows if west < float(row["x"] or 0) < east and south < float(row["y"] or 0) < north
    ]
    assert len(inside) > 0.99 * len(rows)


def test_a_closed_request_of_open311_has_a_closing_time_and_an_open_one_none(answers):
    _, rows = answers["boston.requests_live"]
    assert {(row["status"] or "").startswith("closed") for row in rows if row["closed_at"]} == {True}
    assert {row["status"] for row in rows if not row["closed_at"]} == {"open", "submitted"}


def test_outage_times_are_instants_of_the_month_of_the_snapshot(answers):
    _, rows = answers["san_francisco.outages_pge"]
    assert {row["started_at"][:4] + row["started_at"][-1] for row in rows} <= {"2024Z", "2025Z"}


def test_the_recorded_view_of_chicagos_crimes_is_another_data_set(real_data):
    """The view (Crimes - Map) names its fields otherwise: it verifies nothing; the portal's own CSV does."""
    view = json.loads(
        (real_data / "api_fixtures/socrata/chicago_crimes_api_views_excerpt.json").read_text("utf-8")
    )
    sources = [part.source for feed in CITIES["chicago"].feeds.values() for part in feed.parts]
    assert not any(view["id"] in source for source in sources)
    fields = {column["fieldName"] for column in view["columns"]}
    feed = CITIES["chicago"].feeds["crimes"]
    mapped = {name for source in feed.sources(feed.parts[0]).values() for name in source.columns()}
    assert mapped & fields == {"arrest", "beat", "block", "domestic", "latitude", "longitude", "ward"}


def distinct(path, *names: str) -> Counter:
    with gzip.open(path) as packed, io.TextIOWrapper(packed, encoding="utf-8-sig", newline="") as text:
        return Counter(tuple(row[name] or None for name in names) for row in csv.DictReader(text))


def test_every_primary_type_of_a_year_of_chicagos_crimes_has_a_type(real_data):
    feed = CITIES["chicago"].feeds["crimes"]
    types = distinct(real_data / "chicago/crimes_2022_no_coordinates.csv.gz", "Primary Type", "Description")
    assert sum(types.values()) == 215_551
    assert unmapped_labels(feed, [(*label, None) for label in types]) == Counter()


@pytest.mark.parametrize("years", ["2006_2010", "2011_2014", "2015_2019", "2020_2026"])
def test_every_type_and_status_of_chicagos_permits_is_known(real_data, years):
    feed = CITIES["chicago"].feeds["building_permits"]
    seen = distinct(real_data / f"chicago/building_permits_{years}.csv.gz", "t", "wt", "s")
    assert unmapped_labels(feed, {(category, work, None) for category, work, _ in seen}) == Counter()
    assert unmapped_statuses(feed, {status for *_, status in seen}) == Counter()


def test_every_crew_status_of_two_years_of_outages_is_known(real_data):
    feed = CITIES["san_francisco"].feeds["outages_pge"]
    seen = distinct(
        real_data / "san_francisco/pge_power_outages_versions_2024_2026.csv.gz", "CREW_CURRENT_STATUS"
    )
    assert unmapped_statuses(feed, {status for (status,) in seen}) == Counter()
