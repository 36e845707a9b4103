import json
import logging
import re
import traceback
from datetime import date, datetime
from urllib.parse import parse_qs

import duckdb
import httpx2
import pyarrow as pa
import pytest

from assets.ingest.portals import carto, keyset
from assets.ingest.portals.carto import Carto
from assets.ingest.portals.page import Ask, Cursor
from assets.ingest.portals.wire import Wire
from assets.ingest.receipts import DeliveryError
from tests.declared_feed import declared_feed

T0 = datetime.fromisoformat("2026-11-21T12:00:00")
FULL = Ask("full", T0)
TOKEN = "s3cret-api-key"
SOURCE = "https://phl.town.example/tables/public_cases"
COLUMNS = ("cartodb_id", "the_geom", "the_geom_webmercator", "case id", "requested", "updated", "note")
DATABASE = duckdb.connect(config={"threads": 1})


def row(number: int, **said) -> dict:
    return {
        "cartodb_id": 10 + 3 * number,
        "the_geom": f"-75.{number}",
        "the_geom_webmercator": "0101000020",
        "case id": f"C{number:04d}",
        "requested": f"2026-{1 + number % 3:02d}-15T01:02:03Z",
        "updated": f"2026-11-{1 + number % 20:02d}T08:00:00Z",
        **said,
    }


class Portal:
    """CARTO in a few lines: SQL goes to DuckDB over text columns."""

    def __init__(self, rows):
        self.rows = rows
        self.columns = list(COLUMNS)
        self.asked = []
        self.instead = []  # (predicate, answer) used once each
        self.meanwhile = {}  # number of the page: what happens before it is answered
        self.pages = 0

    def __call__(self, request):
        said = dict(request.url.params)
        if request.method == "POST":
            said = {key: value[0] for key, value in parse_qs(request.content.decode()).items()}
        self.asked.append((request, said))
        assert request.url.path == "/api/v2/sql"
        for index, (fits, answer) in enumerate(self.instead):
            if fits(said["q"]):
                del self.instead[index]
                return answer(self, said) if callable(answer) else answer
        return self.answer(said)

    def answer(self, said):
        sql = said["q"]
        if is_page(sql):
            self.pages += 1
            self.meanwhile.pop(self.pages, lambda: None)()
        types = {n: pa.int64() if n == "cartodb_id" else pa.string() for n in self.columns}
        table = pa.table({n: pa.array([r.get(n) for r in self.rows], types[n]) for n in self.columns})
        with DATABASE.cursor() as con:
            con.register("public_cases", table)
            con.execute("create or replace temp macro ST_X(g) as g")
            con.execute("create or replace temp macro ST_Y(g) as '39.9'")
            sql = re.sub(r"date_trunc\('month', (\S+)\)", r"left(\1, 7) || '-01T00:00:00Z'", sql)
            try:
                found = con.execute(sql).to_arrow_table()
            except duckdb.BinderException as error:
                column = re.search(r'column "([^"]+)"', str(error))[1]
                return refused(f'column "{column}" does not exist')
        fields = {n: {"type": "geometry" if "geom" in n else "string"} for n in found.column_names}
        rows = found.to_pylist()
        return httpx2.Response(
            200, json={"rows": rows, "time": 0.1, "fields": fields, "total_rows": len(rows)}
        )


def refused(message, status=400, headers=None):
    return httpx2.Response(status, json={"error": [message]}, headers=headers)


def streamed(response):
    """Return a response that counts its bytes as they are read, like one that comes over a wire."""
    stream = httpx2.ByteStream(response.content)
    return httpx2.Response(response.status_code, headers=response.headers, stream=stream)


def is_page(sql):
    return "LIMIT" in sql and "LIMIT 0" not in sql


def limits(portal):
    found = [re.search(r"LIMIT (\d+)$", said["q"]) for _, said in portal.asked]
    return [int(each[1]) for each in found if each and each[1] != "0"]


def connect(portal, *, token=None, attempts=6, source=SOURCE, sync=None, request=None):
    feed = declared_feed(
        portal="carto",
        sync=sync or {},
        request=request or {},
        columns={"source_id": "case id", "requested_at": "requested"},
        parts=[{"id": "one", "source": source, "format": "json"}],
    )
    transport = httpx2.MockTransport(lambda request: streamed(portal(request)))
    wire = Wire(token=token, first_wait_seconds=0.01, attempts=attempts, transport=transport)
    return Carto(feed, feed.parts[0], wire)


