"""The declarations as tables: their columns and types, and what a second write keeps."""

from datetime import date

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assets.ingest.declared import SCHEMAS, write_declared_tables
from assets.ingest.feed import City, Feed
from assets.ingest.lake import Lake

BOX = (-87.95, 41.6, -87.5, 42.05)


def make_feed(city: str, feed_id: str, **said: object) -> Feed:
    values = {
        "title": "Requests",
        "kind": "service_request",
        "publisher": "City",
        "landing_page": "https://example.org",
        "licence": "none stated",
        "owner_agency": "sanitation",
        "cadence": "daily",
        "portal": "files",
        "parts": [{"id": "all", "source": "/a.csv"}],
        "columns": {"source_id": "Number", "requested_at": "Created"},
        **said,
    }
    return Feed(
        city=city, id=feed_id, file=f"/{feed_id}.yaml", city_crs="EPSG:26916", city_bbox=BOX, **values
    )


def make_city(city: str, *feeds: Feed, **said: object) -> City:
    values = {"name": city.title(), "country": "US", "state": "IL", "time_zone": "America/Chicago", **said}
    return City(
        id=city,
        folder=f"/{city}",
        crs="EPSG:26916",
        bbox=BOX,
        feeds={feed.id: feed for feed in feeds},
        **values,
    )


def rows(lake: Lake, table: str, columns: str = "*") -> list[tuple]:
    path = lake.derived / "declared" / f"{table}.parquet"
    return duckdb.sql(f"select {columns} from read_parquet('{path}')").fetchall()


def test_every_declared_thing_is_a_row(tmp_path):
    lake = Lake(tmp_path)
    requests = make_feed(
        "aville",
        "requests",
        statuses={"Open": "open", "Done": "closed"},
        times="local",
        categories=(
            {"category": "Rats", "event_type": "rodent", "target_days": 7},
            {"category": "Bats", "event_type": "rodent", "is_private": True},
        ),
        verified=False,
        one_case_in_parts=True,
        portal="socrata",
        parts=[
            {"id": "old", "source": "https://a.example/b", "format": "json", "valid_to": "2025-01-01"},
            {"id": "new", "source": "https://a.example/c", "format": "json", "valid_from": "2025-01-01"},
        ],
        exclude=({"until": "2020-01-01", "reason": "a move of the system"},),
    )
    schools = make_feed(
        "aville", "schools", kind="asset", asset_type="school", reach_m=200, columns={"source_id": "id"}
    )
    agencies = {"DSNY": "sanitation", "Dept. of  Water": "water"}
    work_hours = {
        "source": "by-law 7",
        "allowed": {"monday": "07:00-18:00", "saturday": "09:30-24:00"},
        "holidays": ["2025-12-25"],
        "variance_types": ["permit_noise"],
        "open_permit_days": 90,
    }
    city = make_city("aville", requests, schools, is_simulated=True, agencies=agencies, work_hours=work_hours)
    counts = write_declared_tables(lake, {"aville": city})
    assert counts == {
        "cities": 1,
        "feeds": 2,
        "agencies": 2,
        "work_hours": 7,
        "work_holidays": 1,
        "variance_types": 1,
        "parts": 3,
        "categories": 2,
        "statuses": 2,
        "exclusions": 1,
    }
    assert rows(lake, "cities") == [
        ("aville", "Aville", "US", "IL", "America/Chicago", "EPSG:26916", *BOX, True)
    ]
    columns = "feed, kind, times, time_precision, asset_type, reach_m, publisher"
    assert rows(lake, "feeds", columns) == [
        ("requests", "service_request", "local", None, None, None, "City"),
        ("schools", "asset", "offset", None, "school", 200.0, "City"),
    ]
    assert rows(lake, "feeds", "feed, portal, is_verified, one_case_in_parts") == [
        ("requests", "socrata", False, True),
        ("schools", "files", True, False),
    ]
    assert rows(lake, "feeds", "feed, max_unmapped_share") == [("requests", 0.02), ("schools", None)]
    assert rows(lake, "agencies") == [
        ("aville", "DSNY", "sanitation"),
        ("aville", "Dept. of  Water", "water"),
    ]
    # Every weekday is a row, so that a day without hours is one on which no work is allowed.
    assert rows(lake, "work_hours", "weekday, opens_minute, closes_minute") == [
        (1, 420, 1080),
        *((day, None, None) for day in (2, 3, 4, 5)),
        (6, 570, 1440),
        (7, None, None),
    ]
    assert rows(lake, "work_hours", "distinct city, grace_minutes, open_permit_days, source") == [
        ("aville", 30, 90, "by-law 7")
    ]
    assert rows(lake, "work_holidays") == [("aville", date(2025, 12, 25))]
    assert rows(lake, "variance_types") == [("aville", "permit_noise")]
    assert rows(lake, "parts", "feed, part, position, valid_from, valid_to") == [
        ("requests", "old", 1, None, date(2025, 1, 1)),
        ("requests", "new", 2, date(2025, 1, 1), None),
        ("schools", "all", 1, None, None),
    ]
    assert rows(lake, "categories") == [
        ("aville", "requests", "Rats", None, None, "rodent", None, 7.0, False, False),
        ("aville", "requests", "Bats", None, None, "rodent", None, None, True, False),
    ]
    assert rows(lake, "exclusions") == [
        ("aville", "requests", None, date(2020, 1, 1), "a move of the system")
    ]
    assert rows(lake, "statuses", "source_status, status") == [("Open", "open"), ("Done", "closed")]


