"""Recorded answers land over the wire by shipped declarations: every record is a row of its values."""

import gzip
import json
import math
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import duckdb
import pytest

from assets.ingest.feed import BUILT_IN, City, Feed, read_cities
from assets.ingest.lake import Lake
from assets.ingest.landing import land_feed
from assets.ingest.part import Expectations, Request
from assets.ingest.receipts import Delivery
from tests.declared_feed import declared_feed
from tests.recorded_answers import unmapped_labels, unmapped_statuses
from tests.recorded_portal import ArcGIS, Asked, Open311, Records, Socrata, Told, serve, told_json

pytestmark = pytest.mark.real

CITIES, _ = read_cities([BUILT_IN], {"CITYSIGNAL_HOME": "var"})
BOSTON = ("other--cx", "responses--2000-2700--bb", "abandoned-vehicle--ak", "sidewalk-not-shovelled--ab")

at = datetime.fromisoformat


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


@pytest.fixture
def fixtures(real_data: Path) -> Path:
    return real_data / "api_fixtures"


def recorded(file: Path) -> Any:
    """What the standard library reads."""
    body = file.read_bytes()
    return json.loads(gzip.decompress(body) if file.suffix == ".gz" else body)


def boston(fixtures: Path, *names: str) -> Records:
    found = [file for name in names for file in (fixtures / "open311").glob(f"boston_*{name}.json.gz")]
    assert len(found) == len(names)
    return [record for file in found for record in recorded(file)]


def shipped(city: str, feed: str, source: str, part: str | None = None) -> tuple[City, Feed]:
    """A shipped feed of one part, of which only the source is another."""
    declared = CITIES[city].feeds[feed]
    chosen = declared.part(part) if part else declared.parts[0]
    return CITIES[city], declared.model_copy(
        update={"parts": (chosen.model_copy(update={"source": source}),)}
    )


def place(time_zone: str, crs: str, bbox: tuple[float, ...], feed: Feed) -> City:
    return City(
        id="town",
        folder=Path("town"),
        name="Town",
        country="US",
        state="IL",
        time_zone=time_zone,
        crs=crs,
        bbox=bbox,
        feeds={feed.id: feed},
    )


def land(lake: Lake, city: City, feed: Feed, now: datetime) -> Delivery:
    [delivery] = land_feed(lake, city, feed, now=now, wire_options={"first_wait_seconds": 0.01})
    return delivery


def rows_of(lake: Lake, zone: str) -> list[dict[str, Any]]:
    files = [str(path) for path in lake.home.glob(f"lake/{zone}/*/city=*/*/*.parquet")]
    if not files:
        return []
    with duckdb.connect() as con:
        return con.execute("select * from read_parquet($1)", [files]).to_arrow_table().to_pylist()


def assert_values(rows: list[dict[str, Any]], records: Records, said: dict[str, Callable[[dict], Any]]):
    """Every row holds what its record says, and every record is one row."""
    told = Counter(tuple(read(record) for read in said.values()) for record in records)
    found = Counter(tuple(_comparable(name, row[name]) for name in said) for row in rows)
    assert found == told


def _comparable(name: str, value: str | None) -> Any:
    return float(value) if name in ("x", "y") and value is not None else value


def number(name: str) -> Callable[[dict], float | None]:
    return lambda record: float(record[name]) if record.get(name) is not None else None


def text(name: str) -> Callable[[dict], str | None]:
    return lambda record: record.get(name)


def qualities(records: Records, lon: str, lat: str, city: City) -> Counter:
    """How many points are what, by a map of its own."""
    west, south, east, north = city.bbox
    counts: Counter[str] = Counter()
    for record in records:
        if record.get(lon) is None or record.get(lat) is None:
            counts["missing"] += 1
            continue
        x, y = float(record[lon]), float(record[lat])
        is_default = any(
            math.hypot((x - a) * 111_320 * math.cos(math.radians(b)), (y - b) * 111_320) <= 1
            for a, b in city.default_points
        )
        inside = west <= x <= east and south <= y <= north
        counts["default_point" if is_default else "ok" if inside else "outside_city"] += 1
    return counts