def read(connector, ask=FULL):
    pages = list(connector.pages(ask))
    assert [page.next for page in pages][-1] is None
    rows = [json.loads(page.body)["rows"] for page in pages]
    assert [len(each) for each in rows] == [page.rows for page in pages]
    assert {page.records for page in pages} == {"$.rows[*]"}
    return [each for page in rows for each in page], pages


def cases(rows):
    return [each["case id"] for each in rows]


def test_every_row_comes_once_whatever_the_page_size():
    portal = Portal([row(n) for n in range(53)])
    for size in (1, 7, 53, 54, None):
        rows, _ = read(connect(portal, request={"page_rows": size} if size else None))
        assert cases(rows) == [f"C{n:04d}" for n in range(53)]


def test_points_become_lon_and_lat_and_geometries_stay_away():
    rows, _ = read(connect(Portal([row(1)])))
    assert set(rows[0]) == {"cartodb_id", "case id", "requested", "updated", "note", "lon", "lat"}
    portal = Portal([row(1, lon="own")])
    portal.columns.append("lon")
    assert read(connect(portal))[0][0]["lon"] == "own"


def test_a_row_that_is_edited_deleted_or_added_between_pages_hides_no_other():
    portal = Portal([row(n) for n in range(30)])
    portal.meanwhile[3] = lambda: (portal.rows.pop(0), portal.rows.append(row(30)))
    rows, _ = read(connect(portal, request={"page_rows": 7}))
    assert cases(rows) == [f"C{n:04d}" for n in range(31)]


def test_an_empty_page_in_the_middle_is_asked_again():
    portal = Portal([row(n) for n in range(20)])
    portal.instead = [(lambda sql: is_page(sql) and ">" in sql, httpx2.Response(200, json={"rows": []}))]
    assert len(read(connect(portal, request={"page_rows": 6}))[0]) == 20


def test_without_the_count_of_what_remains_an_empty_page_loses_rows(monkeypatch):
    monkeypatch.setattr(keyset.End, "is_reached", lambda self, rows, new, asked, remaining: not rows)
    portal = Portal([row(n) for n in range(20)])
    portal.instead = [(lambda sql: is_page(sql) and ">" in sql, httpx2.Response(200, json={"rows": []}))]
    assert len(read(connect(portal, request={"page_rows": 6}))[0]) == 6


def timeout(most, status=429, headers=None):
    def answer(portal, said):
        if int(said["q"].rpartition(" ")[2]) > most:
            portal.instead.append((is_page, answer))
            return refused("SQL query timeout error. Refactor your query", status, headers)
        portal.instead.append((is_page, answer))
        return portal.answer(said)

    return answer


@pytest.mark.parametrize("headers", [None, {"Retry-After": "-1"}, {"Retry-After": "0"}])
def test_a_statement_timeout_halves_the_page_and_it_grows_back(headers):
    portal = Portal([row(n) for n in range(40)])
    portal.instead = [(is_page, timeout(5, headers=headers))]
    rows, _ = read(connect(portal, request={"page_rows": 16}))
    assert cases(rows) == [f"C{n:04d}" for n in range(40)]
    assert limits(portal)[:5] == [16, 8, 4, 5, 6]


def test_a_429_with_no_wait_told_is_waited_for_once_then_halved():
    portal = Portal([row(n) for n in range(20)])
    portal.instead = [(is_page, refused("rate limit", 429))] * 3
    assert len(read(connect(portal, request={"page_rows": 8}))[0]) == 20
    assert limits(portal)[:4] == [8, 8, 4, 4]


def test_a_429_that_tells_how_long_is_waited_for_and_the_page_stays():
    portal = Portal([row(n) for n in range(8)])
    portal.instead = [(is_page, refused("rate limit", 429, {"Retry-After": "0.05"}))] * 3
    assert len(read(connect(portal, request={"page_rows": 8}))[0]) == 8
    assert set(limits(portal)) == {8}


