import json
import logging
import re
import traceback
from datetime import date, datetime

import duckdb
import httpx2
import pyarrow as pa
import pytest

from assets.ingest.portals import keyset, socrata
from assets.ingest.portals.page import Ask, Cursor
from assets.ingest.portals.socrata import Socrata
from assets.ingest.portals.wire import Wire
from assets.ingest.receipts import DeliveryError
from tests.declared_feed import declared_feed

T0 = datetime.fromisoformat("2026-11-21T12:00:00")
FULL = Ask("full", T0)
TOKEN = "s3cret-app-token"
SOURCE = "https://data.town.example/resource/abcd-1234"
COLUMNS = ("sr_number", "created_date", "status", "note")
DATABASE = duckdb.connect(config={"threads": 1})
SYSTEM = (":id", ":created_at", ":updated_at")


def at(minute: int) -> str:
    return f"2026-11-20T{minute // 60:02d}:{minute % 60:02d}:00.000Z"


def row(number: int, **said) -> dict:
    return {
        ":id": f"row-{number * 7919 % 10007:05d}",
        ":created_at": at(0),
        ":updated_at": at(number % 1000),
        "sr_number": f"SR{number:05d}",
        "created_date": f"2026-{1 + number % 3:02d}-15T01:02:03.000",
        "status": "Open",
        **said,
    }


class Portal:
    """Socrata in a few lines: SoQL becomes DuckDB over text columns; nulls are left out of the rows."""

    def __init__(self, rows):
        self.rows = rows
        self.columns = list(COLUMNS)
        self.asked = []
        self.clamp = 50_000
        self.compares_ids = True
        self.instead = []  # (predicate, answer or callable) used once each
        self.meanwhile = {}  # number of the page: what happens before it is answered
        self.pages = 0

    def __call__(self, request):
        path = request.url.path
        self.asked.append(request)
        said = dict(request.url.params)
        if request.method == "POST":
            said = self._clauses(json.loads(request.content)["query"])
        for index, (fits, answer) in enumerate(self.instead):
            if fits(path, said):
                del self.instead[index]
                return answer(said) if callable(answer) else answer
        if path.startswith("/api/views/"):
            return httpx2.Response(
                200,
                json={
                    "columns": [{"fieldName": name, "dataTypeName": "text"} for name in self.columns],
                    "rowsUpdatedAt": 1_790_000_000,
                },
            )
        return self.answer(said)

    @staticmethod
    def _clauses(text):
        names = r"SELECT|WHERE|GROUP BY|ORDER BY|LIMIT|OFFSET"
        parts = re.split(rf"(?:^| )({names}) ", text)[1:]
        pairs = zip(parts[::2], parts[1::2], strict=True)
        return {f"${name.split()[0].lower()}": value for name, value in pairs}

    def answer(self, said):
        if "count(" not in said["$select"] and "max(" not in said["$select"]:
            self.pages += 1
            self.meanwhile.pop(self.pages, lambda: None)()
        where = said.get("$where", "")
        if not self.compares_ids and ":id >" in where:
            return refused("query.soql.type-mismatch", "Type mismatch for #GT, is row_identifier")
        names = [*SYSTEM, *self.columns]
        table = pa.table({n: pa.array([r.get(n) for r in self.rows], pa.string()) for n in names})
        select = "*" if said["$select"] == ":*,*" else said["$select"]
        sql = f"select {select} from rows"
        for name, word in (("where", "where"), ("group", "group by"), ("order", "order by")):
            if f"${name}" in said:
                sql += f" {word} {said[f'${name}']}"
        if "$order" not in said:
            sql += " order by random()" if "(" not in select else ""
        sql += f" limit {min(int(said.get('$limit', 1000)), self.clamp)} offset {said.get('$offset', 0)}"
        with DATABASE.cursor() as con:
            con.register("rows", table)
            con.execute("create or replace temp macro date_trunc_ym(x) as left(x, 7) || '-01T00:00:00.000'")
            sql = re.sub(r"(:(?:id|created_at|updated_at))\b", r'"\1"', sql.replace("`", '"'))
            try:
                found = con.execute(sql).to_arrow_table()
            except duckdb.BinderException as error:
                column = re.search(r'column "([^"]+)"', str(error))[1]
                return refused("query.soql.no-such-column", f"No such column: {column}; position: Map()")
        rows = [{k: str(v) for k, v in each.items() if v is not None} for each in found.to_pylist()]
        headers = {"X-SODA2-Fields": json.dumps(found.column_names)}
        headers["X-SODA2-Types"] = json.dumps(["text"] * len(found.column_names))
        return httpx2.Response(200, json=rows, headers=headers)