def told_qualities(rows: list[dict[str, Any]]) -> Counter:
    assert all((row["lon"] is None) == (row["location_quality"] != "ok") for row in rows)
    assert all(abs(row["lon"] - float(row["x"])) < 1e-6 for row in rows if row["location_quality"] == "ok")
    return Counter(row["location_quality"] for row in rows)


def assert_all_mapped(feed: Feed, rows: list[dict[str, Any]]) -> None:
    assert unmapped_labels(feed, [(r["category"], r["subcategory"], r["code"]) for r in rows]) == Counter()
    assert unmapped_statuses(feed, [row["status"] for row in rows]) == Counter()


def test_two_recorded_answers_of_new_york_are_a_load_and_its_successor(lake: Lake, fixtures: Path):
    first = recorded(fixtures / "socrata/nyc_311_soda_response.json.gz")
    second = recorded(fixtures / "socrata/nyc_311_soda_response_20260228.json.gz")
    portal = Socrata(first, "2026-02-13T10:00:00.000Z")
    with serve(portal) as base:
        city, feed = shipped("new_york_city", "service_requests", f"{base}/resource/erm2-nwe9", "y2020")
        whole = land(lake, city, feed, at("2026-02-13T12:00:00"))
        portal.add(second, "2026-02-28T10:00:00.000Z")
        more = land(lake, city, feed, at("2026-02-28T12:00:00"))
        again = land(lake, city, feed, at("2026-02-28T13:00:00"))

    assert [(each.outcome, each.mode, each.rows_in_file, each.rows_new) for each in (whole, more, again)] == [
        ("landed", "full", len(first), len(first)),
        ("landed", "incremental", len(second), len(second)),
        ("unchanged", "incremental", 0, 0),
    ]
    # All rows of a load have one change time; three hundred came at once.
    assert min(whole.calls, more.calls) > 4
    assert again.rows_known == len({record["unique_key"] for record in first + second}) == 2_000
    rows, records = rows_of(lake, "raw"), first + second
    assert rows_of(lake, "quarantine") == []
    assert_values(
        rows,
        records,
        {
            "source_id": text("unique_key"),
            "requested_at": text("created_date"),
            "category": text("complaint_type"),
            "closed_at": text("closed_date"),
            "x": number("longitude"),
            "y": number("latitude"),
        },
    )
    assert told_qualities(rows) == qualities(records, "longitude", "latitude", city)
    assert_all_mapped(feed, rows)


def test_a_recorded_answer_of_austin_lands_with_its_token(
    lake: Lake, fixtures: Path, monkeypatch: pytest.MonkeyPatch
):
    records = recorded(fixtures / "socrata/austin_crime_soda_response.json.gz")
    portal = Socrata(records, "2024-06-09T10:00:00.000Z", token="of-the-test")
    with serve(portal) as base:
        city, feed = shipped("austin", "crimes", f"{base}/resource/fdj4-gpfu")
        monkeypatch.setenv("AUSTIN_APP_TOKEN", "another")
        refused = land(lake, city, feed, at("2024-06-09T12:00:00"))
        monkeypatch.setenv("AUSTIN_APP_TOKEN", "of-the-test")
        landed = land(lake, city, feed, at("2024-06-09T13:00:00"))
    assert (refused.outcome, refused.error_type) == ("failed", "Unauthorised")
    assert (landed.outcome, landed.rows_in_file, landed.rows_raw) == ("landed", 1_000, len(records))
    rows = rows_of(lake, "raw")
    assert_values(
        rows,
        records,
        {
            "source_id": text("incident_report_number"),
            "category": text("crime_type"),
            "code": text("ucr_code"),
            "reported_at": text("rep_date_time"),
        },
    )
    # The portal's own time of the crime; where it gives none, the day is all there is.
    told = {each["incident_report_number"]: each.get("occ_date_time") or each["occ_date"] for each in records}
    assert {row["source_id"]: at(row["occurred_at"]) for row in rows} == {k: at(v) for k, v in told.items()}
    # The points of then are not mapped: the portal has taken them away since.
    assert told_qualities(rows) == {"missing": 1_000}
    assert_all_mapped(feed, rows)


