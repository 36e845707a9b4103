"""Open311 GeoReport v2, JSON and XML: the newest requests of a city; its bulk portal stays the truth.

A server gives a few rows of at most ninety days, so time is walked in windows. Whether it numbers its pages
from 0 or from 1, repeats the last one for ever or knows no pages at all is told by ids alone: a window is
over when a page brings none that is new. A window that may have hit a server's cap is asked again in halves.
"""

import hashlib
import re
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from xml.parsers import expat

from assets.ingest.feed import Feed
from assets.ingest.part import Part
from assets.ingest.portals.json_answers import ask_and_read, look_up
from assets.ingest.portals.page import Ask, Cursor, Description, Page, token, told
from assets.ingest.portals.wire import Answer, RetryError, Wire, refusal, shown
from assets.ingest.receipts import DeliveryError

#: Without a lower bound a server looks back so far.
_LONGEST_SPAN = timedelta(days=90)
#: Chicago gives so many; others give fewer, and none says so.
_ROWS_AT_ONCE = 500
#: A window is not split further.
_SHORTEST_SPAN = timedelta(minutes=1)
#: What a server may say to page 0 that has none.
_REFUSED_PAGES = ("Http400", "Http422", "Http500", "DatasetGone")
#: A server that finds new ids for ever is broken or hostile.
_MOST_PAGES = 20_000
#: Caps are round numbers; where pages work, the protocol's thousand is the only one. To split a window in
#: vain costs a few questions; to refuse one costs the feed.
_CAP_STEP, _CAP_STEP_OF_A_MINUTE, _CAP_STEP_WITH_PAGES = 5, 25, 1000

_SOURCE = re.compile(r"(?P<base>.*?)(?:/(?:requests|services|discovery)(?:/[^/]*)?(?:\.\w+)?)?/*")
#: How servers say in a 404 that a range holds nothing; others mean that the address is gone.
_NOTHING_FOUND = re.compile(
    r"\bno\b[\w\s-]*\b(requests?|results?|records?|issues|reports)\b"
    r"|\b(requests|results|records|issues|reports)\b[\w\s]*\bnot\b[\w\s]*\bfound\b",
    re.IGNORECASE,
)

_PAGE = """
    json_type(body),
    list_transform(json_extract(body, '$[*]'), lambda record: coalesce(
        nullif(json_extract_string(record, '$.service_request_id'), ''), md5(record)
    )),
    json_extract_string(body, [
        '$[0].code', '$[0].description', '$[0].service_request_id', '$[0].service_code', '$[0].status'
    ])
"""


