"""Resources in a CKAN datastore; what their records become belongs to page_records.

Questions are JSON in a POST: firewalls in front of portals refuse what looks like SQL in an address. The
portal clamps the limit without a word, so a walk steps by the rows that came. `_id` orders a walk and nothing
else: a reload of the resource numbers it anew.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, NoReturn
from urllib.parse import parse_qs, urlsplit, urlunsplit

from assets.ingest.feed import Feed
from assets.ingest.part import Part
from assets.ingest.portals.json_answers import ask_and_read, look_up, member, small_object
from assets.ingest.portals.page import Ask, Cursor, Description, Page, token, told
from assets.ingest.portals.wire import Answer, RetryError, SmallerPageError, Wire, refusal, shown
from assets.ingest.receipts import DeliveryError

#: What CKAN gives at once at most, unless its operator says otherwise (`ckan.datastore.search.rows_max`).
_ROWS_AT_ONCE = 32_000
#: A resource that changes under every one of so many walks is not read.
_WALKS = 3
_ID = "_id"
_LARGEST_ID = 2**31 - 1
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
#: Where a portal's own path ends and CKAN's begins.
_FIRST_STEPS = ("dataset", "resource", "datastore", "api")
#: Types that order as time does; text may be in any order.
_TIMES = ("timestamp", "timestamptz", "date")

_STATUS_OF_ERROR = {"Authorization Error": 403, "Not Found Error": 404, "Validation Error": 409}

_PAGE = """
    json_extract_string(body, ['$.success', '$.result.total', '$.result.total_was_estimated']),
    json_type(body, '$.result.records'),
    json_array_length(body, '$.result.records'),
    list_transform(json_extract(body, '$.result.records[*]._id'), lambda said: try_cast(said as bigint)),
    json_extract_string(body, '$.result.fields[*].id')
"""
_NEWEST = """
    list_max(list_filter(
        json_extract_string(body, $cursor), lambda said: try_cast(said as timestamp) <= $latest::timestamp
    ))