BOSTON_VALUES = {
    "source_id": text("service_request_id"),
    "requested_at": text("requested_datetime"),
    "updated_at": text("updated_datetime"),
    "category": text("service_name"),
    "x": number("long"),
    "y": number("lat"),
}


def test_seven_years_of_boston_come_window_by_window(lake: Lake, fixtures: Path):
    records = boston(fixtures, *BOSTON)
    with serve(Open311(records)) as base:
        city, feed = shipped("boston", "requests_live", f"{base}/open311/v2")
        # A day at a time would be thousands of questions.
        feed = feed.model_copy(update={"request": Request(page_rows=50, window_days=30)})
        tail = land(lake, city, feed, at("2013-01-30T00:00:00"))
        rest = land(lake, city, feed, at("2019-12-19T00:00:00"))
    assert (tail.mode, tail.outcome, rest.outcome) == ("tail", "landed", "landed")
    assert tail.rows_raw == sum(each.get("requested_datetime", "9") < "2013-01-29" for each in records)
    # Requests on the edge of two windows come twice, which is no change.
    assert tail.rows_new + rest.rows_new == len(records) == 4_000
    assert rest.rows_changed == 0

    rows = rows_of(lake, "raw")
    assert rows_of(lake, "quarantine") == []
    assert_values(rows, records, BOSTON_VALUES)
    # One of four thousand has neither id nor time: a row, which staging sets aside.
    [nameless] = [row for row in rows if row["source_id"] is None]
    assert (nameless["status"], nameless["requested_at"]) == ("submitted", None)
    assert told_qualities(rows) == qualities(records, "long", "lat", city)
    assert_all_mapped(feed, rows)
    assert {row["status"] == "closed" for row in rows if row["closed_at"]} == {True}


def test_a_month_of_boston_comes_as_it_is_declared(lake: Lake, fixtures: Path):
    records = [
        each
        for each in boston(fixtures, "abandoned-vehicle--ak")
        if each["requested_datetime"] > "2017-07-16T12"
    ]
    with serve(Open311(records)) as base:
        city, feed = shipped("boston", "requests_live", f"{base}/open311/v2")
        delivery = land(lake, city, feed, at("2017-08-16T00:00:00"))
    assert (delivery.outcome, delivery.rows_new) == ("landed", len(records))
    assert_values(rows_of(lake, "raw"), records, BOSTON_VALUES)


def test_without_a_share_of_records_that_may_lack_an_id_the_delivery_is_kept_out(lake: Lake, fixtures: Path):
    records = boston(fixtures, "sidewalk-not-shovelled--ab")
    with serve(Open311(records)) as base:
        city, feed = shipped("boston", "requests_live", f"{base}/open311/v2")
        strict = {"request": Request(page_rows=50, window_days=30), "expect": Expectations(min_rows=0)}
        delivery = land(lake, city, feed.model_copy(update=strict), at("2019-12-19T00:00:00"))
    assert (delivery.outcome, delivery.error_type) == ("blocked", "GateFailed")
    assert "source_id" in delivery.message
    assert rows_of(lake, "raw") == []


