import json
import logging
import re
import traceback
from datetime import UTC, date, datetime, timedelta

import duckdb
import httpx2
import pyarrow as pa
import pytest

from assets.ingest.portals.opendatasoft import Opendatasoft
from assets.ingest.portals.page import Ask, Cursor
from assets.ingest.portals.wire import Wire
from assets.ingest.receipts import DeliveryError
from tests.declared_feed import declared_feed

T0 = datetime.fromisoformat("2026-11-21T12:00:00")
FULL = Ask("full", T0)
TOKEN = "s3cret-api-key"
SOURCE = "https://ods.town.example/explore/dataset/calls-2026/table/"
PREFIX = "/api/explore/v2.1/catalog/datasets/calls-2026"
COLUMNS = ("case_id", "requested", "updated", "note")
DATABASE = duckdb.connect(config={"threads": 1})
HTML = httpx2.Response(200, text="<html>maintenance</html>")


def row(number: int, **said) -> dict:
    return {
        "case_id": f"C{number:04d}",
        "requested": f"2026-{1 + number % 3:02d}-15T01:02:03+00:00",
        "updated": f"2026-11-{1 + number % 20:02d}T08:00:00+00:00",
        **said,
    }


class Portal:
    """Opendatasoft in a few lines: ODSQL goes to DuckDB over text columns."""

    def __init__(self, rows):
        self.rows = rows
        self.asked = []
        self.clamp = 100
        self.instead = []  # (predicate, answer) used once each
        self.meanwhile = {}  # number of the page: what happens before it is answered
        self.pages = 0

    def __call__(self, request):
        said = dict(request.url.params)
        path = request.url.path.removeprefix(PREFIX)
        self.asked.append((request, path, said))
        for index, (fits, answer) in enumerate(self.instead):
            if fits(path, said):
                del self.instead[index]
                return answer(self, path, said) if callable(answer) else answer
        return self.answer(path, said)

    def answer(self, path, said):
        if path == "":
            fields = [{"name": name, "type": "text"} for name in COLUMNS]
            metas = {"default": {"data_processed": "2026-11-20T06:00:00+00:00"}}
            return httpx2.Response(200, json={"fields": fields, "metas": metas})
        if is_page(path, said):
            self.pages += 1
            self.meanwhile.pop(self.pages, lambda: None)()
        table = pa.table({n: pa.array([r.get(n) for r in self.rows], pa.string()) for n in COLUMNS})
        with DATABASE.cursor() as con:
            con.register("rows", table)
            con.execute("create or replace temp macro year(x) as left(x, 4)::int")
            con.execute("create or replace temp macro month(x) as x[6:7]::int")
            where = re.sub(r"date'([^']*)'", r"'\1'", said.get("where", "true"))
            group = said.get("group_by")
            select = ", ".join(each for each in (said.get("select"), group) if each) or "*"
            order = f"order by {said['order_by']}" if "order_by" in said else "order by random()"
            grouping = f"group by {group.replace(' as y', '').replace(' as m', '')}" if group else ""
            order = "" if "(" in select else order
            try:
                total = con.execute(f"select count(*) from rows where {where}").fetchone()[0]
                found = con.execute(f"select {select} from rows where {where} {grouping} {order}")
                rows = found.to_arrow_table().to_pylist()
            except duckdb.BinderException as error:
                column = re.search(r'column "([^"]+)"', str(error))[1]
                message = f"ODSQL query is malformed: Unknown field: {column}"
                return refused(message, 400, "ODSQLError")
        if path == "/exports/json":
            return httpx2.Response(200, json=rows)
        offset, limit = int(said.get("offset", 0)), min(int(said.get("limit", 10)), self.clamp)
        if group:
            return httpx2.Response(200, json={"results": rows[offset : offset + limit]})
        return httpx2.Response(200, json={"total_count": total, "results": rows[offset : offset + limit]})


def refused(message, status, code="error"):
    return httpx2.Response(status, json={"error_code": code, "message": message})


def streamed(response):
    """Return a response that counts its bytes as they are read, like one that comes over a wire."""
    stream = httpx2.ByteStream(response.content)
    return httpx2.Response(response.status_code, headers=response.headers, stream=stream)


def is_page(path, said):
    return path == "/exports/json" or (
        path == "/records" and said.get("limit") != "0" and "select" not in said
    )


