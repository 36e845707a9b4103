"""CARTO's SQL endpoint, asked of the simulated portal by a bare HTTP client."""

import json

import httpx2
import pytest

from assets.simulate.serving.server import serve
from assets.simulate.serving.store import Column, Dataset, Store

COLUMNS = [
    Column("case_id"),
    Column("opened", "fixed_timestamp"),
    Column("fee", "number"),
    Column("at", "point"),
]
ROWS = [
    {"case_id": f"c{number}", "opened": f"2026-0{1 + number % 3}-05T08:00:00Z", "fee": number / 2}
    | ({"at": (-75.25, 39.5)} if number % 2 else {})
    for number in range(20)
]
KEYSET = (
    "SELECT *, ST_X(the_geom) AS lon, ST_Y(the_geom) AS lat FROM public_cases "
    "WHERE cartodb_id > {} ORDER BY cartodb_id LIMIT {}"
)


@pytest.fixture
def store():
    made = Store()
    made.add(Dataset("carto", "public_cases", "Cases", COLUMNS, "case_id", "opened")).insert(ROWS)
    return made


@pytest.fixture
def client(store):
    with serve(store) as base, httpx2.Client(base_url=base) as made:
        yield made


def _ask(client, sql):
    return client.get("/carto/api/v2/sql", params={"q": sql})


def test_the_envelope_holds_rows_fields_and_their_number(client):
    said = _ask(client, KEYSET.format(0, 2)).json()
    assert said["rows"] == [
        {
            "cartodb_id": 1,
            "the_geom": None,
            "case_id": "c0",
            "opened": "2026-01-05T08:00:00Z",
            "fee": 0.0,
            "lon": None,
            "lat": None,
        },
        {
            "cartodb_id": 2,
            "the_geom": "0101000020E61000000000000000D052C00000000000C04340",
            "case_id": "c1",
            "opened": "2026-02-05T08:00:00Z",
            "fee": 0.5,
            "lon": -75.25,
            "lat": 39.5,
        },
    ]
    assert said["total_rows"] == 2
    assert said["fields"]["opened"] == {"type": "date", "pgtype": "timestamptz"}


def test_a_keyset_gives_each_row_once_in_any_page_size(client):
    for size in (1, 7, 20, 50):
        found, last = [], 0
        while rows := _ask(client, KEYSET.format(last, size)).json()["rows"]:
            found += [row["case_id"] for row in rows]
            last = rows[-1]["cartodb_id"]
        assert found == [row["case_id"] for row in ROWS]


def test_a_form_is_read_like_a_query(client):
    sql = (
        "select case_id from public.public_cases where opened > '2026-03-01'::timestamp "
        "order by 1 desc limit 1"
    )
    assert client.post("/carto/api/v2/sql", data={"q": sql}).json()["rows"] == [{"case_id": "c8"}]


def test_counts_and_months(client, store):
    assert _ask(client, "SELECT count(*) FROM public_cases WHERE fee >= 5").json()["rows"] == [{"count": 10}]
    sql = "SELECT to_char(opened, 'YYYY-MM') AS month, count(*) AS n FROM public_cases GROUP BY 1 ORDER BY 1"
    assert _ask(client, sql).json()["rows"] == [
        {"month": "2026-01", "n": 7},
        {"month": "2026-02", "n": 7},
        {"month": "2026-03", "n": 6},
    ]
    _ask(client, 'SELECT "case_id" FROM public_cases ORDER BY cartodb_id LIMIT 5')
    _ask(client, "SELECT * FROM public_cases LIMIT 0")
    assert [request.kind for request in store.requests] == ["count", "months", "ids", "meta"]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("select ward from public_cases", 'column "ward" does not exist'),
        ("select * from cases", 'relation "cases" does not exist'),
        ("select * from public_cases wher fee > 1", 'syntax error at or near "wher"'),
        ("select pg_sleep(9) from public_cases", "function pg_sleep(unknown) does not exist"),
        ("delete from public_cases", 'syntax error at or near "delete"'),
    ],
)
def test_errors_are_400_in_their_envelope(client, store, sql, message):
    answer = _ask(client, sql)
    assert (answer.status_code, answer.json()) == (400, {"error": [message]})
    assert store.find("carto", "public_cases").count() == len(ROWS)


def test_a_retired_table_is_no_relation(client, store):
    store.find("carto", "public_cases").is_retired = True
    assert _ask(client, KEYSET.format(0, 2)).status_code == 400


def test_an_error_may_end_a_stream_begun_with_200(client, store):
    store.faults.add("midstream")
    answer = _ask(client, KEYSET.format(0, 20))
    assert answer.status_code == 200
    assert answer.text.startswith('{"rows":[{"cartodb_id":1,')
    with pytest.raises(json.JSONDecodeError):
        answer.json()
    store.faults.add("midstream", is_json=True)
    said = _ask(client, KEYSET.format(0, 20)).json()
    assert len(said["rows"]) == 10
    assert said["error"]
    assert _ask(client, KEYSET.format(0, 20)).json()["total_rows"] == 20


def test_too_large_a_page_answers_429_until_less_is_asked(client, store):
    store.faults.add("clamp", rows=5, times=None)
    answer = _ask(client, KEYSET.format(0, 10))
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "-1"
    assert "over platform's limits" in answer.json()["error"][0]
    assert _ask(client, KEYSET.format(0, 5)).json()["total_rows"] == 5


def test_an_error_in_200_has_the_envelope_of_errors(client, store):
    store.faults.add("error_in_200")
    answer = _ask(client, KEYSET.format(0, 10))
    assert (answer.status_code, list(answer.json())) == (200, ["error"])
