"""ArcGIS FeatureServer and MapServer as they answer: one layer per data set, errors inside a 200.

`/{id}/FeatureServer/0` and `/{id}/MapServer/0`, `?f=json` and `/query`. Traits of a data set:
`max_record_count`, `version` (below 10.3 there is no paging), `filter_time_zone` (the clock in which the
server reads `TIMESTAMP '…'`, by default UTC), `has_edit_dates`.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import duckdb

from assets.simulate.serving.arcgis_where import WhereError, read_where
from assets.simulate.serving.exchange import Request, Response
from assets.simulate.serving.store import Dataset, Store, quoted

OBJECT_ID = "OBJECTID"
CREATED, EDITED = "created_date", "last_edited_date"
MOST_ROWS = 2000
#: Flag and paging came step by step: 10.1 the flag, 10.3 paging, 10.3.1 the flag on paged answers.
_VERSION = 11.3
_FIRST_WITH_PAGING = 10.3
# IIS in front of the server cuts longer questions off before they reach it.
_LONGEST_QUERY = 2048
_PATH = re.compile(r"^/(?P<id>[^/]+)/(?P<server>FeatureServer|MapServer)/0(?P<query>/query)?/?$")
_FIELD_TYPES = {
    "text": "esriFieldTypeString",
    "json": "esriFieldTypeString",
    "flag": "esriFieldTypeSmallInteger",
    "floating_timestamp": "esriFieldTypeDate",
    "fixed_timestamp": "esriFieldTypeDate",
}
_MERCATOR_M = 20037508.342789244


class _RefusalError(Exception):
    """What the server refuses, with ArcGIS' own code."""

    def __init__(self, message: str, *details: str, code: int = 400) -> None:
        super().__init__(message)
        self.code, self.details = code, details


@dataclass(frozen=True)
class _Layer:
    """One data set as a layer: its fields and what its server can do."""

    dataset: Dataset
    is_map_server: bool
    version: float
    has_flag: bool

    @property
    def has_paging(self) -> bool:
        return self.version >= _FIRST_WITH_PAGING

    @property
    def most_rows(self) -> int:
        return int(self.dataset.traits.get("max_record_count", MOST_ROWS))

    @property
    def point(self) -> str | None:
        """The column that is the geometry."""
        return next((column.name for column in self.dataset.columns if column.type == "point"), None)

    @property
    def has_edit_dates(self) -> bool:
        return bool(self.dataset.traits.get("has_edit_dates", True))

    @property
    def expressions(self) -> dict[str, str]:
        """DuckDB SQL of each field by its name."""
        told = {OBJECT_ID: "_row"}
        told |= {c.name: quoted(c.name) for c in self.dataset.columns if c.type != "point"}
        return told | ({CREATED: "_created_at", EDITED: "_updated_at"} if self.has_edit_dates else {})

    @property
    def fields(self) -> list[dict[str, Any]]:
        told = [{"name": OBJECT_ID, "type": "esriFieldTypeOID", "alias": OBJECT_ID}]
        for column in self.dataset.columns:
            if column.type == "number":
                kind = "Integer" if self.dataset.is_whole(column.name) else "Double"
                told.append(_field(column.name, f"esriFieldType{kind}"))
            elif column.type != "point":
                told.append(_field(column.name, _FIELD_TYPES[column.type]))
        dates = (CREATED, EDITED) if self.has_edit_dates else ()
        return told + [_field(name, "esriFieldTypeDate") for name in dates]


def kind_of(request: Request) -> str:
    """Return what is asked: `meta`, `count`, `ids`, or `page`."""
    found = _PATH.match(request.path)
    if found is None or not found["query"]:
        return "meta"
    if _is_true(request.one("returnCountOnly")):
        return "count"
    return "ids" if _is_true(request.one("returnIdsOnly")) else "page"


def answer(store: Store, request: Request) -> Response:
    """Answer as the server of the layer would; errors, too, come with status 200."""
    if request.method == "GET" and len(urlencode(request.query, doseq=True)) > _LONGEST_QUERY:
        page = b"<html><head><title>404 - File or directory not found.</title></head></html>"
        return Response(404, page, content_type="text/html")
    try:
        return _told(_answered(store, request))
    except _RefusalError as refusal:
        told = {"code": refusal.code, "message": str(refusal), "details": list(refusal.details)}
        return _told({"error": told})


def refuse(status: int, message: str) -> Response:
    """Return an error of the web server in front, in ArcGIS' words."""
    return _told({"error": {"code": status, "message": message, "details": []}}, status)


