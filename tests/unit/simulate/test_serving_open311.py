"""The simulated Open311 endpoint pages, caps and fails as cities' endpoints do."""

import json
from datetime import datetime, timedelta
from xml.etree import ElementTree

import pytest

from assets.simulate.serving import open311
from assets.simulate.serving.exchange import Request, Response
from assets.simulate.serving.store import START, Column, Dataset, Store

REQUESTS = "/v2/requests.json"
ROWS = 120
KEYS = [
    *(Column(name) for name in ("service_request_id", "status", "service_name", "service_code", "media_url")),
    Column("requested_datetime", "fixed_timestamp"),
    Column("updated_datetime", "fixed_timestamp"),
    Column("lat", "number"),
]


def rows(count: int) -> list[dict]:
    return [
        {
            "service_request_id": f"R{n:04d}",
            "status": "closed" if n % 2 else "open",
            "service_name": "Pothole & Crack",
            "service_code": "P",
            "requested_datetime": START - timedelta(hours=n, seconds=31),
            "updated_datetime": START - timedelta(hours=n, seconds=31),
            "lat": 42.2,
        }
        for n in range(count)
    ]


@pytest.fixture
def store() -> Store:
    store = Store()
    dataset = Dataset("open311", "city", "Requests", KEYS, "service_request_id", "requested_datetime")
    dataset.insert(rows(ROWS))
    store.add(dataset)
    return store


def respond(store: Store, path: str = REQUESTS, **said: object) -> Response:
    request = Request("GET", "open311", path, {name: [str(value)] for name, value in said.items()})
    store.requests.append(request)
    return open311.answer(store, request)


def ask(store: Store, path: str = REQUESTS, **said: object) -> list[dict]:
    return json.loads(respond(store, path, **said).body)


def ids(told: list[dict]) -> list[str]:
    return [row["service_request_id"] for row in told]


def test_fifty_come_unasked_and_pages_are_counted_from_one(store):
    assert ids(ask(store)) == ids(ask(store, page=1)) == [f"R{n:04d}" for n in range(50)]
    assert len(ask(store, page=3)) == 20
    assert ask(store, page=4) == []
    assert len(ask(store, page_size=5_000)) == ROWS


def test_a_server_may_count_its_pages_from_zero(store):
    store.faults.add("page_base", protocol="open311", base=0, times=None)
    assert ids(ask(store, page=0))[0] == "R0000"
    assert ids(ask(store, page=1))[0] == "R0050"


def test_past_the_end_the_last_page_may_come_again(store):
    store.faults.add("repeat_last_page", protocol="open311", times=None)
    assert ids(ask(store, page=9)) == ids(ask(store, page=3))
    assert len(ask(store, page=3)) == 20


def test_a_server_without_pages_stops_at_a_thousand_and_says_nothing(store):
    dataset = store.find("open311", "city")
    dataset.insert([row | {"service_request_id": "S" + row["service_request_id"]} for row in rows(1_500)])
    dataset.has_pages = False
    assert len(ask(store, page_size=10)) == 1_000
    assert ids(ask(store, page=2)) == ids(ask(store, page=1))


def test_a_range_is_kept_to_ninety_days(store):
    start, end = "2026-03-01T00:00:00-06:00", "2026-03-02T00:00:00-06:00"
    found = ask(store, start_date=start, end_date=end, page_size=1_000)
    moments = [datetime.fromisoformat(row["requested_datetime"]) for row in found]
    assert len(moments) == 24
    assert datetime.fromisoformat(start) <= min(moments) <= max(moments) <= datetime.fromisoformat(end)
    too_long = respond(store, start_date="2025-01-01T00:00:00Z", end_date="2025-06-01T00:00:00Z")
    assert too_long.status == 400
    assert json.loads(too_long.body)[0]["code"] == 400
    # Nobody asked for a range: what is older than 90 days is not there.
    store.advance(timedelta(days=89))
    assert 0 < len(ask(store, page_size=1_000)) < ROWS


def test_changes_can_be_asked_for_by_their_time(store):
    store.find("open311", "city").update(["R0100"], {"status": "closed", "updated_datetime": START})
    assert ids(ask(store, updated_after="2026-03-02T11:59:45Z")) == ["R0100"]


def test_fractions_of_a_second_bring_some_servers_down(store):
    said = {"start_date": "2026-03-01T00:00:00.000Z"}
    assert respond(store, **said).status == 200
    store.faults.add("fractional_seconds_500", protocol="open311", times=None)
    assert respond(store, **said).status == 500
    assert respond(store, start_date="2026-03-01T00:00:00Z").status == 200


def test_times_have_an_offset_and_the_last_change_has_no_seconds(store):
    first = ask(store)[0]
    assert first["requested_datetime"] == "2026-03-02T05:59:29-06:00"
    assert first["updated_datetime"] == "2026-03-02T05:59:00-06:00"
    assert first["media_url"] is None
    store.find("open311", "city").traits["has_minutes_only"] = False
    assert ask(store)[0]["updated_datetime"].startswith("2026-03-02T05:59:29")


def test_texts_that_are_no_time_are_served_but_in_no_range():
    store = Store()
    columns = [Column("service_request_id"), Column("requested_datetime"), Column("status")]
    dataset = Dataset("open311", "city", "", columns, "service_request_id")
    good = {"service_request_id": "A", "requested_datetime": "2026-03-01T23:00:00-06:00"}
    dataset.insert([good, {"service_request_id": "B", "requested_datetime": "soon"}, {"status": "submitted"}])
    store.add(dataset)
    assert ids(ask(store, start_date="2026-03-02T00:00:00Z")) == ["A"]
    assert ask(store, "/v2/requests/B.json")[0]["requested_datetime"] == "soon"


def test_one_request_services_and_unknown_things(store):
    assert ids(ask(store, "/v2/requests/R0007.json")) == ["R0007"]
    assert respond(store, "/v2/requests/none.json").status == 404
    assert [row["service_code"] for row in ask(store, "/v2/services.json")] == ["P"]
    assert ids(ask(store, service_request_id="R0003,R0001")) == ["R0001", "R0003"]
    assert len(ask(store, status="open", page_size=1_000)) == ROWS / 2
    assert respond(store, "/v2/nothing.json").status == 404
    store.find("open311", "city").is_retired = True
    assert respond(store).status == 404


def test_xml_says_the_same(store):
    response = respond(store, "/city/v2/requests.xml", page=2)
    root = ElementTree.fromstring(response.body)
    assert response.content_type.startswith("text/xml")
    assert [node.findtext("service_request_id") for node in root.iter("request")] == ids(ask(store, page=2))
    assert root.find("request/media_url").text is None
    assert root.findtext("request/service_name") == "Pothole & Crack"
    error = ElementTree.fromstring(respond(store, "/v2/requests/none.xml").body)
    assert error.findtext("error/code") == "404"


def test_a_failure_may_come_inside_a_200(store):
    store.faults.add("error_in_200", protocol="open311", message="backend not available")
    response = respond(store)
    assert response.status == 200
    assert json.loads(response.body) == [{"code": 500, "description": "backend not available"}]


def test_kinds_of_questions():
    kinds = {
        path: open311.kind_of(Request("GET", "open311", path)) for path in (REQUESTS, "/v2/services.xml")
    }
    assert kinds == {REQUESTS: "page", "/v2/services.xml": "meta"}


def test_what_the_server_refuses_is_worded_as_the_portal_does():
    said = open311.refuse(503, "later")
    assert said.status == 503
    assert json.loads(said.body) == [{"code": 503, "description": "later"}]
