"""Whatever order deliveries arrive in, a case has the same versions, current state and history.

The SQL is the project's own, compiled once; each example runs it over a few rows in memory.
"""

import json
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

FIRST = datetime.fromisoformat("2025-03-08T06:00:00")
MODELS = {
    "int_versions_numbered": "intermediate",
    "fct_event_versions": "core",
    "fct_status_history": "core",
}
ORDERED_BY_TIME = "order by delivered_at, part, delivery_id"
CANONICAL = {"Open": "open", "Done": "closed", None: "unknown"}

TEXT, TIME = pa.string(), pa.timestamp("us")
TEXTS = """event_key kind city feed part delivery_id delivery_sha content_hash status source_status event_type
    category subcategory code agency address status_history"""
TIMES = "delivered_at updated_at event_at event_local closed_at closed_local due_at"
RECORDS = pa.schema(
    dict.fromkeys(TEXTS.split(), TEXT)
    | dict.fromkeys(TIMES.split(), TIME)
    | {"source_row": pa.int64(), "is_open_status": pa.bool_(), "x_m": pa.float64(), "y_m": pa.float64()}
)
FEEDS = {"city": "town", "feed": "calls", "times": "local", "time_zone": "America/Chicago"}
RULES = [{"city": "town", "feed": "calls", "status_key": "open", "canonical_status": "open"}]
NAMES = [{"city": "town", "agency_key": "roads", "agency": "transportation"}]
ABSENCES = pa.schema(
    {"event_key": TEXT, "absent_since_at": TIME, "misses": pa.int32(), "is_ended": pa.bool_()}
)

entries = st.fixed_dictionaries(
    {},
    optional={
        "at": st.sampled_from(["2025-03-09T01:30:00", "2025-03-09T02:30:00", "2025-03-10", "soon"]),
        "status": st.sampled_from(["Open", "Done"]),
        "agency": st.sampled_from(["Roads", "Water"]),
    },
)
states = st.fixed_dictionaries(
    {
        "key": st.sampled_from(["a", "b"]),
        "status": st.sampled_from(["Open", "Done", None]),
        "agency": st.sampled_from(["Roads", "Water", None]),
        "address": st.sampled_from(["1 Elm St", "2 Elm St"]),
        "updated": st.sampled_from([None, 0, 1]),
        "log": st.none() | st.lists(entries, max_size=3),
    }
)
deliveries = st.lists(
    st.fixed_dictionaries(
        {
            "part": st.sampled_from(["open_cases", "closed_cases"]),
            "day": st.integers(0, 4),
            "rows": st.lists(states, max_size=4),
        }
    ),
    # Two copies of one part that hold as of one moment have no order but that of their arrival.
    unique_by=lambda delivery: (delivery["part"], delivery["day"]),
    max_size=6,
)


@pytest.fixture(scope="module")
def sql(tiny_lake, dbt) -> dict[str, str]:
    """Return the compiled text of the models."""
    lake = tiny_lake("history")
    lake.city("town", "America/Chicago")
    lake.write()
    dbt(lake.home, "compile", "--select", *MODELS)
    compiled: Path = lake.home / "dbt" / "compiled"
    return {name: next(compiled.rglob(f"{name}.sql")).read_text() for name in MODELS}


def records_of(arrivals, story: str) -> list[dict]:
    """Return staged rows of deliveries that arrive in this order; the keys of a story are its own."""
    records = []
    for arrived, delivery in enumerate(arrivals):
        for number, state in enumerate(delivery["rows"]):
            is_done = state["status"] == "Done"
            delivered_at = FIRST + timedelta(days=delivery["day"])
            told = json.dumps(state, sort_keys=True)
            records.append(
                {
                    "event_key": f"{story}-{state['key']}",
                    "kind": "service_request",
                    "city": "town",
                    "feed": "calls",
                    "part": delivery["part"],
                    "delivery_id": f"{arrived:012x}",
                    "delivery_sha": f"{delivery['part']}-{delivery['day']}",
                    "source_row": number,
                    "delivered_at": delivered_at,
                    "content_hash": told,
                    "status": CANONICAL[state["status"]],
                    "source_status": state["status"],
                    "is_open_status": None if state["status"] is None else not is_done,
                    "agency": state["agency"],
                    "address": state["address"],
                    "event_type": "pothole",
                    "event_at": FIRST,
                    "event_local": FIRST - timedelta(hours=6),
                    "closed_at": delivered_at if is_done else None,
                    "closed_local": delivered_at - timedelta(hours=6) if is_done else None,
                    "updated_at": None
                    if state["updated"] is None
                    else FIRST + timedelta(hours=state["updated"]),
                    "status_history": None if state["log"] is None else json.dumps(state["log"]),
                }
            )
    return records


