"""Recorded answers of real portals go through the connectors: every record is counted and can be found."""

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs

import duckdb
import httpx2
import pytest

from assets.ingest.portals.arcgis import ArcGIS
from assets.ingest.portals.open311 import Open311
from assets.ingest.portals.outages import Outages
from assets.ingest.portals.page import Ask, Cursor, Page
from assets.ingest.portals.wire import Wire
from tests.declared_feed import declared_feed

pytestmark = pytest.mark.real

UNTIL = datetime.fromisoformat("2026-11-01")


def connector(make: Callable, portal: str, source: str, answer: Callable, form: str = "json", **request):
    def streamed(asked: httpx2.Request) -> httpx2.Response:
        response = answer(asked)
        stream = httpx2.ByteStream(response.content)
        return httpx2.Response(response.status_code, headers=response.headers, stream=stream)

    wire = Wire(transport=httpx2.MockTransport(streamed), first_wait_seconds=0.01, attempts=2)
    parts = [{"id": "one", "source": source, "format": form}]
    feed = declared_feed(portal=portal, parts=parts, request=request)
    return make(feed, feed.parts[0], wire)


def records(page: Page) -> list[dict]:
    """What DuckDB finds at the path of a page."""
    with duckdb.connect() as con:
        sql = "select unnest(json_extract($1, $2))"
        found = con.execute(sql, [page.body.decode(), page.records]).fetchall()
    return [json.loads(record) for (record,) in found]


#: Where each utility keeps its list, how many outages it held, and where it says how many are affected.
#: All but one are nested (`boundary` of tep and ues is an object); pge's `geometry_x` is Web Mercator.
OUTAGES = {
    "az_aps_2026-08-10_03-07.json": ("/outages", 42, "customers"),
    "az_dixie_2026-07-30_20-07.json": ("/outages", 2, "customers"),
    "az_ed3_2026-08-20_08-07.json": ("/outages", 12, "customers"),
    "az_garkane_2026-08-14_10-07.json": ("/outages", 2, "customers"),
    "az_mohave_2026-07-28_19-07.json": ("/outages", 4, "customers"),
    "az_navopache_2026-07-29_23-07.json": ("/outages", 6, "customers"),
    "az_srp_2026-08-10_00-07.json": ("/outages", 35, "customers"),
    "az_ssvec_2026-08-06_04-07.json": ("/outages", 8, "customers"),
    "az_tep_2026-07-12_12-18.json": ("/outages", 39, "customers"),
    "az_trico_2026-08-06_08-07.json": ("/outages", 12, "customers"),
    "az_ues_2026-08-04_07-07.json": ("/outages", 5, "customers"),
    "pge_outages_snapshot.json.gz": ("", 4, "EST_CUSTOMERS"),
}


@pytest.mark.parametrize("name", OUTAGES)
def test_a_recorded_outage_map_gives_its_outages(name: str, real_data: Path):
    pointer, rows, affected = OUTAGES[name]
    file = real_data / "api_fixtures" / "outages" / name
    sources = {
        str(file): None,
        "https://utility.example/now": httpx2.Response(200, content=file.read_bytes()),
    }
    for source, answer in sources.items():
        part = connector(Outages, "outages", source, lambda asked, answer=answer: answer, records=pointer)
        [page] = part.pages(Ask("snapshot", UNTIL))
        assert page.rows == rows
        assert len([record for record in records(page) if affected in record]) == rows


