import json
import logging
import re
from datetime import date, datetime, timedelta
from itertools import islice
from xml.sax.saxutils import escape

import httpx2
import pytest

from assets.ingest.portals import open311
from assets.ingest.portals.open311 import Open311
from assets.ingest.portals.page import Ask, Cursor
from assets.ingest.portals.wire import Wire
from assets.ingest.receipts import DeliveryError
from tests.declared_feed import declared_feed

BASE = "https://311.example/city/open311/v2"
UNTIL = datetime.fromisoformat("2026-03-31T12:00:00.654321")
DAY = timedelta(days=1)


class Endpoint:
    """GeoReport v2 in a few lines; what cities do differently are its attributes."""

    def __init__(self, requests=23, *, base=1, most=1000, page_rows=5, every=timedelta(hours=7)):
        start = UNTIL.replace(microsecond=0) - 10 * DAY
        self.requests = [
            {"service_request_id": f"SR{n:04d}", "status": "open", "requested_datetime": start + n * every}
            for n in range(requests)
        ]
        self.base, self.most, self.page_rows = base, most, page_rows
        self.has_pages = True
        self.repeats_last = False
        self.page_0 = None  # what a server that counts from 1 does with it
        self.nothing = None  # what it says to an empty range
        self.instead = []
        self.asked = []

    def __call__(self, request):
        said = dict(request.url.params)
        self.asked.append({"path": request.url.path, **said})
        if self.instead:
            answer = self.instead.pop(0)
            if answer is not None:
                return answer
        if any("." in said[name] for name in ("start_date", "end_date")):
            return httpx2.Response(500)
        start, end = (datetime.fromisoformat(said[name][:-1]) for name in ("start_date", "end_date"))
        assert end - start <= 90 * DAY
        rows = [each for each in self.requests if start <= each["requested_datetime"] <= end][: self.most]
        if not rows and self.nothing is not None:
            return self.nothing
        if self.has_pages:
            number = int(said.get("page", self.base)) - self.base
            if number < 0 and self.page_0 is not None:
                return self.page_0
            size = min(self.page_rows, int(said["page_size"]))
            if self.repeats_last:
                number = min(number, max(0, (len(rows) - 1) // size))
            rows = rows[max(0, number) * size :][:size]
        return self.told(
            [{**row, "requested_datetime": f"{row['requested_datetime']}Z"} for row in rows], request
        )

    @staticmethod
    def told(rows, request):
        if request.url.path.endswith(".json"):
            return httpx2.Response(200, json=rows)
        fields = ("".join(f"<{k}>{escape(v or '')}</{k}>" for k, v in row.items()) for row in rows)
        body = "".join(f"<request>{each}</request>" for each in fields)
        return httpx2.Response(200, text=f"<?xml version='1.0'?><service_requests>{body}</service_requests>")


def streamed(response):
    stream = httpx2.ByteStream(response.content)
    return httpx2.Response(response.status_code, headers=response.headers, stream=stream)


def connector(endpoint, *, token=None, attempts=3, source=BASE, form="json", **request):
    transport = httpx2.MockTransport(lambda asked: streamed(endpoint(asked)))
    wire = Wire(transport=transport, first_wait_seconds=0.01, attempts=attempts, token=token)
    parts = [{"id": "one", "source": source, "format": form}]
    feed = declared_feed(portal="open311", parts=parts, request={"window_days": 2, **request})
    return Open311(feed, feed.parts[0], wire)


SINCE = Cursor((UNTIL - 11 * DAY).strftime("%Y-%m-%dT%H:%M:%SZ"))


def ask(**said):
    return Ask("tail", UNTIL, **{"since": SINCE, **said})


def values(pages):
    rows = []
    for page in pages:
        if page.content == "xml":
            found = re.findall(rb"<service_request_id>(\w*)<", page.body)
            assert page.records == "request"
        else:
            assert page.records == "$[*]"
            found = [row["service_request_id"].encode() for row in json.loads(page.body)] if page.rows else []
        assert len(found) == page.rows
        rows += [each.decode() for each in found]
    return rows


def all_of(endpoint):
    return [each["service_request_id"] for each in endpoint.requests]


@pytest.mark.parametrize("form", ["json", "xml"])
@pytest.mark.parametrize("base", [0, 1])
@pytest.mark.parametrize("repeats_last", [False, True])
def test_each_request_comes_once_however_pages_are_numbered(form, base, repeats_last):
    endpoint = Endpoint(base=base)
    endpoint.repeats_last = repeats_last
    pages = list(connector(endpoint, form=form).pages(ask()))
    assert values(pages) == all_of(endpoint)
    assert pages[-1].next is None
    assert len({page.next for page in pages}) == len(pages)
    assert pages[-1].cursor == Cursor("2026-03-31T12:00:00Z")


@pytest.mark.parametrize(
    "page_0",
    [
        httpx2.Response(400, json=[{"code": 400, "description": "page is not a positive number"}]),
        httpx2.Response(404),
        httpx2.Response(500),
        httpx2.Response(200, json=[]),
    ],
)
def test_a_server_without_page_0_gives_its_first_page(page_0):
    endpoint = Endpoint()
    endpoint.page_0 = page_0
    assert values(connector(endpoint).pages(ask())) == all_of(endpoint)


@pytest.mark.parametrize("most", [10, 25, 50])
def test_a_window_at_the_cap_is_split(most):
    endpoint = Endpoint(300, most=most, every=timedelta(minutes=17))
    endpoint.has_pages = False
    pages = list(connector(endpoint).pages(ask()))
    assert set(values(pages)) == set(all_of(endpoint))
    assert len({page.next for page in pages}) == len(pages)


def test_a_window_at_the_protocols_cap_is_split_although_it_has_pages():
    endpoint = Endpoint(3000, most=1000, page_rows=300, every=timedelta(minutes=2))
    pages = list(connector(endpoint).pages(ask()))
    assert set(values(pages)) == set(all_of(endpoint))
    assert len({page.next for page in pages}) == len(pages)


def test_a_round_number_is_no_cap_where_pages_work():
    endpoint = Endpoint(500, page_rows=50, every=timedelta(minutes=2))
    assert values(connector(endpoint, window_days=30).pages(ask())) == all_of(endpoint)


def test_without_the_split_requests_would_be_lost(monkeypatch):
    monkeypatch.setattr(Open311, "_is_cut", lambda self, window: False)
    endpoint = Endpoint(300, most=50, every=timedelta(minutes=17))
    endpoint.has_pages = False
    assert set(values(connector(endpoint).pages(ask()))) < set(all_of(endpoint))


def test_a_round_number_is_no_cap_where_another_window_brought_more():
    endpoint = Endpoint(54, every=timedelta(minutes=50))
    endpoint.has_pages = False
    windows = [len(endpoint.requests[:29]), len(endpoint.requests[29:])]
    assert windows == [29, 25]
    assert values(connector(endpoint).pages(ask())) == all_of(endpoint)
    assert len({(asked["start_date"], asked["end_date"]) for asked in endpoint.asked}) == 6


def test_a_minute_that_is_too_full_is_an_error():
    endpoint = Endpoint(300, most=50, every=timedelta(0))
    endpoint.has_pages = False
    with pytest.raises(DeliveryError, match="is its cap") as raised:
        list(connector(endpoint).pages(ask()))
    assert raised.value.error_type == "WindowTooFull"


def test_a_quiet_server_without_pages_is_not_split_to_the_minute():
    endpoint = Endpoint(1)
    endpoint.has_pages = False
    assert values(connector(endpoint).pages(ask())) == all_of(endpoint)
    assert len(endpoint.asked) <= 20


def test_times_are_asked_in_whole_seconds_of_utc():
    endpoint = Endpoint()
    list(connector(endpoint).pages(ask(since=Cursor("2026-03-20T08:00:00.250-04:00"))))
    asked = [(asked["start_date"], asked["end_date"]) for asked in endpoint.asked]
    assert asked[0] == ("2026-03-20T12:00:00Z", "2026-03-22T12:00:00Z")
    assert asked[-1][1] == "2026-03-31T12:00:00Z"
    assert all(re.fullmatch(r"[\d-]{10}T[\d:]{8}Z", said) for pair in asked for said in pair)


def test_where_a_walk_begins():
    for said, start in (
        ({"since": None}, "2025-12-31T12:00:00Z"),
        ({"days": (date(2026, 2, 2), date(2026, 2, 3))}, "2026-02-01T00:00:00Z"),
    ):
        endpoint = Endpoint()
        list(connector(endpoint, window_days=30).pages(ask(**said)))
        assert endpoint.asked[0]["start_date"] == start
    assert endpoint.asked[-1]["end_date"] == "2026-02-04T00:00:00Z"


def test_a_walk_goes_on_where_it_was_killed():
    whole = list(connector(Endpoint()).pages(ask()))
    for kept in range(1, len(whole)):
        endpoint = Endpoint()
        rest = list(connector(endpoint).pages(ask(resume=whole[kept - 1].next)))
        assert set(values(whole[:kept] + rest)) == set(all_of(endpoint))
        assert rest[-1].cursor == whole[-1].cursor


def test_the_cursor_moves_with_complete_windows_only():
    endpoint = Endpoint()
    pages = list(connector(endpoint).pages(ask()))
    for page in pages:
        if page.cursor is not None and page.next is not None:
            assert json.loads(page.next)["at"] >= page.cursor.at
    assert pages[0].cursor is None or json.loads(pages[0].next)["at"] == pages[0].cursor.at


def test_requests_without_an_id_are_kept_and_end_the_walk_too():
    endpoint = Endpoint(4, every=timedelta(hours=1), base=0)
    endpoint.page_rows = 2
    for each in endpoint.requests[1:]:
        each["service_request_id"] = ""
    endpoint.requests[3]["service_request_id"] = None
    endpoint.repeats_last = True
    pages = list(connector(endpoint, window_days=30).pages(ask()))
    assert sum(page.rows for page in pages) == 4


NOTHING = [{"code": 404, "description": "No service requests found"}]


@pytest.mark.parametrize("form", ["json", "xml"])
def test_a_404_that_says_that_the_range_is_empty_is_an_empty_window(form):
    endpoint = Endpoint(2)
    body = (
        "<errors><error><code>404</code><description>no requests in the range</description></error></errors>"
    )
    endpoint.nothing = (
        httpx2.Response(404, json=NOTHING) if form == "json" else httpx2.Response(404, text=body)
    )
    pages = list(connector(endpoint, form=form).pages(ask()))
    assert values(pages) == all_of(endpoint)
    assert pages[-1].cursor == Cursor("2026-03-31T12:00:00Z")


GONE = [
    httpx2.Response(404),
    httpx2.Response(404, text="<html>no requests found</html>"),
    httpx2.Response(404, json={"message": "No requests found"}),
    httpx2.Response(404, json=[{"code": 404, "description": "The resource requested was not found"}]),
    httpx2.Response(404, json=[{"code": 404, "description": "jurisdiction_id was not found"}]),
    httpx2.Response(410),
]


@pytest.mark.parametrize("answer", GONE)
def test_any_other_404_is_a_failure(answer):
    with pytest.raises(DeliveryError) as raised:
        list(connector(lambda request: answer).pages(ask()))
    assert raised.value.error_type == "DatasetGone"


def test_without_a_look_at_its_words_a_gone_endpoint_would_be_an_empty_one(monkeypatch):
    monkeypatch.setattr(open311, "_NOTHING_FOUND", re.compile(""))
    assert values(connector(lambda request: GONE[3]).pages(ask())) == []


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(503),
        httpx2.Response(429, headers={"Retry-After": "0"}),
        httpx2.Response(200, text="<html>back soon</html>"),
        httpx2.Response(200, text='[{"service_request_id": "SR1"'),
        httpx2.Response(200, json={}),
        httpx2.Response(200, json=[{"code": 500, "description": "backend error"}]),
    ],
)
def test_errors_that_pass_are_waited_for_and_never_an_empty_window(answer):
    for before in ([], [None], [None, None]):
        endpoint = Endpoint()
        endpoint.instead = [*before, answer, answer]
        assert values(connector(endpoint).pages(ask())) == all_of(endpoint)
        endpoint.instead = [*before, answer, answer, answer]
        with pytest.raises(DeliveryError) as raised:
            list(connector(endpoint).pages(ask()))
        assert raised.value.error_type == "SourceUnreachable"