def interrupted(tail):
    def answer(portal, said):
        body = portal.answer(said).content
        return httpx2.Response(200, content=body[: len(body) // 2] + tail)

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        interrupted(b'{"error":["statement timeout"]}'),
        interrupted(b'],"error":["ERROR: could not read block"]}'),
        interrupted(b""),
        lambda portal, said: httpx2.Response(200, json={**portal.answer(said).json(), "error": ["late"]}),
        httpx2.Response(200, json={"error": ["You are over platform's limits"]}),
        httpx2.Response(200, json={"time": 0.1}),
        httpx2.Response(200, text="<html>maintenance</html>"),
    ],
)
def test_an_answer_that_goes_wrong_after_its_status_is_asked_again_then_halved(answer):
    portal = Portal([row(n) for n in range(20)])
    portal.instead = [(is_page, answer)] * 2
    assert cases(read(connect(portal, request={"page_rows": 8}))[0]) == [f"C{n:04d}" for n in range(20)]
    assert 4 in limits(portal)


def test_without_a_look_at_the_envelope_a_late_error_loses_rows(monkeypatch):
    def late(portal, said):
        whole = portal.answer(said).json()
        return httpx2.Response(200, json={**whole, "rows": whole["rows"][::2], "error": ["timeout"]})

    portal = Portal([row(n) for n in range(20)])
    portal.instead = [(is_page, late)]
    trusting = lambda body, keys, cursor, cap: keyset.read_records(body, path="$.rows", keys=keys)  # noqa: E731
    monkeypatch.setattr(carto, "_looked_at", trusting)
    assert len(read(connect(portal, request={"page_rows": 8}))[0]) < 20


@pytest.mark.parametrize(
    ("answer", "error_type"),
    [
        (refused("SQL query timeout error", 429), "Http429"),
        (refused("permission denied", 403), "Unauthorised"),
        (refused("not found", 404), "DatasetGone"),
        (refused('relation "public_cases" does not exist'), "DatasetGone"),
        (refused("syntax error at or near"), "Http400"),
        (httpx2.Response(200, text="<html>maintenance</html>"), "WrongFormat"),
        (httpx2.Response(200, json={"error": ["You are over platform's limits"]}), "BrokenAnswer"),
        (httpx2.Response(502), "SourceUnreachable"),
    ],
)
def test_what_stays_wrong_is_an_error_and_never_an_empty_page(answer, error_type):
    portal = Portal([row(1)])
    portal.instead = [(lambda sql: True, answer)] * 80
    for ask in (lambda connector: list(connector.pages(FULL)), lambda connector: connector.count(FULL)):
        with pytest.raises(DeliveryError) as error:
            ask(connect(portal, attempts=3, request={"page_rows": 8}))
        assert error.value.error_type == error_type
        assert "\n" not in str(error.value)


def test_a_page_that_fails_down_to_one_row_is_an_error():
    portal = Portal([row(1)])
    portal.instead = [(is_page, timeout(0))]
    with pytest.raises(DeliveryError) as error:
        read(connect(portal, attempts=3, request={"page_rows": 8}))
    assert error.value.error_type == "Http429"
    assert limits(portal) == [8, 4, 2, 1, 1, 1]


def test_a_column_that_is_gone_blocks_and_is_named():
    with pytest.raises(DeliveryError, match="no column caseid") as error:
        list(connect(Portal([row(1)])).ids(("caseid",), None, None))
    assert (error.value.error_type, error.value.outcome) == ("ColumnsGone", "blocked")


INCREMENTAL = {"mode": "incremental", "cursor": "updated"}


def test_incremental_brings_what_changed_and_what_has_no_time():
    portal = Portal([row(n) for n in range(20)] + [row(50, updated=None)])
    connector = connect(portal, sync=INCREMENTAL, request={"page_rows": 3})
    ask = Ask("incremental", T0, since=Cursor("2026-11-17T08:00:00Z"))
    rows, pages = read(connector, ask)
    assert cases(rows) == ["C0016", "C0017", "C0018", "C0019", "C0050"]
    assert connector.count(ask) == 5
    assert pages[-1].cursor == Cursor("2026-11-20T08:00:00Z")


def test_incremental_without_a_declared_cursor_says_what_to_declare():
    with pytest.raises(DeliveryError, match=r"sync\.cursor"):
        list(connect(Portal([])).pages(Ask("incremental", T0)))


def test_what_a_row_says_stays_a_value_in_the_next_question():
    portal = Portal([row(1)])
    ask = Ask("incremental", T0, since=Cursor("x' OR 1=1 --"))
    assert connect(portal, sync=INCREMENTAL).count(ask) == 0


def changing_portal():
    portal = Portal([row(n) for n in range(20)] + [row(50, updated="2115-03-11T00:00:00Z")])

    def edit():
        portal.rows[0]["updated"] = "2026-11-21T11:00:00Z"
        portal.rows[-2]["updated"] = "2026-11-21T11:30:00Z"

    portal.meanwhile[2] = edit
    return portal


