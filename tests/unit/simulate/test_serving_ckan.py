"""The simulated CKAN portal clamps, forgets orders and renumbers as real ones do."""

import csv
import io
import json

import pytest

from assets.simulate.serving import ckan
from assets.simulate.serving.exchange import Request, Response
from assets.simulate.serving.store import Column, Dataset, Store

SEARCH = "/api/3/action/datastore_search"
ROWS = 1_000


@pytest.fixture
def store() -> Store:
    store = Store()
    columns = [Column("CASE NO"), Column("Lat"), Column("count", "number"), Column("is_open", "flag")]
    dataset = Dataset("ckan", "uuid-1", "Crimes", columns, "CASE NO")
    dataset.insert(
        [{"CASE NO": f"C{n:04d}", "Lat": "42.2", "count": n % 5, "is_open": None} for n in range(ROWS)]
    )
    store.add(dataset)
    return store


def respond(store: Store, path: str = SEARCH, *, method: str = "POST", **said: object) -> Response:
    request = Request(method, "ckan", path, body=json.dumps(said).encode())
    if method == "GET":
        request = Request("GET", "ckan", path, {name: [str(value)] for name, value in said.items()})
    store.requests.append(request)
    return ckan.answer(store, request)


def ask(store: Store, path: str = SEARCH, **said: object) -> dict:
    response = respond(store, path, **({"resource_id": "uuid-1"} | said))
    told = json.loads(response.body)
    assert (response.status, told["success"]) == (200, True), told
    return told["result"]


def ids(result: dict) -> list[int]:
    return [record["_id"] for record in result["records"]]


def test_a_hundred_rows_come_unasked_and_nulls_are_there(store):
    result = ask(store)
    assert (result["limit"], len(result["records"]), result["total"]) == (100, 100, ROWS)
    assert set(result["records"][0]) == {"_id", "CASE NO", "Lat", "count", "is_open"}
    assert result["records"][0]["is_open"] is None
    assert [field["id"] for field in result["fields"]] == ["_id", "CASE NO", "Lat", "count", "is_open"]


def test_a_clamp_shows_in_the_answer_only(store):
    assert ask(store, limit=99_999)["limit"] == ckan.MOST_ROWS
    store.faults.add("clamp", protocol="ckan", rows=30, times=None)
    result = ask(store, limit=500, sort="_id asc")
    assert (result["limit"], len(result["records"])) == (30, 30)


def test_without_a_sort_offsets_lose_and_repeat_rows(store):
    pages = [ids(ask(store, offset=offset)) for offset in range(0, ROWS, 100)]
    assert len({number for page in pages for number in page}) < ROWS
    sorted_pages = [ids(ask(store, offset=offset, sort="_id asc")) for offset in range(0, ROWS, 100)]
    assert [number for page in sorted_pages for number in page] == list(range(1, ROWS + 1))


def test_a_reload_renumbers(store):
    asked = {"sort": "_id", "limit": ROWS}
    before = {record["CASE NO"]: record["_id"] for record in ask(store, **asked)["records"]}
    store.find("ckan", "uuid-1").reload()
    after = {record["CASE NO"]: record["_id"] for record in ask(store, **asked)["records"]}
    assert before.keys() == after.keys()
    assert sum(before[key] == after[key] for key in before) < ROWS / 10


def test_ranges_are_refused_where_the_portal_is_older(store):
    asked = {"resource_id": "uuid-1", "filters": {"_id": {"gt": 995}}, "sort": "_id asc"}
    response = respond(store, **asked)
    assert response.status == 409
    assert json.loads(response.body)["error"]["__type"] == "Validation Error"
    store.find("ckan", "uuid-1").has_range_filters = True
    assert ids(ask(store, **asked)) == [996, 997, 998, 999, 1000]
    assert ask(store, filters={"count": [1, 2], "_id": {"gte": 1, "lt": 11}})["total"] == 4


def test_get_asks_the_same(store):
    result = ask(
        store, method="GET", limit=3, sort='"CASE NO" desc', fields="CASE NO", filters='{"count": 4}'
    )
    assert result["records"] == [{"CASE NO": "C0999"}, {"CASE NO": "C0994"}, {"CASE NO": "C0989"}]


@pytest.mark.parametrize(
    ("said", "status", "kind"),
    [
        ({"resource_id": "other"}, 404, "Not Found Error"),
        ({}, 409, "Validation Error"),
        ({"resource_id": "uuid-1", "sort": "nothing asc"}, 409, "Validation Error"),
        ({"resource_id": "uuid-1", "sort": "_id; drop table x"}, 409, "Validation Error"),
        ({"resource_id": "uuid-1", "limit": "many"}, 409, "Validation Error"),
        ({"resource_id": "uuid-1", "colour": "red"}, 409, "Validation Error"),
        ({"resource_id": "uuid-1", "filters": {"nothing": 1}}, 409, "Validation Error"),
        ({"resource_id": "uuid-1", "filters": {"count": "many"}}, 409, "Validation Error"),
    ],
)
def test_refusals_have_an_envelope(store, said, status, kind):
    response = respond(store, **said)
    told = json.loads(response.body)
    assert (response.status, told["success"], told["error"]["__type"]) == (status, False, kind)


def test_private_and_retired_resources(store):
    dataset = store.find("ckan", "uuid-1")
    dataset.traits["is_private"] = True
    assert respond(store, resource_id="uuid-1").status == 403
    dataset.is_retired = True
    assert respond(store, resource_id="uuid-1").status == 404


def test_a_failure_may_come_inside_a_200(store):
    store.faults.add("error_in_200", protocol="ckan", message="canceling statement due to statement timeout")
    response = respond(store, resource_id="uuid-1")
    assert response.status == 200
    assert json.loads(response.body)["success"] is False
    assert ask(store)["total"] == ROWS


def test_the_resource_says_when_it_changed(store):
    shown = ask(store, "/api/3/action/resource_show", resource_id=None, id="uuid-1")
    assert shown["last_modified"] == store.now.isoformat()
    store.find("ckan", "uuid-1").update(["C0001"], {"Lat": "0"})
    assert ask(store, "/api/3/action/resource_show", resource_id=None, id="uuid-1")["hash"] != shown["hash"]
    package = ask(store, "/api/3/action/package_show", resource_id=None, id=shown["package_id"])
    assert [resource["id"] for resource in package["resources"]] == ["uuid-1"]


def test_a_dump_is_whole_and_has_no_order(store):
    response = respond(store, "/datastore/dump/uuid-1", method="GET", format="csv", bom="True")
    assert response.body.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(io.StringIO(response.body.decode("utf-8-sig"))))
    assert {row["CASE NO"] for row in rows} == {f"C{n:04d}" for n in range(ROWS)}
    assert [int(row["_id"]) for row in rows] != sorted(int(row["_id"]) for row in rows)


def test_kinds_of_questions():
    def kind(path: str, **said: object) -> str:
        return ckan.kind_of(Request("POST", "ckan", path, body=json.dumps(said).encode()))

    assert kind(SEARCH, limit=0) == "count"
    assert kind(SEARCH, fields=["a"]) == "ids"
    assert kind(SEARCH, limit=10) == "page"
    assert kind("/api/3/action/resource_show") == "meta"
    assert kind("/datastore/dump/x") == "file"


def test_what_the_server_refuses_is_worded_as_the_portal_does():
    said = ckan.refuse(503, "later")
    assert said.status == 503
    assert json.loads(said.body)["success"] is False