def test_no_rows_still_have_their_types(tmp_path):
    lake = Lake(tmp_path)
    assert write_declared_tables(lake, {}) == dict.fromkeys(SCHEMAS, 0)
    for name, schema in SCHEMAS.items():
        assert pq.read_schema(lake.derived / "declared" / f"{name}.parquet").equals(schema)


def test_cities_that_are_not_loaded_now_keep_their_rows(tmp_path):
    lake = Lake(tmp_path)
    first = {"aville": make_city("aville", make_feed("aville", "a"), make_feed("aville", "b"))}
    write_declared_tables(lake, first)
    write_declared_tables(lake, {"bville": make_city("bville", make_feed("bville", "c"))})
    assert rows(lake, "feeds", "city, feed") == [("aville", "a"), ("aville", "b"), ("bville", "c")]
    # A city that is loaded again is replaced whole: its feed b is gone.
    write_declared_tables(lake, {"aville": make_city("aville", make_feed("aville", "a"), name="New")})
    assert rows(lake, "feeds", "city, feed") == [("aville", "a"), ("bville", "c")]
    assert rows(lake, "cities", "city_name") == [("New",), ("Bville",)]


def test_a_file_of_an_earlier_version_gets_todays_columns(tmp_path):
    lake = Lake(tmp_path)
    write_declared_tables(lake, {"aville": make_city("aville", make_feed("aville", "a"))})
    path = lake.derived / "declared" / "feeds.parquet"
    old = pq.read_table(path).drop_columns(["reach_m", "licence"])
    pq.write_table(old.append_column("forgotten", old["title"]), path)
    write_declared_tables(lake, {"bville": make_city("bville", make_feed("bville", "b"))})
    assert pq.read_schema(path).equals(SCHEMAS["feeds"])
    assert rows(lake, "feeds", "city, licence") == [("aville", None), ("bville", "none stated")]


def test_writing_twice_gives_the_same_bytes_and_leaves_nothing_behind(tmp_path):
    lake = Lake(tmp_path)
    cities = {"aville": make_city("aville", make_feed("aville", "a", statuses={"Open": "open"}))}
    write_declared_tables(lake, cities)
    folder = lake.derived / "declared"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_declared_tables(lake, cities)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert sorted(before) == [f"{name}.parquet" for name in sorted(SCHEMAS)]


def test_a_failed_write_leaves_the_old_table(tmp_path, monkeypatch):
    lake = Lake(tmp_path)
    write_declared_tables(lake, {"aville": make_city("aville")})

    def broken(table, path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(pq, "write_table", broken)
    with pytest.raises(OSError, match="disk full"):
        write_declared_tables(lake, {"bville": make_city("bville")})
    monkeypatch.undo()
    assert rows(lake, "cities", "city") == [("aville",)]
    assert list((lake.derived / "declared").glob(".*")) == []


names = st.sampled_from(["aville", "bville", "cville"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(writes=st.lists(st.dictionaries(names, st.sets(st.sampled_from("abc")), max_size=3), max_size=4))
def test_after_any_writes_each_city_has_what_it_said_last(tmp_path_factory, writes):
    lake = Lake(tmp_path_factory.mktemp("home"))
    said: dict[str, set[str]] = {}
    for write in writes:
        cities = {
            city: make_city(city, *(make_feed(city, feed) for feed in feeds)) for city, feeds in write.items()
        }
        write_declared_tables(lake, cities)
        said |= write
    if writes:
        expected = sorted((city, feed) for city, feeds in said.items() for feed in feeds)
        assert rows(lake, "feeds", "city, feed") == expected
        assert [city for (city,) in rows(lake, "cities", "city")] == sorted(said)