def test_neither_poison_nor_a_change_during_the_reading_becomes_the_cursor():
    _, pages = read(connect(changing_portal(), sync=INCREMENTAL, request={"page_rows": 5}))
    assert pages[-1].cursor == Cursor("2026-11-19T08:00:00Z")


def test_without_the_cap_both_become_the_cursor(monkeypatch):
    monkeypatch.setattr(Carto, "_cap", lambda self, ask: None)
    _, pages = read(connect(changing_portal(), sync=INCREMENTAL, request={"page_rows": 5}))
    assert pages[-1].cursor.at == "2115-03-11T00:00:00Z"


def test_a_killed_run_goes_on_behind_any_page():
    portal = Portal([row(n) for n in range(25)])
    _, pages = read(connect(portal, sync=INCREMENTAL, request={"page_rows": 6}))
    for index, page in enumerate(pages[:-1]):
        ask = Ask("full", T0, resume=page.next)
        rows, again = read(connect(portal, sync=INCREMENTAL, request={"page_rows": 6}), ask)
        before = [each for known in pages[: index + 1] for each in json.loads(known.body)["rows"]]
        assert cases(before + rows) == [f"C{n:04d}" for n in range(25)]
        assert again[-1].cursor == pages[-1].cursor


def test_a_backfill_asks_days_of_event_time():
    connector = connect(Portal([row(n) for n in range(30)]), request={"page_rows": 4})
    ask = Ask("full", T0, days=(date(2026, 2, 1), date(2026, 3, 1)))
    rows, _ = read(connector, ask)
    assert {each["requested"][:7] for each in rows} == {"2026-02"}
    assert len(rows) == connector.count(ask) == 10


def test_months_and_the_ids_of_one_month():
    portal = Portal([row(n) for n in range(9)] + [row(50, requested=None)])
    connector = connect(portal, request={"page_rows": 2})
    assert connector.months("requested") == {"2026-01": 3, "2026-02": 3, "2026-03": 3, "": 1}
    for month, count in (("2026-02", 3), ("", 1), (None, 10)):
        pages = list(connector.ids(("case id",), "requested", month))
        rows = [each for page in pages for each in json.loads(page.body)["rows"]]
        assert len(rows) == count
        assert {name for each in rows for name in each} == {"cartodb_id", "case id"}


def test_a_description_has_columns_with_the_points_and_rows():
    said = connect(Portal([row(n) for n in range(3)])).describe()
    assert list(said.columns) == ["cartodb_id", "case id", "requested", "updated", "note", "lon", "lat"]
    assert said.rows == 3


def test_the_declared_filter_stands_in_front():
    portal = Portal([row(n, note="a" if n % 2 else "b") for n in range(10)])
    connector = connect(portal, request={"where": "note = 'a' OR 1=2", "page_rows": 2})
    assert len(read(connector)[0]) == connector.count(FULL) == 5


def test_a_long_question_goes_as_a_form():
    portal = Portal([row(1)])
    read(connect(portal, request={"where": f"note IS NULL OR note <> '{'x' * 2000}'"}))
    assert {request.method for request, _ in portal.asked} == {"POST"}


@pytest.mark.parametrize(
    "source",
    [
        "https://phl.carto.com/tables/Robert'); drop table x",
        "https://phl.carto.com/tables/",
        "https://phl.carto.com/",
        "/tables/x",
    ],
)
def test_an_address_without_a_table_is_refused(source):
    with pytest.raises(DeliveryError, match="no CARTO table"):
        connect(Portal([]), source=source)


def test_what_stands_before_the_table_is_kept():
    connector = connect(Portal([]), source="http://127.0.0.1:8311/carto/tables/public_cases")
    assert connector._url == "http://127.0.0.1:8311/carto/api/v2/sql"


def test_the_token_is_sent_and_never_shown(caplog):
    caplog.set_level(logging.DEBUG)
    portal = Portal([row(1)])
    portal.instead = [(is_page, refused(f"permission denied for {TOKEN}", 403))]
    with pytest.raises(DeliveryError, match="permission denied") as error:
        read(connect(portal, token=TOKEN))
    assert {said["api_key"] for _, said in portal.asked} == {TOKEN}
    assert TOKEN not in "".join(traceback.format_exception(error.value)) + caplog.text
    assert not any(TOKEN in str(request.url) for request, _ in portal.asked)