def refused(code, message, status=400):
    said = f"Query coordinator error: {code}; {message}"
    return httpx2.Response(status, json={"message": said, "errorCode": code, "data": {}})


def streamed(response):
    """Return a response that counts its bytes as they are read, like one that comes over a wire."""
    stream = httpx2.ByteStream(response.content)
    return httpx2.Response(response.status_code, headers=response.headers, stream=stream)


def is_page(path, said):
    return "/resource/" in path and "(" not in said["$select"]


def connect(portal, *, token=None, attempts=6, source=SOURCE, sync=None, request=None, columns=None):
    feed = declared_feed(
        portal="socrata",
        sync=sync or {},
        request=request or {},
        columns=columns or {"source_id": "sr_number", "requested_at": "created_date"},
        parts=[{"id": "one", "source": source, "format": "json"}],
    )
    transport = httpx2.MockTransport(lambda request: streamed(portal(request)))
    wire = Wire(token=token, first_wait_seconds=0.01, attempts=attempts, transport=transport)
    return Socrata(feed, feed.parts[0], wire)


def read(connector, ask=FULL):
    pages = list(connector.pages(ask))
    assert [page.next for page in pages][-1] is None
    assert all(page.next for page in pages[:-1])
    rows = [json.loads(page.body) for page in pages]
    assert [len(each) for each in rows] == [page.rows for page in pages]
    return [each for page in rows for each in page], pages


def numbers(rows):
    return sorted(each["sr_number"] for each in rows)


def test_every_row_comes_once_whatever_the_page_size():
    portal = Portal([row(n) for n in range(53)])
    for size in (1, 7, 53, 54, None):
        rows, _ = read(connect(portal, request={"page_rows": size} if size else None))
        assert numbers(rows) == [f"SR{n:05d}" for n in range(53)]


def test_pages_have_an_order_and_all_columns_with_the_system_ones():
    portal = Portal([row(n) for n in range(5)])
    rows, _ = read(connect(portal, request={"page_rows": 2}))
    asked = [dict(each.url.params) for each in portal.asked]
    assert all(each["$order"] == ":id" for each in asked if "count" not in each["$select"])
    assert set(SYSTEM) <= set(rows[0])
    assert all("row-" in each["$where"] for each in asked[1:])


def test_an_empty_data_set_is_one_empty_page():
    rows, pages = read(connect(Portal([])))
    assert (rows, len(pages), pages[0].rows) == ([], 1, 0)


def test_a_silent_clamp_and_short_pages_lose_nothing():
    portal = Portal([row(n) for n in range(50)])
    portal.clamp = 10
    portal.meanwhile[3] = lambda: setattr(portal, "clamp", 3)
    rows, _ = read(connect(portal, request={"page_rows": 40}))
    assert numbers(rows) == [f"SR{n:05d}" for n in range(50)]


def test_without_the_count_of_what_remains_a_clamp_loses_rows(monkeypatch):
    monkeypatch.setattr(keyset.End, "is_reached", lambda self, rows, new, asked, remaining: rows < asked)
    portal = Portal([row(n) for n in range(50)])
    portal.clamp = 10
    assert len(read(connect(portal, request={"page_rows": 40}))[0]) == 10


