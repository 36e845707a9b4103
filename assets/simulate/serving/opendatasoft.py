"""Opendatasoft Explore v2.1 as it answers: metadata, short record pages, and exports that may break off."""

import itertools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from assets.simulate.serving.exchange import Request, Response
from assets.simulate.serving.expressions import (
    Item,
    Language,
    QuestionError,
    Reader,
    Term,
    columns_of,
    ordered,
)
from assets.simulate.serving.store import Dataset, Store, quoted

DEFAULT_LIMIT = 10
LARGEST_LIMIT = 100
LARGEST_WINDOW = 10_000
CALLS_A_DAY = 5000
_ADDRESS = re.compile(
    r"/api/explore/v2\.1/catalog/datasets/([\w@.-]+)(?:/(records|exports/(?:json|geojson)))?/?$"
)
_TYPE_NAME = {
    "text": "text",
    "number": "double",
    "flag": "boolean",
    "floating_timestamp": "datetime",
    "fixed_timestamp": "datetime",
    "point": "geo_point_2d",
    "json": "json_blob",
}
_TIMES = ("floating_timestamp", "fixed_timestamp")
_INTERRUPTED = "Streaming interrupted due to the following error: "
_seeds = itertools.count(1)


def kind_of(request: Request) -> str:
    """Tell what is asked, from the address and the words of the question."""
    match = _ADDRESS.search(request.path)
    if not match or not match[2]:
        return "meta"
    if request.one("group_by"):
        return "months"
    selected = request.one("select").lower()
    if request.one("limit") == "0" or "count(" in selected:
        return "count"
    return "ids" if selected and "*" not in selected else "page"


def answer(store: Store, request: Request) -> Response:
    """Answer a question, or refuse it in Opendatasoft's words."""
    match = _ADDRESS.search(request.path)
    if not match:
        return refuse(404, "Not found")
    if store.faults.take("error_in_200", request.protocol, request.kind) is not None:
        return replace(refuse(500, "Internal error"), status=200)
    dataset = store.find(request.protocol, match[1])
    if dataset is None or dataset.is_retired:
        return refuse(404, f"The dataset {match[1]} does not exist.", "DatasetNotFoundError")
    try:
        if not match[2]:
            return _json(_metadata(dataset), 200)
        if match[2] == "records":
            return _records(store, dataset, request)
        return _export(store, dataset, request, match[2].rpartition("/")[2])
    except QuestionError as error:
        return refuse(400, f"ODSQL query is malformed: {error}", "ODSQLError")


def refuse(status: int, message: str, code: str = "") -> Response:
    """Return an error in Opendatasoft's envelope."""
    if status == 429:
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).date()
        said = {
            "errorcode": 10002,
            "reset_time": f"{tomorrow}T00:00:00Z",
            "limit_time_unit": "day",
            "call_limit": CALLS_A_DAY,
            "error": "Too many requests on the domain. Please contact the domain administrator.",
        }
        return _json(said, 429, remaining=0)
    codes = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound"}
    return _json({"message": message, "error_code": code or codes.get(status, "ServerError")}, status)


def _json(said: object, status: int, remaining: int = CALLS_A_DAY - 1) -> Response:
    body = json.dumps(said).encode()
    return Response(status, body, _rate(remaining), "application/json; charset=utf-8")


def _rate(remaining: int) -> Mapping[str, str]:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date()
    return {
        "X-RateLimit-Limit": str(CALLS_A_DAY),
        "X-RateLimit-Remaining": str(remaining),
        # A time, no seconds: waiting it out is for the next day's run.
        "X-RateLimit-Reset": f"{tomorrow} 00:00:00+00:00",
    }


def _metadata(dataset: Dataset) -> dict[str, object]:
    changed_at = dataset.changed_at.replace(tzinfo=UTC).isoformat()
    names = [column.name for column in dataset.columns]
    fields = [{"name": name, "label": name, "type": _type_name(dataset, name)} for name in names]
    return {
        "dataset_id": dataset.id,
        "dataset_uid": f"da_{dataset.id}",
        "has_records": True,
        "features": ["analyze", "timeserie"],
        "metas": {
            "default": {
                "title": dataset.title,
                "modified": changed_at,
                "data_processed": changed_at,
                "records_count": dataset.count(),
            }
        },
        "fields": fields,
    }