def test_the_recorded_outages_of_san_francisco_land_as_a_layer(lake: Lake, fixtures: Path):
    records = recorded(fixtures / "outages/pge_outages_snapshot.json.gz")
    # The recording kept the attributes; the layer numbers them.
    features = [{"attributes": {"OBJECTID": number, **each}} for number, each in enumerate(records, start=1)]
    fields = [{"name": "OBJECTID", "type": "esriFieldTypeOID"}]
    fields += [{"name": name, "type": "esriFieldTypeString"} for name in records[0]]
    meta = {"name": "outages", "type": "Feature Layer", "currentVersion": 10.91, "fields": fields}
    asked_for = [each for each in records if each["CITY"] == "San Francisco"]
    assert 0 < len(asked_for) < len(records)
    with serve(ArcGIS(meta, {"features": features})) as base:
        city, feed = shipped("san_francisco", "outages_pge", f"{base}/rest/services/43/outages/MapServer/5")
        delivery = land(lake, city, feed, at("2025-02-05T00:00:00"))
    assert (delivery.outcome, delivery.mode, delivery.rows_raw) == ("landed", "snapshot", len(asked_for))
    rows = rows_of(lake, "raw")

    def instant(name: str, otherwise: str = "") -> Callable[[dict], str | None]:
        def read(record: dict) -> str | None:
            said = record[name] or record.get(otherwise)
            return f"{datetime.utcfromtimestamp(said / 1000):%Y-%m-%dT%H:%M:%SZ}" if said else None  # noqa: DTZ004

        return read

    assert_values(
        rows,
        asked_for,
        {
            "source_id": lambda record: str(record["F_OUTAGE_ID"]),
            "started_at": instant("OUTAGE_START"),
            "updated_at": instant("LAST_UPDATE"),
            "estimated_restoration_at": instant("CURRENT_ETOR", "AUTO_ETOR"),
            "customers_affected": lambda record: str(record["EST_CUSTOMERS"]),
            "x": number("OUTAGE_LONGITUDE"),
            "y": number("OUTAGE_LATITUDE"),
        },
    )
    assert told_qualities(rows) == {"ok": len(asked_for)}
    assert_all_mapped(feed, rows)


#: No city here ships these layers: the description that belongs to each, its columns and a box around it.
LAYERS = {
    "us-ca-carson_us-ca-carson-0.json": (
        "us-ca-carson_us-ca-carson-metadata.json",
        {"source_id": "ADDRESS", "name": "ADDRESS", "x": "geometry_x", "y": "geometry_y"},
        (-118.35, 33.77, -118.21, 33.90),
    ),
    "us-mo-columbia_us-mo-columbia-0.json": (
        "us-mo-columbia_us-mo-columbia-metadata.json",
        {"source_id": "OBJECTID", "name": "STREET", "x": "geometry_x", "y": "geometry_y"},
        (-92.6, 38.6, -92.0, 39.2),
    ),
    "us-il-cook_page-partial.json": (
        "us-il-cook_metadata.json",
        {"source_id": "OBJECTID", "name": "NAME", "x": "geometry_x", "y": "geometry_y"},
        (-88.3, 41.4, -87.5, 42.2),
    ),
    # Parcels in feet, as rings: the key lands, and no place is made up.
    "us-mi-kent_us-mi-kent-0.json": (
        "us-mi-kent_us-mi-kent-metadata.json",
        {"source_id": "PNUM", "name": "PROPERTYADDRESS", "x": "geometry_x", "y": "geometry_y"},
        (-85.9, 42.7, -85.2, 43.4),
    ),
}


def coordinate(axis: str) -> Callable[[dict], float | None]:
    return lambda feature: float(feature["geometry"][axis]) if "geometry" in feature else None


def layer_feed(base: str, columns: dict[str, str]) -> Feed:
    # The inventories that are known have no addresses and parcels; which type it is decides nothing here.
    parts = [{"id": "one", "source": f"{base}/rest/services/x/MapServer/1", "format": "json"}]
    said = {"kind": "asset", "asset_type": "school", "columns": columns, "parts": parts}
    return declared_feed(portal="arcgis", **said)


