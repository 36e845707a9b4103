"""Every fault that needs no protocol, seen by a bare HTTP client; each with its unharmed twin."""

import gzip
import json
import time

import httpx2
import pytest

from assets.simulate.serving.faults import Faults
from assets.simulate.serving.server import serve
from assets.simulate.serving.store import Column, Dataset, Store

ROWS = [{"id": f"case-{number}", "note": "a pothole on the corner"} for number in range(200)]
PAGE = "/socrata/resource/abcd-1234.json"
ORDERED = {"$order": ":id"}


@pytest.fixture
def store():
    made = Store()
    dataset = made.add(Dataset("socrata", "abcd-1234", "Requests", [Column("id"), Column("note")], "id"))
    dataset.insert(ROWS)
    return made


@pytest.fixture
def client(store):
    with serve(store) as base, httpx2.Client(base_url=base) as made:
        yield made


def _page(client, **headers):
    return client.get(PAGE, params=ORDERED, headers=headers)


def _is_whole(answer):
    return answer.status_code == 200 and len(answer.json()) == len(ROWS)


def test_without_a_fault_the_page_is_whole_compressed_or_not(client):
    packed = _page(client)
    assert packed.headers["content-encoding"] == "gzip"
    plain = _page(client, **{"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert packed.content == plain.content
    assert _is_whole(packed)


def test_status_is_said_as_often_as_told_with_its_wait(client, store):
    store.faults.add("status", code=429, retry_after="2", times=2)
    first, second, third = (_page(client) for _ in range(3))
    assert [first.status_code, second.status_code] == [429, 429]
    assert first.headers["retry-after"] == "2"
    assert first.json()["error"] is True
    assert _is_whole(third)


def test_status_can_have_a_body_of_its_own(client, store):
    store.faults.add("status", code=503, body="<html>maintenance</html>")
    answer = _page(client)
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "text/html"


def test_reset_breaks_off_in_mid_body(client, store):
    store.faults.add("reset")
    with pytest.raises((httpx2.ReadError, httpx2.RemoteProtocolError)):
        _page(client)
    assert _is_whole(_page(client))


def test_truncated_sends_less_than_it_said(client, store):
    store.faults.add("truncated")
    with pytest.raises(httpx2.RemoteProtocolError):
        _page(client)
    assert _is_whole(_page(client))


def test_truncated_gzip_is_whole_for_http_and_broken_for_gzip(client, store):
    store.faults.add("truncated_gzip")
    with client.stream("GET", PAGE, params=ORDERED) as answer:
        raw = b"".join(answer.iter_raw())
    assert int(answer.headers["content-length"]) == len(raw)
    with pytest.raises(EOFError):
        gzip.decompress(raw)
    with client.stream("GET", PAGE, params=ORDERED) as answer:
        assert len(json.loads(gzip.decompress(b"".join(answer.iter_raw())))) == len(ROWS)


def test_wrong_length_passes_half_for_the_whole(client, store):
    store.faults.add("wrong_length")
    answer = _page(client, **{"accept-encoding": "identity"})
    assert answer.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        answer.json()
    assert _is_whole(_page(client))


def test_html_comes_with_200(client, store):
    store.faults.add("html")
    answer = _page(client)
    assert answer.status_code == 200
    assert answer.text.startswith("<!DOCTYPE html>")
    assert _is_whole(_page(client))


def test_slow_waits_before_it_answers(client, store):
    store.faults.add("slow", seconds=0.3)
    began = time.monotonic()
    assert _is_whole(_page(client))
    assert time.monotonic() - began >= 0.3


def test_slow_outlasts_a_client_that_does_not_wait(client, store):
    store.faults.add("slow", seconds=0.5)
    with pytest.raises(httpx2.ReadTimeout):
        client.get(PAGE, params=ORDERED, timeout=0.1)
    assert _is_whole(_page(client))


def test_token_is_asked_of_every_request_until_it_is_no_more(client, store):
    store.faults.add("token", token="right", on="any", times=None)
    assert _page(client).status_code == 403
    assert _page(client, **{"X-App-Token": "wrong"}).status_code == 403
    assert _is_whole(_page(client, **{"X-App-Token": "right"}))
    assert client.get(PAGE, params=ORDERED | {"$$app_token": "right"}).status_code == 200
    store.faults.clear()
    assert _is_whole(_page(client))


def test_a_fault_meets_its_kind_of_request_and_its_protocol_only(client, store):
    store.faults.add("status", code=500, on="count")
    store.faults.add("status", code=500, protocol="carto")
    assert _is_whole(_page(client))
    assert client.get(PAGE, params={"$select": "count(*)"}).status_code == 500


def test_a_fault_after_so_many_requests_lets_these_pass(client, store):
    store.faults.add("status", code=502, after=2)
    assert [_page(client).status_code for _ in range(4)] == [200, 200, 502, 200]


def test_faults_that_wait_count_side_by_side():
    faults = Faults()
    faults.add("status", code=500, after=1)
    faults.add("status", code=503, after=3)
    taken = [faults.take("status", "ckan", "page") for _ in range(5)]
    assert [args and args["code"] for args in taken] == [None, 500, None, 503, None]


def test_a_fault_spoils_no_answer_that_is_kept(client, store):
    assert _is_whole(_page(client))
    store.faults.add("truncated")
    with pytest.raises(httpx2.RemoteProtocolError):
        _page(client)
    store.faults.add("clamp", rows=5)
    assert len(_page(client).json()) == 5
    assert _is_whole(_page(client))


def test_a_kept_answer_goes_with_the_first_change(client, store):
    first = _page(client)
    assert _page(client).content == first.content
    store.find("socrata", "abcd-1234").update(["case-7"], {"note": "mended"})
    assert "mended" in _page(client).text


def test_every_request_is_written_down(client, store):
    store.faults.add("status", code=500)
    _page(client)
    client.post("/carto/api/v2/sql", data={"q": "select count(*) from t"})
    client.get("/nowhere/x")
    seen = [(request.protocol, request.kind, request.method, request.path) for request in store.requests]
    assert seen == [
        ("socrata", "page", "GET", "/resource/abcd-1234.json"),
        ("carto", "count", "POST", "/api/v2/sql"),
        ("nowhere", "", "GET", "/x"),
    ]
    assert store.requests[0].query == {"$order": [":id"]}
    assert store.requests[1].form == {"q": ["select count(*) from t"]}