def connect(portal, *, token=None, attempts=6, source=SOURCE, sync=None, request=None):
    feed = declared_feed(
        portal="opendatasoft",
        sync=sync or {},
        request=request or {},
        columns={"source_id": "case_id", "requested_at": "requested"},
        parts=[{"id": "one", "source": source, "format": "json"}],
    )
    transport = httpx2.MockTransport(lambda request: streamed(portal(request)))
    wire = Wire(token=token, first_wait_seconds=0.01, attempts=attempts, transport=transport)
    return Opendatasoft(feed, feed.parts[0], wire)


def read(connector, ask=FULL):
    pages = list(connector.pages(ask))
    assert [page.next for page in pages][-1] is None
    bodies = [json.loads(page.body) for page in pages]
    rows = [
        body["results"] if page.records == "$.results[*]" else body
        for page, body in zip(pages, bodies, strict=True)
    ]
    assert [len(each) for each in rows] == [page.rows for page in pages]
    return [each for page in rows for each in page], pages


def cases(rows):
    return sorted(each["case_id"] for each in rows)


PAGED = {"page_rows": 100}


def test_an_export_is_one_page_with_every_row():
    rows, pages = read(connect(Portal([row(n) for n in range(250)])))
    assert cases(rows) == [f"C{n:04d}" for n in range(250)]
    assert (len(pages), pages[0].records) == (1, "$[*]")


def test_an_empty_data_set_is_one_empty_page():
    for request in (None, PAGED):
        rows, pages = read(connect(Portal([]), request=request))
        assert (rows, len(pages)) == ([], 1)


def test_pages_of_records_step_by_what_came():
    portal = Portal([row(n) for n in range(253)])
    portal.clamp = 60
    for size in (7, 100, 5000):
        rows, _ = read(connect(portal, request={"page_rows": size}))
        assert cases(rows) == [f"C{n:04d}" for n in range(253)]
    pages = [said for _, path, said in portal.asked if is_page(path, said)]
    assert all("order_by" in said and int(said["limit"]) <= 100 for said in pages)


def test_more_than_pages_reach_is_exported():
    rows, pages = read(connect(Portal([row(n) for n in range(10_001)]), request=PAGED))
    assert (len(rows), len(pages)) == (10_001, 1)


def test_an_export_with_fewer_rows_than_the_portal_counts_is_read_again():
    portal = Portal([row(n) for n in range(20)])
    short = httpx2.Response(200, json=portal.rows[:9])
    portal.instead = [(is_page, short)] * 2
    assert len(read(connect(portal))[0]) == 20
    portal.instead = [(is_page, short)] * 9
    with pytest.raises(DeliveryError, match="counts 20 rows and gave 9") as error:
        read(connect(portal))
    assert error.value.error_type == "CountMismatch"


def test_without_the_count_a_short_export_loses_rows(monkeypatch):
    monkeypatch.setattr(Opendatasoft, "_count", lambda self, conditions: 0)
    portal = Portal([row(n) for n in range(20)])
    portal.instead = [(is_page, httpx2.Response(200, json=portal.rows[:9]))]
    assert len(read(connect(portal))[0]) == 9


