"""Looks single things up in a JSON answer with DuckDB, so that no page of records becomes Python objects.

What an answer must hold is each protocol's.
"""

import json
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import duckdb

from assets.ingest.portals.wire import Answer, RetryError, shown
from assets.ingest.receipts import DeliveryError

Read = TypeVar("Read")

_OF_THREAD = threading.local()


def look_up(body: bytes, expressions: str, **values: Any) -> tuple[Any, ...]:
    """Return what DuckDB expressions over a JSON text give.

    Args:
        body: The text, UTF-8; it is whole JSON or nothing is returned.
        expressions: SQL over the column `body`, written in our code. What a portal or a declaration says
            comes in as a value.
        values: What `$name` in the expressions stands for.

    Raises:
        RetryError: The text is not whole: it was cut off, or it is a page for people.
    """
    try:
        text = body.decode("utf-8-sig")
        sql = f"select {expressions} from (select $body::varchar as body)"  # noqa: S608
        return _database().execute(sql, {"body": text, **values}).fetchone()
    except (UnicodeDecodeError, duckdb.Error):
        raise RetryError(what_came(body)) from None


def _database() -> duckdb.DuckDBPyConnection:
    # Opening one takes 16 ms, as much as reading a thousand records; Open311 has fifty on a page.
    if not hasattr(_OF_THREAD, "database"):
        _OF_THREAD.database = duckdb.connect(config={"threads": 1})
    return _OF_THREAD.database


def small_object(body: bytes) -> dict[str, Any]:
    """Return an answer that holds no records, such as a description, as a dict.

    Raises:
        RetryError: It is no whole JSON object.
    """
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        raise RetryError(what_came(body)) from None
    if not isinstance(said, dict):
        raise RetryError("a JSON that is no object came")
    return said


def what_came(body: bytes) -> str:
    """Return what a text that is no whole JSON is, in a few words."""
    start = body[:200].lstrip().lower()
    if not start:
        return "an empty answer came"
    return "an HTML page came, no JSON" if start.startswith(b"<") else "broken JSON came"


def member(name: str) -> str:
    """Return the step of a DuckDB JSON path to a key of any name."""
    return '."' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def ask_and_read(
    ask: Callable[..., Answer], url: str, read: Callable[[Answer], Read], **said: Any
) -> tuple[Answer, Read]:
    """Ask, read the answer while it may still be asked again, and return both.

    Args:
        ask: `get` or `post` of a wire.
        url: The address.
        read: Reads an answer of status 200, and may refuse any other; its errors are those of a `check`.
        said: What `ask` takes beside.
    """
    found: list[Read] = []

    def check(answer: Answer) -> None:
        found.append(read(answer))

    answer = ask(url, check=check, **said)
    if not found:
        raise DeliveryError(
            "BrokenAnswer",
            f"{shown(url)} answered HTTP {answer.status} although nothing was conditional; "
            "the portal or something in front of it is broken: tell its operator",
        )
    return answer, found[-1]
