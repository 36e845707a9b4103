import gzip
import json
from datetime import datetime

import httpx2
import pytest

from assets.ingest.portals.outages import Outages
from assets.ingest.portals.page import Ask
from assets.ingest.portals.wire import Wire
from assets.ingest.receipts import DeliveryError
from tests.declared_feed import declared_feed

SOURCE = "https://utility.example/map/outages.json?key=abc"
ASK = Ask("snapshot", datetime.fromisoformat("2026-11-01"))
OUT = [{"id": 1, "customers": 7}, {"id": 2, "at": {"lat": 41.5}}]


def streamed(response):
    stream = httpx2.ByteStream(response.content)
    return httpx2.Response(response.status_code, headers=response.headers, stream=stream)


def connector(answer, *, source=SOURCE, records="/outages", token=None):
    asked = []

    def tell(request):
        asked.append(request)
        return streamed(answer(len(asked)) if callable(answer) else answer)

    wire = Wire(transport=httpx2.MockTransport(tell), first_wait_seconds=0.01, attempts=3, token=token)
    parts = [{"id": "one", "source": str(source), "format": "json"}]
    feed = declared_feed(portal="outages", parts=parts, request={"records": records})
    part = Outages(feed, feed.parts[0], wire)
    part.asked = asked
    return part


def told(said):
    return httpx2.Response(200, json=said)


@pytest.mark.parametrize(
    ("said", "pointer", "path"),
    [
        (OUT, "", "$[*]"),
        ({"outages": OUT}, "/outages", '$."outages"[*]'),
        ({"data": {"a/b~c": OUT}}, "/data/a~1b~0c", '$."data"."a/b~c"[*]'),
        ({"areas": [{"list": OUT}]}, "/areas/0/list", '$."areas"[0]."list"[*]'),
        ({"0": OUT}, "/0", '$."0"[*]'),
        ({'say "out"': OUT}, '/say "out"', '$."say \\"out\\""[*]'),
    ],
)
def test_the_list_is_found_where_the_declaration_points(said, pointer, path):
    [page] = connector(told(said), records=pointer).pages(ASK)
    assert (page.rows, page.records, page.next, page.content) == (2, path, None, "json")
    assert json.loads(page.body) == said


def test_no_outage_is_a_page_without_rows():
    [page] = connector(told({"outages": []})).pages(ASK)
    assert page.rows == 0


NO_LIST = [
    ({}, "WrongFormat"),
    ({"outages": None}, "WrongFormat"),
    ({"outages": {"count": 0}}, "WrongFormat"),
    ({"outages": ["Elm St", "Oak St"]}, "WrongFormat"),
    ({"error": {"code": 500}}, "WrongFormat"),
    ("<html>back soon</html>", "BrokenAnswer"),
    ('{"outages": [{"id": 1}', "BrokenAnswer"),
    ("", "BrokenAnswer"),
]


@pytest.mark.parametrize(("said", "error_type"), NO_LIST)
def test_an_answer_without_the_list_is_a_failure_after_some_attempts(said, error_type):
    answer = httpx2.Response(200, text=said) if isinstance(said, str) else told(said)
    part = connector(answer)
    with pytest.raises(DeliveryError) as raised:
        list(part.pages(ASK))
    assert raised.value.error_type == error_type
    assert len(part.asked) == 3
    assert "key=abc" not in str(raised.value)
    # The same answer is good when it was trouble of a moment.
    passing = connector(lambda number: told({"outages": OUT}) if number == 3 else answer)
    assert [page.rows for page in passing.pages(ASK)] == [2]


@pytest.mark.parametrize(
    ("answer", "error_type"),
    [
        (httpx2.Response(403), "Unauthorised"),
        (httpx2.Response(404), "DatasetGone"),
        (httpx2.Response(503), "SourceUnreachable"),
        (httpx2.Response(304), "BrokenAnswer"),
    ],
)
def test_no_answer_is_never_no_outage(answer, error_type):
    with pytest.raises(DeliveryError) as raised:
        list(connector(answer).pages(ASK))
    assert raised.value.error_type == error_type


def test_a_token_goes_into_the_header():
    part = connector(told({"outages": []}), token="s3cret")
    list(part.pages(ASK))
    assert part.asked[0].headers["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in str(part.asked[0].url)


def test_a_file_is_read_too(tmp_path):
    body = json.dumps({"outages": OUT}).encode()
    for name, content in (("out.json", body), ("out.json.gz", gzip.compress(body))):
        path = tmp_path / name
        path.write_bytes(content)
        [page] = connector(None, source=path).pages(ASK)
        assert (page.body, page.rows) == (body, 2)
    path.write_bytes(gzip.compress(body)[:-9])
    with pytest.raises(DeliveryError) as raised:
        list(connector(None, source=path).pages(ASK))
    assert raised.value.error_type == "BrokenAnswer"
    with pytest.raises(DeliveryError) as raised:
        list(connector(None, source=tmp_path / "gone.json").pages(ASK))
    assert raised.value.error_type == "SourceMissing"
    with pytest.raises(DeliveryError) as raised:
        list(connector(None, source=tmp_path).pages(ASK))
    assert raised.value.error_type == "SourceUnreadable"


def test_a_snapshot_tells_nothing_but_itself():
    part = connector(told({"outages": OUT}))
    assert (part.count(ASK), part.months("start_time"), part.describe().columns) == (None, None, {})
    assert [page.rows for page in part.ids(("id",), None, None)] == [2]