def interrupted(portal, path, said):
    body = portal.answer(path, said).content
    text = b"Streaming interrupted due to the following error: query took too long"
    return httpx2.Response(200, content=body[: len(body) // 2] + text)


@pytest.mark.parametrize("request_", [None, PAGED])
@pytest.mark.parametrize(
    "answer", [interrupted, HTML, refused("try again", 200), httpx2.Response(500), httpx2.Response(202)]
)
def test_an_answer_that_breaks_off_is_asked_again(answer, request_):
    portal = Portal([row(n) for n in range(20)])
    portal.instead = [(is_page, answer)] * 2
    assert len(read(connect(portal, request=request_))[0]) == 20


def test_an_interrupted_export_says_so_when_it_stays_interrupted():
    portal = Portal([row(n) for n in range(20)])
    portal.instead = [(is_page, interrupted)] * 9
    with pytest.raises(DeliveryError, match="Streaming interrupted") as error:
        read(connect(portal, attempts=3))
    assert error.value.error_type == "BrokenAnswer"


@pytest.mark.parametrize(
    ("answer", "error_type"),
    [
        (refused("forbidden", 401), "Unauthorised"),
        (refused("forbidden", 403), "Unauthorised"),
        (refused("Unknown dataset: calls-2026", 404), "DatasetGone"),
        (refused("malformed", 400), "Http400"),
        (HTML, "WrongFormat"),
        (httpx2.Response(503), "SourceUnreachable"),
    ],
)
def test_what_stays_wrong_is_an_error_and_never_an_empty_page(answer, error_type):
    portal = Portal([row(1)])
    portal.instead = [(lambda path, said: True, answer)] * 50
    for ask in (
        lambda connector: list(connector.pages(FULL)),
        lambda connector: connector.count(FULL),
        lambda connector: connector.describe(),
    ):
        with pytest.raises(DeliveryError) as error:
            ask(connect(portal, attempts=3))
        assert error.value.error_type == error_type
        assert "\n" not in str(error.value)


def test_a_used_up_quota_is_left_to_a_later_run():
    portal = Portal([row(1)])
    tomorrow = (datetime.now(UTC) + timedelta(hours=9)).strftime("%Y-%m-%d %H:%M:%S+00:00")
    portal.instead = [(is_page, httpx2.Response(429, headers={"X-RateLimit-Reset": tomorrow}))]
    with pytest.raises(DeliveryError, match="no more answers until") as error:
        read(connect(portal))
    assert (error.value.error_type, len(portal.asked)) == ("Http429", 1)


def test_a_quota_that_fills_up_soon_is_waited_for():
    portal = Portal([row(1)])
    soon = str(int(datetime.now(UTC).timestamp()))
    answers = [
        httpx2.Response(429, headers={"X-RateLimit-Reset": soon}),
        httpx2.Response(429, headers={"Retry-After": "0.01", "X-RateLimit-Reset": "9999999999"}),
        httpx2.Response(429),
        httpx2.Response(429, json={"reset_time": "2026-01-01T00:00:00Z"}),
    ]
    portal.instead = [(is_page, each) for each in answers]
    assert len(read(connect(portal))[0]) == 1


def test_a_column_that_is_gone_blocks_and_is_named():
    with pytest.raises(DeliveryError, match="no column caseid") as error:
        list(connect(Portal([row(1)])).ids(("caseid",), None, None))
    assert (error.value.error_type, error.value.outcome) == ("ColumnsGone", "blocked")


@pytest.mark.parametrize("change", [lambda rows: rows.pop(0), lambda rows: rows.insert(0, row(500))])
def test_pages_whose_rows_move_are_read_again(change):
    portal = Portal([row(n + 600) for n in range(30)])
    portal.meanwhile[3] = lambda: change(portal.rows)
    rows, _ = read(connect(portal, request={"page_rows": 8}))
    assert set(cases(rows)) >= {each["case_id"] for each in portal.rows}


def test_an_empty_page_in_the_middle_is_asked_again_and_not_for_ever():
    portal = Portal([row(n) for n in range(20)])
    empty = (
        lambda path, said: is_page(path, said) and said["offset"] != "0",
        httpx2.Response(200, json={"total_count": 20, "results": []}),
    )
    portal.instead = [empty] * 2
    assert len(read(connect(portal, request={"page_rows": 8}))[0]) == 20
    portal.instead = [empty] * 40
    with pytest.raises(DeliveryError) as error:
        read(connect(portal, request={"page_rows": 8}))
    assert error.value.error_type == "CountMismatch"


INCREMENTAL = {"mode": "incremental", "cursor": "updated"}


@pytest.mark.parametrize("request_", [None, {"page_rows": 3}])
def test_incremental_brings_what_changed_and_what_has_no_time(request_):
    portal = Portal([row(n) for n in range(20)] + [row(50, updated=None)])
    connector = connect(portal, sync=INCREMENTAL, request=request_)
    ask = Ask("incremental", T0, since=Cursor("2026-11-17T08:00:00+00:00"))
    rows, pages = read(connector, ask)
    assert cases(rows) == ["C0016", "C0017", "C0018", "C0019", "C0050"]
    assert connector.count(ask) == 5
    assert pages[-1].cursor == Cursor("2026-11-20T08:00:00+00:00")


def test_incremental_without_a_declared_cursor_says_what_to_declare():
    with pytest.raises(DeliveryError, match=r"sync\.cursor"):
        list(connect(Portal([])).pages(Ask("incremental", T0)))


def test_a_cursor_that_is_no_time_never_becomes_a_question():
    ask = Ask("incremental", T0, since=Cursor("2026' or 1=1 or '"))
    with pytest.raises(DeliveryError, match="is no time"):
        connect(Portal([row(1)]), sync=INCREMENTAL).count(ask)


def changing_portal():
    portal = Portal([row(n) for n in range(20)] + [row(50, updated="2115-03-11T00:00:00+00:00")])
    portal.meanwhile[2] = lambda: portal.rows[15].update(updated="2026-11-21T11:00:00+00:00")
    return portal


def test_neither_poison_nor_a_change_during_the_reading_becomes_the_cursor():
    _, pages = read(connect(changing_portal(), sync=INCREMENTAL, request={"page_rows": 5}))
    assert pages[-1].cursor.at == "2026-11-20T08:00:00+00:00"


def test_without_the_cap_poison_becomes_the_cursor(monkeypatch):
    monkeypatch.setattr(Opendatasoft, "_cap", lambda self, ask: None)
    _, pages = read(connect(changing_portal(), sync=INCREMENTAL, request={"page_rows": 5}))
    assert pages[-1].cursor.at == "2115-03-11T00:00:00+00:00"


def test_a_killed_run_goes_on_behind_any_page():
    portal = Portal([row(n) for n in range(25)])
    options = {"sync": INCREMENTAL, "request": {"page_rows": 6}}
    _, pages = read(connect(portal, **options))
    for index, page in enumerate(pages[:-1]):
        rows, again = read(connect(portal, **options), Ask("full", T0, resume=page.next))
        before = [each for known in pages[: index + 1] for each in json.loads(known.body)["results"]]
        assert cases(before + rows) == [f"C{n:04d}" for n in range(25)]
        assert again[-1].cursor == pages[-1].cursor


def test_a_backfill_asks_days_of_event_time():
    connector = connect(Portal([row(n) for n in range(30)]))
    ask = Ask("full", T0, days=(date(2026, 2, 1), date(2026, 3, 1)))
    rows, pages = read(connector, ask)
    assert {each["requested"][:7] for each in rows} == {"2026-02"}
    assert len(rows) == connector.count(ask) == 10
    assert pages[0].cursor is None


def test_months_and_the_ids_of_one_month():
    portal = Portal([row(n) for n in range(9)] + [row(50, requested=None)])
    portal.clamp = 2
    connector = connect(portal)
    assert connector.months("requested") == {"2026-01": 3, "2026-02": 3, "2026-03": 3, "": 1}
    for month, count in (("2026-02", 3), ("", 1), (None, 10)):
        rows = [
            each for page in connector.ids(("case_id",), "requested", month) for each in json.loads(page.body)
        ]
        assert len(rows) == count
        assert {name for each in rows for name in each} == {"case_id"}


def test_a_column_without_months_has_no_months():
    portal = Portal([])
    portal.instead = [(lambda path, said: True, refused("year() takes a date", 400))]
    assert connect(portal).months("note") is None


def test_a_description_has_columns_rows_and_the_last_change():
    said = connect(Portal([row(n) for n in range(3)])).describe()
    assert list(said.columns) == list(COLUMNS)
    assert (said.rows, said.changed_at) == (3, datetime.fromisoformat("2026-11-20T06:00:00"))


def test_the_declared_filter_stands_in_front():
    portal = Portal([row(n, note="a" if n % 2 else "b") for n in range(10)])
    connector = connect(portal, request={"where": "note = 'a' or 1=2"})
    assert len(read(connector)[0]) == connector.count(FULL) == 5


@pytest.mark.parametrize(
    "source", ["https://x.example/explore/", "/explore/dataset/x", "https://x.example/a?b"]
)
def test_an_address_without_a_data_set_is_refused(source):
    with pytest.raises(DeliveryError, match="no Opendatasoft data set"):
        connect(Portal([]), source=source)


def test_what_stands_before_the_data_set_is_kept():
    connector = connect(Portal([]), source="http://127.0.0.1:8311/opendatasoft/explore/dataset/calls-2026")
    assert connector._url == f"http://127.0.0.1:8311/opendatasoft{PREFIX}"


def test_the_token_is_sent_and_never_shown(caplog):
    caplog.set_level(logging.DEBUG)
    portal = Portal([row(1)])
    portal.instead = [(is_page, refused(f"the key {TOKEN} is wrong", 401))]
    with pytest.raises(DeliveryError, match="is wrong") as error:
        read(connect(portal, token=TOKEN))
    assert portal.asked[0][0].headers["Authorization"] == f"Apikey {TOKEN}"
    assert TOKEN not in "".join(traceback.format_exception(error.value)) + caplog.text
    assert not any(TOKEN in str(request.url) for request, _, _ in portal.asked)
