"""Socrata as it answers: SODA 2 resources, view metadata, and SODA 3 queries.

Its lies are kept: nulls are left out, numbers are text, a page is cut at 50,000 rows without a word, and
rows without an order come in another one each time.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC
from email.utils import format_datetime
from typing import Any

from assets.simulate.serving.exchange import Request, Response
from assets.simulate.serving.expressions import (
    Item,
    Language,
    QuestionError,
    Reader,
    Statement,
    Term,
    columns_of,
    ordered,
)
from assets.simulate.serving.store import Dataset, Store, quoted

DEFAULT_LIMIT = 1000
LARGEST_LIMIT = 50_000
SYSTEM_FIELDS = {
    ":id": Term("_rid", "text", is_row_id=True),
    ":created_at": Term("_created_at", "fixed_timestamp"),
    ":updated_at": Term("_updated_at", "fixed_timestamp"),
}
TYPE_NAME = {
    "text": "text",
    "number": "number",
    "flag": "checkbox",
    "floating_timestamp": "calendar_date",
    "fixed_timestamp": "date",
    "point": "point",
    "json": "location",
}
# As X-SODA2-Types has them.
_SODA_TYPE = TYPE_NAME | {"floating_timestamp": "floating_timestamp", "fixed_timestamp": "fixed_timestamp"}
_LONGEST_TYPES_HEADER = 4096
_TRUNCATED_TO = {"date_trunc_y": "year", "date_trunc_ym": "month", "date_trunc_ymd": "day"}
_RESOURCE = re.compile(r"/resource/([a-z0-9]{4}-[a-z0-9]{4})\.json$")
_VIEW = re.compile(r"/api/views/([a-z0-9]{4}-[a-z0-9]{4})(?:\.json)?$")
_QUERY = re.compile(r"/api/v3/views/([a-z0-9]{4}-[a-z0-9]{4})/query\.json$")
_seeds = itertools.count(1)


def kind_of(request: Request) -> str:
    """Tell what is asked, from the address and the words of the question."""
    if _VIEW.search(request.path):
        return "meta"
    asked = request.one("$select") or request.one("$query") or _body(request).get("query", "")
    is_query = not request.one("$select") and bool(asked)
    selected = re.split(r"\bfrom\b|\bwhere\b", asked, maxsplit=1, flags=re.IGNORECASE)[0].lower()
    if "count(" in selected:
        has_groups = request.one("$group") or (is_query and re.search(r"group\s+by", asked, re.IGNORECASE))
        return "months" if has_groups else "count"
    return "page" if not asked or "*" in selected else "ids"


def answer(store: Store, request: Request) -> Response:
    """Answer a question, or refuse it in Socrata's words."""
    if store.faults.take("error_in_200", request.protocol, request.kind) is not None:
        return replace(refuse(500, "Internal error"), status=200)
    for pattern, tell in ((_VIEW, _view), (_RESOURCE, _resource), (_QUERY, _soda3)):
        match = pattern.search(request.path)
        if match:
            dataset = store.find(request.protocol, match[1])
            if dataset is None or dataset.is_retired:
                return _missing(match[1])
            try:
                return tell(store, dataset, request)
            except QuestionError as error:
                return _misread(dataset, error)
    return refuse(404, "Not found")


def refuse(status: int, message: str) -> Response:
    """Return an error in Socrata's older envelope."""
    codes = {403: "permission_denied", 404: "not_found", 429: "too_many_requests"}
    code = codes.get(status, "internal-error" if status >= 500 else "invalid_request")
    return _json({"code": code, "error": True, "message": message}, status)


def _missing(id: str) -> Response:  # noqa: A002 -- what Socrata calls it
    said = {"code": "dataset.missing", "error": True, "message": "Not found", "data": {"id": id}}
    return _json(said, 404)


def _misread(dataset: Dataset, error: QuestionError) -> Response:
    codes = {"syntax": "query.compiler.malformed"}
    code = codes.get(error.kind, f"query.soql.{error.kind}")
    message, data = str(error), {"dataset": f"alpha.{dataset.id}"}
    if error.kind == "no-such-column":
        message += f"; known columns: {', '.join(column.name for column in dataset.columns)}"
        data["column"] = error.named
    message = f'Query coordinator error: {code}; {message}; position: Map(row -> 1, column -> 1, line -> "")'
    return _json({"message": message, "errorCode": code, "data": data}, 400)


# --- the addresses -------------------------------------------------------------------------------------