def test_a_server_that_fails_for_a_while_loses_no_page():
    for base in (0, 1):
        endpoint = Endpoint(base=base)
        endpoint.instead = [httpx2.Response(500), httpx2.Response(500), None, httpx2.Response(500)]
        assert values(connector(endpoint).pages(ask())) == all_of(endpoint)


@pytest.mark.parametrize(
    ("answer", "error_type"),
    [
        (httpx2.Response(403, json=[{"code": 403, "description": "api_key is not valid"}]), "Unauthorised"),
        (httpx2.Response(401), "Unauthorised"),
        (httpx2.Response(200, json=[{"code": 403, "description": "api_key is not valid"}]), "Unauthorised"),
        (httpx2.Response(400, json=[{"code": 400, "description": "jurisdiction_id is missing"}]), "Http400"),
    ],
)
def test_errors_that_stay_are_told_at_once(answer, error_type):
    asked = []
    with pytest.raises(DeliveryError) as raised:
        list(connector(lambda request: asked.append(request) or answer).pages(ask()))
    assert raised.value.error_type == error_type
    assert len(asked) == (1 if error_type == "Unauthorised" else 2)


BOMB = """<!DOCTYPE x [<!ENTITY a "SR"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<service_requests><request><service_request_id>&b;</service_request_id></request></service_requests>"""