def _type_name(dataset: Dataset, name: str) -> str:
    column = dataset.column(name)
    return "int" if column.type == "number" and dataset.is_whole(name) else _TYPE_NAME[column.type]


# --- records -------------------------------------------------------------------------------------------


def _records(store: Store, dataset: Dataset, request: Request) -> Response:
    limit, offset = _whole(request, "limit", DEFAULT_LIMIT), _whole(request, "offset", 0)
    refused = _window(request, limit, offset)
    if refused is not None:
        return refused
    language = _language(dataset)
    where, parameters = _where(request, language)
    group = _read(request, "group_by", language, Reader.items) or ()
    items = _read(request, "select", language, Reader.items) or ()
    order = _order(request, language, (*group, *items))
    limit = DEFAULT_LIMIT if limit < 0 else limit
    if group or any(_is_aggregate(item) for item in items):
        return _json(_groups(dataset, (where, parameters), group, items, order, limit), 200)
    body, _ = _told(store, dataset, request, (where, parameters), (items, order, limit, offset))
    total = dataset.count(where, parameters)
    body = b'{"total_count": %d, "results": [' % total + body + b"]}"
    return _finished(store, request, body, is_ordered=bool(order[0]))


def _window(request: Request, limit: int, offset: int) -> Response | None:
    most = 20_000 if request.one("group_by") else LARGEST_LIMIT
    if not -1 <= limit <= most:
        message = (
            f"Invalid value for limit API parameter: {limit} was found but -1 <= limit <= {most} is expected."
        )
        return refuse(400, message, "InvalidRESTParameterError")
    if not request.one("group_by") and offset + max(limit, 0) > LARGEST_WINDOW:
        message = (
            f"Invalid value for offset API parameter: {offset} was found but "
            f"limit + offset <= {LARGEST_WINDOW} is expected."
        )
        return refuse(400, message, "InvalidRESTParameterError")
    return None


def _groups(
    dataset: Dataset,
    condition: tuple[str, tuple],
    group: tuple[Item, ...],
    items: tuple[Item, ...],
    order: tuple[str, tuple],
    limit: int,
) -> dict[str, object]:
    where, parameters = condition
    chosen = {item.name: item for item in (*group, *items) if item.term}
    select = ", ".join(f"{_shown(item.term)} as {quoted(item.name)}" for item in chosen.values())
    if group:
        where += " group by " + ", ".join(item.term.sql for item in group if item.term)
    rows = dataset.query(select, where, order[0], limit, 0, (*parameters, *order[1])).to_pylist()
    return {"results": rows} if group else {"total_count": len(rows), "results": rows}


# --- exports -------------------------------------------------------------------------------------------


def _export(store: Store, dataset: Dataset, request: Request, form: str) -> Response:
    language = _language(dataset)
    condition = _where(request, language)
    items = _read(request, "select", language, Reader.items) or ()
    order = _order(request, language, items)
    limit = _whole(request, "limit", -1)
    how = (items, order, None if limit < 0 else limit, _whole(request, "offset", 0))
    if form == "geojson":
        body, _ = _features(store, dataset, request, condition, how)
        body = b'{"type": "FeatureCollection", "features": [' + body + b"]}"
    else:
        body, _ = _told(store, dataset, request, condition, how)
        body = b"[" + body + b"]"
    return _finished(store, request, body, is_ordered=bool(order[0]))


def _features(
    store: Store, dataset: Dataset, request: Request, condition: tuple[str, tuple], how: tuple
) -> tuple[bytes, int]:
    points = [column.name for column in dataset.columns if column.type == "point"]
    geometry = "null"
    if points:
        x = quoted(points[0])
        geometry = (
            f"case when {x} is not null then {{'type': 'Point', 'coordinates': [{x}.lon, {x}.lat]}} end"
        )
    record = (
        f"{{'type': 'Feature', 'geometry': {geometry}, 'properties': {_record(dataset, how[0], points[:1])}}}"
    )
    return _rendered(store, dataset, request, record, condition, how)


