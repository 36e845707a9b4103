"""The simulated outage map shows what is out now, once it is over no more, and nothing is not an error."""

import json
from datetime import UTC, timedelta

import pytest

from assets.simulate.serving import outages
from assets.simulate.serving.exchange import Request, Response
from assets.simulate.serving.store import START, Column, Dataset, Store


@pytest.fixture
def store() -> Store:
    store = Store()
    columns = [
        Column("id"),
        Column("start", "fixed_timestamp"),
        Column("end", "fixed_timestamp"),
        Column("place", "json"),
    ]
    dataset = Dataset("outages", "map", "Lakewire", columns, "id", "start", traits={"ended": "end"})
    hours = {"before": (-9, -2), "now": (-5, 3), "later": (2, 8)}
    dataset.insert(
        [
            {
                "id": name,
                "start": START + timedelta(hours=start),
                "end": START + timedelta(hours=end),
                "place": {"lat": 42.2},
            }
            for name, (start, end) in hours.items()
        ],
        at=START - timedelta(days=1),
    )
    store.add(dataset)
    return store


def respond(store: Store, path: str = "/map.json") -> Response:
    request = Request("GET", "outages", path)
    store.requests.append(request)
    return outages.answer(store, request)


def shown(store: Store) -> list[str]:
    return sorted(row["id"] for row in json.loads(respond(store).body)["outages"])


def test_only_what_is_out_now_is_shown(store):
    assert shown(store) == ["now"]
    store.advance(timedelta(hours=2))
    assert shown(store) == ["later", "now"]
    store.advance(timedelta(hours=1))
    assert shown(store) == ["later"]
    store.advance(timedelta(hours=5))
    assert shown(store) == []
    assert json.loads(respond(store).body)["summary"] == {"outage_count": 0}


def test_what_is_taken_off_the_map_is_gone(store):
    store.find("outages", "map").delete(["now"])
    assert shown(store) == []


def test_times_are_epoch_milliseconds_and_places_are_nested(store):
    told = json.loads(respond(store).body)
    now = START.replace(tzinfo=UTC)
    assert told["metadata"] == {"provider": "Lakewire", "generated_at": int(now.timestamp() * 1000)}
    [row] = told["outages"]
    assert row["start"] == int((now - timedelta(hours=5)).timestamp() * 1000)
    assert row["place"] == {"lat": 42.2}


def test_faults_and_unknown_maps(store):
    store.faults.add("error_in_200", protocol="outages", message="backend not available")
    assert json.loads(respond(store).body) == {"error": {"code": 500, "message": "backend not available"}}
    store.faults.add("empty_page", protocol="outages")
    assert shown(store) == []
    assert shown(store) == ["now"]
    assert respond(store, "/none.json").status == 404
    store.find("outages", "map").is_retired = True
    assert respond(store).status == 404