def test_an_xml_with_a_document_type_is_refused():
    with pytest.raises(DeliveryError, match="document type"):
        list(connector(lambda request: httpx2.Response(200, text=BOMB), form="xml").pages(ask()))


def test_without_the_refusal_its_entities_would_be_expanded(monkeypatch):
    monkeypatch.setattr(open311._XmlReader, "_refuse", lambda self, *said: None)
    keys, _, _ = open311._read_xml(BOMB.encode())
    assert keys == ("SR" * 8,)


def test_a_key_is_sent_and_stands_in_no_log_or_message(caplog):
    caplog.set_level(logging.INFO)
    endpoint = Endpoint()
    endpoint.instead = [None, httpx2.Response(403)]
    with pytest.raises(DeliveryError) as raised:
        list(connector(endpoint, token="s3cret", jurisdiction="city.example").pages(ask()))
    assert {(asked["api_key"], asked["jurisdiction_id"]) for asked in endpoint.asked} == {
        ("s3cret", "city.example")
    }
    assert "s3cret" not in str(raised.value) + caplog.text


def test_if_every_address_were_logged_the_key_would_be(caplog):
    caplog.set_level(logging.INFO, "httpx2")
    caplog.set_level(logging.INFO)
    list(islice(connector(Endpoint(), token="s3cret").pages(ask()), 1))
    assert "s3cret" in caplog.text


