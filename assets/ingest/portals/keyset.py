"""Reading a data set page by page and knowing where it ends; the questions themselves are each protocol's.

DuckDB counts the records of a page and so proves that its text parses whole; no record becomes a Python
object.
"""

import codecs
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import duckdb
import pyarrow as pa

from assets.ingest.portals.page import Cursor
from assets.ingest.receipts import DeliveryError

#: How often a portal may give no rows although it counts some.
EMPTY_PAGES = 3


# One question after the other: each parses the page, and together they would hold it so often in memory.
_LENGTH = "select json_array_length(body, $path) from page"
_TYPE = "select json_type(body, $path) from page"
_ENDS = "select json_extract_string(body, $ends::varchar[]) from page"
# Lists instead of unnest, which would carry the whole page along with each record.
_NEWEST = """
    select list_max(list_filter(list_transform(
            json_extract_string(body, $times),
            lambda said: {moment: try_cast(said as timestamp), said: said}),
            lambda each: each.moment <= $cap::timestamp)).said
    from page
"""


class NotRecordsError(ValueError):
    """A text that does not parse as JSON, or that holds no list where the records should be."""


@dataclass(frozen=True)
class Records:
    """What a page of JSON records is known by.

    Attributes:
        rows: How many.
        first: Values of the key columns in the first record, None where it has none.
        last: The same of the last record.
        newest: The newest time of the cursor column that is not after the cap, as the portal writes it.
        outer: Values of the keys that were looked for beside the list, None where there are none.
    """

    rows: int
    first: tuple[str | None, ...] = ()
    last: tuple[str | None, ...] = ()
    newest: str | None = None
    outer: tuple[str | None, ...] = ()


def read_records(
    body: bytes,
    *,
    path: str = "$",
    keys: tuple[str, ...] = (),
    cursor: str | None = None,
    cap: datetime | None = None,
    outer: tuple[str, ...] = (),
) -> Records:
    """Count the records of a page, and look at its ends.

    Args:
        body: The page, UTF-8.
        path: DuckDB JSON path of the list of records.
        keys: Columns whose values in the first and in the last record are wanted.
        cursor: Column whose newest time is wanted.
        cap: Later times than this are poison or belong to the next run.
        outer: Keys of the object around the list.

    Raises:
        NotRecordsError: The text does not parse whole, or holds no list at the path.
    """
    ends = [f"{path}[{place}]{_member(key)}" for place in ("0", "#-1") for key in keys]
    ends += [f"$.{key}" for key in outer]
    newest = None
    try:
        with _database().cursor() as con:
            con.register("page", _as_table(body))

            def told(question: str, **said: object) -> Any:
                return con.execute(question, said).fetchone()[0]

            rows = told(_LENGTH, path=path)
            if not rows and told(_TYPE, path=path) != "ARRAY":
                raise NotRecordsError("it holds no list of records")
            found = told(_ENDS, ends=ends) if ends else []
            if cursor:
                times = f"{path}[*]{_member(cursor)}"
                newest = told(_NEWEST, times=times, cap=cap or datetime.max)  # noqa: DTZ901
    except (duckdb.Error, UnicodeDecodeError):
        raise NotRecordsError("it is no whole JSON") from None
    middle, last = len(keys), 2 * len(keys)
    return Records(rows, tuple(found[:middle]), tuple(found[middle:last]), newest, tuple(found[last:]))


@lru_cache(maxsize=1)
def _database() -> duckdb.DuckDBPyConnection:
    # Thirty milliseconds each time else; what is registered stays with the cursor.
    return duckdb.connect(config={"threads": 1})


def _as_table(body: bytes) -> pa.Table:
    """Return a page as a table of one text, without copying it: DuckDB would copy a parameter."""
    body = body.removeprefix(codecs.BOM_UTF8)
    offsets = pa.array([0, len(body)], pa.int64()).buffers()[1]
    return pa.table({"body": pa.LargeStringArray.from_buffers(1, offsets, pa.py_buffer(body))})


