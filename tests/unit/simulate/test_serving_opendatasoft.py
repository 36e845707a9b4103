"""Opendatasoft Explore v2.1, asked of the simulated portal by a bare HTTP client."""

import json

import httpx2
import pytest

from assets.simulate.serving.server import serve
from assets.simulate.serving.store import Column, Dataset, Store

COLUMNS = [
    Column("id"),
    Column("start", "fixed_timestamp"),
    Column("affected", "number"),
    Column("geo_point_2d", "point"),
]
ROWS = [
    {"id": f"o{number:03}", "start": f"2026-0{1 + number % 2}-05T08:00:00Z", "affected": number}
    for number in range(120)
]
BASE = "/opendatasoft/api/explore/v2.1/catalog/datasets/outages"


@pytest.fixture
def store():
    made = Store()
    dataset = made.add(Dataset("opendatasoft", "outages", "Outages", COLUMNS, "id", "start"))
    dataset.insert(ROWS)
    dataset.update(["o000"], {"geo_point_2d": (-84.5, 39.25)})
    return made


@pytest.fixture
def client(store):
    with serve(store) as base, httpx2.Client(base_url=base) as made:
        yield made


def _ask(client, what, **asked):
    return client.get(BASE + what, params=asked)


def test_metadata_tells_fields_and_the_number_of_records(client):
    said = _ask(client, "").json()
    assert [(field["name"], field["type"]) for field in said["fields"]] == [
        ("id", "text"),
        ("start", "datetime"),
        ("affected", "int"),
        ("geo_point_2d", "geo_point_2d"),
    ]
    assert said["metas"]["default"]["records_count"] == len(ROWS)


def test_records_come_a_hundred_at_most(client):
    answer = _ask(client, "/records", limit=100, order_by="id")
    said = answer.json()
    assert said["total_count"] == len(ROWS)
    assert len(said["results"]) == 100
    assert said["results"][0] == {
        "id": "o000",
        "start": "2026-01-05T08:00:00+00:00",
        "affected": 0,
        "geo_point_2d": {"lon": -84.5, "lat": 39.25},
    }
    assert said["results"][1]["geo_point_2d"] is None
    assert int(answer.headers["x-ratelimit-remaining"]) < int(answer.headers["x-ratelimit-limit"])
    assert len(_ask(client, "/records").json()["results"]) == 10


@pytest.mark.parametrize("asked", [{"limit": 101}, {"limit": 100, "offset": 9901}, {"limit": -2}])
def test_what_lies_behind_the_window_is_refused(client, asked):
    answer = _ask(client, "/records", **asked)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "InvalidRESTParameterError")


def test_an_export_has_all_records(client):
    rows = _ask(client, "/exports/json", order_by="id").json()
    assert [row["id"] for row in rows] == [row["id"] for row in ROWS]
    where = "start >= date'2026-02-01' and affected < 10 and id != \"o003\""
    rows = _ask(client, "/exports/json", where=where, order_by="affected desc").json()
    assert [row["affected"] for row in rows] == [9, 7, 5, 1]


def test_an_export_as_geojson_has_features(client):
    said = _ask(client, "/exports/geojson", order_by="id", limit=2).json()
    assert said["type"] == "FeatureCollection"
    assert said["features"][0] == {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [-84.5, 39.25]},
        "properties": {"id": "o000", "start": "2026-01-05T08:00:00+00:00", "affected": 0},
    }
    assert said["features"][1]["geometry"] is None


def test_months_are_groups(client, store):
    said = _ask(client, "/records", select="count(*) as n", group_by="year(start), month(start)").json()
    rows = sorted(said["results"], key=lambda row: row["month(start)"])
    assert rows == [
        {"year(start)": 2026, "month(start)": 1, "n": 60},
        {"year(start)": 2026, "month(start)": 2, "n": 60},
    ]
    _ask(client, "/records", limit=0)
    _ask(client, "/exports/json", select="id")
    _ask(client, "")
    assert [request.kind for request in store.requests] == ["months", "count", "ids", "meta"]


@pytest.mark.parametrize(
    ("where", "message"),
    [("ward = 1", "No such column: ward"), ("id = 1", "does not compare"), ("affected >", "unexpected end")],
)
def test_a_wrong_question_is_refused_in_the_envelope(client, where, message):
    answer = _ask(client, "/records", where=where)
    assert answer.status_code == 400
    assert answer.json()["error_code"] == "ODSQLError"
    assert message in answer.json()["message"]


def test_a_data_set_that_is_gone_is_not_found(client, store):
    store.find("opendatasoft", "outages").is_retired = True
    for what in ("", "/records", "/exports/json"):
        answer = _ask(client, what)
        assert (answer.status_code, answer.json()["error_code"]) == (404, "DatasetNotFoundError")


def test_an_export_may_break_off_in_words(client, store):
    store.faults.add("midstream")
    answer = _ask(client, "/exports/json", order_by="id")
    assert answer.status_code == 200
    assert "Streaming interrupted due to the following error: " in answer.text
    with pytest.raises(json.JSONDecodeError):
        answer.json()
    assert len(_ask(client, "/exports/json", order_by="id").json()) == len(ROWS)


def test_a_used_up_quota_tells_a_time_and_no_seconds(client, store):
    store.faults.add("status", code=429)
    answer = _ask(client, "/records")
    assert answer.status_code == 429
    assert "retry-after" not in answer.headers
    assert answer.json()["reset_time"].endswith("T00:00:00Z")


def test_rows_without_an_order_can_be_shuffled(client, store):
    store.faults.add("shuffle", times=None)
    first, second = (_ask(client, "/exports/json").json() for _ in range(2))
    assert first != second
    ordered = [_ask(client, "/exports/json", order_by="id").json() for _ in range(2)]
    assert ordered[0] == ordered[1]
