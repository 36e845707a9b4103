"""Socrata's way with questions and its lies, asked of the simulated portal by a bare HTTP client."""

from datetime import timedelta

import httpx2
import pyarrow as pa
import pytest

from assets.simulate.serving import socrata
from assets.simulate.serving.server import serve
from assets.simulate.serving.store import Column, Dataset, Store

COLUMNS = [
    Column("id"),
    Column("opened", "floating_timestamp"),
    Column("fee", "number"),
    Column("is_open", "flag"),
    Column("place", "point"),
    Column("location", "json"),
    Column(":@computed_region_abcd_1234", "number"),
]
ROWS = [
    {"id": "a", "opened": "2026-01-05T08:00:00.125", "fee": 42, "is_open": False, "place": (-87.5, 41.25)},
    {"id": "b", "opened": "2026-02-05T08:00:00", "fee": 2.5, "location": {"latitude": "41.25"}},
    {"id": "it's", "fee": 100, ":@computed_region_abcd_1234": 7},
]
PAGE = "/socrata/resource/abcd-1234.json"
TOKEN = {"X-App-Token": "any"}


@pytest.fixture
def store():
    made = Store()
    made.add(Dataset("socrata", "abcd-1234", "Requests", COLUMNS, "id", "opened")).insert(ROWS)
    return made


@pytest.fixture
def dataset(store):
    return store.find("socrata", "abcd-1234")


@pytest.fixture
def client(store):
    with serve(store) as base, httpx2.Client(base_url=base) as made:
        yield made


def _ask(client, **asked):
    return client.get(PAGE, params={f"${name}": value for name, value in asked.items()})


def _ids(answer):
    assert answer.status_code == 200, answer.text
    return [row["id"] for row in answer.json()]


def test_values_are_written_as_socrata_writes_them_and_nulls_left_out(client):
    answer = _ask(client, order="fee")
    assert answer.json() == [
        {
            "id": "b",
            "opened": "2026-02-05T08:00:00.000",
            "fee": "2.5",
            "location": {"latitude": "41.25"},
        },
        {
            "id": "a",
            "opened": "2026-01-05T08:00:00.125",
            "fee": "42",
            "is_open": False,
            "place": {"type": "Point", "coordinates": [-87.5, 41.25]},
        },
        {"id": "it's", "fee": "100", ":@computed_region_abcd_1234": "7"},
    ]
    assert answer.headers["x-soda2-fields"].startswith('["id", "opened", "fee"')


def test_system_fields_come_when_they_are_asked_for(client):
    row = _ask(client, select=":*,*", order=":id", limit=1).json()[0]
    assert row[":updated_at"] == row[":created_at"] == "2026-03-02T12:00:00.000Z"
    assert row[":id"].startswith("row-")
    assert not [name for name in _ask(client).json()[0] if name in socrata.SYSTEM_FIELDS]


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ("fee > 2.5", ["a", "it's"]),
        ("fee >= '2.5' AND fee < 100", ["a", "b"]),
        ("NOT (fee = 42 OR id = 'b')", ["it's"]),
        ("id = 'it''s'", ["it's"]),
        ("`id` in ('a', 'b') and fee between 1 and 3", ["b"]),
        ("opened IS NULL", ["it's"]),
        ("opened is not null and opened < '2026-02-01'", ["a"]),
        ("is_open = false", ["a"]),
        ("id like 'i%'", ["it's"]),
        (":updated_at > '2026-03-02T11:59:59.999Z'", ["a", "b", "it's"]),
        (":updated_at > '2026-03-02T12:00:00.000Z'", []),
        (":updated_at >= '2026-03-02T07:00:00-05:00'", ["a", "b", "it's"]),
    ],
)
def test_conditions(client, where, ids):
    assert _ids(_ask(client, where=where, order="id")) == ids


@pytest.mark.parametrize(
    ("where", "code"),
    [
        ("filed > 1", "query.soql.no-such-column"),
        ("fee > 'much'", "query.soql.type-mismatch"),
        ("id > 1", "query.soql.type-mismatch"),
        ("opened > '2026-01-01T00:00:00Z'", "query.soql.type-mismatch"),
        ("nothing(id) > 1", "query.soql.no-such-function"),
        ("date_trunc_ym(id) = '2026-01-01'", "query.soql.type-mismatch"),
        ("id = 'a", "query.compiler.malformed"),
        ("id = 'a' or", "query.compiler.malformed"),
        ("id = 'a'; drop table rows", "query.compiler.malformed"),
        ("true union select 1", "query.compiler.malformed"),
    ],
)
def test_questions_that_are_wrong_are_refused_by_name(client, where, code):
    answer = _ask(client, where=where)
    assert (answer.status_code, answer.json()["errorCode"]) == (400, code)


def test_an_unknown_column_is_named_with_those_that_exist(client, dataset):
    dataset.rename_column("fee", "total_fee")
    message = _ask(client, select="id, fee").json()["message"]
    assert message.startswith(
        "Query coordinator error: query.soql.no-such-column; No such column: fee; "
        "known columns: id, opened, total_fee"
    )


