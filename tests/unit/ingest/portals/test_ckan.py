import json
from datetime import date, datetime

import httpx2
import pytest

from assets.ingest.portals.ckan import Ckan
from assets.ingest.portals.page import Ask, Cursor
from assets.ingest.portals.wire import Wire
from assets.ingest.receipts import DeliveryError
from tests.declared_feed import declared_feed

RESOURCE = "01234567-89ab-cdef-0123-456789abcdef"
PACKAGE = "fedcba98-89ab-cdef-0123-456789abcdef"
SOURCE = f"https://data.example/dataset/calls/resource/{RESOURCE}"
UNTIL = datetime.fromisoformat("2026-11-01")
COMPARES = {
    "gt": lambda one, other: one > other,
    "gte": lambda one, other: one >= other,
    "lt": lambda one, other: one < other,
}


class Portal:
    """CKAN in a few lines; without a sort the rows come in another order every time."""

    def __init__(self, rows=25, *, knows_ranges=False, most=10):
        self.rows = [
            {"_id": n, "case": f"case {n}", "at": f"2026-01-{n:02d}T00:00:00", "day": "x"}
            for n in range(1, rows + 1)
        ]
        self.knows_ranges = knows_ranges
        self.most = most
        self.asked = []
        self.instead = []  # answers to the next pages
        self.meanwhile = {}  # number of the page: what happens after it
        self.resource = {"name": "Calls", "last_modified": "2026-10-01T02:03:04.5", "hash": "abc"}
        self.pages = 0

    def __call__(self, request):
        said = json.loads(request.content)
        self.asked.append({"path": request.url.path, "headers": request.headers, **said})
        if request.url.path.endswith("resource_show"):
            return httpx2.Response(200, json={"success": True, "result": self.resource})
        if said["limit"] and self.instead:
            answer = self.instead.pop(0)
            if answer is not None:
                return answer
        try:
            rows = self.found(said.get("filters", {}))
        except TypeError:
            return failed(409, "Validation Error", filters=["invalid"])
        total = len(rows)
        rows = sorted(rows, key=lambda row: row["_id"]) if said.get("sort") == "_id asc" else rows[::-1]
        offset = said.get("offset", 0)
        rows = rows[offset : offset + min(said["limit"], self.most)]
        names = said.get("fields") or ["_id", "case", "at", "day"]
        result = {
            "fields": [
                {"id": name, "type": {"_id": "int", "at": "timestamp"}.get(name, "text")} for name in names
            ],
            "records": [{name: row[name] for name in names} for row in rows],
            "total": total,
            "total_was_estimated": False,
        }
        if said["limit"]:
            self.pages += 1
            self.meanwhile.pop(self.pages, lambda: None)()
        return httpx2.Response(200, json={"success": True, "result": result})

    def found(self, filters):
        rows = self.rows
        for name, wanted in filters.items():
            if not isinstance(wanted, dict):
                rows = [row for row in rows if row[name] == wanted]
            elif not self.knows_ranges:
                raise TypeError
            else:
                for how, bound in wanted.items():
                    rows = [row for row in rows if COMPARES[how](row[name], bound)]
        return rows

    def renumber(self):
        for row in self.rows:
            row["_id"] = 1000 - row["_id"]


class PassesOver(Portal):
    """An older portal that knows no ranges and does not say so."""

    def found(self, filters):
        return self.rows


class TakesForValues(Portal):
    """An older portal that looks for records whose value is the text of the range."""

    def found(self, filters):
        return [] if any(isinstance(wanted, dict) for wanted in filters.values()) else self.rows


def failed(status, kind, **said):
    return httpx2.Response(status, json={"success": False, "error": {"__type": kind, **said}})


def streamed(response):
    stream = httpx2.ByteStream(response.content)
    return httpx2.Response(response.status_code, headers=response.headers, stream=stream)


def connector(portal, *, token=None, attempts=3, source=SOURCE, **said):
    transport = httpx2.MockTransport(lambda request: streamed(portal(request)))
    wire = Wire(transport=transport, first_wait_seconds=0.01, attempts=attempts, token=token)
    feed = declared_feed(portal="ckan", parts=[{"id": "one", "source": source, "format": "json"}], **said)
    return Ckan(feed, feed.parts[0], wire)


def ask(mode="full", **said):
    return Ask(mode, UNTIL, **said)


def values(pages, column="case"):
    rows = []
    for page in pages:
        records = json.loads(page.body)["result"]["records"]
        assert (page.rows, page.records) == (len(records), "$.result.records[*]")
        rows += [record[column] for record in records]
    return rows


def all_of(portal):
    return [row["case"] for row in portal.rows]


