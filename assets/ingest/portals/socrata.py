"""Socrata data sets, SODA 2 or SODA 3: questions in SoQL out, pages in; when to ask belongs to fetching.

A data set's address is any URL of its domain whose path holds its id: `https://{domain}/resource/{4x4}`, its
page for people, or its metadata.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from assets.ingest.feed import Feed
from assets.ingest.part import Part
from assets.ingest.portals.conditions import Dialect
from assets.ingest.portals.keyset import (
    End,
    NotRecordsError,
    Records,
    beyond,
    moment,
    months_told,
    newer,
    number_told,
    read_records,
    small_json,
    told_first,
)
from assets.ingest.portals.page import Ask, Cursor, Description, Page, token, told
from assets.ingest.portals.wire import Answer, RetryError, Wire, refusal, shown
from assets.ingest.receipts import DeliveryError

#: SODA 2.0 gives no more at once; later versions say no maximum and clamp as they like.
PAGE_ROWS = 50_000
#: The portal's own columns of every data set, in the words of X-SODA2-Types.
SYSTEM_COLUMNS = {":id": "text", ":created_at": "fixed_timestamp", ":updated_at": "fixed_timestamp"}
#: How often a data set whose rows move under the reader is read again from the beginning.
REREADS = 3
#: A valid cast once gave a 500 `internal-error` with a tag; more attempts than so many do not mend that.
INTERNAL_ERRORS = 2

_ID = re.compile(r"[a-z0-9]{4}-[a-z0-9]{4}")
_BEFORE_ID = re.compile(r"^(.*?)/(?:resource|d|api/views|api/id|api/v3/views)$")
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*|:[a-z_]+")
_RESERVED = re.compile(
    "all|and|as|asc|between|by|case|desc|distinct|else|end|false|from|group|having|in|is|join|like|limit|not"
    "|null|offset|on|or|order|search|select|then|true|union|when|where"
)
# The metadata and the headers name the same types differently.
_TYPE = {"calendar_date": "floating_timestamp", "boolean": "checkbox", "date": "fixed_timestamp"}


class _KeysetRefusedError(Exception):
    """The portal does not compare row ids."""


class _NoMetadataError(Exception):
    """The portal does not show the data set's metadata."""


@dataclass(frozen=True)
class _Question:
    """One SoQL question."""

    select: str
    where: tuple[str, ...] = ()
    group: str | None = None
    order: str | None = None
    limit: int | None = None
    offset: int | None = None

    def clauses(self) -> dict[str, str | int]:
        """Return its clauses in the order SoQL wants them, those that are said."""
        where = self.where[0] if len(self.where) == 1 else " AND ".join(self.where)
        said = {
            "select": self.select,
            "where": where,
            "group": self.group,
            "order": self.order,
            "limit": self.limit,
            "offset": self.offset,
        }
        return {name: value for name, value in said.items() if value not in (None, "")}

    def parameters(self) -> dict[str, str | int]:
        """Return it as SODA 2 is asked."""
        return {f"${name}": value for name, value in self.clauses().items()}

    def text(self) -> str:
        """Return it as SODA 3 is asked."""
        words = {"group": "GROUP BY", "order": "ORDER BY"}
        return " ".join(f"{words.get(name, name.upper())} {value}" for name, value in self.clauses().items())