"""


@dataclass(frozen=True)
class _Records:
    """What a page is known by.

    Attributes:
        total: Records of the question, where the portal counts them exactly.
        ids: `_id` of each, in the order of the page.
        newest: Newest time of the cursor that is no poison, as the portal writes it.
    """

    rows: int
    total: int | None
    ids: list[int]
    columns: tuple[str, ...]
    newest: str | None


@dataclass
class _Walk:
    """How far a walk has come.

    Attributes:
        number: Which walk it is; a resource that changed under one is read again.
        seen: Distinct records that came.
        rows: Records that came.
        after: Highest `_id` that came.
        total: Records that the portal counted at the beginning.
        is_by_id: Whether pages go by `_id` instead of by offset.
    """

    number: int = 1
    seen: int = 0
    rows: int = 0
    after: int = -1
    total: int | None = None
    is_by_id: bool = False
    newest: str | None = None


class Ckan:
    """One resource."""

    def __init__(self, feed: Feed, part: Part, wire: Wire) -> None:
        """Prepare; nothing is asked yet.

        Raises:
            DeliveryError: The source holds no resource id, or `request.where` is no JSON object.
        """
        request = feed.request_of(part)
        sync = feed.sync_of(part)
        self._base, self._resource = _resource_of(part.source)
        self._wire = wire
        self._filters = _filters_of(request.where)
        self._page_rows = request.page_rows or _ROWS_AT_ONCE
        self._cursor = sync.cursor
        self._created = sync.created
        self._types: dict[str, str] | None = None
        self._ranges: bool | None = None

    def describe(self) -> Description:
        """Ask for the resource's fields, count its records, and read when it changed."""
        _, resource = self._asked("resource_show", {"id": self._resource}, _read_resource)
        if resource.get("datastore_active") is False:
            raise DeliveryError(
                "NotInDatastore",
                f"{shown(self._base)} keeps the resource {self._resource} as a file only; "
                "declare its download address with `portal: files`",
            )
        _, (fields, total) = self._search({"limit": 0, "filters": self._filters}, _read_fields)
        self._types = fields
        notes = [str(resource.get("name") or self._resource)]
        if resource.get("hash"):
            notes.append(f"hash {resource['hash']}")
        return Description(fields, total, _moment(resource.get("last_modified")), tuple(notes))

    def pages(self, ask: Ask) -> Iterator[Page]:
        """Yield the pages of an answer.

        An older portal knows no ranges; then a question with a lower bound brings all records, as its count
        says.

        Raises:
            DeliveryError: `CountMismatch` where the portal counts other records than it gives.
        """
        yield from self._walks(self._filters_for(ask), None, ask.until, ask.resume)

    def count(self, ask: Ask) -> int | None:
        """Return how many records the question has."""
        return self._total(self._filters_for(ask))

    def months(self, column: str) -> None:
        """Return nothing: CKAN groups in SQL only, which many portals refuse."""
        return

    def ids(self, columns: tuple[str, ...], created: str | None, month: str | None) -> Iterator[Page]:
        """Yield the id columns of all records; as `months` counts none, no month is ever asked for."""
        yield from self._walks(self._filters, [_ID, *(name for name in columns if name != _ID)], None, None)

    # How a walk goes.

    def _walks(
        self,
        filters: dict[str, Any],
        fields: list[str] | None,
        until: datetime | None,
        resume: str | None,
    ) -> Iterator[Page]:
        walk = _Walk(**told(resume)) if resume else _Walk()
        limit = self._page_rows
        while True:
            try:
                answer, records = self._page_of(walk, filters, fields, limit, until)
            except SmallerPageError:
                if limit == 1:
                    raise self._mismatch("takes too long over a single record") from None
                limit //= 2
                continue
            is_whole, is_more = self._step(walk, records)
            if not is_more:
                is_whole = is_whole and self._total(filters) in (walk.seen, None)
            if is_whole and not is_more:
                yield self._page(answer, records, walk, is_last=True)
                return
            if not is_whole:
                if walk.number == _WALKS:
                    said = f"counted other records than it gave in each of {_WALKS} walks"
                    raise self._mismatch(f"{said}, {walk.seen:,} distinct ones in the last")
                walk = _Walk(number=walk.number + 1, newest=walk.newest)
            elif not walk.is_by_id:
                walk.is_by_id = self._has_ranges()
            yield self._page(answer, records, walk, is_last=False)

    def _step(self, walk: _Walk, records: _Records) -> tuple[bool, bool]:
        """Take a page into the walk; return whether all is well so far, and whether there is more."""
        # Ids that do not go up from the last page's are repeated, or in no order that can be trusted.
        new = 0
        for each in records.ids:
            if each > walk.after:
                walk.after, new = each, new + 1
        walk.seen += new
        walk.rows += records.rows
        walk.newest = max(filter(None, (walk.newest, records.newest)), default=None)
        if records.total is None:
            return True, records.rows > 0
        if walk.is_by_id:
            return new == records.rows, records.total > records.rows
        is_first = walk.total is None
        walk.total = records.total if is_first else walk.total
        return walk.total == records.total, walk.rows < records.total

    def _page_of(
        self,
        walk: _Walk,
        filters: dict[str, Any],
        fields: list[str] | None,
        limit: int,
        until: datetime | None,
    ) -> tuple[Answer, _Records]:
        question: dict[str, Any] = {"limit": limit, "sort": f"{_ID} asc", "filters": filters}
        if fields is not None:
            question["fields"] = fields
        if walk.is_by_id:
            question["filters"] = {**filters, _ID: {"gt": walk.after}}
        else:
            question["offset"] = walk.rows
        cursor = self._cursor if until is not None and self._is_time(self._cursor) else None

        def read(answer: Answer) -> _Records:
            records = _read_records(answer, cursor, until)
            open_rows = (records.total or 0) - (0 if walk.is_by_id else walk.rows)
            if not records.rows and open_rows > 0:
                raise RetryError(f"no records came although {open_rows} more are counted")
            return records

        return self._search(question, read)

    def _page(self, answer: Answer, records: _Records, walk: _Walk, *, is_last: bool) -> Page:
        return Page(
            body=answer.body,
            rows=records.rows,
            next=None if is_last else token(**asdict(walk)),
            records="$.result.records[*]",
            cursor=None if walk.newest is None else Cursor(walk.newest),
            columns=records.columns,
        )

    def _has_ranges(self) -> bool:
        """Whether the portal understands `{"_id": {"gt": 1}}` (new in 2025); found out once."""
        if self._ranges is None:
            try:
                # An older one refuses it, takes it for a value that no record has, or passes over it.
                totals = [
                    self._total({**self._filters, **more}, attempts=2)
                    for more in ({}, {_ID: {"gt": -1}}, {_ID: {"gt": _LARGEST_ID}})
                ]
            except DeliveryError as error:
                if error.error_type in ("Unauthorised", "DatasetGone"):
                    raise
                totals = []
            self._ranges = len(totals) == 3 and totals[0] == totals[1] and totals[2] == 0 and bool(totals[0])
        return self._ranges

    # What is asked.

    def _filters_for(self, ask: Ask) -> dict[str, Any]:
        if ask.days is not None and self._is_time(self._created) and self._has_ranges():
            # The days are the city's, the times may be on another clock: a day more on both sides.
            first, after = ask.days[0] - timedelta(days=1), ask.days[1] + timedelta(days=1)
            return {**self._filters, self._created: {"gte": _midnight(first), "lt": _midnight(after)}}
        is_since = ask.days is None and ask.mode == "incremental" and ask.since is not None
        if is_since and self._is_time(self._cursor) and self._has_ranges():
            return {**self._filters, self._cursor: {"gt": ask.since.at}}
        return self._filters

    def _is_time(self, column: str | None) -> bool:
        if column is None:
            return False
        if self._types is None:
            _, (self._types, _) = self._search({"limit": 0, "filters": self._filters}, _read_fields)
        return self._types.get(column) in _TIMES

    def _total(self, filters: Mapping[str, Any], attempts: int | None = None) -> int | None:
        question = {"limit": 0, "filters": filters}
        _, records = self._search(question, lambda answer: _read_records(answer, None, None), attempts)
        return records.total

    def _search(self, said: dict[str, Any], read: Any, attempts: int | None = None) -> tuple[Answer, Any]:
        said = {name: value for name, value in said.items() if value != {}}
        return self._asked("datastore_search", {"resource_id": self._resource, **said}, read, attempts)

    def _asked(
        self, action: str, said: dict[str, Any], read: Any, attempts: int | None = None
    ) -> tuple[Answer, Any]:
        headers = {"Authorization": self._wire.token} if self._wire.token else None

        def checked(answer: Answer) -> Any:
            _refuse_status(answer)
            return read(answer) if answer.status == 200 else None

        url = f"{self._base}/api/3/action/{action}"
        return ask_and_read(self._wire.post, url, checked, json=said, headers=headers, attempts=attempts)

    def _mismatch(self, what: str) -> DeliveryError:
        return DeliveryError(
            "CountMismatch",
            f"{shown(self._base)} {what} of the resource {self._resource}; "
            "it is being reloaded, or its count is wrong: run again later, or tell the publisher",
        )