@pytest.mark.parametrize("base", [0, 1])
@pytest.mark.parametrize(
    "name", ["other--cx", "responses--2000-2700--bb", "responses--abandoned-vehicle--ak", "sidewalk"]
)
def test_recorded_requests_of_boston_come_page_by_page(name: str, base: int, real_data: Path):
    [file] = (real_data / "api_fixtures" / "open311").glob(f"boston_*{name}*.json.gz")
    requests = json.loads(gzip.decompress(file.read_bytes()))

    times = [each.get("requested_datetime") for each in requests]
    moments = [at and datetime.fromisoformat(at).astimezone(UTC).replace(tzinfo=None) for at in times]

    def answer(asked: httpx2.Request) -> httpx2.Response:
        start, end = (datetime.fromisoformat(asked.url.params[n][:-1]) for n in ("start_date", "end_date"))
        # One record in 141,041 has no time at all: it may come in any range.
        pairs = zip(requests, moments, strict=True)
        rows = [each for each, at in pairs if at is None or start <= at <= end][:1000]
        # Boston's pages hold fifty; the last one is repeated, as Bloomington does.
        number = min(max(0, int(asked.url.params.get("page", base)) - base), max(0, len(rows) - 1) // 50)
        return httpx2.Response(200, json=rows[number * 50 :][:50])

    source = "https://311.boston.example/open311/v2"
    part = connector(Open311, "open311", source, answer, window_days=90, page_rows=500)
    known = [at for at in moments if at]
    since = Cursor(f"{min(known) - timedelta(minutes=10):%Y-%m-%dT%H:%M:%SZ}")
    pages = list(part.pages(Ask("tail", max(known) + timedelta(minutes=10), since)))
    came = [record for page in pages for record in records(page)]
    assert {json.dumps(each, sort_keys=True) for each in came} == {
        json.dumps(each, sort_keys=True) for each in requests
    }
    assert sum(page.rows for page in pages) == len(came)


def test_a_recorded_xml_gives_its_requests(real_data: Path):
    folder = real_data / "api_fixtures" / "open311"
    for name, rows in (("ruby_gem_service_requests.xml", 2), ("ruby_gem_get_service_request.xml", 1)):
        body = (folder / name).read_bytes()
        answer = lambda asked, body=body: httpx2.Response(200, content=body)  # noqa: E731
        part = connector(Open311, "open311", "https://311.sf.example/v2", answer, "xml", window_days=90)
        pages = list(part.pages(Ask("tail", UNTIL)))
        assert [(page.rows, page.records, page.body) for page in pages] == [(rows, "request", body)]


class Recorded:
    """A layer of which the description and some features were recorded; its ids are those of the features."""

    def __init__(self, folder: Path, meta: str, features: str) -> None:
        self.meta = (folder / meta).read_bytes()
        self.features = (folder / features).read_bytes()
        said = json.loads(self.features)["features"]
        self.ids = [feature["attributes"]["OBJECTID"] for feature in said]

    def __call__(self, asked: httpx2.Request) -> httpx2.Response:
        said = parse_qs(asked.content.decode() or asked.url.query.decode())
        if not asked.url.path.endswith("/query"):
            return httpx2.Response(200, content=self.meta)
        if "returnCountOnly" in said:
            return httpx2.Response(200, json={"count": len(self.ids)})
        if "returnIdsOnly" in said:
            return httpx2.Response(200, json={"objectIdFieldName": "OBJECTID", "objectIds": self.ids})
        return httpx2.Response(200, content=self.features)


@pytest.mark.parametrize(
    ("meta", "features", "rows", "columns"),
    [
        ("us-ca-carson_us-ca-carson-metadata.json", "us-ca-carson_us-ca-carson-0.json", 6, 18),
        ("us-il-cook_metadata.json", "us-il-cook_page-partial.json", 2, 0),
        ("us-mi-kent_us-mi-kent-metadata.json", "us-mi-kent_us-mi-kent-0.json", 15, 14),
        ("us-mo-columbia_us-mo-columbia-metadata.json", "us-mo-columbia_us-mo-columbia-0.json", 43, 26),
    ],
)
def test_recorded_layers_of_old_servers_are_read_by_ids(meta, features, rows, columns, real_data: Path):
    layer = Recorded(real_data / "api_fixtures" / "arcgis", meta, features)
    source = "https://gis.example/rest/services/x/MapServer/1"
    part = connector(ArcGIS, "arcgis", source, layer)
    assert "rows by lists of object ids" in part.describe().notes
    [page] = part.pages(Ask("full", UNTIL))
    assert (page.rows, page.next, page.body) == (rows, None, layer.features)
    assert len(records(page)) == rows
    # Cook's answer tells no fields; points give two columns more.
    assert len([name for name in page.columns if not name.startswith("geometry_")]) == columns


@pytest.mark.parametrize("place", ["us-ca-carson", "us-mo-columbia"])
def test_recorded_lists_of_ids_are_read(place: str, real_data: Path):
    folder = real_data / "api_fixtures" / "arcgis"
    listed = (folder / f"{place}_{place}-ids-only.json").read_bytes()
    # Columbia writes whole numbers as 6.4579816E7.
    ids = [int(each) for each in json.loads(listed)["objectIds"]]
    asked_for: list[int] = []

    def answer(asked: httpx2.Request) -> httpx2.Response:
        said = parse_qs(asked.content.decode() or asked.url.query.decode())
        if not asked.url.path.endswith("/query"):
            return httpx2.Response(200, content=(folder / f"{place}_{place}-metadata.json").read_bytes())
        if "returnIdsOnly" in said:
            return httpx2.Response(200, content=listed)
        asked_for.extend(map(int, said["objectIds"][0].split(",")))
        features = [{"attributes": {"OBJECTID": int(each)}} for each in said["objectIds"][0].split(",")]
        return httpx2.Response(200, json={"features": features})

    source = "https://gis.example/rest/services/x/MapServer/1"
    part = connector(ArcGIS, "arcgis", source, answer, page_rows=30)
    pages = list(part.pages(Ask("full", UNTIL)))
    assert sum(page.rows for page in pages) == len(ids)
    assert asked_for == sorted(ids)


def test_recorded_layers_of_new_servers_are_described(real_data: Path):
    folder = real_data / "api_fixtures" / "arcgis"
    for name, columns in (
        ("us-il-chicago_metadata.json", 20),
        ("us-esri-test_us-esri-test-metadata.json", 6),
    ):
        body = (folder / name).read_bytes()

        def answer(asked: httpx2.Request, body: bytes = body) -> httpx2.Response:
            is_query = asked.url.path.endswith("/query")
            return httpx2.Response(200, json={"count": 7}) if is_query else httpx2.Response(200, content=body)

        source = "https://gis.example/rest/services/x/FeatureServer/0"
        said = connector(ArcGIS, "arcgis", source, answer).describe()
        known = [name for name in said.columns if not name.startswith("geometry_")]
        assert (said.rows, len(known)) == (7, columns)
