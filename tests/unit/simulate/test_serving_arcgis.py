"""The simulated ArcGIS server tells the lies that real ones tell, and nothing but the rows otherwise."""

import json
from datetime import UTC, datetime
from urllib.parse import urlencode

import pyproj
import pytest

from assets.simulate.serving import arcgis
from assets.simulate.serving.arcgis_where import WhereError, read_where
from assets.simulate.serving.exchange import Request
from assets.simulate.serving.store import Column, Dataset, Store

QUERY = "/potholes/FeatureServer/0/query"
ROWS = 4_500
NOON = datetime(2026, 3, 1, 12)  # noqa: DTZ001 -- UTC, as a store keeps it


@pytest.fixture
def store() -> Store:
    store = Store()
    columns = [
        Column("ticket"),
        Column("depth", "number"),
        Column("seen", "fixed_timestamp"),
        Column("place", "point"),
    ]
    dataset = Dataset("arcgis", "potholes", "Potholes", columns, "ticket", "seen")
    dataset.insert(
        [
            {"ticket": f"P{n:05d}", "depth": n % 7, "seen": NOON, "place": None if n == 3 else (-87.2, 42.2)}
            for n in range(ROWS)
        ],
        at=NOON,
    )
    store.add(dataset)
    return store


def ask(store: Store, path: str = QUERY, *, form: bool = False, **said: object) -> dict:
    values = {"f": "json"} | {name: str(value) for name, value in said.items()}
    request = Request("GET", "arcgis", path, {name: [value] for name, value in values.items()})
    if form:
        kind = {"content-type": "application/x-www-form-urlencoded"}
        request = Request("POST", "arcgis", path, body=urlencode(values).encode(), headers=kind)
    store.requests.append(request)
    response = arcgis.answer(store, request)
    assert response.status == 200
    return json.loads(response.body)


def ids(answer: dict) -> list[int]:
    return [feature["attributes"]["OBJECTID"] for feature in answer["features"]]


def walk(store: Store, **said: object) -> list[int]:
    found, offset = [], 0
    while True:
        answer = ask(store, where="1=1", resultOffset=offset, **said)
        found += ids(answer)
        offset += len(answer["features"])
        if not answer.get("exceededTransferLimit"):
            return found


def test_a_page_is_clamped_and_the_flag_says_that_there_is_more(store):
    answer = ask(store, where="1=1", orderByFields="OBJECTID", resultRecordCount=5_000)
    assert len(answer["features"]) == 2_000
    assert answer["exceededTransferLimit"] is True
    assert sorted(walk(store, orderByFields="OBJECTID")) == list(range(1, ROWS + 1))


def test_without_an_order_offsets_lose_and_repeat_rows(store):
    found = walk(store)
    assert len(found) == ROWS
    assert len(set(found)) < ROWS


def test_an_order_that_is_not_unique_is_none(store):
    assert len(set(walk(store, orderByFields="depth"))) < ROWS


def test_a_short_page_and_an_empty_one_still_say_that_there_is_more(store):
    store.faults.add("short_page", protocol="arcgis", share=0.3)
    store.faults.add("empty_page", protocol="arcgis", after=1)
    sizes, offset, more = [], 0, True
    while more:
        answer = ask(store, where="1=1", orderByFields="OBJECTID", resultOffset=offset)
        sizes.append(len(answer["features"]))
        offset += sizes[-1]
        more = answer.get("exceededTransferLimit", False)
    assert sizes == [600, 0, 2_000, 1_900]


def test_an_old_server_has_no_flag_and_every_page_is_the_first(store):
    store.faults.add("no_flag", on="any", protocol="arcgis", times=None)
    told = ask(store, "/potholes/FeatureServer/0")
    assert told["currentVersion"] == 10.2
    assert told["advancedQueryCapabilities"]["supportsPagination"] is False
    first = ask(store, where="1=1", orderByFields="OBJECTID")
    second = ask(store, where="1=1", orderByFields="OBJECTID", resultOffset=2_000, resultRecordCount=10)
    assert "exceededTransferLimit" not in first
    assert ids(first) == ids(second)
    # By ids it can be read all the same.
    every = ask(store, where="1=1", returnIdsOnly="true")["objectIds"]
    assert sorted(every) == list(range(1, ROWS + 1))
    chunk = ask(store, form=True, objectIds=",".join(map(str, range(4_000, 4_300))), outFields="ticket")
    assert sorted(f["attributes"]["ticket"] for f in chunk["features"])[0] == "P03999"
    assert len(chunk["features"]) == 300


def test_a_question_too_long_for_the_address_is_lost_in_front_of_the_server(store):
    query = {"objectIds": [",".join(map(str, range(1_000)))], "f": ["json"]}
    assert arcgis.answer(store, Request("GET", "arcgis", QUERY, query)).status == 404