@dataclass(frozen=True)
class _Stage:
    """Rows that are read in one order.

    Attributes:
        keys: Columns of the order; the last one is the row id.
        conditions: Which rows, whatever was read already.
        start: Key values where to begin in that order; nothing: at the first row.
    """

    keys: tuple[str, ...]
    conditions: tuple[str, ...] = ()
    start: tuple[str, ...] = ()

    def behind(self, after: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return the conditions of the rows behind some key values, or of all its rows."""
        after = after or self.start
        return (*([beyond(self.keys, after, _name, _literal)] if after else []), *self.conditions)


@dataclass(frozen=True)
class _Place:
    """Where a reading is.

    Attributes:
        after: Key values of the last row that was read.
        offset: How many rows of the stage were read; nothing while the order itself is followed.
        cap: Cursors above it are poison, or belong to the next run.
        rereads: How often the stage was begun anew because its rows moved.
    """

    stage: int = 0
    after: tuple[str, ...] = ()
    offset: int | None = None
    cursor: Cursor | None = None
    cap: datetime | None = None
    until: datetime | None = None
    rereads: int = 0

    def text(self) -> str:
        """Write it for `Ask.resume`."""
        return token(
            stage=self.stage,
            after=self.after,
            offset=self.offset,
            cursor=self.cursor and [self.cursor.at, self.cursor.id],
            cap=self.cap and self.cap.isoformat(),
            until=self.until and self.until.isoformat(),
            rereads=self.rereads,
        )


def _place(text: str) -> _Place:
    said: dict[str, Any] = dict(told(text))
    times = {name: said[name] and datetime.fromisoformat(said[name]) for name in ("cap", "until")}
    cursor = said["cursor"] and Cursor(*said["cursor"])
    return _Place(**{**said, **times, "after": tuple(said["after"]), "cursor": cursor})


class Socrata:
    """One part of a feed behind Socrata."""

    def __init__(self, feed: Feed, part: Part, wire: Wire) -> None:
        """Find the data set in the part's source.

        Raises:
            DeliveryError: There is none in it.
        """
        self._wire = wire
        self._request = feed.request_of(part)
        self._sync = feed.sync_of(part)
        self._base, self._id = _address(part.source)
        self._cursor = self._sync.cursor or ":updated_at"
        self._compares_ids = True
        self._headers = {"X-App-Token": wire.token} if wire.token else {}

    @property
    def _is_system_cursor(self) -> bool:
        return self._cursor == ":updated_at"

    def describe(self) -> Description:
        """Ask for columns, rows and the time of the last change."""
        try:
            said = self._metadata()
        except _NoMetadataError as reason:
            columns = self._columns_of_headers()
            notes = (f"the portal does not show the metadata ({reason}); columns are as the answer says",)
            return Description(columns, self._count(()), None, notes)
        columns = {
            str(column["fieldName"]): _type(str(column.get("dataTypeName", "")))
            for column in said.get("columns", [])
            if isinstance(column, dict) and column.get("fieldName")
        }
        changed = said.get("rowsUpdatedAt")
        changed_at = (
            datetime.fromtimestamp(changed, UTC).replace(tzinfo=None)
            if isinstance(changed, int | float)
            else None
        )
        return Description(columns | SYSTEM_COLUMNS, self._count(()), changed_at)

    def _metadata(self) -> dict[str, Any]:
        def check(answer: Answer) -> None:
            if answer.status in (403, 404):
                raise _NoMetadataError(f"HTTP {answer.status}")
            if answer.status == 200 and not isinstance(small_json(answer.body), dict):
                raise _NoMetadataError("it answers with something else")

        url = f"{self._base}/api/views/{self._id}.json"
        said = small_json(self._wire.get(url, headers=self._headers, check=check).body)
        return said if isinstance(said, dict) else {}

    def _columns_of_headers(self) -> dict[str, str]:
        answer, _ = self._ask(_Question(":*,*", self._wheres(()), order=":id", limit=1))
        names, types = _told_columns(answer, "Fields"), _told_columns(answer, "Types")
        if not names:
            return {}
        return {name: _type(each) for name, each in zip(names, types, strict=False)} | SYSTEM_COLUMNS

    def pages(self, ask: Ask) -> Iterator[Page]:
        """Yield the pages of an answer; the last one may be empty."""
        place = _place(ask.resume) if ask.resume else self._start(ask)
        until = place.until or ask.until
        yield from self._read(":*,*", lambda: self._stages(ask, until), place, ask.days is None)

    def count(self, ask: Ask) -> int:
        """Return how many rows the question has."""
        try:
            return sum(self._count(stage.behind()) for stage in self._stages(ask, ask.until))
        except _KeysetRefusedError:
            self._compares_ids = False
            return self.count(ask)

    def months(self, column: str) -> dict[str, int] | None:
        """Return the rows by month of a source column; nothing where its type has no months."""
        select = f"date_trunc_ym({_name(column)}) AS month, count(*) AS n"
        question = _Question(select, self._wheres(()), group="month", order="month", limit=PAGE_ROWS)
        try:
            answer, _ = self._ask(question)
        except DeliveryError as error:
            if error.error_type == "Http400":
                return None
            raise
        return months_told(small_json(answer.body), shown(answer.url))

    def ids(self, columns: tuple[str, ...], created: str | None, month: str | None) -> Iterator[Page]:
        """Yield pages with the row id and some columns, of a month or of all rows."""
        conditions = _DIALECT.of_month(created, month)
        names = dict.fromkeys([":id", *columns])
        select = ",".join(_name(column) for column in names)
        yield from self._read(select, lambda: [_Stage((":id",), conditions)], _Place(), has_cursor=False)

    def _start(self, ask: Ask) -> _Place:
        cap = ask.until
        if not self._is_system_cursor:
            # A city's own clock may be ahead of UTC.
            cap += timedelta(days=1)
            if ask.mode != "incremental" and ask.days is None:
                cap = self._newest_before(cap)
        return _Place(cap=cap, until=ask.until)

    def _newest_before(self, limit: datetime) -> datetime:
        """Return the newest business time before the reading begins.

        A full reading follows the row ids: of two rows that change meanwhile it may see the later change and
        not the earlier one, so neither may become the cursor.
        """
        name = _name(self._cursor)
        where = self._wheres((f"{name} <= {_literal(_written(limit))}",))
        answer, _ = self._ask(_Question(f"max({name}) AS newest", where))
        newest = moment(told_first(small_json(answer.body), "newest"))
        return newest or datetime.min  # noqa: DTZ901

    def _stages(self, ask: Ask, until: datetime) -> list[_Stage]:
        if ask.days is not None:
            return [_Stage((":id",), _DIALECT.between(self._sync.created, *ask.days))]
        if ask.mode != "incremental":
            return [_Stage((":id",))]
        start = (ask.since.at, ask.since.id if self._compares_ids else "") if ask.since else ()
        name = _name(self._cursor)
        if self._is_system_cursor:
            return [_Stage((self._cursor, ":id"), (f"{name} <= {_literal(_written(until) + 'Z')}",), start)]
        # No upper bound: an edited row moves to the end of the order and is seen there. Rows without a time
        # never show that they changed, so they are read each time.
        return [
            _Stage((self._cursor, ":id"), (f"{name} IS NOT NULL",), start),
            _Stage((":id",), (f"{name} IS NULL",)),
        ]

    def _read(
        self, select: str, stages: Callable[[], list[_Stage]], place: _Place, has_cursor: bool
    ) -> Iterator[Page]:
        end = End(shown(f"{self._base}/resource/{self._id}"))
        while True:
            try:
                page, place = self._step(select, stages(), place, end, has_cursor)
            except _KeysetRefusedError:
                self._compares_ids = False
                place = replace(place, after=(), offset=0)
                continue
            if page is not None:
                yield page
                if page.next is None:
                    return

    def _step(
        self, select: str, stages: list[_Stage], place: _Place, end: End, has_cursor: bool
    ) -> tuple[Page | None, _Place]:
        """Ask for the rows at a place; return them, if they come next, and the place behind them."""
        stage = stages[place.stage]
        limit = self._request.page_rows or PAGE_ROWS
        by_offset = not self._compares_ids or place.offset is not None
        question = self._page_question(select, stage, place, limit, by_offset)
        answer, records = self._ask(question, stage.keys, self._cursor if has_cursor else None, place)
        following = self._followed(stage, place, records, by_offset)
        if following is None:
            return None, self._begun_anew(place, by_offset)
        if has_cursor:
            following = replace(following, cursor=newer(_cursor_of(stage, records), place.cursor))
        new = records.rows if following.offset is None else following.offset - (place.offset or 0)
        behind = following
        is_over = end.is_reached(records.rows, new, limit, lambda: self._remaining(stage, behind))
        if is_over and place.stage + 1 < len(stages):
            following = replace(following, stage=place.stage + 1, after=(), offset=None)
            is_over = False
        if not records.rows and not is_over:
            return None, following
        page = Page(
            answer.body,
            records.rows,
            None if is_over else following.text(),
            cursor=following.cursor,
            columns=_told_columns(answer, "Fields"),
        )
        return page, following

    def _page_question(
        self, select: str, stage: _Stage, place: _Place, limit: int, by_offset: bool
    ) -> _Question:
        question = _Question(select, order=",".join(_name(key) for key in stage.keys), limit=limit)
        if by_offset:
            # One row back: if it is not the row that was read last, rows have moved.
            offset = max((place.offset or 0) - 1, 0)
            # With a limit of one the row before would be all that comes.
            return replace(question, where=self._wheres(stage.behind()), offset=offset, limit=max(limit, 2))
        return replace(question, where=self._wheres(stage.behind(place.after)))

    def _followed(self, stage: _Stage, place: _Place, records: Records, by_offset: bool) -> _Place | None:
        """Return the place after a page, nothing where its rows are not those that come next."""
        if not by_offset:
            if not records.rows:
                return place
            # Two rows of one time that the portal writes shorter than it keeps it: no order to follow.
            return None if records.last == place.after else replace(place, after=records.last)
        if place.offset and records.rows and records.first != place.after:
            return None
        repeated = 1 if place.offset and records.rows else 0
        offset = (place.offset or 0) + records.rows - repeated
        return replace(place, offset=offset, after=records.last if records.rows else place.after)

    def _begun_anew(self, place: _Place, by_offset: bool) -> _Place:
        if by_offset and place.rereads >= REREADS:
            raise DeliveryError(
                "CountMismatch",
                f"{shown(f'{self._base}/resource/{self._id}')} moves its rows while they are read, "
                f"{REREADS + 1} times; run again when the publisher is not loading",
            )
        return replace(place, after=(), offset=0, rereads=place.rereads + int(by_offset))

    def _remaining(self, stage: _Stage, place: _Place) -> int:
        if place.offset is None:
            return self._count(stage.behind(place.after))
        return max(self._count(stage.behind()) - place.offset, 0)

    def _wheres(self, conditions: tuple[str, ...]) -> tuple[str, ...]:
        return (*([f"({self._request.where})"] if self._request.where else []), *conditions)

    def _count(self, conditions: tuple[str, ...]) -> int:
        answer, _ = self._ask(_Question("count(*) AS n", self._wheres(conditions)))
        return number_told(small_json(answer.body), shown(answer.url))

    def _ask(
        self,
        question: _Question,
        keys: tuple[str, ...] = (),
        cursor: str | None = None,
        place: _Place | None = None,
    ) -> tuple[Answer, Records]:
        compares_ids = any(f"{_name(':id')} >" in each for each in question.where)
        found: list[Records] = []
        internal_errors = 0

        def check(answer: Answer) -> None:
            nonlocal internal_errors
            if answer.status == 500:
                internal_errors += _is_internal_error(answer)
                if internal_errors > INTERNAL_ERRORS:
                    raise refusal(answer, _said(answer))
            elif answer.status not in (200, 429):
                raise _refused(answer, compares_ids)
            elif answer.status == 200:
                found[:] = [_looked_at(answer, keys, cursor, place.cap if place else None)]

        answer = self._send(question, check)
        return answer, found[0]

    def _send(self, question: _Question, check: Any) -> Answer:
        if self._request.api == "soda3":
            url = f"{self._base}/api/v3/views/{self._id}/query.json"
            body = {"query": question.text(), "includeSynthetic": False}
            return self._wire.post(url, json=body, headers=self._headers, check=check, checked=(429, 500))
        url = f"{self._base}/resource/{self._id}.json"
        return self._wire.get(
            url, question.parameters(), headers=self._headers, check=check, checked=(429, 500)
        )


def _address(source: str) -> tuple[str, str]:
    """Return what stands before a data set's path, and its id."""
    parts = urlsplit(source)
    segments = parts.path.split("/")
    at = [n for n, each in enumerate(segments) if _ID.fullmatch(each.partition(".")[0])]
    if not (parts.scheme in ("http", "https") and parts.netloc and at):
        raise DeliveryError(
            "WrongSource",
            f"{shown(source)} is no Socrata data set; write https://<domain>/resource/<id of two times four>",
        )
    # Of a page for people (`/Category/Title/abcd-1234`) nothing before the id belongs to the address.
    known = _BEFORE_ID.match("/".join(segments[: at[-1]]))
    prefix = known[1] if known else ""
    return f"{parts.scheme}://{parts.netloc}{prefix}", segments[at[-1]].partition(".")[0]


def _name(column: str) -> str:
    """Return a column as SoQL names it."""
    is_plain = _PLAIN.fullmatch(column) and not _RESERVED.fullmatch(column)
    return column if is_plain else "`" + column.replace("`", "") + "`"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _written(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds")


# As the month is cut: from midnight to midnight, by the portal's own clock.
_DIALECT = Dialect(_name, lambda day: _literal(f"{day.isoformat()}T00:00:00.000"), _literal)


def _type(word: str) -> str:
    return _TYPE.get(word, word)


def _cursor_of(stage: _Stage, records: Records) -> Cursor | None:
    if records.newest is None:
        return None
    is_last = len(stage.keys) == 2 and records.last and records.last[0] == records.newest
    return Cursor(records.newest, records.last[1] if is_last else "")


def _told_columns(answer: Answer, what: str) -> tuple[str, ...]:
    said = small_json(answer.headers.get(f"X-SODA2-{what}", "").encode())
    return tuple(str(each) for each in said) if isinstance(said, list) else ()


def _looked_at(answer: Answer, keys: tuple[str, ...], cursor: str | None, cap: datetime | None) -> Records:
    try:
        records = read_records(answer.body, keys=keys, cursor=cursor, cap=cap)
    except NotRecordsError as error:
        if _code(answer):
            if (gone := _refused(answer, compares_ids=False)).error_type == "ColumnsGone":
                raise gone from None
            raise RetryError(f"HTTP 200 with an error: {_said(answer)}", error_type="BrokenAnswer") from None
        begins = answer.body[:40].decode(errors="replace")
        raise RetryError(f"{error}, it begins {begins!r}", error_type="WrongFormat") from None
    if records.rows and None in records.last:
        raise RetryError("rows came without their row id or cursor", error_type="BrokenAnswer")
    return records


def _error(answer: Answer) -> dict[str, Any]:
    said = small_json(answer.body)
    return said if isinstance(said, dict) else {}


def _code(answer: Answer) -> str:
    said = _error(answer)
    return str(said.get("errorCode") or said.get("code") or "")


def _said(answer: Answer) -> str:
    message = str(_error(answer).get("message") or "")
    return " ".join(f"{_code(answer)}: {message}".split()).strip(": ")


def _is_internal_error(answer: Answer) -> bool:
    data = _error(answer).get("data")
    return _code(answer) == "internal-error" and isinstance(data, dict) and "tag" in data


def _refused(answer: Answer, compares_ids: bool) -> Exception:
    """Return what a refused question means."""
    said = _said(answer)
    if compares_ids and answer.status == 400 and "type-mismatch" in said:
        return _KeysetRefusedError()
    if "query.soql.no-such-column" in said:
        found = re.search(r"No such column: ([^;\s]+)", said)
        data = _error(answer).get("data")
        column = found[1] if found else str(data.get("column", "?") if isinstance(data, dict) else "?")
        return DeliveryError(
            "ColumnsGone",
            f"{shown(answer.url)} has no column {column[:100]} any more; "
            "look for its new name at the portal and correct the declaration",
            "blocked",
        )
    return refusal(answer, said)
