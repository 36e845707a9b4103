"""A simulated city's portals serve its files' rows, value by value, and of the past what was known then."""

import csv
import gzip
import io
import json
import shutil
import urllib.request
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from assets.simulate.serving.city import CRIMES_ID, NEW_YEAR, REQUESTS_IDS, open_city
from assets.simulate.serving.server import MODULE_OF_PROTOCOL, serve
from assets.simulate.serving.store import Dataset, Store

END = datetime(2026, 1, 1)  # noqa: DTZ001 -- UTC, as a store keeps it
JUNE = datetime(2025, 6, 15, 12)  # noqa: DTZ001 -- UTC, as a store keeps it
REQUESTS = {year: ("socrata", dataset_id) for year, dataset_id in REQUESTS_IDS.items()}


@pytest.fixture(scope="module")
def at_the_end(small_city) -> Store:
    return open_city(small_city.folder)


@pytest.fixture
def in_june(small_city) -> Store:
    return open_city(small_city.folder, now=JUNE)


def file_rows(portal: Path, name: str, encoding: str = "utf-8-sig", delimiter: str = ",") -> list[dict]:
    text = gzip.decompress((portal / name).read_bytes()).decode(encoding)
    header, *rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    whole = [row for row in rows if len(row) == len(header)]
    return [{name: value or None for name, value in zip(header, row, strict=True)} for row in whole]


def served(store: Store, protocol: str, dataset_id: str, order: str = "_row") -> list[dict]:
    dataset = store.find(protocol, dataset_id)
    return dataset.query("*", order=order).to_pylist()


def own(rows: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if not key.startswith("_")} for row in rows]


def same(first: list[dict], second: list[dict]) -> bool:
    return Counter(tuple(row.values()) for row in first) == Counter(tuple(row.values()) for row in second)


def last_of_each(rows: list[dict], key: str) -> dict[str, tuple]:
    return {row[key]: tuple(row.values()) for row in rows if row[key] is not None}


# --- as the files are ----------------------------------------------------------------------------------


@pytest.mark.parametrize("year", [2024, 2025])
def test_service_requests_are_those_of_the_file(at_the_end, small_city, year):
    told = file_rows(small_city.folder / "portal", f"service_requests_{year}.csv.gz")
    found = served(at_the_end, *REQUESTS[year], order="_updated_at, _rid")
    assert list(own(found)[0]) == [name.lower() for name in told[0]]
    assert same(own(found), told)
    assert any(row["sr_number"] is None for row in found)
    assert any(row["created_date"] == "2115-06-01T09:00:00.000" for row in found) or any(
        row["created_date"] == "0001-01-01T00:00:00.000" for row in found
    )
    # Read in the order of change, the last state of a repeated case is the last in the file.
    assert last_of_each(own(found), "sr_number") == last_of_each(told, "SR_NUMBER")


@pytest.mark.parametrize(
    ("protocol", "dataset_id", "key", "name", "how"),
    [
        ("ckan", CRIMES_ID, "INCIDENT NO", "crimes.csv.gz", {}),
        ("carto", "permits", "PERMIT#", "permits.csv.gz", {"encoding": "windows-1252", "delimiter": ";"}),
    ],
)
def test_tables_are_those_of_the_file(at_the_end, small_city, protocol, dataset_id, key, name, how):
    told = file_rows(small_city.folder / "portal", name, **how)
    found = own(served(at_the_end, protocol, dataset_id))
    for row in found:
        row.pop("the_geom", None)
    assert same(found, told)
    column = dict(zip(told[0], found[0], strict=True))[key]
    assert last_of_each(found, column) == last_of_each(told, key)