def test_an_empty_page_in_the_middle_is_asked_again():
    portal = Portal([row(n) for n in range(20)])
    portal.instead = [
        (lambda path, said: is_page(path, said) and "$where" in said, httpx2.Response(200, json=[]))
    ]
    rows, pages = read(connect(portal, request={"page_rows": 6}))
    assert len(rows) == 20
    assert 0 not in [page.rows for page in pages]


def test_a_portal_that_counts_rows_and_never_gives_them_fails():
    portal = Portal([row(n) for n in range(20)])
    empty = (lambda path, said: is_page(path, said) and "$where" in said, httpx2.Response(200, json=[]))
    portal.instead = [empty] * 40
    pages = connect(portal, request={"page_rows": 6}).pages(FULL)
    assert next(pages).rows == 6
    with pytest.raises(DeliveryError, match="counts 14 more rows") as error:
        list(pages)
    assert error.value.error_type == "CountMismatch"


def test_incremental_asks_the_frozen_window_in_the_order_of_change():
    portal = Portal([row(n) for n in range(30)] + [row(900, **{":updated_at": "2026-11-21T12:00:00.001Z"})])
    ask = Ask("incremental", T0, since=Cursor(at(10)))
    connector = connect(portal, request={"page_rows": 4})
    rows, pages = read(connector, ask)
    assert numbers(rows) == [f"SR{n:05d}" for n in range(10, 30)]
    assert connector.count(ask) == 20
    assert pages[-1].cursor.at == at(29)
    second = dict(portal.asked[1].url.params)
    last = json.loads(pages[0].body)[-1]
    assert second["$order"] == ":updated_at,:id"
    assert second["$where"] == (
        f"(:updated_at > '{at(13)}' OR (:updated_at = '{at(13)}' AND :id > '{last[':id']}'))"
        " AND :updated_at <= '2026-11-21T12:00:00.000Z'"
    )


def test_many_rows_of_one_time_are_told_apart_by_their_id():
    portal = Portal([row(n, **{":updated_at": at(5)}) for n in range(200)])
    rows, pages = read(
        connect(portal, request={"page_rows": 30}), Ask("incremental", T0, since=Cursor(at(5)))
    )
    assert numbers(rows) == [f"SR{n:05d}" for n in range(200)]
    assert pages[-1].cursor == Cursor(at(5), max(each[":id"] for each in portal.rows))


@pytest.mark.parametrize("mode", ["full", "incremental"])
def test_a_row_that_changes_between_two_pages_hides_no_other_row(mode):
    portal = Portal([row(n) for n in range(40)])

    def edit():
        for each in portal.rows[:3]:
            each[":updated_at"] = "2026-11-21T12:30:00.000Z"

    portal.meanwhile[3] = edit
    rows, pages = read(connect(portal, request={"page_rows": 8}), Ask(mode, T0, since=Cursor(at(0))))
    assert set(numbers(rows)) >= {f"SR{n:05d}" for n in range(3, 40)}
    # What changed after the run began is the next run's, whichever version was seen.
    assert pages[-1].cursor.at == at(39)


def test_rows_of_one_time_that_is_kept_finer_than_written_are_still_read():
    portal = Portal([row(n, **{":updated_at": at(5)}) for n in range(20)])
    written = portal.answer

    def coarser(said):
        # The portal keeps 00:05:00.0004 and writes 00:05:00.000, so `>` the written time holds for all.
        where = said.get("$where", "")
        return written(said | {"$where": re.sub(r"\(:updated_at > .*?'\)\)", ":updated_at > ''", where)})

    portal.answer = coarser
    rows, _ = read(connect(portal, request={"page_rows": 6}), Ask("incremental", T0, since=Cursor(at(5))))
    assert set(numbers(rows)) == {f"SR{n:05d}" for n in range(20)}


