"""CARTO tables behind its SQL interface: SQL out, pages in; when to ask belongs to fetching.

A table's address is `https://{account}.carto.com/tables/{table}`.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from assets.ingest.feed import Feed
from assets.ingest.part import Part
from assets.ingest.portals.conditions import Dialect
from assets.ingest.portals.keyset import (
    End,
    NotRecordsError,
    Records,
    moment,
    months_told,
    newer,
    number_told,
    read_records,
    small_json,
    told_first,
)
from assets.ingest.portals.page import Ask, Cursor, Description, Page, token, told
from assets.ingest.portals.wire import (
    Answer,
    RetryError,
    SmallerPageError,
    Wire,
    refusal,
    retry_after,
    shown,
)
from assets.ingest.receipts import DeliveryError
from assets.ingest.sql_expression import literal, quoted

_DIALECT = Dialect(quoted, lambda day: literal(day.isoformat()), literal)

PAGE_ROWS = 20_000
#: A longer question goes as a form: hosts in between cut addresses.
LONGEST_ADDRESS = 1_500
#: The row number that the platform keeps.
ROW = "cartodb_id"

# The second one is the same place again, for web maps; as text they are WKB.
_GEOMETRIES = ("the_geom", "the_geom_webmercator")
_POINTS = {"lon": "ST_X(the_geom) AS lon", "lat": "ST_Y(the_geom) AS lat"}
_TABLE = re.compile(r"[a-z_][a-z0-9_]*")
_PATH = re.compile(r"(.*)/(?:tables|dataset)/([^/]+)(?:/.*)?")
# As wide as a wait of nothing that was made a wait, see wire.retry_after.
_NO_WAIT = 0.01


@dataclass(frozen=True)
class _Shape:
    """The columns of a table by their types, and the expressions of its points by their names."""

    columns: dict[str, str]
    points: dict[str, str]


@dataclass(frozen=True)
class _Place:
    """Where a reading is: the last row number, and what was known when it began."""

    after: int | None = None
    cursor: Cursor | None = None
    cap: datetime | None = None

    def text(self) -> str:
        """Write it for `Ask.resume`."""
        return token(
            after=self.after,
            cursor=self.cursor and [self.cursor.at, self.cursor.id],
            cap=self.cap and self.cap.isoformat(),
        )


def _place(text: str) -> _Place:
    said: dict[str, Any] = dict(told(text))
    cursor = said["cursor"] and Cursor(*said["cursor"])
    return _Place(said["after"], cursor, said["cap"] and datetime.fromisoformat(said["cap"]))


class Carto:
    """One part of a feed behind CARTO's SQL interface."""

    def __init__(self, feed: Feed, part: Part, wire: Wire) -> None:
        """Find the table in the part's source.

        Raises:
            DeliveryError: There is none in it, or its name is none that CARTO gives.
        """
        self._wire = wire
        self._request = feed.request_of(part)
        self._sync = feed.sync_of(part)
        self._url, self._table = _address(part.source)
        self._known_shape: _Shape | None = None

    def describe(self) -> Description:
        """Ask for columns and rows."""
        table = self._shape()
        return Description(table.columns | dict.fromkeys(table.points, "number"), self._count(()))

    def pages(self, ask: Ask) -> Iterator[Page]:
        """Yield the pages of an answer, in the order of the row numbers; the last one may be empty."""
        conditions = _DIALECT.asked(ask, self._sync, f"{shown(self._url)}, table {self._table},")
        place = _place(ask.resume) if ask.resume else _Place(cap=self._cap(ask))
        table = self._shape()
        columns = [*map(quoted, table.columns), *table.points.values()]
        yield from self._read(", ".join(columns), conditions, place, self._cursor_of(ask))

    def count(self, ask: Ask) -> int:
        """Return how many rows the question has."""
        return self._count(_DIALECT.asked(ask, self._sync, f"{shown(self._url)}, table {self._table},"))

    def months(self, column: str) -> dict[str, int] | None:
        """Return the rows by month of a source column; nothing where its type has no months."""
        month = f"date_trunc('month', {quoted(column)})"
        sql = f"SELECT {month} AS month, count(*) AS n FROM {self._from(())} GROUP BY 1 ORDER BY 1"  # noqa: S608
        try:
            return months_told(self._small(sql), shown(self._url))
        except DeliveryError as error:
            if error.error_type == "Http400":
                return None
            raise

    def ids(self, columns: tuple[str, ...], created: str | None, month: str | None) -> Iterator[Page]:
        """Yield pages with the row number and some columns, of a month or of all rows."""
        conditions = _DIALECT.of_month(created, month)
        select = ", ".join(quoted(name) for name in dict.fromkeys([ROW, *columns]))
        yield from self._read(select, conditions, _Place(), None)

    def _shape(self) -> _Shape:
        """Return the columns of the table; asked once."""
        if self._known_shape is None:
            answer = self._ask(f"SELECT * FROM {self._from(())} LIMIT 0", self._check(None, []))  # noqa: S608
            fields = small_json(answer.body).get("fields")
            types = {
                name: str(said.get("type", "")) if isinstance(said, dict) else ""
                for name, said in (fields.items() if isinstance(fields, dict) else ())
            }
            if ROW not in types:
                raise DeliveryError(
                    "BrokenAnswer",
                    f"{shown(self._url)} does not tell {ROW} among the columns of {self._table}; "
                    "check that `source` names a CARTO table",
                )
            # What a table itself calls lon or lat stays.
            points = {name: sql for name, sql in _POINTS.items() if "the_geom" in types and name not in types}
            columns = {name: type_ for name, type_ in types.items() if name not in _GEOMETRIES}
            self._known_shape = _Shape(columns, points)
        return self._known_shape

    def _cursor_of(self, ask: Ask) -> str | None:
        return None if ask.days else self._sync.cursor

    def _cap(self, ask: Ask) -> datetime | None:
        """Return the newest time of the cursor column before the reading begins.

        Rows come by number, not by time: of two that change meanwhile the reading may see the later change
        and not the earlier one, so neither may become the cursor.
        """
        column = self._cursor_of(ask)
        if column is None:
            return None
        # A city's own clock may be ahead of UTC.
        limit = literal((ask.until + timedelta(days=1)).isoformat(timespec="seconds"))
        sql = f"SELECT max({quoted(column)}) AS newest FROM {self._from((f'{quoted(column)} <= {limit}',))}"  # noqa: S608
        return moment(told_first(self._small(sql), "newest")) or datetime.min  # noqa: DTZ901

    def _read(
        self, select: str, conditions: tuple[str, ...], place: _Place, cursor: str | None
    ) -> Iterator[Page]:
        end = End(f"{shown(self._url)}, table {self._table}")
        most = size = self._request.page_rows or PAGE_ROWS
        while True:
            behind = (*([f"{quoted(ROW)} > {place.after}"] if place.after is not None else []), *conditions)
            sql = f"SELECT {select} FROM {self._from(behind)} ORDER BY {quoted(ROW)} LIMIT {size}"  # noqa: S608
            found: list[Records] = []
            try:
                answer = self._ask(sql, self._check(size, found, cursor, place.cap))
            except SmallerPageError:
                size = max(size // 2, 1)
                continue
            records = found[0]
            following = self._followed(place, records)
            is_over = end.is_reached(records.rows, records.rows, size, self._remaining(following, conditions))
            if records.rows or is_over:
                following_text = None if is_over else following.text()
                yield Page(answer.body, records.rows, following_text, "$.rows[*]", cursor=following.cursor)
            if is_over:
                return
            place = following
            size = min(most, size + max(size // 4, 1))

    def _followed(self, place: _Place, records: Records) -> _Place:
        if not records.rows:
            return place
        cursor = Cursor(records.newest) if records.newest else None
        return replace(place, after=int(records.last[0]), cursor=newer(cursor, place.cursor))

    def _remaining(self, place: _Place, conditions: tuple[str, ...]) -> Callable[[], int]:
        behind = (*([f"{quoted(ROW)} > {place.after}"] if place.after is not None else []), *conditions)
        return lambda: self._count(behind)

    def _from(self, conditions: tuple[str, ...]) -> str:
        wheres = [*([f"({self._request.where})"] if self._request.where else []), *conditions]
        return quoted(self._table) + (f" WHERE {' AND '.join(wheres)}" if wheres else "")

    def _count(self, conditions: tuple[str, ...]) -> int:
        rows = self._small(f"SELECT count(*) AS n FROM {self._from(conditions)}")  # noqa: S608
        return number_told(rows, shown(self._url))

    def _small(self, sql: str) -> object:
        said = small_json(self._ask(sql, self._check(None, [])).body)
        return said.get("rows") if isinstance(said, dict) else None

    def _check(
        self,
        size: int | None,
        found: list[Records],
        cursor: str | None = None,
        cap: datetime | None = None,
    ) -> Callable[[Answer], None]:
        """Return what looks at each answer to one question.

        Args:
            size: Rows that are asked for; nothing where the question cannot be made smaller.
            found: Where the records of the answer are put.
            cursor: Column whose newest time is wanted.
            cap: Later times do not count.
        """
        troubles = 0

        def trouble(error: RetryError, is_size: bool = False) -> None:
            """Ask once more, then for less."""
            nonlocal troubles
            troubles += 1
            if size is not None and size > 1 and (is_size or troubles > 1):
                raise SmallerPageError
            raise error

        def check(answer: Answer) -> None:
            said = "" if answer.status == 200 else _errors(small_json(answer.body))
            if answer.status == 429:
                wait = retry_after(answer.headers)
                if _is_timeout(said) or wait is None or wait <= _NO_WAIT:
                    trouble(RetryError(f"HTTP 429 {said}".strip(), error_type="Http429"), _is_timeout(said))
                return
            if answer.status != 200:
                raise _refused(answer, said)
            try:
                records = _looked_at(answer.body, (ROW,) if size is not None else (), cursor, cap)
            except RetryError as error:
                if "does not exist" in str(error):
                    raise _refused(answer, str(error)) from None
                trouble(error, _is_timeout(str(error)))
                return
            found[:] = [records]

        return check

    def _ask(self, sql: str, check: Callable[[Answer], None]) -> Answer:
        # Never in the address: addresses are logged on the way.
        secret = {"api_key": self._wire.token} if self._wire.token else {}
        if secret or len(sql) > LONGEST_ADDRESS:
            return self._wire.post(self._url, data={"q": sql, "format": "json", **secret}, check=check)
        return self._wire.get(self._url, {"q": sql, "format": "json"}, check=check)


def _address(source: str) -> tuple[str, str]:
    """Return the address of the SQL interface, and the table."""
    parts = urlsplit(source)
    found = _PATH.fullmatch(parts.path)
    if not (parts.scheme in ("http", "https") and parts.netloc and found and _TABLE.fullmatch(found[2])):
        raise DeliveryError(
            "WrongSource",
            f"{shown(source)} is no CARTO table; write https://<account>.carto.com/tables/<table>",
        )
    return f"{parts.scheme}://{parts.netloc}{found[1]}/api/v2/sql", found[2]


def _looked_at(body: bytes, keys: tuple[str, ...], cursor: str | None, cap: datetime | None) -> Records:
    """Read a page, which may have gone wrong after its first rows although the status says 200."""
    try:
        records = read_records(body, path="$.rows", keys=keys, cursor=cursor, cap=cap, outer=("error",))
    except NotRecordsError as error:
        said = _errors(small_json(body)) or _tail(body)
        begins = body[:40].decode(errors="replace")
        reason = f"HTTP 200 with an error: {said}" if said else f"{error}, it begins {begins!r}"
        raise RetryError(reason, error_type="BrokenAnswer" if said else "WrongFormat") from None
    if records.outer[0] is not None:
        raise RetryError(f"an error after the rows: {records.outer[0][:200]}", error_type="BrokenAnswer")
    if records.rows and any(not str(key).isdigit() for key in records.last):
        raise RetryError(f"rows came without {ROW}", error_type="BrokenAnswer")
    return records


def _tail(body: bytes) -> str:
    """Return the error text behind rows that broke off."""
    found = re.search(rb'"?error"?\s*:.{0,200}', body[-1000:], re.DOTALL)
    return " ".join(found[0].decode(errors="replace").split()) if found else ""


def _errors(said: object) -> str:
    """Return the messages of CARTO's error body in one line."""
    errors = said.get("error") if isinstance(said, dict) else None
    errors = errors if isinstance(errors, list) else [errors] if errors else []
    return " ".join("; ".join(str(each) for each in errors).split())


def _is_timeout(said: str) -> bool:
    return "timeout" in said.lower() or "timed out" in said.lower()


def _refused(answer: Answer, said: str) -> DeliveryError:
    """Return what a refused question means."""
    if found := re.search(r'column "?([^"\s]+)"? does not exist', said):
        return DeliveryError(
            "ColumnsGone",
            f"{shown(answer.url)} has no column {found[1][:100]} any more; "
            "look for its new name at the portal and correct the declaration",
            "blocked",
        )
    if re.search(r'relation "?[^"\s]+"? does not exist', said):
        return DeliveryError(
            "DatasetGone",
            f"{shown(answer.url)} has no such table any more ({said[:300]}); "
            "the data set was retired or moved: look for its successor and declare it as a further part",
        )
    return refusal(answer, said)