def _view(store: Store, dataset: Dataset, request: Request) -> Response:
    changed_at = int(dataset.changed_at.replace(tzinfo=UTC).timestamp())
    columns = [
        {
            "id": 1000 + place,
            "name": column.name.replace("_", " ").title(),
            "fieldName": column.name,
            "dataTypeName": TYPE_NAME[column.type],
            "renderTypeName": TYPE_NAME[column.type],
            "position": place,
        }
        for place, column in enumerate(dataset.columns, 1)
    ]
    keys = [column["id"] for column in columns if column["fieldName"] == dataset.key]
    return _json(
        {
            "id": dataset.id,
            "name": dataset.title,
            "assetType": "dataset",
            "viewType": "tabular",
            "publicationStage": "published",
            "rowsUpdatedAt": changed_at,
            "viewLastModified": changed_at,
            "rowIdentifierColumnId": keys[0],
            "metadata": {"custom_fields": {"Publishing Information": {"Update Frequency": "Daily"}}},
            "columns": columns,
        }
    )


def _resource(store: Store, dataset: Dataset, request: Request) -> Response:
    language = _language(dataset)
    if request.one("$query"):
        return _rows(store, dataset, request, Reader(request.one("$query"), language).statement())

    def read(name: str, take: Callable[[Reader], Any], nothing: Any) -> Any:
        text = request.one(name)
        if not text:
            return nothing
        reader = Reader(text, language)
        taken = take(reader)
        reader.end()
        return taken

    plain = Statement()
    select = read("$select", Reader.items, plain.select)
    statement = Statement(
        select=select,
        where=read("$where", Reader.condition, plain.where),
        group=read("$group", lambda reader: reader.groups(select), ()),
        order=read("$order", lambda reader: reader.orders(select), ()),
        limit=_whole(request, "$limit"),
        offset=_whole(request, "$offset") or 0,
    )
    return _rows(store, dataset, request, statement)


def _soda3(store: Store, dataset: Dataset, request: Request) -> Response:
    if not request.headers.get("x-app-token") and not request.headers.get("authorization"):
        return refuse(403, "You must be logged in or provide an app token")
    if request.method != "POST":
        return refuse(405, "Method not allowed")
    said = _body(request)
    statement = Reader(said.get("query") or "SELECT *", _language(dataset)).statement()
    page = said.get("page")
    if page:
        # Giving a page imposes an order of the portal's own.
        size = int(page.get("pageSize", DEFAULT_LIMIT))
        order = statement.order or ((SYSTEM_FIELDS[":id"], False),)
        offset = (int(page.get("pageNumber", 1)) - 1) * size
        statement = replace(statement, limit=size, offset=offset, order=order)
    return _rows(store, dataset, request, statement)


def _body(request: Request) -> dict[str, Any]:
    try:
        said = json.loads(request.body or b"{}")
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _whole(request: Request, name: str) -> int | None:
    text = request.one(name)
    if not text:
        return None
    if not text.isdigit():
        raise QuestionError("syntax", f"{name} must be a whole number, not {text!r}")
    return int(text)


# --- the rows ------------------------------------------------------------------------------------------


def _rows(store: Store, dataset: Dataset, request: Request, statement: Statement) -> Response:
    limit = min(DEFAULT_LIMIT if statement.limit is None else statement.limit, LARGEST_LIMIT)
    clamp = store.faults.take("clamp", request.protocol, request.kind)
    if clamp is not None:
        limit = min(limit, clamp["rows"])
    short = store.faults.take("short_page", request.protocol, request.kind)
    if short is not None:
        limit = int(limit * short["share"])
    order, values = ordered(statement.order)
    where, given = statement.where.sql, statement.where.parameters
    items = _spread(statement.select, dataset)
    if any(item.term.parameters for item in items):
        raise QuestionError("syntax", "literals cannot be selected here")
    if statement.group or _is_aggregate(items):
        body = _grouped(dataset, statement, items, limit)
    else:
        if not order:
            order, values = "hash(_rid, ?)", (next(_seeds),)
        record = ", ".join(f"{_text(item.name)}: {_shown(item.term, dataset)}" for item in items)
        body, _ = dataset.render(
            # A merge leaves nulls out, and Socrata has no keys for them.
            f"json_merge_patch('{{}}', to_json({{{record}}}))::varchar",
            where,
            order,
            limit,
            statement.offset,
            (*given, *values),
            between="\n,",
        )
        body = b"[" + body + b"]\n"
    return _answer_of(dataset, items, body, is_stable=bool(statement.order) or bool(statement.group))


