"""CKAN's action API and datastore dump as they answer; one resource per data set.

`/api/3/action/{datastore_search,resource_show,package_show}` by GET and by POST of JSON, and
`/datastore/dump/{id}`. `_id` is the row's number and changes with a reload. A data set whose trait or
attribute `has_range_filters` is true takes `{"gt": …}` in a filter, as CKAN does from 2.12 on.
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import duckdb

from assets.simulate.serving.exchange import Request, Response
from assets.simulate.serving.store import Dataset, Store, quoted

MOST_ROWS = 32_000
_ROWS_UNASKED = 100
_PATH = re.compile(r"^(?:/api/(?:3/)?action/(?P<action>\w+)|/datastore/dump/(?P<dump>[^/]+))/?$")
_ACTIONS = ("datastore_search", "resource_show", "package_show")
_SEARCH_KEYS = {
    "resource_id", "id", "limit", "offset", "sort", "fields", "filters", "include_total", "records_format"
}  # fmt: skip
_FIELD_TYPES = {
    "text": "text",
    "number": "numeric",
    "flag": "bool",
    "floating_timestamp": "timestamp",
    "fixed_timestamp": "timestamp",
    "point": "json",
    "json": "json",
}
_RANGES = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


class _RefusalError(Exception):
    """What CKAN refuses: its type of error, the status, and what it says about which parameter."""

    def __init__(self, kind: str, status: int, **said: Any) -> None:
        super().__init__(kind)
        self.kind, self.status, self.said = kind, status, said


def kind_of(request: Request) -> str:
    """Return what is asked: `file` for a dump, `count` for a search of no rows, `ids`, `page` or `meta`."""
    found = _PATH.match(request.path)
    if found is None or found["action"] in ("resource_show", "package_show"):
        return "meta"
    if found["dump"]:
        return "file"
    asked = _arguments(request)
    if str(asked.get("limit")) == "0":
        return "count"
    return "ids" if asked.get("fields") else "page"


def answer(store: Store, request: Request) -> Response:
    """Answer as the portal would: an envelope that says whether it went well, or the dump itself."""
    found = _PATH.match(request.path)
    try:
        fault = store.faults.take("error_in_200", "ckan", kind_of(request))
        if fault is not None:
            raise _RefusalError("Search Query Error", 200, message=fault.get("message", "Query failed"))
        if found is None or (found["action"] and found["action"] not in _ACTIONS):
            return Response(400, json.dumps("Bad request - Action name not known").encode())
        if found["dump"]:
            return _dump(store, request, found["dump"])
        asked = _arguments(request)
        act = {"datastore_search": _search, "resource_show": _resource, "package_show": _package}
        result = act[found["action"]](store, asked)
    except _RefusalError as refusal:
        error = {"__type": refusal.kind, **refusal.said}
        return _told({"help": _help(found), "success": False, "error": error}, refusal.status)
    return _told({"help": _help(found), "success": True, "result": result})


def refuse(status: int, message: str) -> Response:
    """Return an error as CKAN words it."""
    kind = "Authorization Error" if status in (401, 403) else "Internal Server Error"
    return _told({"help": "", "success": False, "error": {"__type": kind, "message": message}}, status)


def _arguments(request: Request) -> dict[str, Any]:
    """Return what is asked, of the JSON in the body or of the query; broken JSON asks nothing."""
    given = {name: values[0] for name, values in {**request.form, **request.query}.items()}
    if request.body and not request.form:
        try:
            told = json.loads(request.body)
        except ValueError:
            return given
        return given | (told if isinstance(told, dict) else {})
    return given


def _search(store: Store, asked: dict[str, Any]) -> dict[str, Any]:
    strangers = sorted(set(asked) - _SEARCH_KEYS)
    if strangers:
        raise _invalid(__junk=[f"The input field {strangers[0]} was not expected."])
    dataset = _dataset(store, asked.get("resource_id") or asked.get("id"), "resource_id")
    if asked.get("records_format", "objects") != "objects":
        raise _invalid(records_format=["only objects are served here"])
    most = MOST_ROWS
    clamp = store.faults.take("clamp", "ckan", "page")
    if clamp is not None:
        most = min(most, int(clamp["rows"]))
    limit = min(_whole(asked, "limit", _ROWS_UNASKED), most)
    offset = _whole(asked, "offset", 0)
    where, parameters = _filters(dataset, asked.get("filters"))
    names = _names(dataset, asked.get("fields"))
    order = _order(store, dataset, asked.get("sort"))
    columns = _columns(dataset)
    try:
        total = dataset.count(where, parameters)
        rows = (
            dataset.query(
                ", ".join(f"{columns[name]} as {quoted(name)}" for name in names),
                where,
                order,
                limit,
                offset,
                parameters,
            ).to_pylist()
            if limit
            else []
        )
    except duckdb.Error:
        raise _invalid(filters=["invalid filter value"]) from None
    return {
        "include_total": True,
        "limit": limit,
        "offset": offset,
        "records_format": "objects",
        "resource_id": dataset.id,
        "total_estimation_threshold": None,
        "fields": [field for field in _fields(dataset) if field["id"] in names],
        "records": [{name: _value(value) for name, value in row.items()} for row in rows],
        "total": total,
        "total_was_estimated": False,
    }


def _filters(dataset: Dataset, said: Any) -> tuple[str, list[Any]]:
    """Return the condition of equalities, lists of values and, where the portal knows them, ranges."""
    if isinstance(said, str) and said:
        try:
            said = json.loads(said)
        except ValueError:
            raise _invalid(filters=["Cannot parse JSON"]) from None
    if not said:
        return "true", []
    if not isinstance(said, Mapping):
        raise _invalid(filters=["must be a dictionary"])
    columns, conditions, parameters = _columns(dataset), ["true"], []
    for name, wanted in said.items():
        if name not in columns:
            raise _invalid(filters=[f'field "{name}" not in table'])
        if isinstance(wanted, Mapping):
            for sign, value in _ranges(dataset, name, wanted):
                conditions.append(f"{columns[name]} {sign} ?")
                parameters.append(value)
        else:
            values = wanted if isinstance(wanted, list) else [wanted]
            conditions.append(f"{columns[name]} in ({', '.join('?' * len(values))})" if values else "false")
            parameters += values
    return " and ".join(conditions), parameters


def _ranges(dataset: Dataset, name: str, wanted: Mapping[str, Any]) -> list[tuple[str, Any]]:
    if not getattr(dataset, "has_range_filters", dataset.traits.get("has_range_filters", False)):
        raise _invalid(filters=[f"invalid value for {name}"])
    strangers = sorted(set(wanted) - set(_RANGES))
    if strangers:
        raise _invalid(filters=[f"unknown range operator {strangers[0]}"])
    return [(_RANGES[sign], value) for sign, value in wanted.items()]


def _names(dataset: Dataset, said: Any) -> list[str]:
    known = list(_columns(dataset))
    if not said:
        return known
    names = [name.strip() for name in said.split(",")] if isinstance(said, str) else list(said)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise _invalid(fields=[f'field "{unknown[0]}" not in table'])
    return list(dict.fromkeys(names))


def _order(store: Store, dataset: Dataset, said: Any) -> str:
    if not said:
        # Another order with every question: what a table without ORDER BY gives between two vacuums.
        return f"hash(_row, {len(store.requests)})"
    columns, terms = _columns(dataset), []
    for term in said.split(",") if isinstance(said, str) else list(said):
        found = re.fullmatch(r'\s*(?:"([^"]+)"|(.+?))(?:\s+(asc|desc))?\s*', term, re.IGNORECASE)
        name = (found[1] or found[2]) if found else term
        if name not in columns:
            raise _invalid(sort=[f'field "{name}" not in table'])
        terms.append(f"{columns[name]} {found[3] or 'asc'}")
    if not any(term.startswith("_row ") for term in terms):
        # Ties are broken anew with every question.
        terms.append(f"hash(_row, {len(store.requests)})")
    return ", ".join(terms)


def _resource(store: Store, asked: dict[str, Any]) -> dict[str, Any]:
    dataset = _dataset(store, asked.get("id"), "id")
    changed = dataset.changed_at.isoformat()
    return {
        "id": dataset.id,
        "package_id": f"package-{dataset.id}",
        "name": dataset.title,
        "format": "CSV",
        "datastore_active": True,
        "last_modified": changed,
        "metadata_modified": changed,
        "hash": hashlib.md5(f"{dataset.id} {dataset.version}".encode()).hexdigest(),  # noqa: S324
        "state": "active",
    }


def _package(store: Store, asked: dict[str, Any]) -> dict[str, Any]:
    name = str(asked.get("id") or "")
    resource = _resource(store, {"id": name.removeprefix("package-")} if name else {})
    told = {"id": resource["package_id"], "name": resource["package_id"], "title": resource["name"]}
    return told | {"metadata_modified": resource["metadata_modified"], "resources": [resource]}


def _dump(store: Store, request: Request, resource_id: str) -> Response:
    dataset = _dataset(store, resource_id, "resource_id")
    form = request.one("format", "csv")
    # A dump has no order either: rows that move while it is written come twice or not at all.
    names, columns = list(_columns(dataset)), _columns(dataset)
    select = ", ".join(f"{columns[name]} as {quoted(name)}" for name in names)
    rows = dataset.query(select, order=f"hash(_row, {len(store.requests)})").to_pylist()
    records = [[_value(value) for value in row.values()] for row in rows]
    if form == "json":
        return _told({"fields": _fields(dataset), "records": records})
    if form not in ("csv", "tsv"):
        raise _invalid(format=["unsupported format"])
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t" if form == "tsv" else ",")
    writer.writerow(names)
    writer.writerows(records)
    mark = "\ufeff" if request.one("bom").lower() == "true" else ""
    return Response(200, (mark + text.getvalue()).encode(), content_type="text/csv; charset=utf-8")


def _dataset(store: Store, resource_id: Any, parameter: str) -> Dataset:
    if not resource_id:
        raise _invalid(**{parameter: ["Missing value"]})
    dataset = store.find("ckan", str(resource_id))
    if dataset is None or dataset.is_retired:
        raise _RefusalError("Not Found Error", 404, message="Not found: Resource was not found.")
    if dataset.traits.get("is_private"):
        raise _RefusalError(
            "Authorization Error", 403, message="Access denied: User not authorized to read resource"
        )
    return dataset


def _columns(dataset: Dataset) -> dict[str, str]:
    """Return the SQL of each field by its name."""
    told = {"_id": "_row"}
    for column in dataset.columns:
        name = quoted(column.name)
        told[column.name] = f"to_json({name})" if column.type == "point" else name
    return told


def _fields(dataset: Dataset) -> list[dict[str, str]]:
    told = [{"id": "_id", "type": "int"}]
    return told + [{"id": column.name, "type": _FIELD_TYPES[column.type]} for column in dataset.columns]


def _value(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _whole(asked: dict[str, Any], name: str, unasked: int) -> int:
    said = asked.get(name)
    if said is None or said == "":
        return unasked
    if isinstance(said, bool) or not str(said).isdigit():
        raise _invalid(**{name: ["Invalid integer"]})
    return int(said)


def _invalid(**said: Any) -> _RefusalError:
    return _RefusalError("Validation Error", 409, **said)


def _help(found: re.Match[str] | None) -> str:
    return f"/api/3/action/help_show?name={found['action']}" if found and found["action"] else ""


def _told(answered: dict[str, Any], status: int = 200) -> Response:
    body = json.dumps(answered, ensure_ascii=False).encode()
    return Response(status, body, content_type="application/json;charset=utf-8")
