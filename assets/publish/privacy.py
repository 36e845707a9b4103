"""Looks for personal data in files about to be published; what a view may show is decided in dbt."""

import re
from collections.abc import Sequence
from pathlib import Path

import duckdb

from assets.warehouse.reader import literal, quote

# The guards on both sides keep parcel numbers (14-28-200-001-0000) from looking like phones. Ten digits in a
# row are left alone: case and parcel ids look like that.
PATTERNS = {
    "an e-mail address": r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}",
    "a phone number": (
        r"(^|[^0-9A-Za-z.-])"
        r"((\+?1[ .-]?)?(\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .-])[2-9][0-9]{2}[ .-][0-9]{4}"
        r"|\+[0-9]{1,3}([ .-]?[0-9]){8,12})"
        r"($|[^0-9-])"
    ),
}


SHORTEST_PHONE = len("312-555-0100")


class PersonalDataError(Exception):
    """A file that shows what looks like personal data; the value itself is never repeated."""


def refuse_personal_data(
    connection: duckdb.DuckDBPyConnection, parquet: Path, text_columns: Sequence[str]
) -> None:
    """Scan the text columns of a file for e-mail addresses and phone numbers.

    Args:
        connection: One that may read the file.
        parquet: The file.
        text_columns: Its columns to look at.

    Raises:
        PersonalDataError: Naming file, column, first row (the first row of data is 1) and how many rows.
    """
    if not text_columns:
        return
    source = f"read_parquet({literal(str(parquet))}, file_row_number = true)"
    firsts = ", ".join(
        f"min(file_row_number) filter (where {suspect_condition(quote(column))})" for column in text_columns
    )
    found = connection.execute(f"select {firsts} from {source}").fetchone()  # noqa: S608
    suspects = [column for column, row in zip(text_columns, found, strict=True) if row is not None]
    if suspects:
        raise PersonalDataError(
            "\n".join(_describe(connection, source, parquet, column) for column in suspects)
        )


def refuse_personal_text(name: str, text: str) -> None:
    """Scan a page of text for e-mail addresses and phone numbers.

    Args:
        name: What the page is called in the message.
        text: What a person reads of it.

    Raises:
        PersonalDataError: Naming the page and the first line.
    """
    for kind, pattern in PATTERNS.items():
        if found := re.search(pattern, text):
            # A match may begin with the end of the line before: the guards are part of it.
            line = text.count("\n", 0, found.end() - 1) + 1
            raise PersonalDataError(
                f"{name}: what looks like {kind} in line {line}; clean the text that it comes from"
            )


def suspect_condition(column: str) -> str:
    """Return the SQL condition that a quoted text column shows what looks like personal data."""
    # A regular expression costs some 200 ns a row and most values (ids, hashes, categories) cannot match: the
    # cheap tests before it halve the scan of a million rows, and `case` alone promises their order.
    email, phone = PATTERNS.values()
    separators = " or ".join(f"contains({column}, '{separator}')" for separator in "-. +")
    return (
        f"case when contains({column}, '@') then regexp_matches({column}, {literal(f'({email})|({phone})')}) "
        f"when strlen({column}) < {SHORTEST_PHONE} or not ({separators}) then false "
        f"else regexp_matches({column}, {literal(phone)}) end"
    )


def _describe(connection: duckdb.DuckDBPyConnection, source: str, parquet: Path, column: str) -> str:
    counts = {
        kind: connection.execute(
            f"select count(*), min(file_row_number) + 1 from {source} "  # noqa: S608
            f"where regexp_matches({quote(column)}, {literal(pattern)})"
        ).fetchone()
        for kind, pattern in PATTERNS.items()
    }
    found = [f"{kind} in row {first} ({rows} such rows)" for kind, (rows, first) in counts.items() if rows]
    return (
        f"{parquet.name}, column {column}: what looks like {' and '.join(found)}; "
        "clean the column in its view, or take config.meta.publish from it"
    )