def test_work_orders_and_sensors_are_those_of_the_file(at_the_end, small_city):
    portal = small_city.folder / "portal"
    features = json.loads(gzip.decompress((portal / "work_orders.geojson.gz").read_bytes()))["features"]
    told = [
        f["properties"] | {"geometry": f["geometry"] and tuple(f["geometry"]["coordinates"])}
        for f in features
    ]
    found = own(served(at_the_end, "arcgis", "work_orders"))
    for row in found:
        row["geometry"] = row["geometry"] and (row["geometry"]["lon"], row["geometry"]["lat"])
    assert same(found, told)
    assert last_of_each(found, "work_order") == last_of_each(told, "work_order")

    sensors = duckdb.sql(f"from '{portal / 'flood_sensors.parquet'}'").to_arrow_table().to_pylist()
    found = own(served(at_the_end, "opendatasoft", "flood_sensors"))
    for row in found:
        row.pop("geo_point_2d")
    assert same(found, sensors)


def test_street_lights_stand_where_the_inventory_says(at_the_end, small_city):
    told = file_rows(small_city.folder / "portal", "street_lights.csv.gz")
    found = own(served(at_the_end, "arcgis", "street_lights"))
    assert all(-87.31 < row["geometry"]["lon"] < -87.11 for row in found)
    assert all(42.13 < row.pop("geometry")["lat"] < 42.28 for row in found)
    assert same(found, told)


def test_files_are_offered_byte_by_byte(at_the_end, small_city):
    portal = small_city.folder / "portal"
    behind_protocols_only = {"permits.csv.gz", "work_orders.geojson.gz", "flood_sensors.parquet"}
    for path in portal.iterdir():
        offered = at_the_end.find_file(path.name)
        if path.name in behind_protocols_only:
            assert offered is None
        else:
            assert offered.read() == path.read_bytes(), path.name


def test_the_truth_is_not_read(small_city, tmp_path):
    shutil.copytree(small_city.folder, tmp_path / "city", ignore=shutil.ignore_patterns("truth"))
    with_truth, without = (open_city(folder, now=JUNE) for folder in (small_city.folder, tmp_path / "city"))
    kinds = [(dataset.protocol, dataset.id) for dataset in with_truth.datasets()]
    assert len(kinds) == 10
    assert all(served(without, *kind) == served(with_truth, *kind) for kind in kinds)


def test_every_protocol_answers_with_rows(at_the_end):
    asked = {
        "socrata": f"resource/{REQUESTS_IDS[2025]}.json?$limit=2&$order=:id",
        "arcgis": "work_orders/FeatureServer/0/query?where=1%3D1&outFields=*&f=json&resultRecordCount=2",
        "ckan": f"api/3/action/datastore_search?resource_id={CRIMES_ID}&limit=2",
        "carto": "api/v2/sql?q=SELECT%20*%20FROM%20permits%20LIMIT%202",
        "opendatasoft": "api/explore/v2.1/catalog/datasets/flood_sensors/records?limit=2",
        "open311": "v2/requests.json?page_size=2",
        "outages": "live.json",
        "files": "traffic_signals.csv",
    }
    marks = {
        "socrata": b"sr_number",
        "arcgis": b"work_order",
        "ckan": b"INCIDENT NO",
        "carto": b"permit_number",
    }
    marks |= {"opendatasoft": b"event_id", "open311": b"service_request_id", "outages": b"outage_id"}
    assert asked.keys() == MODULE_OF_PROTOCOL.keys()
    with serve(at_the_end) as address:
        for protocol, path in asked.items():
            with urllib.request.urlopen(f"{address}/{protocol}/{path}") as response:
                assert marks.get(protocol, b"signal_id") in response.read(), protocol


# --- the clock -----------------------------------------------------------------------------------------


def test_a_year_that_has_not_begun_is_not_there(small_city):
    store = open_city(small_city.folder, now=NEW_YEAR - timedelta(hours=6))
    assert store.find(*REQUESTS[2025]) is None
    assert store.find_file("service_requests_2025.csv.gz") is None
    assert [dataset.id for dataset in store.datasets("socrata")] == [REQUESTS_IDS[2024]]
    store.advance(timedelta(hours=6))
    assert store.find(*REQUESTS[2025]).count() == 0
    store.advance(timedelta(days=3))
    assert store.find(*REQUESTS[2025]).count() > 10
    frozen = own(served(store, *REQUESTS[2024]))
    store.advance(timedelta(days=200))
    assert own(served(store, *REQUESTS[2024])) == frozen