@pytest.mark.parametrize("kind", [Portal, PassesOver, TakesForValues])
@pytest.mark.parametrize("page_rows", [1, 7, 24, 25, 26, 50_000])
def test_each_row_comes_once_whatever_the_portal_clamps(kind, page_rows):
    for knows_ranges in (False, True):
        portal = kind(knows_ranges=knows_ranges)
        pages = list(connector(portal, request={"page_rows": page_rows}).pages(ask()))
        assert values(pages) == all_of(portal)
        assert [page.next is None for page in pages] == [False] * (len(pages) - 1) + [True]
        assert len({page.next for page in pages}) == len(pages)
        is_by_id = [asked for asked in portal.asked if "offset" not in asked and asked["limit"]]
        assert bool(is_by_id) == (kind is Portal and knows_ranges and len(pages) > 1)


@pytest.mark.parametrize("knows_ranges", [False, True])
def test_a_walk_goes_on_where_it_was_killed(knows_ranges):
    portal = Portal(knows_ranges=knows_ranges)
    before = [next(connector(portal).pages(ask()))]
    assert values(before + list(connector(portal).pages(ask(resume=before[0].next)))) == all_of(portal)


def test_a_row_deleted_under_an_offset_makes_the_walk_begin_again():
    portal = Portal()
    portal.meanwhile[1] = lambda: portal.rows.pop(0)
    pages = list(connector(portal).pages(ask()))
    assert set(all_of(portal)) <= set(values(pages))
    assert len({page.next for page in pages}) == len(pages)


def test_without_the_count_a_row_would_be_lost(monkeypatch):
    monkeypatch.setattr(Ckan, "_step", lambda self, walk, records: step_without_count(walk, records))
    monkeypatch.setattr(Ckan, "_total", lambda self, filters, attempts=None: None)
    portal = Portal()
    portal.meanwhile[1] = lambda: portal.rows.pop(0)
    assert "case 11" not in values(connector(portal).pages(ask()))


def step_without_count(walk, records):
    walk.rows += records.rows
    return True, walk.rows < records.total


def test_a_resource_that_is_renumbered_under_a_walk_is_read_again():
    portal = Portal(knows_ranges=True)
    portal.meanwhile[2] = portal.renumber
    assert set(values(connector(portal).pages(ask()))) == set(all_of(portal))


def test_a_renumbered_resource_gives_the_same_business_ids():
    portal = Portal()
    before = values(connector(portal).ids(("case",), None, None))
    portal.renumber()
    assert sorted(values(connector(portal).ids(("case",), None, None))) == sorted(before)


def test_a_count_that_never_agrees_is_an_error():
    portal = Portal()
    for page in range(1, 20):
        portal.meanwhile[page] = lambda: portal.rows.append({**portal.rows[-1], "_id": len(portal.rows) + 1})
    with pytest.raises(DeliveryError, match="3 walks") as raised:
        list(connector(portal).pages(ask()))
    assert raised.value.error_type == "CountMismatch"


def empty(total):
    return httpx2.Response(200, json={"success": True, "result": {"records": [], "total": total}})


@pytest.mark.parametrize(
    "answer",
    [
        empty(25),
        httpx2.Response(503),
        httpx2.Response(429, headers={"Retry-After": "0"}),
        httpx2.Response(200, text="<html>back soon</html>"),
        httpx2.Response(200, text='{"success": true, "result": {"records": [{"_id"'),
        httpx2.Response(200, json={"success": True, "result": {}}),
        failed(200, "Search Query Error", message="Query failed"),
    ],
)
def test_errors_that_pass_are_waited_for_and_never_an_empty_page(answer):
    portal = Portal()
    portal.instead = [None, answer, answer]
    assert values(connector(portal).pages(ask())) == all_of(portal)
    portal.instead = [None, answer, answer, answer]
    pages = connector(portal).pages(ask())
    next(pages)
    with pytest.raises(DeliveryError) as raised:
        next(pages)
    assert raised.value.error_type == "SourceUnreachable"


@pytest.mark.parametrize(
    ("answer", "error_type", "said"),
    [
        (failed(403, "Authorization Error", message="Access denied"), "Unauthorised", "Access denied"),
        (failed(404, "Not Found Error", message="Not found: Resource"), "DatasetGone", "Not found: Resource"),
        (failed(409, "Validation Error", fields=['field "x" not in table']), "Http409", "not in table"),
        (failed(200, "Authorization Error", message="Access denied"), "Unauthorised", "Access denied"),
        (failed(200, "Not Found Error", message="Not found"), "DatasetGone", "Not found"),
        (httpx2.Response(401), "Unauthorised", "401"),
        (httpx2.Response(403, text="<!DOCTYPE html><title>Attention</title>"), "Unauthorised", "firewall"),
        (httpx2.Response(404, text="<html>"), "DatasetGone", "404"),
    ],
)
def test_errors_that_stay_are_told_at_once(answer, error_type, said):
    portal = Portal()
    portal.instead = [answer]
    with pytest.raises(DeliveryError, match=said) as raised:
        list(connector(portal, token="s3cret").pages(ask()))
    assert raised.value.error_type == error_type
    assert len(portal.asked) == 1
    assert portal.asked[0]["headers"]["Authorization"] == "s3cret"
    assert "s3cret" not in str(raised.value)