def _finished(store: Store, request: Request, body: bytes, *, is_ordered: bool) -> Response:
    midstream = store.faults.take("midstream", request.protocol, request.kind)
    if midstream is not None:
        kept = body[: int(len(body) * midstream.get("share", 0.5))]
        body = kept + (_INTERRUPTED + midstream.get("message", "the query took too long")).encode()
    content_type = "application/json; charset=utf-8"
    return Response(200, body, _rate(CALLS_A_DAY - 1), content_type, is_ordered and midstream is None)


# --- rows ----------------------------------------------------------------------------------------------


def _told(
    store: Store, dataset: Dataset, request: Request, condition: tuple[str, tuple], how: tuple
) -> tuple[bytes, int]:
    return _rendered(store, dataset, request, _record(dataset, how[0], []), condition, how)


def _rendered(
    store: Store, dataset: Dataset, request: Request, record: str, condition: tuple[str, tuple], how: tuple
) -> tuple[bytes, int]:
    (where, parameters), (_, (order, values), limit, offset) = condition, how
    if not order and store.faults.take("shuffle", request.protocol, request.kind) is not None:
        order, values = "hash(_row, ?)", (next(_seeds),)
    text = f"to_json({record})::varchar"
    return dataset.render(text, where, order, limit, offset, (*parameters, *values))


def _record(dataset: Dataset, items: tuple[Item, ...], without: list[str]) -> str:
    chosen: dict[str, Term] = {}
    for item in items or (Item("*"),):
        chosen |= {item.name: item.term} if item.term else columns_of(dataset)
    if any(term.parameters for term in chosen.values()):
        raise QuestionError("syntax", "literals cannot be selected")
    pieces = [
        "'{}': {}".format(name.replace("'", "''"), _shown(term))
        for name, term in chosen.items()
        if name not in without
    ]
    return "{" + ", ".join(pieces) + "}"


def _shown(term: Term) -> str:
    if term.type in _TIMES:
        return f"strftime({term.sql}, '%Y-%m-%dT%H:%M:%S+00:00')"
    return f"{term.sql}::json" if term.type == "json" else term.sql


def _is_aggregate(item: Item) -> bool:
    return bool(item.term) and bool(re.match(r"(count|min|max)\(", item.term.sql))


# --- the language --------------------------------------------------------------------------------------


def _read(request: Request, name: str, language: Language, take: Callable[[Reader], tuple]) -> tuple | None:
    text = request.one(name)
    if not text:
        return None
    reader = Reader(text, language)
    taken = take(reader)
    reader.end()
    return taken


def _where(request: Request, language: Language) -> tuple[str, tuple]:
    terms = []
    for text in request.query.get("where", []):
        reader = Reader(text, language)
        terms.append(reader.condition())
        reader.end()
    sql = " and ".join(term.sql for term in terms) or "true"
    return sql, tuple(value for term in terms for value in term.parameters)


def _order(request: Request, language: Language, select: tuple[Item, ...]) -> tuple[str, tuple]:
    found = _read(request, "order_by", language, lambda reader: reader.orders(select))
    return ordered(found) if found else ("", ())


def _whole(request: Request, name: str, nothing: int) -> int:
    text = request.one(name)
    if not text:
        return nothing
    if not re.fullmatch(r"-?\d{1,9}", text):
        raise QuestionError("syntax", f"{name} must be a whole number, not {text!r}")
    return int(text)


def _language(dataset: Dataset) -> Language:
    columns = {
        # A time in a question may have a zone; the portal takes what has none as UTC.
        name: replace(term, type="fixed_timestamp") if term.type == "floating_timestamp" else term
        for name, term in columns_of(dataset).items()
    }
    return Language(
        columns=columns,
        functions={
            "count": lambda x: Term(f"count({x.sql})", "number"),
            "min": lambda x: replace(x, sql=f"min({x.sql})"),
            "max": lambda x: replace(x, sql=f"max({x.sql})"),
            **{part: _part(part) for part in ("year", "month", "day")},
        },
        double_is_string=True,
        names_as_written=True,
    )


def _part(name: str) -> Callable[[Term], Term]:
    def part(x: Term) -> Term:
        if x.type not in _TIMES:
            raise QuestionError("type-mismatch", f"{name}() takes a date, not {x.type}")
        return Term(f"{name}({x.sql})", "number", x.parameters)

    return part