def test_what_had_not_happened_is_not_known(in_june):
    local_now = (JUNE - timedelta(hours=5)).isoformat() + ".000"
    rows = [row for row in served(in_june, *REQUESTS[2025]) if row["created_date"][:4] in ("2024", "2025")]
    assert len(rows) > 500
    assert max(row["created_date"] for row in rows if "T99" not in row["created_date"]) <= local_now
    assert (
        max(row["closed_date"] or "" for row in rows if row["closed_date"] != "2115-06-01T09:00:00.000")
        <= local_now
    )
    assert max(row["_updated_at"] for row in rows) <= JUNE
    completed = [row for row in rows if row["status"] == "Completed"]
    assert all(row["closed_date"] for row in completed)


def test_no_log_tells_what_had_not_happened(in_june, at_the_end):
    rows = served(in_june, *REQUESTS[2025])
    logs = [(row, json.loads(row["status_log"])) for row in rows]
    local_now = (JUNE - timedelta(hours=5)).isoformat() + ".000"
    assert max(step["at"] for _, log in logs for step in log) <= local_now
    # What was told last is what else the row says, where that is not spoiled.
    spoiled = {"Pending Vendor", "Canceled", "Completed"}
    for row, log in logs:
        status, agency = ([step[key] for step in log if key in step][-1] for key in ("status", "agency"))
        assert row["owner_department"] == agency
        assert row["status"] in {status, *spoiled}
    short = {row["_rid"]: len(log) for row, log in logs}
    assert max(short.values()) > 3
    whole = {row["_rid"]: json.loads(row["status_log"]) for row in served(at_the_end, *REQUESTS[2025])}
    grown = [row for row, log in logs if row["_rid"] in whole and log != whole[row["_rid"]]]
    assert len(grown) > 20
    assert all(log == whole[row["_rid"]][: len(log)] for row, log in logs if row["_rid"] in whole)
    assert all(row["last_modified_date"] == row["created_date"] for row in grown)


def test_a_case_closes_once_and_its_system_time_moves(small_city):
    final = {
        row["sr_number"]: row
        for row in served(open_city(small_city.folder), *REQUESTS[2025])
        if row["status"] == "No Action Taken" and row["sr_number"].startswith("SR25")
    }
    store = open_city(small_city.folder)
    moved = 0
    for number, row in sorted(final.items())[:40]:
        closes = row["_updated_at"]
        if closes - row["_created_at"] < timedelta(minutes=2):
            continue
        store.now = closes - timedelta(minutes=1)
        [before] = store.find(*REQUESTS[2025]).query("*", "sr_number = ?", parameters=[number]).to_pylist()
        store.now = closes
        [after] = store.find(*REQUESTS[2025]).query("*", "sr_number = ?", parameters=[number]).to_pylist()
        assert (before["status"], before["closed_date"]) in {("Open", None), ("Open - Dup", None)}
        assert before["_updated_at"] == before["_created_at"] == after["_created_at"] < after["_updated_at"]
        assert (before["_row"], before["_rid"]) == (after["_row"], after["_rid"])
        assert own([after]) == own([row])
        moved += 1
    assert moved > 10


def test_an_older_case_comes_into_the_new_year_when_it_changes_there(small_city):
    store = open_city(small_city.folder)
    old = [row for row in served(store, *REQUESTS[2025]) if (row["sr_number"] or "").startswith("SR24")]
    assert len(old) >= 20
    assert min(row["_created_at"] for row in old) >= NEW_YEAR
    assert all(row["_created_at"] == row["_updated_at"] for row in old)


def test_a_few_rows_vanish_some_days_after_they_came(small_city, at_the_end):
    store, again = (open_city(small_city.folder, now=END) for _ in range(2))
    for where in [*REQUESTS.values(), ("ckan", CRIMES_ID)]:
        whole, left = (keys(each.find(*where)) for each in (at_the_end, store))
        assert left < whole
        assert len(whole - left) < 0.01 * len(whole)
        assert keys(again.find(*where)) == left
    # Each of them was there before.
    crimes = store.find("ckan", CRIMES_ID)
    gone = keys(at_the_end.find("ckan", CRIMES_ID)) - keys(crimes)
    seen: set[str] = set()
    for days in range(0, 731, 3):
        store.now = END - timedelta(days=days)
        seen |= gone & keys(crimes)
    assert len(seen) >= 0.9 * len(gone) > 0