@pytest.mark.parametrize("mode", ["full", "incremental"])
def test_where_ids_are_not_compared_pages_go_by_offset(mode):
    portal = Portal([row(n) for n in range(40)])
    portal.compares_ids, portal.clamp = False, 7
    ask = Ask(mode, T0, since=Cursor(at(0), "row-00000"))
    rows, _ = read(connect(portal, request={"page_rows": 9}), ask)
    assert set(numbers(rows)) == {f"SR{n:05d}" for n in range(40)}
    assert connect(portal).count(ask) == 40
    assert any("$offset" in each.url.params for each in portal.asked)


def moving_portal():
    portal = Portal([row(n) for n in range(40)])
    portal.compares_ids = False

    def edit():
        portal.rows[0][":updated_at"] = "2026-11-21T12:30:00.000Z"

    portal.meanwhile[6] = edit
    return portal


def test_by_offset_a_window_whose_rows_move_is_read_again():
    ask = Ask("incremental", T0, since=Cursor(at(0)))
    rows, _ = read(connect(moving_portal(), request={"page_rows": 8}), ask)
    assert set(numbers(rows)) >= {f"SR{n:05d}" for n in range(1, 40)}


def test_without_the_look_back_a_moved_window_loses_a_row(monkeypatch):
    def trusting(self, stage, place, records, by_offset):
        offset = (place.offset or 0) + records.rows if by_offset else None
        return socrata.replace(place, offset=offset, after=records.last)

    def plain(self, select, stage, place, limit, by_offset):
        where = self._wheres(stage.behind(() if by_offset else place.after))
        return socrata._Question(select, where, None, ",".join(stage.keys), limit, place.offset)

    monkeypatch.setattr(Socrata, "_followed", trusting)
    monkeypatch.setattr(Socrata, "_page_question", plain)
    ask = Ask("incremental", T0, since=Cursor(at(0)))
    rows, _ = read(connect(moving_portal(), request={"page_rows": 8}), ask)
    assert set(numbers(rows)) < {f"SR{n:05d}" for n in range(40)}


def test_rows_that_never_stop_moving_end_as_a_count_mismatch():
    portal = Portal([row(n) for n in range(40)])
    portal.compares_ids = False
    written = portal.answer

    def answer(said):
        if int(said.get("$offset", 0)):
            portal.rows.pop(0)
        return written(said)

    portal.answer = answer
    with pytest.raises(DeliveryError, match="moves its rows") as error:
        read(connect(portal, request={"page_rows": 8}))
    assert error.value.error_type == "CountMismatch"


@pytest.mark.parametrize("compares_ids", [True, False])
def test_a_killed_run_goes_on_behind_any_page(compares_ids):
    portal = Portal([row(n) for n in range(25)])
    portal.compares_ids = compares_ids
    ask = Ask("incremental", T0, since=Cursor(at(0)))
    _, pages = read(connect(portal, request={"page_rows": 6}), ask)
    for index, page in enumerate(pages[:-1]):
        later = Ask(
            "incremental", datetime.fromisoformat("2026-11-25"), since=Cursor(at(0)), resume=page.next
        )
        portal.rows.append(row(5000 + index, **{":updated_at": "2026-11-22T00:00:00.000Z"}))
        rows, again = read(connect(portal, request={"page_rows": 6}), later)
        before = [each for known in pages[: index + 1] for each in json.loads(known.body)]
        assert set(numbers(before + rows)) == {f"SR{n:05d}" for n in range(25)}
        assert again[-1].cursor.at == at(24)


def test_the_cursor_of_a_full_reading_is_not_what_changed_meanwhile():
    portal = Portal([row(n) for n in range(10)] + [row(900, **{":updated_at": "2026-11-21T12:00:01.000Z"})])
    _, pages = read(connect(portal, request={"page_rows": 4}))
    assert pages[-1].cursor.at == at(9)


