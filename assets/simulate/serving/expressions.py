"""The small part of SQL that portals let clients write, read into DuckDB SQL with parameters.

Which words, columns and functions a portal knows is its module's; no text of a client becomes SQL here.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from assets.simulate.serving.store import Dataset, quoted


class QuestionError(Exception):
    """A question that the portal cannot read.

    Attributes:
        kind: `syntax`, `no-such-column`, `no-such-function` or `type-mismatch`.
        named: The column or function it is about.
    """

    def __init__(self, kind: str, message: str, named: str = "") -> None:
        super().__init__(message)
        self.kind, self.named = kind, named


@dataclass(frozen=True)
class Term:
    """A piece of a question as DuckDB SQL.

    Attributes:
        type: A column's type, or `null`, or `condition`.
        parameters: Values of the `?` in it.
        literal: The text of a string literal, which may yet become a time or a number.
        is_row_id: Whether it is the portal's own row id.
    """

    sql: str
    type: str
    parameters: tuple = ()
    literal: str | None = None
    is_row_id: bool = False


@dataclass(frozen=True)
class Item:
    """One thing selected: a term under a name, or a star (`*`, `:*`)."""

    name: str
    term: Term | None = None


@dataclass(frozen=True)
class Statement:
    """One question, its clauses read."""

    select: tuple[Item, ...] = (Item("*"),)
    table: str = ""
    where: Term = field(default_factory=lambda: Term("true", "condition"))
    group: tuple[Term, ...] = ()
    order: tuple[tuple[Term, bool], ...] = ()
    limit: int | None = None
    offset: int = 0


Function = Callable[..., Term]
_T = TypeVar("_T")

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>'(?:[^']|'')*')
    | (?P<double>"(?:[^"]|"")*")
    | (?P<back>`[^`]*`)
    | (?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)
    | (?P<name>:@?[A-Za-z_]\w*|:\*|[A-Za-z_@]\w*)
    | (?P<sign><=|>=|<>|!=|::|[-=<>(),*])
    )""",
    re.VERBOSE,
)
_ORDERS = {"=": "=", "!=": "<>", "<>": "<>", "<": "<", ">": ">", "<=": "<=", ">=": ">="}
_TIMES = ("floating_timestamp", "fixed_timestamp")
#: Words that end a term.
_WORDS = frozenset(
    ("select", "from", "where", "group", "order", "by", "limit", "offset", "as", "asc", "desc", "and", "or")
) | {"not", "is", "in", "like", "between"}


@dataclass
class Language:
    """What one portal's questions may hold.

    Attributes:
        columns: Terms by the name a client writes.
        functions: By name in lower case; each takes terms. An argument `*` comes as a term of type `star`.
        double_is_string: Whether `"x"` is a string (Opendatasoft) and no name (SQL).
        compares_ids: Whether row ids can be compared other than for equality.
        names_as_written: Whether `year(x)` without a name is called so (Opendatasoft).
    """

    columns: Mapping[str, Term]
    functions: Mapping[str, Function] = field(default_factory=dict)
    double_is_string: bool = False
    compares_ids: bool = True
    names_as_written: bool = False


def columns_of(dataset: Dataset) -> dict[str, Term]:
    """Return the terms of a data set's own columns."""
    return {column.name: Term(quoted(column.name), column.type) for column in dataset.columns}