def history(sql: dict[str, str], records: list[dict]) -> dict[str, list[tuple]]:
    """Return the rows of both tables, by table."""
    rows = pa.Table.from_pylist(records, RECORDS)
    inputs = {
        "intermediate.int_records_keyed": rows,
        "intermediate.int_events_unioned": rows,
        "staging.stg_service_requests": rows,
        "staging.stg_feeds": pa.Table.from_pylist([FEEDS]),
        "staging.stg_status_rules": pa.Table.from_pylist(RULES),
        "staging.stg_agency_names": pa.Table.from_pylist(NAMES),
        "intermediate.int_absences": pa.Table.from_pylist([], ABSENCES),
    }
    with duckdb.connect(config={"threads": 1}) as con:
        con.execute("attach ':memory:' as warehouse; use warehouse")
        con.execute("create schema staging; create schema intermediate; create schema core")
        for name, given_rows in inputs.items():
            con.register("given_rows", given_rows)
            con.execute(f"create table {name} as from given_rows")
        for name, schema in MODELS.items():
            con.execute(f"create table {schema}.{name} as {sql[name]}")
        return {
            name: con.execute(f"from core.{name}").fetchall()
            for name in ("fct_event_versions", "fct_status_history")
        }


def of_story(rows: list[tuple], story: str) -> list[tuple]:
    """Return the rows of one story, without its name, in an order of their own."""
    return sorted(
        ((row[0].removeprefix(f"{story}-"), *row[1:]) for row in rows if row[0].startswith(f"{story}-")),
        key=repr,
    )


def expected_hashes(records: list[dict], key: str) -> list[str]:
    """Return the states of a case in order of delivery, repeats left out."""
    mine = sorted(
        (record for record in records if record["event_key"] == key),
        key=lambda record: (
            record["delivered_at"],
            record["part"],
            record["updated_at"] or FIRST - timedelta(days=1),
            record["source_row"],
        ),
    )
    return [content for content, _ in groupby(record["content_hash"] for record in mine)]


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_order_of_deliveries_gives_the_same_versions_state_and_history(sql, data) -> None:
    told = data.draw(deliveries)
    in_turn = sorted(told, key=lambda delivery: (delivery["day"], delivery["part"]))
    in_turn, shuffled = records_of(in_turn, "x"), records_of(data.draw(st.permutations(told)), "y")
    found = history(sql, [*shuffled, *in_turn])
    for name, rows in found.items():
        assert of_story(rows, "x") == of_story(rows, "y"), name
    versions = sorted(found["fct_event_versions"], key=lambda row: row[:2])
    for key in {record["event_key"] for record in in_turn}:
        mine = [row for row in versions if row[0] == key]
        assert [row[6] for row in mine] == expected_hashes(in_turn, key)
        assert [row[4] for row in mine] == [False] * (len(mine) - 1) + [True]
        assert [row[3] for row in mine] == [row[2] for row in mine[1:]] + [None]


def test_versions_numbered_as_they_arrive_would_depend_on_the_order(sql) -> None:
    assert ORDERED_BY_TIME in sql["int_versions_numbered"]
    by_arrival = sql | {
        "int_versions_numbered": sql["int_versions_numbered"].replace(ORDERED_BY_TIME, "order by delivery_id")
    }
    state = {"key": "a", "agency": "Roads", "address": "1 Elm St", "updated": None, "log": None}
    told = [
        {"part": "open_cases", "day": 0, "rows": [state | {"status": "Open"}]},
        {"part": "open_cases", "day": 1, "rows": [state | {"status": "Done"}]},
    ]
    records = [*records_of(told, "x"), *records_of(told[::-1], "y")]
    for text, is_same in ((sql, True), (by_arrival, False)):
        found = history(text, records)["fct_event_versions"]
        assert (of_story(found, "x") == of_story(found, "y")) is is_same