BUSINESS = {"cursor": "note", "mode": "incremental"}


def business_rows():
    poison = ["2115-03-11T00:00:00.000", "2026-11-23T12:00:00.000", "03/11/2026", None, None]
    times = [f"2026-11-{day:02d}T08:00:00.000" for day in range(1, 22)]
    return [row(n, note=said) for n, said in enumerate(times + poison)]


@pytest.mark.parametrize("mode", ["full", "incremental"])
def test_no_null_and_no_poison_date_becomes_the_cursor(mode):
    portal = Portal(business_rows())
    connector = connect(portal, sync=BUSINESS, request={"page_rows": 4})
    _, pages = read(connector, Ask(mode, T0))
    assert pages[-1].cursor.at == "2026-11-21T08:00:00.000"


def test_without_the_cap_a_poison_date_becomes_the_cursor(monkeypatch):
    monkeypatch.setattr(Socrata, "_start", lambda self, ask: socrata._Place(until=ask.until))
    _, pages = read(connect(Portal(business_rows()), sync=BUSINESS))
    assert pages[-1].cursor.at == "2115-03-11T00:00:00.000"


def test_by_a_business_cursor_rows_without_a_time_are_read_each_time():
    portal = Portal(business_rows())
    connector = connect(portal, sync=BUSINESS, request={"page_rows": 3})
    ask = Ask("incremental", T0, since=Cursor("2026-11-19T08:00:00.000"))
    rows, _ = read(connector, ask)
    assert numbers(rows) == [f"SR{n:05d}" for n in (18, 19, 20, 21, 22, 24, 25)]
    assert connector.count(ask) == 7


def test_a_backfill_asks_days_of_event_time_and_moves_no_cursor():
    portal = Portal([row(n) for n in range(30)])
    ask = Ask("incremental", T0, days=(date(2026, 2, 1), date(2026, 3, 1)))
    connector = connect(portal, request={"page_rows": 4})
    rows, pages = read(connector, ask)
    assert {each["created_date"][:7] for each in rows} == {"2026-02"}
    assert len(rows) == connector.count(ask) == 10
    assert {page.cursor for page in pages} == {None}


def test_a_backfill_without_a_plain_event_column_says_what_to_declare():
    connector = connect(Portal([]), columns={"source_id": "sr_number"})
    with pytest.raises(DeliveryError, match=r"sync\.created"):
        list(connector.pages(Ask("incremental", T0, days=(date(2026, 2, 1), date(2026, 3, 1)))))


def test_months_and_the_ids_of_one_month():
    portal = Portal([row(n) for n in range(9)] + [row(50, created_date=None)])
    connector = connect(portal, request={"page_rows": 2})
    assert connector.months("created_date") == {"2026-01": 3, "2026-02": 3, "2026-03": 3, "": 1}
    for month, count in (("2026-02", 3), ("", 1), (None, 10)):
        pages = list(connector.ids(("sr_number",), "created_date", month))
        rows = [each for page in pages for each in json.loads(page.body)]
        assert len(rows) == count
        assert {name for each in rows for name in each} == {":id", "sr_number"}


def test_a_column_without_months_has_no_months():
    portal = Portal([])
    portal.instead = [(lambda path, said: True, refused("query.soql.type-mismatch", "date_trunc_ym"))]
    assert connect(portal).months("note") is None


def test_the_declared_filter_stands_in_front():
    portal = Portal([row(n, status="Open" if n % 2 else "Closed") for n in range(10)])
    connector = connect(portal, request={"where": "status = 'Open' OR 1=2", "page_rows": 2})
    assert len(read(connector)[0]) == connector.count(FULL) == connector.describe().rows == 5


