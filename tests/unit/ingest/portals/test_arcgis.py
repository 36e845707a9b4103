import json
import re
from datetime import date, datetime
from itertools import islice
from urllib.parse import parse_qs

import httpx2
import pytest

from assets.ingest.portals import arcgis
from assets.ingest.portals.arcgis import ArcGIS
from assets.ingest.portals.page import Ask, Cursor
from assets.ingest.portals.wire import Wire
from assets.ingest.receipts import DeliveryError
from tests.declared_feed import declared_feed

LAYER = "https://gis.example:8443/proxy/rest/services/calls/FeatureServer/0"
UNTIL = datetime.fromisoformat("2026-11-01")
EDIT_OF_ROW_1 = 1_767_225_600_000  # 2026-01-01T00:00:00Z; each row is edited a minute after the one before


class Layer:
    """A layer as servers have it, with what may be wrong with one."""

    def __init__(self, rows=25, **meta):
        self.rows = {3 * number: f"case {number}" for number in range(1, rows + 1)}
        self.meta = {
            "currentVersion": 11.3,
            "name": "Calls",
            "type": "Feature Layer",
            "geometryType": "esriGeometryPoint",
            "objectIdField": "OBJECTID",
            "maxRecordCount": 10,
            "advancedQueryCapabilities": {"supportsPagination": True, "supportsOrderBy": True},
            "editingInfo": {"lastEditDate": 1_767_225_600_000, "dataLastEditDate": 1_767_225_661_000},
            "fields": [
                {"name": "OBJECTID", "type": "esriFieldTypeOID"},
                {"name": "CASE_ID", "type": "esriFieldTypeString"},
                {"name": "EDITED", "type": "esriFieldTypeDate"},
                {"name": "DAY", "type": "esriFieldTypeString"},
                {"name": "Shape", "type": "esriFieldTypeGeometry"},
            ],
            **meta,
        }
        self.has_flag = True
        self.has_order = True
        self.pages = []  # what to do to the next pages: a share to keep, or an answer instead
        self.asked = []
        self.times = []

    def __call__(self, request):
        said = parse_qs(request.content.decode()) or parse_qs(request.url.query.decode())
        asked = {name: values[0] for name, values in said.items()}
        asked["method"], asked["path"] = request.method, request.url.path
        self.asked.append(asked)
        if not request.url.path.endswith("/query"):
            return httpx2.Response(200, json=self.meta)
        return self.query(asked)

    def query(self, asked):
        ids = sorted(self.rows)
        if "objectIds" in asked:
            ids = sorted(set(ids) & {int(each) for each in asked["objectIds"].split(",")})
        for _, last in re.findall(r"OBJECTID (>) (\d+)", asked.get("where", "")):
            ids = [each for each in ids if each > int(last)]
        if "1=0" in asked.get("where", ""):
            ids = []
        self.times += re.findall(r"(\w+ [<>]=? TIMESTAMP '[^']*')", asked.get("where", ""))
        if asked.get("returnCountOnly"):
            return httpx2.Response(200, json={"count": len(ids)})
        if asked.get("returnIdsOnly"):
            # As floats, as a server of 10.0 has written them.
            text = ",".join(f"{each:.1E}" if each % 10 == 0 else str(each) for each in ids)
            return httpx2.Response(200, text=f'{{"objectIdFieldName":"OBJECTID","objectIds":[{text}]}}')
        most = min(self.meta.get("maxRecordCount", 10), int(asked.get("resultRecordCount", 10**9)))
        if not self.has_order:
            ids = ids[::-1]
        shown = ids[:most]
        if self.pages:
            fault = self.pages.pop(0)
            if isinstance(fault, httpx2.Response):
                return fault
            shown = shown[: int(len(shown) * fault)]
        return httpx2.Response(200, json=self.features(shown, len(shown) < len(ids), asked))

    def features(self, ids, is_more, asked):
        values = "properties" if asked["f"] == "geojson" else "attributes"
        features = [
            {
                values: {
                    "OBJECTID": each,
                    "CASE_ID": self.rows[each],
                    "EDITED": EDIT_OF_ROW_1 + 60_000 * (each // 3 - 1),
                }
            }
            for each in ids
        ]
        said = {"features": features}
        if ids and asked["f"] == "json":
            said["fields"] = self.meta["fields"]
        if is_more and self.has_flag:
            flag = {"exceededTransferLimit": True}
            said |= {"properties": flag} if asked["f"] == "geojson" else flag
        return said


def streamed(response):
    """Return a response that counts its bytes as they are read, like one that comes over a wire."""
    stream = httpx2.ByteStream(response.content)
    return httpx2.Response(response.status_code, headers=response.headers, stream=stream)


def connector(layer, *, token=None, attempts=3, form="json", source=LAYER, **said):
    transport = httpx2.MockTransport(lambda request: streamed(layer(request)))
    wire = Wire(transport=transport, first_wait_seconds=0.01, attempts=attempts, token=token)
    feed = declared_feed(portal="arcgis", parts=[{"id": "one", "source": source, "format": form}], **said)
    return ArcGIS(feed, feed.parts[0], wire)


def ask(mode="full", **said):
    return Ask(mode, UNTIL, **said)


def values(pages, form="attributes"):
    """What came, row by row; the pages' own counts are checked on the way."""
    rows = []
    for page in pages:
        features = json.loads(page.body)["features"]
        assert page.rows == len(features)
        assert page.records == "$.features[*]"
        rows += [feature[form]["CASE_ID"] for feature in features]
    return rows


def all_of(layer):
    return [layer.rows[each] for each in sorted(layer.rows)]


@pytest.mark.parametrize("page_rows", [1, 7, 10, 24, 25, 26])
def test_each_row_comes_once_in_any_page_size(page_rows):
    layer = Layer()
    pages = list(connector(layer, request={"page_rows": page_rows}).pages(ask()))
    assert values(pages) == all_of(layer)
    assert pages[-1].next is None
    assert len({page.next for page in pages}) == len(pages)
    assert all(asked["outSR"] == "4326" for asked in layer.asked if "outFields" in asked)


def test_short_and_empty_pages_with_the_flag_are_not_the_end():
    layer = Layer()
    layer.pages = [0.5, 1, 0, 0.2]
    assert sorted(values(connector(layer).pages(ask()))) == sorted(all_of(layer))


def test_a_short_page_without_the_flag_is_not_the_end_either():
    layer = Layer()
    layer.has_flag = False
    layer.pages = [0.5, 0.9]
    assert values(connector(layer).pages(ask())) == all_of(layer)


@pytest.mark.parametrize(
    "meta",
    [
        {"currentVersion": 10.3, "maxRecordCount": 10},
        {"advancedQueryCapabilities": {"supportsPagination": False}},
        {"currentVersion": None},
        {"objectIdField": None, "fields": [{"name": "CASE_ID", "type": "esriFieldTypeString"}]},
    ],
)
def test_servers_whose_pages_cannot_be_trusted_are_asked_by_ids(meta):
    layer = Layer(**meta)
    layer.has_flag = False
    pages = list(connector(layer, request={"page_rows": 20}).pages(ask()))
    assert sorted(values(pages)) == sorted(all_of(layer))
    assert pages[-1].next is None
    assert [asked["method"] for asked in layer.asked if "outFields" in asked and "objectIds" in asked]
    assert not [asked for asked in layer.asked if "resultRecordCount" in asked]


def test_a_server_that_clamps_chunks_without_a_word_still_gives_all():
    layer = Layer(currentVersion=10.0)
    layer.has_flag = False
    layer.meta["maxRecordCount"] = 7
    part = connector(layer)
    part.describe()
    layer.meta["maxRecordCount"] = 3
    assert sorted(values(part.pages(ask()))) == sorted(all_of(layer))


def test_rows_deleted_after_the_ids_were_listed_are_no_failure():
    layer = Layer(currentVersion=10.0)
    part = connector(layer)
    rows = part.pages(ask())
    first = next(rows)
    for each in list(layer.rows)[-8:]:
        del layer.rows[each]
    assert values([first, *rows]) == all_of(layer)


def test_objects_that_are_counted_and_never_given_are_an_error():
    layer = Layer(rows=4, currentVersion=10.0)
    layer.pages = [0] * 20
    with pytest.raises(DeliveryError, match="counts the object") as raised:
        list(connector(layer).pages(ask()))
    assert raised.value.error_type == "BrokenAnswer"


def test_a_server_that_ignores_the_order_is_asked_by_ids():
    layer = Layer()
    layer.has_order = False
    assert sorted(values(connector(layer).pages(ask()))) == sorted(all_of(layer))


def test_without_the_look_at_the_order_rows_would_be_lost(monkeypatch):
    monkeypatch.setattr(arcgis._Features, "is_ordered_after", lambda self, last: True)
    layer = Layer()
    layer.has_order = False
    # From the last id of a page downwards there is nothing, upwards there is what came already.
    came = {row for page in islice(connector(layer).pages(ask()), 10) for row in values([page])}
    assert came != set(all_of(layer))


def test_a_walk_goes_on_where_it_was_killed():
    for meta in ({}, {"currentVersion": 10.0}):
        layer = Layer(**meta)
        pages = connector(layer).pages(ask())
        before = [next(pages)]
        after = list(connector(layer).pages(ask(resume=before[0].next)))
        assert values(before + after) == all_of(layer)


def test_geojson_is_asked_where_the_part_is_geojson():
    layer = Layer(geometryType="esriGeometryPolygon")
    pages = list(connector(layer, form="geojson").pages(ask()))
    assert values(pages, "properties") == all_of(layer)
    assert {page.content for page in pages} == {"geojson"}
    # The flag lies one level down there.
    assert layer.asked[-1]["f"] == "geojson"


def test_a_layer_is_described():
    layer = Layer()
    said = connector(layer).describe()
    assert said.columns == {
        "OBJECTID": "esriFieldTypeOID",
        "CASE_ID": "esriFieldTypeString",
        "EDITED": "esriFieldTypeDate",
        "DAY": "esriFieldTypeString",
        "geometry_x": "esriGeometryPoint",
        "geometry_y": "esriGeometryPoint",
    }
    assert (said.rows, said.changed_at) == (25, datetime.fromisoformat("2026-01-01T00:01:01"))


def test_an_empty_layer_gives_one_page_without_rows_or_columns():
    for meta in ({}, {"currentVersion": 10.0}):
        [page] = connector(Layer(rows=0, **meta)).pages(ask())
        assert (page.rows, page.columns, page.next) == (0, (), None)


def error(code, message="no"):
    return httpx2.Response(200, json={"error": {"code": code, "message": message, "details": ["why"]}})


@pytest.mark.parametrize(
    ("answer", "error_type"),
    [
        (error(400, "Cannot perform query"), "Http400"),
        (error(400, "Invalid URL"), "DatasetGone"),
        (error(404), "DatasetGone"),
        (error(498), "Unauthorised"),
        (error(499), "Unauthorised"),
        (error(403), "Unauthorised"),
        (httpx2.Response(403), "Unauthorised"),
        (httpx2.Response(404), "DatasetGone"),
    ],
)
def test_errors_that_stay_are_told_at_once(answer, error_type):
    layer = Layer()
    layer.pages = [answer]
    with pytest.raises(DeliveryError) as raised:
        list(connector(layer).pages(ask()))
    assert raised.value.error_type == error_type
    assert len([asked for asked in layer.asked if "outFields" in asked]) == 1


@pytest.mark.parametrize(
    "answer",
    [
        error(500),
        error(503),
        error(504),
        httpx2.Response(502),
        httpx2.Response(429, headers={"Retry-After": "0"}),
        httpx2.Response(200, text="<html>back soon</html>"),
        httpx2.Response(200, text='{"features": [{"attributes": {'),
        httpx2.Response(200, json={}),
        httpx2.Response(200, text=""),
    ],
)
def test_errors_that_pass_are_waited_for_and_never_an_empty_page(answer):
    layer = Layer()
    layer.pages = [1, answer, answer]
    assert values(connector(layer).pages(ask())) == all_of(layer)
    layer.pages = [1, answer, answer, answer]
    pages = connector(layer).pages(ask())
    next(pages)
    with pytest.raises(DeliveryError) as raised:
        next(pages)
    assert raised.value.error_type == "SourceUnreachable"


def test_a_token_goes_into_the_form_and_nowhere_else():
    layer = Layer()
    layer.pages = [error(498, "Invalid token")]
    with pytest.raises(DeliveryError) as raised:
        list(connector(layer, token="s3cret").pages(ask()))
    assert {(asked["method"], asked["token"]) for asked in layer.asked} == {("POST", "s3cret")}
    assert "s3cret" not in str(raised.value)


def test_what_changed_is_asked_on_the_layers_own_clock():
    since = Cursor("2026-07-01T12:00:00.250Z")
    for reference, said in (
        (None, "2026-07-01 12:00:00"),
        # One hour before, for the hour that comes twice in autumn.
        ({"timeZone": "Eastern Standard Time", "respectsDaylightSaving": True}, "2026-07-01 07:00:00"),
        ({"timeZone": "Eastern Standard Time", "respectsDaylightSaving": False}, "2026-07-01 06:00:00"),
        ({"timeZoneIANA": "America/Chicago"}, "2026-07-01 06:00:00"),
        ({"timeZone": "Narnia Standard Time"}, "2026-06-30 12:00:00"),
    ):
        layer = Layer(dateFieldsTimeReference=reference)
        part = connector(layer, sync={"mode": "incremental", "cursor": "edited"})
        part.count(ask("incremental", since=since))
        assert layer.times == [f"EDITED > TIMESTAMP '{said}'"]


def test_the_cursor_is_the_newest_edit_that_is_no_poison():
    layer = Layer()
    layer.rows[3 * 60 * 24 * 400] = "edited in a year that is yet to come"
    pages = list(connector(layer, sync={"cursor": "EDITED"}).pages(ask()))
    assert [page.cursor.at for page in pages][-2:] == ["2026-01-01T00:24:00.000Z"] * 2


def test_a_text_date_is_no_cursor():
    with pytest.raises(DeliveryError) as raised:
        list(connector(Layer(), sync={"cursor": "DAY"}).pages(ask()))
    assert raised.value.error_type == "WrongCursor"
    with pytest.raises(DeliveryError, match="'GONE'") as raised:
        list(connector(Layer(), sync={"cursor": "GONE"}).pages(ask()))
    assert raised.value.error_type == "ColumnsGone"


def test_days_are_asked_with_a_day_more_on_both_sides():
    layer = Layer()
    part = connector(layer, sync={"created": "EDITED"})
    part.count(ask(days=(date(2026, 3, 2), date(2026, 3, 4))))
    assert layer.times == [
        "EDITED >= TIMESTAMP '2026-03-01 00:00:00'",
        "EDITED < TIMESTAMP '2026-03-06 00:00:00'",
    ]


def test_ids_come_without_the_rest():
    layer = Layer()
    pages = list(connector(layer, request={"where": "TYPE = 'A'"}).ids(("case_id",), None, None))
    assert values(pages) == all_of(layer)
    said = layer.asked[-1]
    assert (said["outFields"], said["returnGeometry"]) == ("OBJECTID,CASE_ID", "false")
    assert said["where"].startswith("(TYPE = 'A')")
    shapes = connector(Layer(), form="geojson").ids(("CASE_ID",), None, None)
    # Without a geometry there is none to read.
    assert {page.content for page in shapes} == {"json"}


@pytest.mark.parametrize(
    ("source", "url"),
    [
        (LAYER, LAYER),
        (f"{LAYER}/query?where=1%3D1&token=abc", LAYER),
        ("http://127.0.0.1:8311/arcgis/calls/MapServer/8", "http://127.0.0.1:8311/arcgis/calls/MapServer/8"),
    ],
)
def test_what_people_paste_is_understood(source, url):
    assert connector(Layer(), source=source)._url == url


@pytest.mark.parametrize(
    "source",
    ["https://gis.example/rest/services/calls/FeatureServer", "calls.json", "http://[::1/MapServer/0"],
)
def test_what_is_no_layer_is_refused(source):
    with pytest.raises(DeliveryError) as raised:
        connector(Layer(), source=source)
    assert raised.value.error_type == "WrongSource"