def _answered(store: Store, request: Request) -> dict[str, Any]:
    kind = kind_of(request)
    fault = store.faults.take("error_in_200", "arcgis", kind)
    if fault is not None:
        raise _RefusalError(
            fault.get("message", "Error performing query operation"), code=fault.get("code", 500)
        )
    found = _PATH.match(request.path)
    if found is None:
        raise _RefusalError("Invalid URL", "Invalid URL")
    dataset = store.find("arcgis", found["id"])
    if dataset is None or dataset.is_retired:
        raise _RefusalError(f"Service {found['id']}/{found['server']} not found", code=404)
    version = float(dataset.traits.get("version", _VERSION))
    old = store.faults.take("no_flag", "arcgis", kind)
    if old is not None:
        version = float(old.get("version", 10.2))
    layer = _Layer(dataset, found["server"] == "MapServer", version, has_flag=old is None)
    if kind == "meta":
        return _description(layer)
    try:
        return _result(store, request, layer, kind)
    except WhereError as error:
        raise _RefusalError("Cannot perform query. Invalid query parameters.", str(error)) from None
    except duckdb.Error:
        # The server's database does not say what it did not like.
        raise _RefusalError("Unable to complete operation.", "Unable to perform query operation.") from None


def _description(layer: _Layer) -> dict[str, Any]:
    dataset = layer.dataset
    told = {
        "currentVersion": layer.version,
        "id": 0,
        "name": dataset.title,
        "type": "Feature Layer" if layer.point else "Table",
        "geometryType": "esriGeometryPoint" if layer.point else None,
        "objectIdField": OBJECT_ID,
        "fields": layer.fields,
        "maxRecordCount": layer.most_rows,
        "supportedQueryFormats": "JSON, geoJSON",
        "capabilities": "Query",
        "advancedQueryCapabilities": {
            "supportsPagination": layer.has_paging,
            "supportsOrderBy": True,
            "supportsStatistics": False,
        },
    }
    if layer.has_edit_dates:
        edited = _epoch_ms(dataset.changed_at)
        told["editFieldsInfo"] = {"creationDateField": CREATED, "editDateField": EDITED}
        told["editingInfo"] = {"lastEditDate": edited, "dataLastEditDate": edited}
    zone = dataset.traits.get("filter_time_zone")
    if zone is not None:
        told["dateFieldsTimeReference"] = {"timeZone": zone, "respectsDaylightSaving": True}
    return told


def _result(store: Store, request: Request, layer: _Layer, kind: str) -> dict[str, Any]:
    where, parameters = _condition(request, layer)
    if request.one("outStatistics") or request.one("groupByFieldsForStatistics"):
        raise _RefusalError(
            "Cannot perform query. Invalid query parameters.", "Statistics are not supported."
        )
    if kind == "count":
        return {"count": layer.dataset.count(where, parameters)}
    order = _order(store, request, layer)
    if kind == "ids":
        rows = layer.dataset.query("_row", where, order, parameters=parameters)
        return {"objectIdFieldName": OBJECT_ID, "objectIds": rows.column("_row").to_pylist()}
    return _features(store, request, layer, (where, parameters, order))


def _condition(request: Request, layer: _Layer) -> tuple[str, list[Any]]:
    said, ids = request.one("where"), request.one("objectIds")
    if not said and not ids:
        raise _RefusalError(
            "Cannot perform query. Invalid query parameters.",
            "'where' clause or 'objectIds' parameter is required",
        )
    where, parameters = "true", []
    if said:
        columns = {name.lower(): sql for name, sql in layer.expressions.items()}
        zone = layer.dataset.traits.get("filter_time_zone")
        where, parameters = read_where(said, columns, ZoneInfo(zone) if zone else None)
    if ids:
        where += " and _row in (select unnest(?::bigint[]))"
        parameters.append([_whole(each, "objectIds") for each in ids.split(",")])
    return where, parameters


def _order(store: Store, request: Request, layer: _Layer) -> str:
    said = request.one("orderByFields")
    if not said:
        # Another order with every question, as parallel scans and moved pages make it.
        return f"hash(_row, {len(store.requests)})"
    columns = {name.lower(): sql for name, sql in layer.expressions.items()}
    terms = []
    for term in said.split(","):
        name, _, direction = term.strip().partition(" ")
        direction = direction.strip().upper() or "ASC"
        if name.lower() not in columns or direction not in ("ASC", "DESC"):
            raise WhereError(f"'Invalid field: {name}' parameter is invalid")
        terms.append(f"{columns[name.lower()]} {direction}")
    if not any(term.startswith("_row ") for term in terms):
        # Ties are broken anew with every question: only a unique field makes the order one.
        terms.append(f"hash(_row, {len(store.requests)})")
    return ", ".join(terms)


def _features(
    store: Store, request: Request, layer: _Layer, asked: tuple[str, list[Any], str]
) -> dict[str, Any]:
    where, parameters, order = asked
    names, with_point = _fields_asked(request, layer), _with_point(request, layer)
    limit, offset = _window(store, request, layer)
    select = [f"{layer.expressions[name]} as {quoted(name)}" for name in names]
    if with_point:
        select.append(f"{quoted(layer.point)} as _point")
    if store.faults.take("empty_page", "arcgis", "page") is not None:
        rows, is_more = [], True
    else:
        table = layer.dataset.query(", ".join(select), where, order, limit + 1, offset, parameters)
        rows, is_more = table.slice(0, limit).to_pylist(), table.num_rows > limit
        short = store.faults.take("short_page", "arcgis", "page")
        if short is not None and len(rows) > 1:
            kept = max(1, int(len(rows) * short.get("share", 0.5)))
            is_more = is_more or kept < len(rows)
            rows = rows[:kept]
    is_more = is_more and layer.has_flag
    if request.one("f").lower() == "geojson":
        return _feature_collection(rows, layer, is_more=is_more)
    return _feature_set(rows, names, request, layer, with_point=with_point, is_more=is_more)