def test_without_an_order_every_request_has_another(store, client):
    many = store.add(Dataset("socrata", "many-0000", "", [Column("id")], "id"))
    many.insert([{"id": str(number)} for number in range(50)])

    def page(**asked):
        return _ids(client.get("/socrata/resource/many-0000.json", params=asked))

    first, second = page(), page()
    assert sorted(first) == sorted(second)
    assert first != second
    # Pages by offset alone lose rows and repeat others; with an order they do not.
    torn = page(**{"$limit": "25"}) + page(**{"$limit": "25", "$offset": "25"})
    assert len(set(torn)) < 50
    order = {"$limit": "25", "$order": ":id"}
    assert len(set(page(**order) + page(**order, **{"$offset": "25"}))) == 50


def test_a_page_is_cut_without_a_word(store, client):
    large = store.add(Dataset("socrata", "larg-0000", "", [Column("id")], "id"))
    large.insert(pa.table({"id": [str(number) for number in range(50_010)]}))

    def rows(**asked):
        return len(client.get("/socrata/resource/larg-0000.json", params=asked).json())

    assert rows() == 1000
    assert rows(**{"$limit": "60000"}) == 50_000
    store.faults.add("clamp", rows=300, times=None)
    assert rows(**{"$limit": "60000"}) == 300


def test_a_keyset_over_equal_times_gives_each_row_once(store, client):
    dataset = store.add(Dataset("socrata", "keys-0000", "", [Column("id")], "id"))
    dataset.insert([{"id": str(number)} for number in range(95)])
    store.advance(timedelta(seconds=1))
    dataset.insert([{"id": str(number)} for number in range(95, 100)])
    found, where = [], "true"
    while True:
        asked = {"$select": ":*,*", "$order": ":updated_at,:id", "$limit": "10", "$where": where}
        rows = client.get("/socrata/resource/keys-0000.json", params=asked).json()
        if not rows:
            break
        found += [row["id"] for row in rows]
        at, rid = rows[-1][":updated_at"], rows[-1][":id"]
        where = f":updated_at > '{at}' OR (:updated_at = '{at}' AND :id > '{rid}')"
    assert sorted(found, key=int) == [str(number) for number in range(100)]


def test_a_portal_may_not_compare_row_ids(client, dataset):
    keyset = ":id > 'row-5'"
    assert _ask(client, where=keyset).status_code == 200
    dataset.compares_ids = False
    answer = _ask(client, where=keyset)
    assert (answer.status_code, answer.json()["errorCode"]) == (400, "query.soql.type-mismatch")
    assert _ask(client, order=":id").status_code == 200


def test_counts_and_months(client, store):
    assert _ask(client, select="count(*)").json() == [{"count": "3"}]
    assert _ask(client, select="count(*) as n", where="fee > 3").json() == [{"n": "2"}]
    months = _ask(
        client, select="date_trunc_ym(opened) as month, count(*)", group="month", order="month"
    ).json()
    assert months == [
        {"month": "2026-01-01T00:00:00.000", "count": "1"},
        {"month": "2026-02-01T00:00:00.000", "count": "1"},
        {"count": "1"},
    ]
    assert _ids(_ask(client, select="id", order="id desc")) == ["it's", "b", "a"]
    assert [request.kind for request in store.requests] == ["count", "count", "months", "ids"]


def test_null_sorts_last_going_up_and_first_going_down(client):
    assert _ids(_ask(client, order="opened")) == ["a", "b", "it's"]
    assert _ids(_ask(client, order="opened desc")) == ["it's", "b", "a"]


def test_metadata_tells_columns_and_the_last_change(client, store, dataset):
    view = client.get("/socrata/api/views/abcd-1234.json").json()
    assert {column["fieldName"]: column["dataTypeName"] for column in view["columns"]} == {
        "id": "text",
        "opened": "calendar_date",
        "fee": "number",
        "is_open": "checkbox",
        "place": "point",
        "location": "location",
        ":@computed_region_abcd_1234": "number",
    }
    store.advance(timedelta(hours=1))
    dataset.delete(["a"])
    later = client.get("/socrata/api/views/abcd-1234.json").json()
    assert later["rowsUpdatedAt"] == view["rowsUpdatedAt"] + 3600


def test_a_retired_data_set_and_one_that_never_was_are_missing(client, dataset):
    assert client.get("/socrata/resource/none-0000.json").json()["code"] == "dataset.missing"
    dataset.is_retired = True
    answer = _ask(client)
    assert answer.status_code == 404
    assert answer.json() == {
        "code": "dataset.missing",
        "error": True,
        "message": "Not found",
        "data": {"id": "abcd-1234"},
    }


def test_soda3_needs_a_token_and_reads_a_statement(client, store):
    address = "/socrata/api/v3/views/abcd-1234/query.json"
    asked = {"query": "SELECT :id, id, fee WHERE fee > 3 ORDER BY id LIMIT 1 OFFSET 1"}
    assert client.post(address, json=asked).status_code == 403
    assert _ids(client.post(address, json=asked, headers=TOKEN)) == ["it's"]
    paged = {"query": "SELECT *", "page": {"pageNumber": 2, "pageSize": 2}}
    assert len(client.post(address, json=paged, headers=TOKEN).json()) == 1
    counted = {"query": "SELECT count(*) AS n"}
    assert client.post(address, json=counted, headers=TOKEN).json() == [{"n": "3"}]
    assert [request.kind for request in store.requests] == ["ids", "ids", "page", "count"]