class _NothingFoundError(Exception):
    """A 404 that says that the range holds no requests."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.body = body


@dataclass(frozen=True)
class _Requests:
    """One answer.

    Attributes:
        keys: Id of each record; of one without an id, a hash of what it says.
    """

    body: bytes
    keys: tuple[str, ...]


@dataclass
class _Window:
    """What a window brought.

    Attributes:
        last: The last answer that brought a new id, not yielded yet.
        has_pages: Whether a further page brought ids that the first one did not.
    """

    start: datetime
    end: datetime
    last: _Requests | None = None
    keys: set[str] = field(default_factory=set)
    has_pages: bool = False


class Open311:
    """The requests of one endpoint."""

    def __init__(self, feed: Feed, part: Part, wire: Wire) -> None:
        """Prepare; nothing is asked yet.

        Raises:
            DeliveryError: The source is no address, or the format is neither JSON nor XML.
        """
        request = feed.request_of(part)
        if part.format not in ("json", "xml"):
            raise DeliveryError(
                "WrongFormat",
                f"Open311 speaks json and xml, not {part.format}; correct `format` of {part.id}",
            )
        self._format = part.format
        self._url = f"{_base_of(part.source)}/requests.{part.format}"
        self._wire = wire
        self._page_rows = request.page_rows or _ROWS_AT_ONCE
        self._window = timedelta(days=request.window_days)
        self._jurisdiction = request.jurisdiction
        # What is learnt of the server in this run.
        self._knows_page_0 = True
        self._most = 0

    def describe(self) -> Description:
        """Return nothing: the protocol tells neither columns nor counts."""
        return Description()

    def pages(self, ask: Ask) -> Iterator[Page]:
        """Yield the pages of all windows; the cursor is the end of the last one that is complete."""
        windows = self._windows(ask)
        done: Cursor | None = None
        while windows:
            start, end = windows.popleft()
            window = yield from self._pages_of(_Window(start, end), done)
            if self._is_cut(window):
                middle = start + timedelta(seconds=(end - start) // timedelta(seconds=2))
                windows.extendleft([(middle, end), (start, middle)])
                continue
            done = Cursor(_w3c(end))
            yield self._page(window.last, token(at=_w3c(end)) if windows else None, done)

    def count(self, ask: Ask) -> None:
        """Return nothing: the protocol does not count."""
        return

    def months(self, column: str) -> None:
        """Return nothing: the protocol does not group."""
        return

    def ids(self, columns: tuple[str, ...], created: str | None, month: str | None) -> Iterator[Page]:
        """Refuse: an endpoint never gives all its requests, so none can be found missing.

        Raises:
            DeliveryError: Always.
        """
        raise DeliveryError(
            "NotSupported",
            f"{shown(self._url)} does not list all its requests; declare `sync: {{deletions: never}}`",
        )

    def _windows(self, ask: Ask) -> deque[tuple[datetime, datetime]]:
        until = ask.until.replace(microsecond=0)
        start = until - _LONGEST_SPAN
        if ask.days is not None:
            # The days are the city's, the windows UTC: a day more on both sides.
            first, after = (datetime.combine(day, time()) for day in ask.days)
            start, until = first - timedelta(days=1), min(until, after + timedelta(days=1))
        elif ask.since is not None:
            start = _moment(ask.since.at)
        if ask.resume is not None:
            start = _moment(str(told(ask.resume)["at"]))
        start = min(start.replace(microsecond=0), until - _SHORTEST_SPAN)
        windows: deque[tuple[datetime, datetime]] = deque()
        while start < until:
            windows.append((start, min(start + self._window, until)))
            start = windows[-1][1]
        return windows

    def _pages_of(self, window: _Window, done: Cursor | None) -> Generator[Page, None, _Window]:
        """Yield all answers of a window that bring something new but the last, which stays in it."""
        for number in range(_MOST_PAGES):
            got = self._ask(window, number)
            new = set(got.keys) - window.keys
            if new and window.keys:
                window.has_pages = True
                state = token(at=_w3c(window.start), to=_w3c(window.end), page=number)
                yield self._page(window.last, state, done)
            if new or window.last is None:
                window.last = got
                window.keys |= new
            # Page 1 may be page 0 once more, and page 0 may be empty, where pages are numbered from 1.
            elif number > 1 or not got.keys:
                return window
        raise DeliveryError(
            "PagingLoop",
            f"{shown(self._url)} gave {_MOST_PAGES:,} pages for one window; lower `request.window_days`, "
            "or tell the publisher",
        )

    def _is_cut(self, window: _Window) -> bool:
        """Whether a window may hold more than came: it brought a round number and none brought more.

        Raises:
            DeliveryError: It is too short to be split.
        """
        rows, span = len(window.keys), window.end - window.start
        is_longest = rows >= self._most
        self._most = max(self._most, rows)
        if not rows or not is_longest:
            return False
        is_shortest = span <= _SHORTEST_SPAN
        step = _CAP_STEP_OF_A_MINUTE if is_shortest else _CAP_STEP
        if window.has_pages:
            step = _CAP_STEP_WITH_PAGES
        if rows % step and (window.has_pages or rows != self._page_rows):
            return False
        if is_shortest:
            raise DeliveryError(
                "WindowTooFull",
                f"{shown(self._url)} gives {rows} requests for the minute from {_w3c(window.start)}, and "
                "that is its cap; raise `request.page_rows`, or ask the publisher for pages that work",
            )
        return True

    def _ask(self, window: _Window, number: int) -> _Requests:
        if number > 0 or not self._knows_page_0:
            return self._question(window, number or None)
        try:
            return self._question(window, 0)
        except DeliveryError as error:
            if error.error_type not in _REFUSED_PAGES:
                raise
        # Servers that count from 1 may refuse page 0, or fail on it. Without a number all give the first.
        first = self._question(window, None)
        self._knows_page_0 = False
        return first

    def _question(self, window: _Window, number: int | None) -> _Requests:
        """Ask for a page; of page 0 a failure is told at once, for it may fail for ever."""
        # Whole seconds: Chicago fails on fractions.
        said = {
            "jurisdiction_id": self._jurisdiction,
            "start_date": _w3c(window.start),
            "end_date": _w3c(window.end),
            "page": number,
            "page_size": self._page_rows,
            "api_key": self._wire.token,
        }
        try:
            answer, keys = ask_and_read(
                self._wire.get, self._url, self._read, params=said, checked=(500,) if number == 0 else ()
            )
        except _NothingFoundError as nothing:
            return _Requests(nothing.body, ())
        return _Requests(answer.body, keys)

    def _read(self, answer: Answer) -> tuple[str, ...]:
        """Return the keys of an answer's records; raise what an error of the protocol means."""
        if answer.status == 500:
            raise refusal(answer)
        try:
            keys, code, said = _read_xml(answer.body) if self._format == "xml" else _read_json(answer.body)
        except RetryError:
            if answer.status != 200:
                raise refusal(answer) from None
            raise
        if code is None and answer.status == 200:
            return keys
        status = int(code) if code and code.isdigit() else answer.status
        if status == 404 and code is not None and _NOTHING_FOUND.search(said):
            raise _NothingFoundError(answer.body)
        if status == 429 or status >= 500 or status < 400:
            raise RetryError(f"error {code} came: {said[:200]}")
        raise refusal(replace(answer, status=status), said)

    def _page(self, got: _Requests, state: str | None, done: Cursor | None) -> Page:
        is_xml = self._format == "xml"
        return Page(
            body=got.body,
            rows=len(got.keys),
            next=state,
            records="request" if is_xml else "$[*]",
            content="xml" if is_xml else "json",
            cursor=done,
        )