def _resource_of(source: str) -> tuple[str, str]:
    """Return the address before CKAN's own path, and the id of the resource."""
    try:
        parts, where = urlsplit(source), shown(source)
    except ValueError:
        parts, where = urlsplit(""), "the source"
    steps = parts.path.split("/")
    said = re.findall(rf"/(?:resource|dump)/([\w-]+)|({_UUID})", parts.path, re.IGNORECASE)
    named = [one for one, _ in said if one] or [one for _, one in said if one]
    resource = (parse_qs(parts.query).get("resource_id") or named[:1] or [None])[0]
    if parts.scheme not in ("http", "https") or not parts.netloc or resource is None:
        raise DeliveryError(
            "WrongSource",
            f"{where} names no CKAN resource; write the address of its page, such as "
            "https://host/dataset/name/resource/01234567-89ab-cdef-0123-456789abcdef",
        )
    ends = [number for number, step in enumerate(steps) if step in _FIRST_STEPS or step == resource]
    prefix = "/".join(steps[: ends[0]] if ends else steps).rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc, prefix, "", "")), resource


def _filters_of(where: str | None) -> dict[str, Any]:
    if where is None:
        return {}
    try:
        said = json.loads(where)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise DeliveryError(
            "WrongRequest",
            f'`request.where` {where!r} is no JSON object; write CKAN filters, such as {{"status": "Open"}}',
        )
    return said