def keys(dataset: Dataset) -> set[str]:
    return set(dataset.query(f'"{dataset.key}" as key').column("key").to_pylist())


def test_the_open311_tail_is_the_newest_ninety_days(in_june, small_city):
    tail = in_june.find("open311", "requests").truth()
    oldest = min(row["requested_datetime"] for row in tail.values())
    assert JUNE - timedelta(days=90) <= oldest < JUNE - timedelta(days=88)
    assert {row["status"] for row in tail.values()} == {"open", "closed"}
    bulk = in_june.find(*REQUESTS[2025]).truth()
    recent = {number for number in bulk if number in tail}
    assert len(recent) > 0.98 * len(tail)
    shut = {number for number in recent if tail[number]["status"] == "closed"}
    assert {bulk[number]["status"] for number in recent - shut} <= {
        "Open", "Open - Dup", "In Progress", "Reopened", "Pending Vendor"
    }  # fmt: skip
    assert len(in_june.find("open311", "requests").query("service_request_id").to_pylist()) == len(tail)


def test_outages_are_on_the_map_while_they_last(small_city):
    store = open_city(small_city.folder, now=JUNE)
    history = json.loads(gzip.decompress(store.find_file("outages.json.gz").read()))
    moment = JUNE.replace(tzinfo=UTC).isoformat().replace("+00:00", "Z")
    assert max(row["start_time"] for row in history if row["start_time"] != "pending") <= moment
    assert all("restored_time" not in row for row in history if row["status"] == "ACTIVE")
    active = {row["outage_id"] for row in history if row["status"] == "ACTIVE" and "outage_id" in row}
    shown = store.find("outages", "live").truth()
    assert (
        active
        - {row["outage_id"] for row in history if row["start_time"] == "pending" and "outage_id" in row}
        == shown.keys()
    )
    assert all(set(json.loads(row["impact"])) == {"customers", "cause"} for row in shown.values())
    store.now = datetime(2024, 1, 1, 6)  # noqa: DTZ001 -- UTC, as a store keeps it
    assert store.find("outages", "live").count() == 0


def test_a_file_grows_with_the_clock_and_keeps_its_time_while_it_does_not(in_june, small_city):
    whole = file_rows(small_city.folder / "portal", "crimes.csv.gz")
    first = in_june.find_file("crimes.csv.gz")
    content = gzip.decompress(first.read())
    assert content.startswith(b"\xef\xbb\xbf")
    assert content.count(b"\r\n") == content.count(b"\n")
    assert b"CR9999999,LARCENY,FROM BUILD\r\n" in content
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    assert 0.5 * len(whole) < len(rows) < 0.9 * len(whole)
    in_june.advance(timedelta(milliseconds=1))
    assert in_june.find_file("crimes.csv.gz").changed_at == first.changed_at
    in_june.advance(timedelta(days=2))
    assert in_june.find_file("crimes.csv.gz").changed_at == in_june.now
    assert len(gzip.decompress(in_june.find_file("crimes.csv.gz").read())) > len(content)


def test_permits_go_through_their_stages(small_city):
    store = open_city(small_city.folder)
    statuses = []
    permits = store.find("carto", "permits")
    [row] = permits.query(
        "*", "status = 'COMPLETE' and application_date like '%2025' and issue_date <> application_date "
        "and completed_date <> issue_date and _updated_at > '2025-06-01'", "_row", 1
    ).to_pylist()  # fmt: skip
    for day in range(366):
        store.now = datetime(2025, 1, 1, 12) + timedelta(days=day)  # noqa: DTZ001 -- UTC
        shown = permits.query("status", "permit_number = ?", parameters=[row["permit_number"]]).to_pylist()
        statuses += [each["status"] for each in shown]
    assert list(dict.fromkeys(statuses)) == ["IN REVIEW", "ISSUED", "COMPLETE"]