def _member(column: str) -> str:
    return '."' + column.replace("\\", "\\\\").replace('"', '\\"') + '"'


def moment(said: str | None) -> datetime | None:
    """Return the time a portal writes, UTC or local without a zone; nothing where it writes none."""
    try:
        at = datetime.fromisoformat(said) if said else None
    except ValueError:
        return None
    if at is not None and at.tzinfo is not None:
        at = (at - at.utcoffset()).replace(tzinfo=None)
    return at


def beyond(
    keys: tuple[str, ...],
    values: tuple[str, ...],
    name: Callable[[str], str],
    literal: Callable[[str], str],
) -> str:
    """Return the condition that a record comes after another one in the order of one or two keys.

    Args:
        keys: Columns of the order.
        values: Values of the record that is passed; an empty second one takes in all its ties.
        name: Writes a column as the portal wants it.
        literal: Writes a value as the portal wants it.
    """
    first, value = name(keys[0]), literal(values[0])
    if len(keys) == 1:
        return f"{first} > {value}"
    if not values[1]:
        return f"{first} >= {value}"
    return f"({first} > {value} OR ({first} = {value} AND {name(keys[1])} > {literal(values[1])}))"


def newer(one: Cursor | None, other: Cursor | None) -> Cursor | None:
    """Return the later of two cursors."""
    if one is None or other is None:
        return one or other
    # Compared as times: the same portal may write the same time with and without a fraction.
    order = [(moment(each.at) or datetime.min, each.id) for each in (one, other)]  # noqa: DTZ901
    return one if order[0] >= order[1] else other


@dataclass
class End:
    """Whether a page was the last: only the portal's own count of what lies behind it says so.

    A page may be short because the portal clamps without a word, or empty because it is in trouble.

    Attributes:
        what: The data set, as it may be shown.
        most: Most rows the portal gave at once.
    """

    what: str
    most: int = 0
    empty: int = 0

    def is_reached(self, rows: int, new: int, asked: int, remaining: Callable[[], int]) -> bool:
        """Return whether nothing comes after a page.

        Args:
            rows: Rows of the page.
            new: Of these, rows that no page before it brought.
            asked: Rows it was asked for.
            remaining: Asks the portal how many rows lie behind the page.

        Raises:
            DeliveryError: The portal goes on counting rows that it does not give.
        """
        usual = min(asked, self.most or asked)
        self.most = max(self.most, rows)
        self.empty = 0 if new else self.empty + 1
        if new and rows >= usual:
            return False
        left = remaining()
        if left and self.empty > EMPTY_PAGES:
            raise DeliveryError(
                "CountMismatch",
                f"{self.what} counts {left:,} more rows and gives none of them, asked {self.empty} times; "
                "run again later, or tell the publisher",
            )
        return not left


def small_json(body: bytes) -> object:
    """Read an answer that is no page of records, such as a description; nothing where it is no JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def told_first(rows: object, name: str) -> Any:
    """Return a value of the first row of a small answer, nothing where there is none."""
    first = rows[0] if isinstance(rows, list) and rows else None
    return first.get(name) if isinstance(first, dict) else None


def number_told(rows: object, where: str) -> int:
    """Return the count `n` that a small answer of one row tells.

    Raises:
        DeliveryError: It tells none.
    """
    try:
        return int(told_first(rows, "n"))
    except (TypeError, ValueError):
        raise DeliveryError(
            "BrokenAnswer", f"{where} does not say how many rows there are; run again later"
        ) from None


def months_told(rows: object, where: str) -> dict[str, int]:
    """Return the counts `n` of a small answer by its `month`, which may be written as a date.

    Raises:
        DeliveryError: It tells none.
    """
    found: dict[str, int] = {}
    for row in rows if isinstance(rows, list) else [None]:
        count = number_told([row], where)
        month = str(row.get("month") or "")[:7]
        found[month] = found.get(month, 0) + count
    return found