def test_what_a_portal_says_stays_a_value_in_the_next_question():
    odd = "row-x' OR 1=1 --"
    portal = Portal([row(1, **{":id": odd}), row(2, **{":id": "row-z"})])
    rows, _ = read(connect(portal, request={"page_rows": 1}))
    assert numbers(rows) == ["SR00001", "SR00002"]
    assert "'row-x'' OR 1=1 --'" in portal.asked[1].url.params["$where"]


def test_soda3_asks_the_same_with_the_token_in_a_header():
    portal = Portal([row(n) for n in range(20)])
    request = {"api": "soda3", "page_rows": 6}
    ask = Ask("incremental", T0, since=Cursor(at(3)))
    rows, _ = read(connect(portal, token=TOKEN, request=request), ask)
    assert numbers(rows) == [f"SR{n:05d}" for n in range(3, 20)]
    first = portal.asked[0]
    assert (first.method, first.url.path) == ("POST", "/api/v3/views/abcd-1234/query.json")
    assert first.headers["X-App-Token"] == TOKEN
    assert json.loads(first.content)["query"].startswith("SELECT :*,* WHERE :updated_at >= '")


def test_waits_and_bursts_are_asked_again():
    portal = Portal([row(n) for n in range(10)])
    whole = json.dumps([row(1)]).encode()
    answers = [
        httpx2.Response(202),
        httpx2.Response(202),
        httpx2.Response(429, headers={"Retry-After": "0.01"}),
        httpx2.Response(500, json={"code": "internal-error", "error": True, "message": "Internal error"}),
        httpx2.Response(503),
    ]
    portal.instead = [(is_page, each) for each in answers]
    assert len(read(connect(portal))[0]) == 10
    for broken in (whole[:-9], b'{"error": true, "message": "try again"}', b"[1] tail", b"\xff\xfe"):
        portal.instead = [(is_page, httpx2.Response(200, content=broken))]
        assert len(read(connect(portal))[0]) == 10


def test_a_tagged_internal_error_is_retried_twice_only():
    portal = Portal([row(1)])
    said = {"errorCode": "internal-error", "message": "Internal error", "data": {"tag": "5f2a"}}
    broken = httpx2.Response(500, json=said)
    portal.instead = [(is_page, broken)] * 2
    assert len(read(connect(portal))[0]) == 1
    portal.instead = [(is_page, broken)] * 9
    with pytest.raises(DeliveryError, match="internal-error"):
        read(connect(portal))
    assert len(portal.instead) == 6


@pytest.mark.parametrize(
    ("answer", "error_type"),
    [
        (httpx2.Response(200, text="<!DOCTYPE html><title>Sign in</title>"), "WrongFormat"),
        (httpx2.Response(503), "SourceUnreachable"),
        (httpx2.Response(401, json={"code": "authentication_required", "error": True}), "Unauthorised"),
        (httpx2.Response(403, json={"code": "permission_denied", "error": True}), "Unauthorised"),
        (
            httpx2.Response(404, json={"code": "dataset.missing", "error": True, "message": "Not found"}),
            "DatasetGone",
        ),
        (refused("query.soql.type-mismatch", "within_circle"), "Http400"),
    ],
)
def test_what_stays_wrong_is_an_error_and_never_an_empty_page(answer, error_type):
    portal = Portal([row(1)])
    portal.instead = [(lambda path, said: True, answer)] * 50
    for ask in (lambda connector: list(connector.pages(FULL)), lambda connector: connector.count(FULL)):
        with pytest.raises(DeliveryError) as error:
            ask(connect(portal, attempts=3))
        assert error.value.error_type == error_type
        assert "\n" not in str(error.value)


def test_a_column_that_is_gone_blocks_and_is_named():
    portal = Portal([row(1)])
    with pytest.raises(DeliveryError, match="no column filing_date") as error:
        list(connect(portal).ids(("filing_date",), None, None))
    assert (error.value.error_type, error.value.outcome) == ("ColumnsGone", "blocked")