def _grouped(dataset: Dataset, statement: Statement, items: list[Item], limit: int) -> bytes:
    order, values = ordered(statement.order)
    select = ", ".join(f"{_shown(item.term, dataset)} as {quoted(item.name)}" for item in items)
    where, parameters = statement.where.sql, statement.where.parameters
    if statement.group:
        where += " group by " + ", ".join(term.sql for term in statement.group)
        parameters += tuple(value for term in statement.group for value in term.parameters)
    table = dataset.query(select, where, order, limit, statement.offset, (*parameters, *values))
    rows = [{name: value for name, value in row.items() if value is not None} for row in table.to_pylist()]
    return json.dumps(rows).encode()


def _spread(select: tuple[Item, ...], dataset: Dataset) -> list[Item]:
    own = columns_of(dataset)
    spread: dict[str, Item] = {}
    for item in select:
        stars = {":*": SYSTEM_FIELDS, "*": own}.get(item.name) if item.term is None else None
        for name, term in (stars or {item.name: item.term}).items():
            spread[name] = Item(name, term)
    return list(spread.values())


def _is_aggregate(items: list[Item]) -> bool:
    return any(re.match(r"(count|min|max)\(", item.term.sql) for item in items)


def _shown(term: Term, dataset: Dataset) -> str:
    """Return the SQL of a value as Socrata's JSON has it."""
    x = term.sql
    if term.type == "number":
        is_double = x.startswith('"') and not dataset.is_whole(x[1:-1].replace('""', '"'))
        if not is_double:
            return f"({x})::varchar"
        return (
            f"case when {x} = trunc({x}) and abs({x}) < 1e15 then {x}::bigint::varchar else {x}::varchar end"
        )
    if term.type == "floating_timestamp":
        return f"strftime({x}, '%Y-%m-%dT%H:%M:%S.%g')"
    if term.type == "fixed_timestamp":
        return f"strftime({x}, '%Y-%m-%dT%H:%M:%S.%gZ')"
    if term.type == "point":
        return f"case when {x} is not null then {{'type': 'Point', 'coordinates': [{x}.lon, {x}.lat]}} end"
    if term.type == "json":
        return f"{x}::json"
    return x


def _answer_of(dataset: Dataset, items: list[Item], body: bytes, *, is_stable: bool) -> Response:
    changed_at = dataset.changed_at.replace(microsecond=0, tzinfo=UTC)
    modified = format_datetime(changed_at, usegmt=True)
    headers = {
        "X-Socrata-RequestId": hashlib.md5(body[:1024], usedforsecurity=False).hexdigest(),
        "X-Socrata-Region": "aws-us-east-1-fedramp-prod",
        "X-SODA2-Data-Out-Of-Date": "false",
        "X-SODA2-Truth-Last-Modified": modified,
        "X-SODA2-Secondary-Last-Modified": modified,
        "Last-Modified": modified,
        "ETag": f'W/"{dataset.id}.{int(changed_at.timestamp())}"',
    }
    types = json.dumps([_SODA_TYPE.get(item.term.type, item.term.type) for item in items])
    fields = json.dumps([item.name for item in items])
    if len(types) + len(fields) <= _LONGEST_TYPES_HEADER:
        headers |= {"X-SODA2-Fields": fields, "X-SODA2-Types": types}
    return Response(200, body, headers, "application/json;charset=utf-8", is_stable)


def _json(said: object, status: int = 200) -> Response:
    return Response(status, json.dumps(said).encode(), content_type="application/json;charset=utf-8")


def _text(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"


# --- the language --------------------------------------------------------------------------------------


def _language(dataset: Dataset) -> Language:
    return Language(
        columns=columns_of(dataset) | SYSTEM_FIELDS,
        functions={
            "count": lambda x: Term(f"count({x.sql})", "number"),
            "min": lambda x: replace(x, sql=f"min({x.sql})"),
            "max": lambda x: replace(x, sql=f"max({x.sql})"),
            **{name: _truncation(name) for name in _TRUNCATED_TO},
        },
        compares_ids=dataset.compares_ids,
    )


def _truncation(name: str) -> Callable[[Term], Term]:
    def truncated(x: Term) -> Term:
        if x.type not in ("floating_timestamp", "fixed_timestamp"):
            raise QuestionError("type-mismatch", f"{name} takes a floating timestamp, not {x.type}")
        return Term(
            f"date_trunc('{_TRUNCATED_TO[name]}', {x.sql})::timestamp", "floating_timestamp", x.parameters
        )

    return truncated
