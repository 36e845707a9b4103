"""What a declared SQL expression may be and which source columns it names; running it belongs to landing."""

import json
from collections.abc import Iterable, Iterator
from functools import lru_cache

import duckdb

_REFUSED = {
    "SUBQUERY": "reads from elsewhere than its own row",
    "WINDOW": "looks at other rows",
    "STAR": "names all columns at once",
    "PARAMETER": "has a placeholder",
    "DEFAULT": "says DEFAULT",
}


class ExpressionError(ValueError):
    """A text that is not one SQL expression over the columns of one row."""


def quoted(name: str) -> str:
    """Return a column name as a DuckDB identifier, whatever characters it holds."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as a DuckDB string literal."""
    return "'" + text.replace("'", "''") + "'"


@lru_cache(maxsize=1024)
def source_columns(expression: str) -> tuple[str, ...]:
    """Check that a text is one expression over one row's text columns, and return the columns it names.

    Raises:
        ExpressionError: It is not; the message says what is wrong and what to do.
    """
    if ";" in expression:
        raise ExpressionError("the expression holds a `;`; write one expression, chr(59) for the character")
    con = _parser().cursor()
    tree = _parsed(con, expression)
    names = tuple(dict.fromkeys(_columns(tree, frozenset())))
    _refuse_changing_functions(expression, tree, names)
    _bind(con, expression, names)
    return names


@lru_cache(maxsize=1)
def _parser() -> duckdb.DuckDBPyConnection:
    """Return a connection that reads nothing; opening one per expression was most of reading all cities."""
    return duckdb.connect(config={"enable_external_access": "false", "threads": "1"})


def _parsed(con: duckdb.DuckDBPyConnection, expression: str) -> dict:
    # The newline ends a comment at the end of the expression, which would otherwise swallow the bracket.
    text = con.execute("select json_serialize_sql(?)", [f"select ({expression}\n) as value"]).fetchone()
    answer = json.loads(text[0])
    if answer["error"]:
        raise ExpressionError(f"DuckDB cannot parse it ({answer['error_message']}); correct the expression")
    nodes = [statement["node"] for statement in answer["statements"]]
    node = nodes[0]
    # `a) from t where (b` parses too: whatever is more than `select (<expression>)` is not an expression.
    is_bare = (
        len(nodes) == 1
        and node["type"] == "SELECT_NODE"
        and len(node["select_list"]) == 1
        and node["from_table"]["type"] == "EMPTY"
        and not any(
            node[part] for part in ("where_clause", "group_expressions", "having", "qualify", "sample")
        )
        and not node["modifiers"]
        and node["select_list"][0]["alias"] == "value"
    )
    if not is_bare:
        raise ExpressionError("it is more than one expression; leave out FROM, WHERE and further columns")
    return node["select_list"][0]


def _nodes(tree: object) -> Iterator[dict]:
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)


def _columns(tree: object, bound: frozenset[str]) -> Iterator[str]:
    """Yield the source columns of a parse tree; `bound` are the parameters of the lambdas around it."""
    if isinstance(tree, list):
        for value in tree:
            yield from _columns(value, bound)
    if not isinstance(tree, dict):
        return
    kind = tree.get("class")
    if kind in _REFUSED:
        raise ExpressionError(f"the expression {_REFUSED[kind]}; use only columns of the row itself")
    if kind == "COLUMN_REF":
        names = tree["column_names"]
        if len(names) > 1:
            raise ExpressionError(
                f"`{'.'.join(names)}` is not a column name; put the whole name in double quotes"
            )
        if names[0] not in bound:
            yield names[0]
        return
    if kind == "LAMBDA":
        inner = [name for node in _nodes(tree["lhs"]) for name in node.get("column_names", [])]
        yield from _columns(tree["expr"], bound | frozenset(inner))
        return
    for value in tree.values():
        yield from _columns(value, bound)


@lru_cache(maxsize=1)
def _changing_functions() -> frozenset[str]:
    """Return the functions of DuckDB that may answer differently for the same arguments."""
    with duckdb.connect() as con:
        names = con.execute(
            "select function_name from duckdb_functions() where stability is not null"
            " group by 1 having bool_and(stability <> 'CONSISTENT') and function_name <> 'error'"
        ).fetchall()
    return frozenset(name for (name,) in names)


def _refuse_changing_functions(expression: str, tree: dict, columns: Iterable[str]) -> None:
    """Refuse now(), random() and their like: a replay of the same bytes must give the same rows."""
    called = {node["function_name"].lower() for node in _nodes(tree) if node.get("class") == "FUNCTION"}
    # Without brackets or quotes current_date is a column to the parser, a function where no such column is.
    bare = {name.lower() for name in columns if quoted(name) not in expression}
    if found := sorted((called | bare) & _changing_functions()):
        raise ExpressionError(f"{found[0]} gives another answer each time; use only what the row itself says")


def _bind(con: duckdb.DuckDBPyConnection, expression: str, names: tuple[str, ...]) -> None:
    # DuckDB takes names that differ in case only for one column.
    row = {name.lower(): f"null::varchar as {quoted(name)}" for name in names}
    # The second column makes an aggregate fail: it would need a GROUP BY.
    beside = "_" * (1 + max(map(len, row), default=0))
    columns = ", ".join([f"1 as {beside}", *row.values()])
    try:
        con.execute(f"describe select ({expression}\n), {beside} from (select {columns})")  # noqa: S608
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise ExpressionError(
            f"DuckDB refuses it over text columns ({reason}); correct the expression"
        ) from None