@pytest.mark.parametrize("name", [name for name in LAYERS if "kent" not in name])
def test_recorded_layers_of_old_servers_land_with_their_points(name: str, lake: Lake, fixtures: Path):
    meta, columns, box = LAYERS[name]
    page = recorded(fixtures / "arcgis" / name)
    with serve(ArcGIS(recorded(fixtures / "arcgis" / meta), page)) as base:
        feed = layer_feed(base, columns)
        city = place("America/Chicago", "EPSG:26915", box, feed)
        delivery = land(lake, city, feed, at("2026-01-01T00:00:00"))
    features = page["features"]
    assert (delivery.outcome, delivery.rows_in_file, delivery.rows_raw) == (
        "landed",
        len(features),
        len(features),
    )
    rows = rows_of(lake, "raw")
    assert_values(
        rows,
        features,
        {
            "source_id": lambda feature: str(feature["attributes"][columns["source_id"]]),
            "name": lambda feature: feature["attributes"][columns["name"]],
            "x": coordinate("x"),
            "y": coordinate("y"),
        },
    )
    points = [feature["geometry"] for feature in features if "geometry" in feature]
    assert told_qualities(rows) == Counter(ok=len(points)) + Counter(missing=len(features) - len(points))
    # Carson's first id stands on two addresses, so the address is its key; one of them has no point.
    assert len(features) - len(points) == ("carson" in name)


def test_recorded_parcels_land_without_a_place_once_none_is_mapped(lake: Lake, fixtures: Path):
    name = "us-mi-kent_us-mi-kent-0.json"
    meta, columns, box = LAYERS[name]
    page = recorded(fixtures / "arcgis" / name)
    with serve(ArcGIS(recorded(fixtures / "arcgis" / meta), page)) as base:
        nowhere = {"x": {"sql": "cast(null as varchar)"}, "y": {"sql": "cast(null as varchar)"}}
        feed = layer_feed(base, {**columns, **nowhere})
        city = place("America/Detroit", "EPSG:26916", box, feed)
        delivery = land(lake, city, feed, at("2026-01-01T00:00:00"))
    assert (delivery.outcome, delivery.rows_raw) == ("landed", len(page["features"]))
    rows = rows_of(lake, "raw")
    keys = [feature["attributes"]["PNUM"] for feature in page["features"]]
    assert sorted(row["source_id"] for row in rows) == sorted(keys)
    assert told_qualities(rows) == {"missing": len(keys)}
    # Owners stand in the answer; only what is mapped lands.
    assert not any("OWNER" in column.upper() for column in rows[0])


def test_a_layer_that_lists_more_ids_than_it_gives_does_not_land(lake: Lake, fixtures: Path):
    """Carson's list of a hundred ids was recorded apart from its six features."""
    folder, prefix = fixtures / "arcgis", "us-ca-carson_us-ca-carson"
    meta, columns, box = LAYERS[f"{prefix}-0.json"]
    ids = recorded(folder / f"{prefix}-ids-only.json")["objectIds"]
    page = recorded(folder / f"{prefix}-0.json")
    with serve(ArcGIS(recorded(folder / meta), page, ids)) as base:
        feed = layer_feed(base, columns)
        delivery = land(
            lake, place("America/Los_Angeles", "EPSG:26911", box, feed), feed, at("2026-01-01T00:00:00")
        )
    assert (delivery.outcome, delivery.error_type) == ("failed", "BrokenAnswer")
    assert rows_of(lake, "raw") == []