def test_errors_come_inside_a_200(store):
    store.faults.add("error_in_200", protocol="arcgis", code=500, message="Error performing query operation")
    assert ask(store, where="1=1")["error"]["code"] == 500
    assert ask(store, where="nowhere = 1")["error"]["details"] == [
        "'Invalid field: nowhere' parameter is invalid"
    ]
    assert ask(store, "/gone/FeatureServer/0")["error"]["code"] == 404
    assert ask(store, where="1=1", outFields="nowhere")["error"]["code"] == 400
    assert ask(store)["error"]["code"] == 400
    assert ask(store, where="seen = 'soon'")["error"]["message"] == "Unable to complete operation."
    assert "features" in ask(store, where="1=1")


def test_conditions_and_times(store):
    noon = int(NOON.replace(tzinfo=UTC).timestamp() * 1000)
    store.find("arcgis", "potholes").update(["P00009"], {"depth": 99})
    changed = ask(store, where="last_edited_date > TIMESTAMP '2026-03-02 00:00:00'", outFields="*")
    [feature] = changed["features"]
    assert feature["attributes"]["ticket"] == "P00009"
    assert feature["attributes"]["created_date"] == feature["attributes"]["seen"] == noon
    assert ask(store, where="OBJECTID > 4498 AND OBJECTID <= 4500", returnCountOnly="true") == {"count": 2}
    meta = ask(store, "/potholes/FeatureServer/0")
    assert meta["editFieldsInfo"]["editDateField"] == "last_edited_date"
    assert meta["editingInfo"]["dataLastEditDate"] == int(store.now.replace(tzinfo=UTC).timestamp() * 1000)


def test_a_server_may_read_times_by_its_own_clock(store):
    question = {"where": "seen <= TIMESTAMP '2026-03-01 06:00:00'", "returnCountOnly": "true"}
    assert ask(store, **question) == {"count": 0}
    store.find("arcgis", "potholes").traits["filter_time_zone"] = "America/Chicago"
    assert ask(store, **question) == {"count": ROWS}


def test_points_come_in_the_plane_asked_for_and_may_be_missing(store):
    asked = {"where": "OBJECTID IN (3, 4)", "orderByFields": "OBJECTID"}
    with_point, without = ask(store, **asked, outSR=4326)["features"]
    assert with_point["geometry"] == {"x": -87.2, "y": 42.2}
    assert "geometry" not in without
    unasked = ask(store, **asked)
    assert unasked["spatialReference"] == {"wkid": 102100}
    x, y = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform(-87.2, 42.2)
    assert unasked["features"][0]["geometry"] == {"x": pytest.approx(x), "y": pytest.approx(y)}
    assert "geometry" not in ask(store, **asked, returnGeometry="false")["features"][0]
    shapes = ask(store, **(asked | {"f": "geojson"}))
    assert [f["geometry"] and f["geometry"]["coordinates"] for f in shapes["features"]] == [
        [-87.2, 42.2],
        None,
    ]


def test_geojson_says_that_there_is_more_in_another_place(store):
    asked = {"where": "1=1", "orderByFields": "OBJECTID", "f": "geojson", "resultRecordCount": 5}
    assert ask(store, **asked)["properties"] == {"exceededTransferLimit": True}
    assert ask(store, QUERY.replace("Feature", "Map"), **asked)["exceededTransferLimit"] is True


def test_an_empty_answer_tells_no_fields(store):
    answer = ask(store, where="depth = 1000")
    assert answer["features"] == []
    assert "fields" not in answer


def test_kinds_of_questions():
    def kind(path: str, **said: str) -> str:
        return arcgis.kind_of(Request("GET", "arcgis", path, {name: [value] for name, value in said.items()}))

    assert kind("/x/MapServer/0") == "meta"
    assert [kind(QUERY), kind(QUERY, returnIdsOnly="true"), kind(QUERY, returnCountOnly="true")] == [
        "page", "ids", "count"
    ]  # fmt: skip


def test_a_condition_becomes_sql_of_known_columns_and_parameters():
    columns = {"name": '"Name"', "objectid": "_row"}
    sql, values = read_where(
        "(Name LIKE 'O''Hara%' OR NOT objectid BETWEEN 1 AND 2) AND name IS NOT NULL", columns
    )
    assert sql == '(("Name" like ? or not (_row between ? and ?)) and "Name" is not null)'
    assert values == ["O'Hara%", 1, 2]


@pytest.mark.parametrize(
    "said",
    ["1=1; drop table x", "name = ", "name == 'x'", "(1=1", "1=1)", "x = 1", "name = TIMESTAMP 'soon'", ""],
)
def test_what_is_no_condition_is_refused(said):
    with pytest.raises(WhereError):
        read_where(said, {"name": '"name"'})


def test_what_the_server_refuses_is_worded_as_the_portal_does():
    said = arcgis.refuse(503, "later")
    assert said.status == 503
    assert json.loads(said.body)["error"]["code"] == 503
