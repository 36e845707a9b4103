"""The `where` of an ArcGIS query as a DuckDB condition; what is asked with it belongs to arcgis."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<time>(?:timestamp|date)\s*'[^']*')
      | (?P<text>'(?:[^']|'')*')
      | (?P<number>-?\d+(?:\.\d+)?)
      | (?P<name>[A-Za-z_][A-Za-z0-9_.]*|"[^"]+")
      | (?P<sign><=|>=|<>|!=|=|<|>|\(|\)|,)
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_COMPARISONS = {"=", "<>", "!=", "<", "<=", ">", ">="}


class WhereError(ValueError):
    """A condition that the server does not understand; the message is what it would say."""


@dataclass
class _Words:
    """The words of a condition, read one by one."""

    words: list[tuple[str, str]]
    at: int = 0

    def peek(self) -> str:
        return self.words[self.at][1].upper() if self.at < len(self.words) else ""

    def take(self) -> tuple[str, str]:
        if self.at >= len(self.words):
            raise WhereError("the where clause ends too early")
        self.at += 1
        return self.words[self.at - 1]

    def is_next(self, *words: str) -> bool:
        """Take the words if they come next."""
        coming = [word.upper() for _, word in self.words[self.at : self.at + len(words)]]
        if coming != list(words):
            return False
        self.at += len(words)
        return True

    def expect(self, word: str) -> None:
        if not self.is_next(word):
            raise WhereError(f"'{word}' is missing in the where clause")


@dataclass
class _Reader:
    """Reads one condition by recursive descent; values become parameters, names only known columns."""

    words: _Words
    columns: Mapping[str, str]
    zone: ZoneInfo | None
    parameters: list[Any] = field(default_factory=list)

    def either(self) -> str:
        sides = [self.both()]
        while self.words.is_next("OR"):
            sides.append(self.both())
        return f"({' or '.join(sides)})"

    def both(self) -> str:
        sides = [self.one()]
        while self.words.is_next("AND"):
            sides.append(self.one())
        return " and ".join(sides)

    def one(self) -> str:
        if self.words.is_next("NOT"):
            return f"not ({self.one()})"
        if self.words.is_next("("):
            inner = self.either()
            self.words.expect(")")
            return inner
        return self.comparison()

    def comparison(self) -> str:
        left = self.operand()
        if self.words.is_next("IS", "NOT", "NULL"):
            return f"{left} is not null"
        if self.words.is_next("IS", "NULL"):
            return f"{left} is null"
        no = "not " if self.words.is_next("NOT") else ""
        if self.words.is_next("IN"):
            self.words.expect("(")
            values = [self.operand()]
            while self.words.is_next(","):
                values.append(self.operand())
            self.words.expect(")")
            return f"{left} {no}in ({', '.join(values)})"
        if self.words.is_next("BETWEEN"):
            low = self.operand()
            self.words.expect("AND")
            return f"{left} {no}between {low} and {self.operand()}"
        if self.words.is_next("LIKE"):
            return f"{left} {no}like {self.operand()}"
        _, sign = self.words.take()
        if sign not in _COMPARISONS or no:
            raise WhereError(f"'{sign}' is no comparison")
        return f"{left} {sign} {self.operand()}"

    def operand(self) -> str:
        sort, word = self.words.take()
        if sort == "number":
            self.parameters.append(float(word) if "." in word else int(word))
            return "?"
        if sort == "text":
            self.parameters.append(word[1:-1].replace("''", "'"))
            return "?"
        if sort == "time":
            self.parameters.append(self.moment(word))
            return "?::timestamp"
        if sort == "name":
            known = self.columns.get(word.strip('"').lower())
            if known is None:
                raise WhereError(f"'Invalid field: {word}' parameter is invalid")
            return known
        raise WhereError(f"'{word}' stands where a field or a value should")

    def moment(self, word: str) -> datetime:
        said = word.split("'")[1]
        try:
            moment = datetime.fromisoformat(said)
        except ValueError:
            raise WhereError(f"'{said}' is no date") from None
        if moment.tzinfo is None and self.zone is not None:
            moment = moment.replace(tzinfo=self.zone)
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def read_where(said: str, columns: Mapping[str, str], zone: ZoneInfo | None = None) -> tuple[str, list[Any]]:
    """Return a condition as DuckDB SQL, with the values of its `?` in their order.

    Args:
        said: As asked: comparisons, AND, OR, NOT, IN, BETWEEN, LIKE, IS NULL, `TIMESTAMP '…'`.
        columns: SQL of each field by its name in lower case.
        zone: The clock in which the server reads `TIMESTAMP '…'`; nothing: UTC.

    Raises:
        WhereError: It is none of these, or names a field that is not there.
    """
    words, at = [], 0
    said = said.rstrip()
    while at < len(said):
        found = _TOKEN.match(said, at)
        if found is None:
            raise WhereError(f"'{said[at:]}' is not understood")
        words.append((found.lastgroup or "", found.group().strip()))
        at = found.end()
    reader = _Reader(_Words(words), columns, zone)
    sql = reader.either()
    if reader.words.peek():
        raise WhereError(f"'{reader.words.peek()}' is too much in the where clause")
    return sql, reader.parameters