def _base_of(source: str) -> str:
    try:
        parts, where = urlsplit(source), shown(source)
    except ValueError:
        parts, where = urlsplit(""), "the source"
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise DeliveryError(
            "WrongSource",
            f"{where} is no Open311 endpoint; write its base address, such as https://host/open311/v2",
        )
    base = _SOURCE.fullmatch(parts.path)["base"]
    return urlunsplit((parts.scheme, parts.netloc, base, "", ""))


_Read = tuple[tuple[str, ...], str | None, str]


def _read_json(body: bytes) -> _Read:
    """Return the keys of the records; or, of an error, its code and what it says."""
    kind, keys, (code, said, *of_a_request) = look_up(body, _PAGE)
    if kind != "ARRAY":
        raise RetryError("a JSON that is no list of requests came")
    if code is not None and not any(of_a_request):
        return (), code, said or ""
    return tuple(keys), None, ""


def _read_xml(body: bytes) -> _Read:
    reader = _XmlReader()
    try:
        reader.parser.Parse(body, True)
    except (expat.ExpatError, ValueError):
        said = "an HTML page came, no XML" if b"<html" in body[:500].lower() else "broken XML came"
        raise RetryError(said) from None
    if reader.root == "errors":
        return (), reader.error.get("code", ""), reader.error.get("description", "")
    if reader.root != "service_requests":
        raise RetryError("an XML that is no list of requests came")
    return tuple(reader.keys), None, ""


class _XmlReader:
    """Finds the ids in an XML answer; one that declares a document type, and so entities, is refused."""

    def __init__(self) -> None:
        self.root = ""
        self.keys: list[str] = []
        self.error: dict[str, str] = {}
        self._path: list[str] = []
        self._text: list[str] = []
        self._id = ""
        self._all = hashlib.md5(usedforsecurity=False)
        self.parser = expat.ParserCreate()
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text.append

    def _refuse(self, *said: Any) -> None:
        raise RetryError("an XML with a document type came, which no portal needs")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._path.append(name.rpartition(":")[2])
        self._text.clear()
        if len(self._path) == 1:
            self.root = self._path[0]
        elif len(self._path) == 2:
            self._id, self._all = "", hashlib.md5(usedforsecurity=False)

    def _end(self, name: str) -> None:
        text = "".join(self._text).strip()
        self._text.clear()
        self._all.update(f"{self._path[-1]}={text}\n".encode())
        match self._path:
            case ["service_requests", "request", "service_request_id"]:
                self._id = text
            case ["service_requests", "request"]:
                self.keys.append(self._id or self._all.hexdigest())
            case ["errors", "error", ("code" | "description") as key]:
                self.error.setdefault(key, text)
        self._path.pop()


def _moment(said: str) -> datetime:
    at = datetime.fromisoformat(said)
    return at if at.tzinfo is None else at.astimezone(UTC).replace(tzinfo=None)


def _w3c(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}Z"
