"""What the shipped declarations make of the values their portals give, and what they leave alone."""

from datetime import UTC, datetime

import duckdb
import pytest

from assets.ingest.feed import BUILT_IN, load_cities
from assets.ingest.sql_expression import quoted

CITIES = ("philadelphia", "los_angeles", "washington_dc", "austin")
#: Columns that hold names of people, whatever they are called, and what callers and inspectors wrote.
PERSONAL = {
    "applicantname",
    "approvedscopeofwork",
    "assigned_to__c",
    "assignto",
    "contractorname",
    "department_name__c",
    "desc_of_work",
    "details",
    "media_url",
    "service_notice",
    "status_notes",
    "typeofworkdescription",
    "work_desc",
}


@pytest.fixture(scope="module")
def cities():
    return load_cities([BUILT_IN], {"CITYSIGNAL_SIMULATED_PORTAL": "http://127.0.0.1"})


def mapped(feed, name, **values):
    """Return what a feed's first part makes of one record."""
    row = ", ".join(f"?::varchar as {quoted(column)}" for column in values)
    sql = feed.mapping(feed.parts[0])[name]
    return duckdb.execute(f"select {sql} from (select {row})", list(values.values())).fetchone()[0]


@pytest.mark.parametrize("city", CITIES)
def test_names_and_free_text_are_left_where_they_are(cities, city):
    for feed in cities[city].feeds.values():
        for part in feed.parts:
            named = {name for source in feed.sources(part).values() for name in source.columns()}
            assert PERSONAL & {name.lower() for name in named} == set(), (feed.id, part.id)


@pytest.mark.parametrize("told", ["1787303797000", "1787303797000.0", "1.787303797e12"])
def test_milliseconds_of_dc_are_a_moment(cities, told):
    feed = cities["washington_dc"].feeds["crimes"]
    assert feed.times == "utc"
    moment = datetime.fromtimestamp(1_787_303_797, UTC).replace(tzinfo=None)
    assert mapped(feed, "reported_at", REPORT_DAT=told) == str(moment)
    assert mapped(feed, "reported_at", REPORT_DAT=None) is None


@pytest.mark.parametrize(
    ("hour", "read"), [("2130", "21:30"), ("45", "00:45"), ("0", "00:00"), ("1", "00:01"), ("905", "09:05")]
)
@pytest.mark.parametrize(
    ("city", "day", "clock"),
    [("los_angeles", "date_occ", "time_occ"), ("austin", "occ_date", "occ_time")],
)
def test_an_hour_written_as_a_number_is_put_to_its_day(cities, city, day, clock, hour, read):
    feed = cities[city].feeds["crimes"]
    said = mapped(feed, "occurred_at", **{day: "2024-03-01T00:00:00.000", clock: hour})
    assert said == f"2024-03-01T{read}"


@pytest.mark.parametrize("hour", [None, "", "2400", "2360", "noon", "-5", "12345"])
@pytest.mark.parametrize(
    ("city", "day", "clock"),
    [("los_angeles", "date_occ", "time_occ"), ("austin", "occ_date", "occ_time")],
)
def test_an_hour_that_is_none_leaves_the_day(cities, city, day, clock, hour):
    feed = cities[city].feeds["crimes"]
    midnight = "2024-03-01T00:00:00.000"
    assert mapped(feed, "occurred_at", **{day: midnight, clock: hour}) == midnight


def test_each_year_of_los_angeles_has_its_own_data_set(cities):
    feed = cities["los_angeles"].feeds["service_requests"]
    assert len({part.source for part in feed.parts}) == len(feed.parts) == 13
    old, new = (feed.sources(feed.part(part)) for part in ("y2024", "cases_2026"))
    assert (old["source_id"].column, new["source_id"].column) == ("srnumber", "casenumber")
    assert "agency" in old
    assert "agency" not in new
    assert feed.one_case_in_parts


def test_what_is_not_proven_says_so(cities):
    verified = {city: {feed.id for feed in cities[city].feeds.values() if feed.verified} for city in CITIES}
    assert verified == {
        "philadelphia": {"service_requests", "crimes", "demolitions", "police_districts", "neighbourhoods"},
        "los_angeles": set(),
        "washington_dc": {"neighbourhood_clusters"},
        "austin": {"crimes"},
    }