def _read_resource(answer: Answer) -> dict[str, Any]:
    said = small_object(answer.body)
    if said.get("success") is False:
        _refuse_failure(answer)
    result = said.get("result")
    if not isinstance(result, dict):
        raise RetryError("no description of a resource came")
    return result


def _read_fields(answer: Answer) -> tuple[dict[str, str], int | None]:
    result = _read_resource(answer)
    try:
        fields = {field["id"]: field.get("type", "") for field in result.get("fields") or []}
    except (AttributeError, KeyError, TypeError):
        raise RetryError("no description of fields came") from None
    total = result.get("total")
    return fields, total if isinstance(total, int) else None


def _read_records(answer: Answer, cursor: str | None, until: datetime | None) -> _Records:
    (success, total, estimated), kind, rows, ids, columns = look_up(answer.body, _PAGE)
    if success == "false":
        _refuse_failure(answer)
    if kind != "ARRAY":
        raise RetryError("an answer without records came")
    newest = None
    if cursor is not None and rows:
        path = f"$.result.records[*]{member(cursor)}"
        (newest,) = look_up(answer.body, _NEWEST, cursor=path, latest=until)
    is_exact = estimated != "true" and total is not None and total.isdigit()
    known = [each for each in ids if each is not None]
    return _Records(rows, int(total) if is_exact else None, known, tuple(columns or ()), newest)


def _refuse_status(answer: Answer) -> None:
    """Raise what an answer of another status than 200 means."""
    if answer.status in (200, 429):
        return
    if answer.status == 403 and _is_html(answer):
        raise DeliveryError(
            "Unauthorised",
            f"{shown(answer.url)} answered HTTP 403 with an HTML page: a firewall in front of the portal "
            "refused the question, not CKAN; ask the publisher to let this client through",
        )
    _refuse(answer, answer.status)


def _refuse_failure(answer: Answer) -> None:
    """Raise what `"success": false` in a 200 means."""
    kind, said = _error_of(answer)
    if kind not in _STATUS_OF_ERROR:
        raise RetryError(f"an error in a 200 came: {kind} {said[:200]}")
    _refuse(answer, _STATUS_OF_ERROR[kind])


def _refuse(answer: Answer, status: int) -> NoReturn:
    _, said = _error_of(answer)
    if "took too long" in said:
        raise SmallerPageError
    raise refusal(replace(answer, status=status), said)


def _is_html(answer: Answer) -> bool:
    return answer.body[:200].lstrip().startswith(b"<")


def _error_of(answer: Answer) -> tuple[str, str]:
    """Return the kind of an error and what it says in one line."""
    try:
        error = small_object(answer.body).get("error")
    except RetryError:
        return "", ""
    if not isinstance(error, dict):
        return "", str(error or "")
    said = error.get("message") or {key: value for key, value in error.items() if key != "__type"}
    text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    return str(error.get("__type", "")), " ".join(text.split())


def _moment(said: Any) -> datetime | None:
    """Read a time as CKAN writes it: UTC, mostly without a zone."""
    try:
        at = datetime.fromisoformat(said)
    except (TypeError, ValueError):
        return None
    return at if at.tzinfo is None else at.astimezone(UTC).replace(tzinfo=None)


def _midnight(day: date) -> str:
    return f"{day.isoformat()}T00:00:00"