def test_a_description_has_columns_rows_and_the_last_change():
    said = connect(Portal([row(n) for n in range(3)])).describe()
    assert list(said.columns) == [*COLUMNS, *SYSTEM]
    assert (said.rows, said.changed_at) == (3, datetime.fromisoformat("2026-09-21T14:13:20"))


@pytest.mark.parametrize(
    "answer", [httpx2.Response(403), httpx2.Response(404), httpx2.Response(200, text="<html>")]
)
def test_where_the_metadata_are_hidden_the_headers_describe(answer):
    portal = Portal([row(n) for n in range(3)])
    portal.instead = [(lambda path, said: path.startswith("/api/views"), answer)]
    said = connect(portal).describe()
    assert set(said.columns) == {*COLUMNS, *SYSTEM}
    assert said.rows == 3
    assert said.notes


def test_a_column_of_nulls_is_missing_in_the_rows_and_told_by_the_page():
    rows, pages = read(connect(Portal([row(1)])))
    assert "note" not in rows[0]
    assert "note" in pages[0].columns


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("https://x.example/resource/abcd-1234.json", "https://x.example/resource/abcd-1234.json"),
        (
            "https://x.example/City/Service-Calls/abcd-1234/about_data",
            "https://x.example/resource/abcd-1234.json",
        ),
        ("https://x.example/api/v3/views/abcd-1234/query.json", "https://x.example/resource/abcd-1234.json"),
        ("https://x.example/d/abcd-1234", "https://x.example/resource/abcd-1234.json"),
        (
            "http://127.0.0.1:8311/socrata/resource/abcd-1234",
            "http://127.0.0.1:8311/socrata/resource/abcd-1234.json",
        ),
    ],
)
def test_any_address_with_the_id_will_do(source, asked):
    portal = Portal([])
    read(connect(portal, source=source))
    assert str(portal.asked[0].url).partition("?")[0] == asked


@pytest.mark.parametrize("source", ["https://x.example/resource/", "/data/abcd-1234", "ftp://x/abcd-1234"])
def test_an_address_without_an_id_is_refused(source):
    with pytest.raises(DeliveryError, match="no Socrata data set"):
        connect(Portal([]), source=source)


def test_the_token_is_sent_and_never_shown(caplog):
    caplog.set_level(logging.DEBUG)
    portal = Portal([row(1)])
    portal.instead = [
        (is_page, httpx2.Response(403, json={"message": f"Invalid app_token specified: {TOKEN}"}))
    ]
    with pytest.raises(DeliveryError) as error:
        read(connect(portal, token=TOKEN))
    assert portal.asked[0].headers["X-App-Token"] == TOKEN
    assert "Invalid app_token" in str(error.value)
    assert TOKEN not in "".join(traceback.format_exception(error.value)) + caplog.text
    assert not any(TOKEN in str(each.url) for each in portal.asked)


def test_without_the_wire_hiding_it_a_portal_can_show_the_token(monkeypatch):
    monkeypatch.setattr(Wire, "_hidden", lambda self, text: text)
    portal = Portal([row(1)])
    portal.instead = [(is_page, httpx2.Response(403, json={"message": f"Invalid app_token: {TOKEN}"}))]
    with pytest.raises(DeliveryError, match=TOKEN):
        read(connect(portal, token=TOKEN))


def test_by_a_business_cursor_a_killed_run_goes_on_behind_any_page():
    portal = Portal(business_rows())
    options = {"sync": BUSINESS, "request": {"page_rows": 3}}
    ask = Ask("incremental", T0, since=Cursor("2026-11-12T08:00:00.000"))
    everything, pages = read(connect(portal, **options), ask)
    for index, page in enumerate(pages[:-1]):
        rows, _ = read(connect(portal, **options), Ask("incremental", T0, since=ask.since, resume=page.next))
        before = [each for known in pages[: index + 1] for each in json.loads(known.body)]
        assert numbers(before + rows) == numbers(everything)
