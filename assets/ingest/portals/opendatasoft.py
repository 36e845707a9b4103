"""Opendatasoft data sets, Explore 2.1: questions in ODSQL out, pages in; when to ask belongs to fetching.

A data set's address is `https://{host}/explore/dataset/{id}`. It is read as one export; with `page_rows` as
pages of records, which the portal gives for small data sets only.
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from assets.ingest.feed import Feed
from assets.ingest.part import Part
from assets.ingest.portals.conditions import Dialect
from assets.ingest.portals.keyset import (
    EMPTY_PAGES,
    NotRecordsError,
    Records,
    moment,
    months_told,
    newer,
    read_records,
    small_json,
    told_first,
)
from assets.ingest.portals.page import Ask, Cursor, Description, Page, token, told
from assets.ingest.portals.wire import (
    LONGEST_RETRY_AFTER_SECONDS,
    Answer,
    RetryError,
    Wire,
    refusal,
    retry_after,
    shown,
)
from assets.ingest.receipts import DeliveryError

#: Most records of one page, and the last record that pages reach; more is refused.
MOST_ROWS = 100
LAST_ROW = 10_000
MOST_GROUPS = 20_000
#: How often an answer is read again that holds fewer rows than the portal counts.
REREADS = 3

_PATH = re.compile(
    r"(.*?)/(?:explore/dataset|api/explore/v2\.[01]/catalog/datasets|api/v2/catalog/datasets)"
    r"/([A-Za-z0-9_@-]+)(?:/.*)?"
)
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Opendatasoft:
    """One part of a feed behind Opendatasoft."""

    def __init__(self, feed: Feed, part: Part, wire: Wire) -> None:
        """Find the data set in the part's source.

        Raises:
            DeliveryError: There is none in it.
        """
        self._wire = wire
        self._request = feed.request_of(part)
        self._sync = feed.sync_of(part)
        business_id = feed.sources(part).get("source_id")
        self._id_column = business_id.column if business_id else None
        self._url = _address(part.source)
        self._headers = {"Authorization": f"Apikey {wire.token}"} if wire.token else {}

    def describe(self) -> Description:
        """Ask for columns, rows and the time of the last change."""
        said = small_json(self._get("", {}, _check_object).body)
        fields = [each for each in said.get("fields") or [] if isinstance(each, dict) and each.get("name")]
        columns = {str(field["name"]): str(field.get("type", "")) for field in fields}
        metas = said.get("metas") if isinstance(said.get("metas"), dict) else {}
        default = metas.get("default") if isinstance(metas.get("default"), dict) else {}
        changed = default.get("data_processed") or default.get("modified")
        return Description(columns, self._count(()), moment(str(changed)) if changed else None)

    def pages(self, ask: Ask) -> Iterator[Page]:
        """Yield the export as one page, or with `page_rows` the pages of records; the last may be empty."""
        conditions = _DIALECT.asked(ask, self._sync, shown(self._url))
        cursor = None if ask.days else self._sync.cursor
        if self._request.page_rows is None or self._count(conditions) > LAST_ROW:
            yield self._export(conditions, cursor=cursor, cap=self._cap(ask))
        else:
            yield from self._records(conditions, ask, cursor)

    def count(self, ask: Ask) -> int:
        """Return how many rows the question has."""
        return self._count(_DIALECT.asked(ask, self._sync, shown(self._url)))

    def months(self, column: str) -> dict[str, int] | None:
        """Return the rows by month of a source column; nothing where its type has no months."""
        name = _name(column)
        question = {
            "select": "count(*) as n",
            "where": self._where(()),
            "group_by": f"year({name}) as y, month({name}) as m",
        }
        found: dict[str, int] = {}
        offset = 0
        while True:
            try:
                groups = self._groups(question | {"limit": MOST_GROUPS - offset, "offset": offset})
            except DeliveryError as error:
                if error.error_type == "Http400":
                    return None
                raise
            counts = months_told(groups, shown(self._url))
            new = {month: count for month, count in counts.items() if month not in found}
            # The end is a page that tells no new month, whatever the portal makes of limit and offset.
            if not new:
                return found
            found |= new
            offset += len(groups)

    def ids(self, columns: tuple[str, ...], created: str | None, month: str | None) -> Iterator[Page]:
        """Yield one page with some columns, of a month or of all rows."""
        conditions = _DIALECT.of_month(created, month)
        yield self._export(conditions, select=", ".join(map(_name, columns)))

    def _cap(self, ask: Ask) -> datetime | None:
        """Return the newest time of the cursor column before the reading begins.

        Of two records that change meanwhile the reading may bring the later change and not the earlier one,
        so neither may become the cursor.
        """
        if ask.days is not None or self._sync.cursor is None:
            return None
        name = _name(self._sync.cursor)
        # A city's own clock may be ahead of UTC.
        limit = _time((ask.until + timedelta(days=1)).isoformat(timespec="seconds"))
        question = {
            "select": f"max({name}) as newest",
            "where": self._where((f"{name} <= {limit}",)),
            "limit": 1,
        }
        answer, _ = self._look("/records", question, "$.results", is_counted=False)
        newest = told_first(small_json(answer.body)["results"], "newest")
        return moment(str(newest)) or datetime.min  # noqa: DTZ901

    def _export(
        self,
        conditions: tuple[str, ...],
        *,
        select: str | None = None,
        cursor: str | None = None,
        cap: datetime | None = None,
    ) -> Page:
        """Read everything at once, and again where the portal counts more."""
        question = {"select": select, "where": self._where(conditions)}
        for _ in range(1 + REREADS):
            answer, records = self._look("/exports/json", question, "$", cursor, cap)
            counted = self._count(conditions)
            if records.rows >= counted:
                newest = Cursor(records.newest) if records.newest else None
                return Page(answer.body, records.rows, None, cursor=newest)
        raise self._mismatch(counted, records.rows)

    def _records(self, conditions: tuple[str, ...], ask: Ask, cursor: str | None) -> Iterator[Page]:
        said: dict[str, Any] = dict(told(ask.resume)) if ask.resume else {"cap": self._cap(ask)}
        offset, counted, cap = said.get("offset", 0), said.get("counted"), said["cap"]
        cap = datetime.fromisoformat(cap) if isinstance(cap, str) else cap
        newest = Cursor(said["cursor"]) if said.get("cursor") else None
        question = {"where": self._where(conditions), "order_by": self._order()}
        rereads = empty = 0
        while True:
            limit = min(self._request.page_rows or MOST_ROWS, MOST_ROWS, LAST_ROW - offset)
            page = question | {"limit": limit, "offset": offset}
            answer, records = self._look("/records", page, "$.results", cursor, cap)
            total = int(records.outer[0])
            # Another count means that rows came or went, and that those behind them moved.
            has_moved = counted is not None and total != counted
            empty = 0 if records.rows or offset >= total else empty + 1
            if has_moved or empty > EMPTY_PAGES:
                rereads += 1
                if rereads > REREADS or empty > EMPTY_PAGES or total > LAST_ROW:
                    raise self._mismatch(total, offset)
                offset, counted = 0, None
                continue
            if empty:
                continue
            counted, offset = total, offset + records.rows
            newest = newer(Cursor(records.newest) if records.newest else None, newest)
            is_over = offset >= total
            following = token(
                offset=offset,
                counted=counted,
                cursor=newest and newest.at,
                cap=cap and cap.isoformat(),
            )
            yield Page(
                answer.body, records.rows, None if is_over else following, "$.results[*]", cursor=newest
            )
            if is_over:
                return

    def _order(self) -> str | None:
        columns = [self._id_column, self._sync.created]
        return ", ".join(dict.fromkeys(_name(column) for column in columns if column)) or None

    def _mismatch(self, counted: int, came: int) -> DeliveryError:
        return DeliveryError(
            "CountMismatch",
            f"{shown(self._url)} counts {counted:,} rows and gave {came:,}, asked {REREADS + 1} times; "
            "run again later, or tell the publisher",
        )

    def _where(self, conditions: tuple[str, ...]) -> str | None:
        wheres = [*([f"({self._request.where})"] if self._request.where else []), *conditions]
        return " and ".join(wheres) or None

    def _count(self, conditions: tuple[str, ...]) -> int:
        question = {"where": self._where(conditions), "limit": 0}
        _, records = self._look("/records", question, "$.results")
        return int(records.outer[0])

    def _groups(self, question: dict[str, Any]) -> list[dict[str, Any]]:
        answer, _ = self._look("/records", question, "$.results", is_counted=False)
        groups = small_json(answer.body)["results"]
        return [
            {"n": group.get("n"), "month": _month(group.get("y"), group.get("m"))}
            for group in groups
            if isinstance(group, dict)
        ]

    def _look(
        self,
        path: str,
        question: dict[str, Any],
        records_path: str,
        cursor: str | None = None,
        cap: datetime | None = None,
        *,
        is_counted: bool = True,
    ) -> tuple[Answer, Records]:
        found: list[Records] = []
        is_export = records_path == "$"
        outer = () if is_export or not is_counted else ("total_count",)

        def check(answer: Answer) -> None:
            try:
                records = read_records(answer.body, path=records_path, cursor=cursor, cap=cap, outer=outer)
            except NotRecordsError as error:
                raise _broken(answer, str(error)) from None
            if outer and not (records.outer[0] or "").isdigit():
                raise RetryError("no total_count came", error_type="BrokenAnswer")
            found[:] = [records]

        return self._get(path, question, check), found[0]

    def _get(self, path: str, question: dict[str, Any], check: Callable[[Answer], None]) -> Answer:
        def look(answer: Answer) -> None:
            if answer.status == 429:
                _wait_for_quota(answer)
            elif answer.status != 200:
                raise _refused(answer)
            else:
                check(answer)

        return self._wire.get(f"{self._url}{path}", question, headers=self._headers, check=look)


def _address(source: str) -> str:
    """Return the address of the data set in the interface."""
    parts = urlsplit(source)
    found = _PATH.fullmatch(parts.path)
    if not (parts.scheme in ("http", "https") and parts.netloc and found):
        raise DeliveryError(
            "WrongSource",
            f"{shown(source)} is no Opendatasoft data set; write https://<host>/explore/dataset/<id>",
        )
    return f"{parts.scheme}://{parts.netloc}{found[1]}/api/explore/v2.1/catalog/datasets/{found[2]}"


def _name(column: str) -> str:
    """Return a column as ODSQL names it."""
    return column if _PLAIN.fullmatch(column) else "`" + column.replace("`", "") + "`"


def _time(said: str) -> str:
    """Return a cursor as an ODSQL date: what a portal wrote is no ODSQL until it proves to be a time."""
    if moment(said) is None:
        raise DeliveryError(
            "WrongCursor", f"the cursor {said[:40]!r} is no time; declare another `sync.cursor`"
        )
    return f"date'{said}'"


_DIALECT = Dialect(_name, lambda day: f"date'{day.isoformat()}'", _time)


def _month(year: object, month: object) -> str:
    try:
        return f"{int(year):04d}-{int(month):02d}"
    except (TypeError, ValueError):
        return ""


def _check_object(answer: Answer) -> None:
    if not isinstance(small_json(answer.body), dict):
        raise _broken(answer, "it is no description")


def _broken(answer: Answer, what: str) -> Exception:
    """Return what an answer of status 200 is that does not hold what was asked for."""
    said = small_json(answer.body)
    if isinstance(said, dict) and (said.get("error_code") or said.get("message")):
        refused = _refused(answer)
        if refused.error_type == "ColumnsGone":
            return refused
        return RetryError(f"HTTP 200 with an error: {_said(answer)}", error_type="BrokenAnswer")
    # The portal writes so into an export that it cannot finish, after its first rows.
    if found := re.search(rb"Streaming interrupted[^\r\n]{0,200}", answer.body[-2000:]):
        return RetryError(found[0].decode(errors="replace"), error_type="BrokenAnswer")
    begins = answer.body[:40].decode(errors="replace")
    return RetryError(f"{what}, it begins {begins!r}", error_type="WrongFormat")


def _wait_for_quota(answer: Answer) -> None:
    """Wait until the quota is filled up again, if that is worth waiting for."""
    if retry_after(answer.headers) is not None:
        return
    reset = _reset(answer)
    if reset is None:
        return
    seconds = (reset - datetime.now(UTC).replace(tzinfo=None)).total_seconds()
    if seconds > LONGEST_RETRY_AFTER_SECONDS:
        raise DeliveryError(
            "Http429",
            f"{shown(answer.url)} gives no more answers until {reset.isoformat(' ', 'minutes')} UTC, the "
            "quota is used up; run again then, or declare a token with `token_env`",
        )
    raise RetryError("HTTP 429", max(seconds, 0.01), error_type="Http429")


def _reset(answer: Answer) -> datetime | None:
    """Return when the quota is filled up again, as a header or the body says; UTC without a zone."""
    said = small_json(answer.body)
    told_in_body = said.get("reset_time") if isinstance(said, dict) else None
    reset = str(answer.headers.get("X-RateLimit-Reset") or told_in_body or "").strip()
    if reset.isdigit():
        return datetime.fromtimestamp(min(int(reset), 4_102_444_800), UTC).replace(tzinfo=None)
    return moment(reset)


def _said(answer: Answer) -> str:
    said = small_json(answer.body)
    if not isinstance(said, dict):
        return ""
    words = [str(said[key]) for key in ("error_code", "message") if said.get(key)]
    return " ".join(": ".join(words).split())


def _refused(answer: Answer) -> DeliveryError:
    """Return what a refused question means."""
    said = _said(answer)
    if found := re.search(r"[Uu]nknown field:? [\"'`]?([^\s\"'`,;]+)", said):
        return DeliveryError(
            "ColumnsGone",
            f"{shown(answer.url)} has no column {found[1][:100]} any more; "
            "look for its new name at the portal and correct the declaration",
            "blocked",
        )
    return refusal(answer, said)