def test_recorded_xml_lands_as_the_standard_library_reads_it(lake: Lake, fixtures: Path):
    body = (fixtures / "open311/ruby_gem_service_requests.xml").read_bytes()
    requests = ElementTree.fromstring(body)
    records = [{child.tag: (child.text or "").strip() or None for child in request} for request in requests]
    with serve(lambda asked: Told(body, headers=(("Content-Type", "text/xml"),))) as base:
        feed = declared_feed(
            portal="open311",
            parts=[{"id": "one", "source": f"{base}/open311/v2", "format": "xml"}],
            columns={
                "source_id": "service_request_id",
                "requested_at": "requested_datetime",
                "due_at": "expected_datetime",
                "category": "service_name",
                "agency": "agency_responsible",
                "x": "long",
                "y": "lat",
            },
        )
        city = place("America/Los_Angeles", "EPSG:26910", CITIES["san_francisco"].bbox, feed)
        delivery = land(lake, city, feed, at("2010-05-01T00:00:00"))
    # Every window of the ninety days showed the same two; what came again is the same row once more.
    assert (delivery.outcome, delivery.rows_known) == ("landed", 2)
    assert delivery.rows_in_file == delivery.rows_raw > 2
    rows = list({(row["source_id"], row["content_hash"]): row for row in rows_of(lake, "raw")}.values())
    assert_values(
        rows,
        records,
        {
            "source_id": text("service_request_id"),
            "requested_at": text("requested_datetime"),
            "due_at": text("expected_datetime"),
            "category": text("service_name"),
            "agency": text("agency_responsible"),
            "x": number("long"),
            "y": number("lat"),
        },
    )
    assert told_qualities(rows) == {"ok": 2}


ARIZONA = (-115.0, 31.0, -109.0, 37.3)
SNAPSHOTS = ("aps", "dixie", "ed3", "garkane", "mohave", "navopache", "srp", "ssvec", "tep", "trico", "ues")


@pytest.mark.parametrize("utility", SNAPSHOTS)
def test_every_recorded_outage_map_lands_and_its_silence_ends_all(utility: str, lake: Lake, fixtures: Path):
    [file] = (fixtures / "outages").glob(f"az_{utility}_*.json")
    records = recorded(file)["outages"]
    named = next((name for name in ("incident_id", "pole_number") if name in records[0]), None)
    # `event` is no id: it says whether an outage was planned.
    spot = 'concat_ws(\'|\', "latitude", "longitude", "start_time")'
    answers = [Told(file.read_bytes()), told_json({"outages": []})]

    def answer(asked: Asked) -> Told:
        return answers[0]

    with serve(answer) as base:
        feed = declared_feed(
            kind="utility",
            portal="outages",
            request={"records": "/outages"},
            parts=[{"id": "one", "source": f"{base}/{utility}.json", "format": "json"}],
            times="local",
            columns={
                "source_id": named or {"sql": spot},
                # Arizona has no summer time; it writes its zone as a word.
                "started_at": {"sql": "replace(\"start_time\", ' MST', '')"},
                "estimated_restoration_at": {"sql": "replace(\"etr\", ' MST', '')"},
                "category": "cause",
                "customers_affected": "customers",
                "x": "longitude",
                "y": "latitude",
            },
        )
        city = place("America/Phoenix", "EPSG:26912", ARIZONA, feed)
        landed = land(lake, city, feed, at("2026-09-01T00:00:00"))
        answers.pop(0)
        ended = land(lake, city, feed, at("2026-09-01T01:00:00"))
    assert (landed.outcome, landed.rows_in_file, landed.rows_raw) == ("landed", len(records), len(records))
    rows = rows_of(lake, "raw")

    def key(record: dict) -> str:
        if named:
            return str(record[named])
        return f"{record['latitude']}|{record['longitude']}|{record['start_time']}"

    assert_values(
        rows,
        records,
        {
            "source_id": key,
            "started_at": lambda record: record["start_time"].removesuffix(" MST"),
            "estimated_restoration_at": lambda record: record["etr"] and record["etr"].removesuffix(" MST"),
            "category": text("cause"),
            "customers_affected": lambda record: str(record["customers"]),
            "x": number("longitude"),
            "y": number("latitude"),
        },
    )
    assert told_qualities(rows) == qualities(records, "longitude", "latitude", city)
    keys = {key(record) for record in records}
    assert (ended.outcome, ended.rows_missing, ended.rows_known) == ("landed", len(keys), 0)
    assert {(row["source_id"], row["reason"]) for row in rows_of(lake, "absences")} == {
        (each, "ended") for each in keys
    }