def test_an_endpoint_that_finds_new_requests_for_ever_is_an_error(monkeypatch):
    monkeypatch.setattr(open311, "_MOST_PAGES", 30)
    numbers = iter(range(1000))
    told = lambda request: httpx2.Response(200, json=[{"service_request_id": str(next(numbers))}])  # noqa: E731
    with pytest.raises(DeliveryError) as raised:
        list(connector(told).pages(ask()))
    assert raised.value.error_type == "PagingLoop"


@pytest.mark.parametrize(
    "source",
    [BASE, f"{BASE}/", f"{BASE}/requests.json?page=3", f"{BASE}/services.xml", f"{BASE}/requests/12.json"],
)
def test_what_people_paste_is_understood(source):
    assert connector(Endpoint(), source=source)._url == f"{BASE}/requests.json"


def test_what_is_no_endpoint_is_refused():
    for source in ("requests.json", "http://[::1/open311/v2"):
        with pytest.raises(DeliveryError) as raised:
            connector(Endpoint(), source=source)
        assert raised.value.error_type == "WrongSource"
    with pytest.raises(DeliveryError, match="csv"):
        connector(Endpoint(), form="csv")


def test_no_request_is_ever_found_missing():
    part = connector(Endpoint())
    assert (part.count(ask()), part.months("requested_datetime")) == (None, None)
    with pytest.raises(DeliveryError, match="deletions: never"):
        part.ids(("service_request_id",), None, None)