def _fields_asked(request: Request, layer: _Layer) -> list[str]:
    said = request.one("outFields") or OBJECT_ID
    if said.strip() == "*":
        return list(layer.expressions)
    of_lower = {name.lower(): name for name in layer.expressions}
    asked = [name.strip() for name in said.split(",")]
    unknown = [name for name in asked if name.lower() not in of_lower]
    if unknown:
        raise _RefusalError(
            "Cannot perform query. Invalid query parameters.",
            f"'Invalid field: {unknown[0]}' parameter is invalid",
        )
    return list(dict.fromkeys(of_lower[name.lower()] for name in asked))


def _with_point(request: Request, layer: _Layer) -> bool:
    return layer.point is not None and request.one("returnGeometry", "true").lower() != "false"


def _window(store: Store, request: Request, layer: _Layer) -> tuple[int, int]:
    """Return how many rows go out, and how many are passed over."""
    most = layer.most_rows
    clamp = store.faults.take("clamp", "arcgis", "page")
    if clamp is not None:
        most = min(most, int(clamp["rows"]))
    if not layer.has_paging:
        # Such a server does not know the parameters and does not say so: every page is the first.
        return most, 0
    asked, offset = request.one("resultRecordCount"), request.one("resultOffset")
    limit = _whole(asked, "resultRecordCount") if asked else most
    return min(limit, most), _whole(offset, "resultOffset") if offset else 0


def _feature_set(
    rows: Sequence[dict[str, Any]],
    names: list[str],
    request: Request,
    layer: _Layer,
    *,
    with_point: bool,
    is_more: bool,
) -> dict[str, Any]:
    told: dict[str, Any] = {"objectIdFieldName": OBJECT_ID}
    if layer.point:
        wkid = _wkid(request.one("outSR"))
        told |= {"geometryType": "esriGeometryPoint", "spatialReference": {"wkid": wkid}}
    if rows:
        # An empty answer tells no fields.
        told["fields"] = [field for field in layer.fields if field["name"] in names]
    told["features"] = []
    for row in rows:
        point = row.pop("_point", None)
        feature: dict[str, Any] = {"attributes": {name: _value(row[name]) for name in names}}
        if with_point and point is not None:
            x, y = _projected(point["lon"], point["lat"], told["spatialReference"]["wkid"])
            feature["geometry"] = {"x": x, "y": y}
        told["features"].append(feature)
    return told | ({"exceededTransferLimit": True} if is_more else {})


def _feature_collection(rows: Sequence[dict[str, Any]], layer: _Layer, *, is_more: bool) -> dict[str, Any]:
    features = []
    for row in rows:
        point = row.pop("_point", None)
        shape = point and {"type": "Point", "coordinates": [point["lon"], point["lat"]]}
        feature = {"type": "Feature", "id": row.get(OBJECT_ID), "geometry": shape}
        features.append(feature | {"properties": {name: _value(value) for name, value in row.items()}})
    told: dict[str, Any] = {"type": "FeatureCollection"}
    if is_more:
        # A MapServer says it beside the features, a hosted FeatureServer one level down.
        flag = {"exceededTransferLimit": True}
        told |= flag if layer.is_map_server else {"properties": flag}
    return told | {"features": features}


def _projected(lon: float, lat: float, wkid: int) -> tuple[float, float]:
    if wkid == 4326:
        return lon, lat
    # The ends of the world lie at infinity there.
    lat = min(max(lat, -89.99), 89.99)
    y = math.log(math.tan((90 + lat) * math.pi / 360)) / math.pi
    return lon / 180 * _MERCATOR_M, y * _MERCATOR_M


def _wkid(said: str) -> int:
    """Return the system of coordinates that is asked for; without one, the layer's own: Web Mercator."""
    if not said:
        return 102100
    try:
        given = json.loads(said)
        wkid = given.get("latestWkid") or given["wkid"] if isinstance(given, dict) else int(given)
    except (ValueError, KeyError, TypeError):
        wkid = None
    if wkid not in (4326, 3857, 102100):
        raise _RefusalError("Cannot perform query. Invalid query parameters.", "'outSR' parameter is invalid")
    return wkid


def _value(value: Any) -> Any:
    if isinstance(value, datetime):
        return _epoch_ms(value)
    return int(value) if isinstance(value, bool) else value


def _epoch_ms(moment: datetime) -> int:
    return round(moment.replace(tzinfo=UTC).timestamp() * 1000)


def _field(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "type": kind, "alias": name}


def _whole(said: str, name: str) -> int:
    if not said.strip().isdigit():
        raise _RefusalError(
            "Cannot perform query. Invalid query parameters.", f"'{name}' parameter is invalid"
        )
    return int(said)


def _is_true(said: str) -> bool:
    return said.lower() == "true"


def _told(answered: dict[str, Any], status: int = 200) -> Response:
    return Response(status, json.dumps(answered, ensure_ascii=False).encode())