def test_a_query_that_takes_too_long_is_asked_for_less():
    portal = Portal(most=20)
    slow = failed(409, "Validation Error", message="Query took too long")
    portal.instead = [slow, slow]
    assert values(connector(portal, request={"page_rows": 16}).pages(ask())) == all_of(portal)
    assert [asked["limit"] for asked in portal.asked if asked["limit"]][:3] == [16, 8, 4]
    portal.instead = [slow] * 20
    with pytest.raises(DeliveryError, match="single record"):
        list(connector(portal).pages(ask()))


def test_a_resource_is_described():
    said = connector(Portal()).describe()
    assert said.columns == {"_id": "int", "case": "text", "at": "timestamp", "day": "text"}
    assert (said.rows, said.changed_at) == (25, datetime.fromisoformat("2026-10-01T02:03:04.5"))
    assert "hash abc" in said.notes


def test_a_resource_outside_the_datastore_is_named_so():
    portal = Portal()
    portal.resource["datastore_active"] = False
    with pytest.raises(DeliveryError, match="portal: files") as raised:
        connector(portal).describe()
    assert raised.value.error_type == "NotInDatastore"


def test_what_changed_is_asked_where_ranges_are_understood():
    since = ask("incremental", since=Cursor("2026-01-20T00:00:00"))
    sync = {"mode": "incremental", "cursor": "at"}
    portal = Portal(knows_ranges=True)
    part = connector(portal, sync=sync)
    assert part.count(since) == 5
    [page] = part.pages(since)
    assert (page.rows, page.cursor) == (5, Cursor("2026-01-25T00:00:00"))
    for portal, column in (
        (Portal(), "at"),
        (PassesOver(), "at"),
        (TakesForValues(), "at"),
        # A text does not order as time does.
        (Portal(knows_ranges=True), "day"),
    ):
        part = connector(portal, sync={"mode": "incremental", "cursor": column})
        assert part.count(since) == 25
        assert values(part.pages(since)) == all_of(portal)


def test_a_poison_time_is_no_cursor():
    portal = Portal()
    portal.rows[3]["at"] = "2115-03-11T00:00:00"
    portal.rows[4]["at"] = None
    pages = list(connector(portal, sync={"cursor": "at"}).pages(ask()))
    assert [page.cursor.at[:10] for page in pages] == ["2026-01-10", "2026-01-20", "2026-01-25"]


def test_days_are_asked_with_a_day_more_on_both_sides():
    portal = Portal(knows_ranges=True)
    part = connector(portal, sync={"created": "at"})
    assert part.count(ask(days=(date(2026, 1, 10), date(2026, 1, 12)))) == 4


def test_filters_of_the_declaration_hold_beside_ours():
    portal = Portal(knows_ranges=True)
    portal.rows[0]["day"] = portal.rows[20]["day"] = portal.rows[24]["day"] = "y"
    part = connector(portal, request={"where": '{"day": "y"}', "page_rows": 2})
    assert values(part.pages(ask())) == ["case 1", "case 21", "case 25"]
    with pytest.raises(DeliveryError) as raised:
        connector(portal, request={"where": "day = 'y'"})
    assert raised.value.error_type == "WrongRequest"


@pytest.mark.parametrize(
    ("source", "base"),
    [
        (SOURCE, "https://data.example"),
        (
            f"https://data.example/dataset/{PACKAGE}/resource/{RESOURCE}/download/x.csv",
            "https://data.example",
        ),
        (f"https://data.example/datastore/dump/{RESOURCE}?bom=True", "https://data.example"),
        (
            f"https://data.example/api/3/action/datastore_search?resource_id={RESOURCE}",
            "https://data.example",
        ),
        (f"http://127.0.0.1:8311/ckan/dataset/x/resource/{RESOURCE}", "http://127.0.0.1:8311/ckan"),
    ],
)
def test_what_people_paste_is_understood(source, base):
    part = connector(Portal(), source=source)
    assert (part._base, part._resource) == (base, RESOURCE)


@pytest.mark.parametrize(
    "source", ["https://data.example/dataset/calls", "calls.json", f"http://[::1/{RESOURCE}"]
)
def test_what_names_no_resource_is_refused(source):
    with pytest.raises(DeliveryError) as raised:
        connector(Portal(), source=source)
    assert raised.value.error_type == "WrongSource"