class Reader:
    """Reads one text; every method takes what it names from where the one before it stopped."""

    def __init__(self, text: str, language: Language) -> None:
        self.text, self.language = text, language
        self._tokens = _tokens(text)
        self._at = 0

    # --- clauses ---------------------------------------------------------------------------------------

    def statement(self) -> Statement:
        """Read `SELECT ... [FROM ...] [WHERE ...] [GROUP BY ...] [ORDER BY ...] [LIMIT n] [OFFSET n]`."""
        self._must("select")
        select = self.items()
        table = self._name() if self._word("from") else ""
        where = self.condition() if self._word("where") else Term("true", "condition")
        group = self.groups(select) if self._words("group", "by") else ()
        order = self.orders(select) if self._words("order", "by") else ()
        limit = self._whole() if self._word("limit") else None
        offset = self._whole() if self._word("offset") else 0
        self.end()
        return Statement(select, table, where, group, order, limit, offset)

    def items(self) -> tuple[Item, ...]:
        """Read what is selected."""
        return tuple(self._listed(self._item))

    def groups(self, select: tuple[Item, ...]) -> tuple[Term, ...]:
        """Read terms, or names of selected things, or their places."""
        return tuple(self._listed(lambda: self._selected(select)))

    def orders(self, select: tuple[Item, ...] = ()) -> tuple[tuple[Term, bool], ...]:
        """Read terms, each with whether it falls."""

        def one() -> tuple[Term, bool]:
            term = self._selected(select)
            falls = self._word("desc")
            if not falls:
                self._word("asc")
            return term, falls

        return tuple(self._listed(one))

    def condition(self) -> Term:
        """Read a condition."""
        term = self._any()
        return self._sure(term)

    def end(self) -> None:
        """See that nothing is left.

        Raises:
            QuestionError: Something is.
        """
        if self._at < len(self._tokens):
            raise self._lost()

    # --- terms -----------------------------------------------------------------------------------------

    def _any(self) -> Term:
        term = self._all()
        while self._word("or"):
            term = _both("or", self._sure(term), self._sure(self._all()))
        return term

    def _all(self) -> Term:
        term = self._not()
        while self._word("and"):
            term = _both("and", self._sure(term), self._sure(self._not()))
        return term

    def _not(self) -> Term:
        if self._word("not"):
            term = self._sure(self._not())
            return Term(f"(not {term.sql})", "condition", term.parameters)
        return self._compared()

    def _compared(self) -> Term:
        left = self._term()
        sign = self._sign(*_ORDERS)
        if sign:
            return self._compare(left, sign, self._term())
        if self._word("is"):
            negated = "not " if self._word("not") else ""
            self._must("null")
            return Term(f"({left.sql} is {negated}null)", "condition", left.parameters)
        negated = self._word("not")
        found = self._listed_in(left) or self._alike(left) or self._between(left)
        if found is None:
            if negated:
                raise self._lost()
            return left
        return Term(f"(not {found.sql})", "condition", found.parameters) if negated else found

    def _listed_in(self, left: Term) -> Term | None:
        if not self._word("in"):
            return None
        self._must_sign("(")
        equal = [self._compare(left, "=", term) for term in self._listed(self._term)]
        self._must_sign(")")
        found = equal[0]
        for other in equal[1:]:
            found = _both("or", found, other)
        return found

    def _alike(self, left: Term) -> Term | None:
        if not self._word("like"):
            return None
        right = self._term()
        if left.type != "text" or right.type != "text":
            raise QuestionError("type-mismatch", f"like compares text, not {left.type} with {right.type}")
        return Term(f"({left.sql} like {right.sql})", "condition", left.parameters + right.parameters)

    def _between(self, left: Term) -> Term | None:
        if not self._word("between"):
            return None
        low = self._compare(left, ">=", self._term())
        self._must("and")
        return _both("and", low, self._compare(left, "<=", self._term()))

    def _compare(self, left: Term, sign: str, right: Term) -> Term:
        if (left.is_row_id or right.is_row_id) and not self.language.compares_ids and sign != "=":
            raise QuestionError("type-mismatch", f"row identifiers cannot be compared with {sign}")
        left, right = _fit(left, right), _fit(right, left)
        if left.type != right.type and not {"null"} & {left.type, right.type}:
            raise QuestionError("type-mismatch", f"{sign} does not compare {left.type} with {right.type}")
        sql = f"({left.sql} {_ORDERS[sign]} {right.sql})"
        return Term(sql, "condition", left.parameters + right.parameters)

    def _term(self) -> Term:
        term = self._plain()
        while self._sign("::"):
            term = self._cast(term, self._name())
        return term

    def _plain(self) -> Term:
        kind, text = self._next()
        if kind == "string" or (kind == "double" and self.language.double_is_string):
            said = text[1:-1].replace(text[0] * 2, text[0])
            return Term("?::varchar", "text", (said,), literal=said)
        if kind == "number":
            return _number(text)
        if text == "-":
            kind, text = self._next()
            if kind != "number":
                raise self._lost()
            return _number("-" + text)
        if text == "(":
            term = self._any()
            self._must_sign(")")
            return Term(f"({term.sql})", term.type, term.parameters, term.literal, term.is_row_id)
        if kind in ("name", "double", "back"):
            return self._named(kind, text)
        raise self._lost()

    def _named(self, kind: str, text: str) -> Term:
        name = text if kind == "name" else text[1:-1]
        if kind == "name":
            word = name.lower()
            if word in ("true", "false"):
                return Term(word, "flag")
            if word == "null":
                return Term("null", "null")
            if self._sign("("):
                return self._called(word)
            if word in ("timestamp", "date") and self._kind() == "string":
                return self._cast(self._plain(), word)
            if word in _WORDS:
                raise self._lost()
        if name not in self.language.columns:
            raise QuestionError("no-such-column", f"No such column: {name}", name)
        return self.language.columns[name]

    def _called(self, name: str) -> Term:
        if name not in self.language.functions:
            raise QuestionError("no-such-function", f"No such function: {name}", name)
        if self._sign("*"):
            arguments = [Term("*", "star")]
        else:
            arguments = [] if self._peek() == ")" else self._listed(self._term)
        self._must_sign(")")
        try:
            return self.language.functions[name](*arguments)
        except TypeError:
            raise QuestionError("type-mismatch", f"{name} does not take {len(arguments)} arguments") from None

    def _cast(self, term: Term, name: str) -> Term:
        if name.lower() in ("timestamp", "timestamptz", "date"):
            return _fit(term, Term("", "fixed_timestamp"))
        if name.lower() in ("text", "varchar"):
            return Term(f"({term.sql})::varchar", "text", term.parameters)
        raise QuestionError("syntax", f"type {name!r} does not exist")

    def _item(self) -> Item:
        if self._sign("*"):
            return Item("*")
        if self._peek() == ":*":
            self._next()
            return Item(":*")
        start = self._at
        term = self._term()
        written = "".join(text for _, text in self._tokens[start : self._at])
        if self._word("as"):
            return Item(self._name(), term)
        if "(" in written and not self.language.names_as_written:
            written = re.sub(r"\W+", "_", written).strip("_")
        return Item(written.strip('"`'), term)

    def _selected(self, select: tuple[Item, ...]) -> Term:
        text = self._peek()
        of_name = {item.name: item.term for item in select if item.term}
        if text.strip('"`') in of_name and text not in self.language.columns:
            self._next()
            return of_name[text.strip('"`')]
        if text.isdigit() and 0 < int(text) <= len(select) and select[int(text) - 1].term:
            self._next()
            return select[int(text) - 1].term
        return self._term()

    def _sure(self, term: Term) -> Term:
        if term.type == "flag":
            return Term(f"({term.sql})", "condition", term.parameters)
        if term.type != "condition":
            raise QuestionError("type-mismatch", f"a condition is wanted, not {term.type}")
        return term

    # --- tokens ----------------------------------------------------------------------------------------

    def _listed(self, one: Callable[[], _T]) -> list[_T]:
        found = [one()]
        while self._sign(","):
            found.append(one())
        return found

    def _kind(self) -> str:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    def _peek(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def _next(self) -> tuple[str, str]:
        if self._at >= len(self._tokens):
            raise QuestionError("syntax", "unexpected end of input")
        self._at += 1
        return self._tokens[self._at - 1]

    def _word(self, word: str) -> bool:
        if self._kind() == "name" and self._peek().lower() == word:
            self._at += 1
            return True
        return False

    def _words(self, *words: str) -> bool:
        if not self._word(words[0]):
            return False
        for word in words[1:]:
            self._must(word)
        return True

    def _must(self, word: str) -> None:
        if not self._word(word):
            raise self._lost()

    def _sign(self, *signs: str) -> str:
        if self._kind() == "sign" and self._peek() in signs:
            return self._next()[1]
        return ""

    def _must_sign(self, sign: str) -> None:
        if not self._sign(sign):
            raise self._lost()

    def _name(self) -> str:
        kind, text = self._next()
        if kind not in ("name", "double", "back"):
            self._at -= 1
            raise self._lost()
        return text if kind == "name" else text[1:-1]

    def _whole(self) -> int:
        kind, text = self._next()
        if kind != "number" or not text.isdigit():
            self._at -= 1
            raise self._lost()
        return int(text)

    def _lost(self) -> QuestionError:
        near = self._peek() or "end of input"
        return QuestionError("syntax", f'syntax error at or near "{near}"')


def ordered(order: tuple[tuple[Term, bool], ...]) -> tuple[str, tuple]:
    """Return an order list and its parameters; nulls count as the highest, as in PostgreSQL."""
    pieces = [f"{term.sql} {'desc nulls first' if falls else 'asc nulls last'}" for term, falls in order]
    return ", ".join(pieces), tuple(value for term, _ in order for value in term.parameters)


def _tokens(text: str) -> list[tuple[str, str]]:
    found, at = [], 0
    text = text.rstrip().rstrip(";").rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise QuestionError("syntax", f'syntax error at or near "{text[at : at + 20].strip()}"')
        found.append((match.lastgroup, match.group(match.lastgroup)))
        at = match.end()
    return found


def _number(text: str) -> Term:
    if text.lstrip("-").isdigit() and len(text) < 18:
        return Term("?::bigint", "number", (int(text),))
    return Term("?::double", "number", (float(text),))


def _both(word: str, left: Term, right: Term) -> Term:
    return Term(f"({left.sql} {word} {right.sql})", "condition", left.parameters + right.parameters)


def _fit(term: Term, other: Term) -> Term:
    """Return a string literal as the type of what it is compared with; every other term as it is."""
    if term.literal is None or other.type == term.type:
        return term
    if other.type in _TIMES:
        return Term("?::timestamp", other.type, (_time(term.literal, other.type),))
    if other.type == "number":
        try:
            float(term.literal)
            return _number(term.literal)
        except ValueError:
            raise QuestionError("type-mismatch", f"{term.literal!r} is no number") from None
    return term


def _time(text: str, type: str) -> datetime:  # noqa: A002 -- a column's type
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise QuestionError("type-mismatch", f"{text!r} is no time") from None
    if time.tzinfo is None:
        return time
    if type == "floating_timestamp":
        raise QuestionError("type-mismatch", f"{text!r} has a zone, a floating timestamp has none")
    return time.astimezone(UTC).replace(tzinfo=None)
