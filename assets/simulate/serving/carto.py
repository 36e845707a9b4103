"""CARTO's SQL endpoint as it answers: one envelope, errors that may end a stream begun with 200."""

import itertools
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

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

_TABLE = re.compile(r'\bfrom\s+("(?:[^"]|"")*"|[\w.]+)', re.IGNORECASE)
_FORMAT_OF = {"YYYY": "%Y", "YYYY-MM": "%Y-%m", "YYYY-MM-DD": "%Y-%m-%d"}
_TRUNCATIONS = ("year", "month", "day")
_FIELD_OF = {
    "text": {"type": "string", "pgtype": "text"},
    "number": {"type": "number", "pgtype": "numeric"},
    "flag": {"type": "boolean", "pgtype": "bool"},
    "fixed_timestamp": {"type": "date", "pgtype": "timestamptz"},
    "json": {"type": "string", "pgtype": "json"},
    "geometry": {"type": "geometry", "wkbtype": "Unknown", "dims": 2, "srid": 4326},
}
# Every table has the column, points or not.
_NO_GEOMETRY = Term("(null::struct(lon double, lat double))", "geometry")
_OVER_LIMIT = (
    "You are over platform's limits: SQL query timeout error. "
    "Refactor your query before running again or contact CARTO support for more details."
)
_seeds = itertools.count(1)


def kind_of(request: Request) -> str:
    """Tell what is asked, from the words of the statement."""
    sql = request.one("q").lower()
    if re.search(r"\blimit\s+0\s*;?\s*$", sql):
        return "meta"
    selected = sql.partition(" from ")[0]
    if re.search(r"\b(count|min|max)\s*\(", selected):
        return "months" if re.search(r"\bgroup\s+by\b", sql) else "count"
    return "page" if "*" in selected or "st_x" in selected else "ids"


def answer(store: Store, request: Request) -> Response:
    """Answer a statement, or refuse it in PostgreSQL's words."""
    if not request.path.rstrip("/").endswith("/api/v2/sql"):
        return refuse(404, "Not found")
    if store.faults.take("error_in_200", request.protocol, request.kind) is not None:
        return replace(refuse(400, _OVER_LIMIT), status=200)
    sql = request.one("q")
    if not sql:
        return refuse(400, "You must indicate a sql query")
    named = _TABLE.search(sql)
    table = named[1].strip('"').rpartition(".")[2] if named else ""
    dataset = store.find(request.protocol, table)
    if dataset is None or dataset.is_retired:
        return refuse(400, f'relation "{table}" does not exist')
    try:
        return _rows(store, dataset, request, Reader(_without_schema(sql), _language(dataset)).statement())
    except QuestionError as error:
        return refuse(400, _worded(error))


def refuse(status: int, message: str) -> Response:
    """Return an error in CARTO's envelope; what is over a limit says that waiting is no use."""
    headers = _rate(-1 if status == 429 else 1000)
    if status == 429:
        message = _OVER_LIMIT
    return Response(status, json.dumps({"error": [message]}).encode(), headers)


def _rate(remaining: int) -> Mapping[str, str]:
    said = {"Limit": 1000, "Remaining": max(0, remaining), "Reset": 1}
    return {"Retry-After": "-1"} | {f"Carto-Rate-Limit-{name}": str(value) for name, value in said.items()}


def _worded(error: QuestionError) -> str:
    if error.kind == "no-such-column":
        return f'column "{error.named}" does not exist'
    if error.kind == "no-such-function":
        return f"function {error.named}(unknown) does not exist"
    return str(error)


def _without_schema(sql: str) -> str:
    return re.sub(r"(\bfrom\s+)\w+\.(?=\w)", r"\1", sql, count=1, flags=re.IGNORECASE)


def _rows(store: Store, dataset: Dataset, request: Request, statement: Statement) -> Response:
    began = time.perf_counter()
    clamp = store.faults.take("clamp", request.protocol, request.kind)
    if clamp is not None and (statement.limit is None or statement.limit > clamp["rows"]):
        return refuse(429, _OVER_LIMIT)
    items = _spread(statement.select, dataset)
    if any(item.term.parameters for item in items):
        raise QuestionError("syntax", "could not determine data type of parameter $1")
    body, rows = _told(store, dataset, request, statement, items)
    midstream = store.faults.take("midstream", request.protocol, request.kind)
    if midstream is not None:
        return _broken(body, midstream)
    tail = {
        "time": round(time.perf_counter() - began, 3),
        "fields": {item.name: _FIELD_OF[item.term.type] for item in items},
        "total_rows": rows,
    }
    body = b'{"rows":[' + body + b"]," + json.dumps(tail).encode()[1:]
    return Response(200, body, _rate(1000), "application/json; charset=utf-8", bool(statement.order))


def _broken(rows: bytes, fault: Mapping[str, object]) -> Response:
    """Return an answer that began well; `is_json` says that it even ends as JSON does."""
    lines = rows.split(b",\n")
    kept = b",\n".join(lines[: int(len(lines) * fault.get("share", 0.5))])
    error = json.dumps([fault.get("message", _OVER_LIMIT)]).encode()
    end = b'],"error":' + error + b"}" if fault.get("is_json") else b',{"error":' + error + b"}"
    return Response(200, b'{"rows":[' + kept + end, _rate(1000), "application/json; charset=utf-8")


def _told(
    store: Store, dataset: Dataset, request: Request, statement: Statement, items: list[Item]
) -> tuple[bytes, int]:
    order, values = ordered(statement.order)
    where, parameters = statement.where.sql, statement.where.parameters
    shown = [(item.name, _shown(dataset, item.term)) for item in items]
    if statement.group or any(re.match(r"(count|min|max)\(", item.term.sql) for item in items):
        if statement.group:
            where += " group by " + ", ".join(term.sql for term in statement.group)
        select = ", ".join(f"{sql} as {quoted(name)}" for name, sql in shown)
        table = dataset.query(select, where, order, statement.limit, statement.offset, (*parameters, *values))
        return ",\n".join(json.dumps(row) for row in table.to_pylist()).encode(), table.num_rows
    if not order and store.faults.take("shuffle", request.protocol, request.kind) is not None:
        order, values = "hash(_row, ?)", (next(_seeds),)
    record = ", ".join("'{}': {}".format(name.replace("'", "''"), sql) for name, sql in shown)
    return dataset.render(
        f"to_json({{{record}}})::varchar",
        where,
        order,
        statement.limit,
        statement.offset,
        (*parameters, *values),
    )


def _spread(select: tuple[Item, ...], dataset: Dataset) -> list[Item]:
    spread: dict[str, Item] = {}
    for item in select:
        if item.term is None and item.name != "*":
            raise QuestionError("syntax", f'syntax error at or near "{item.name}"')
        own = {item.name: item.term} if item.term else _columns(dataset)
        spread |= {name: Item(name, term) for name, term in own.items()}
    return list(spread.values())


def _shown(dataset: Dataset, term: Term) -> str:
    if term.type == "fixed_timestamp":
        return f"strftime({term.sql}, '%Y-%m-%dT%H:%M:%SZ')"
    if term.type == "geometry":
        # EWKB of a point in EPSG:4326, as hexadecimal text.
        point = f"'0101000020E6100000' || double_hex({term.sql}.lon) || double_hex({term.sql}.lat)"
        return f"case when {term.sql} is not null then {point} end"
    return term.sql


# --- the language --------------------------------------------------------------------------------------


def _columns(dataset: Dataset) -> dict[str, Term]:
    columns = {"cartodb_id": Term("_row", "number"), "the_geom": _NO_GEOMETRY}
    for name, term in columns_of(dataset).items():
        if term.type == "point":
            columns["the_geom"] = replace(term, type="geometry")
        elif term.type == "floating_timestamp":
            # PostgreSQL compares times with and without a zone; here all are UTC.
            columns[name] = replace(term, type="fixed_timestamp")
        else:
            columns[name] = term
    return columns


def _language(dataset: Dataset) -> Language:
    return Language(
        columns=_columns(dataset),
        functions={
            "count": lambda x: Term(f"count({x.sql})", "number"),
            "min": lambda x: replace(x, sql=f"min({x.sql})"),
            "max": lambda x: replace(x, sql=f"max({x.sql})"),
            "to_char": _to_char,
            "date_trunc": _date_trunc,
            "st_x": _coordinate("lon"),
            "st_y": _coordinate("lat"),
        },
    )


def _coordinate(name: str) -> Callable[[Term], Term]:
    def coordinate(x: Term) -> Term:
        if x.type != "geometry":
            raise QuestionError("type-mismatch", f"function st_x({x.type}) does not exist")
        return Term(f"{x.sql}.{name}", "number")

    return coordinate


def _to_char(x: Term, pattern: Term) -> Term:
    if x.type != "fixed_timestamp" or pattern.literal not in _FORMAT_OF:
        raise QuestionError("type-mismatch", f"function to_char({x.type}, unknown) does not exist")
    return Term(f"strftime({x.sql}, '{_FORMAT_OF[pattern.literal]}')", "text", x.parameters)


def _date_trunc(part: Term, x: Term) -> Term:
    if x.type != "fixed_timestamp" or part.literal not in _TRUNCATIONS:
        raise QuestionError("type-mismatch", f"function date_trunc(unknown, {x.type}) does not exist")
    return Term(f"date_trunc('{part.literal}', {x.sql})::timestamp", "fixed_timestamp", x.parameters)
