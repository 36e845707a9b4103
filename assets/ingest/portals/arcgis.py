"""ArcGIS layers of a FeatureServer or MapServer; what their features become belongs to page_records.

Pages go by object id (`OBJECTID > last`), which needs no offset and holds while rows come and go. Only
`exceededTransferLimit` tells that there is more: a page may be short, or even empty, with it. A server that
orders nothing, or whose flag cannot be relied on, is asked for all its ids and then for the rows of some ids
at a time. Errors come with status 200.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from itertools import pairwise
from typing import Any, NoReturn
from urllib.parse import urlencode, urlsplit, urlunsplit
from zoneinfo import ZoneInfo

from assets.ingest.feed import Feed
from assets.ingest.part import Part
from assets.ingest.portals.json_answers import ask_and_read, look_up, member, small_object
from assets.ingest.portals.page import Ask, Cursor, Description, Page, token, told
from assets.ingest.portals.wire import Answer, RetryError, Wire, shown
from assets.ingest.receipts import DeliveryError

#: Before 10.3.1 the flag is missing on pages; before 10.3 there are no pages.
_FIRST_WITH_PAGES = 10.31
#: Where the server would give more: its shapes may be large, its ids are not.
_ROWS_AT_ONCE, _IDS_AT_ONCE = 5000, 32000
#: Servers before 10.1 give so many rows and do not say so.
_ROWS_WHEN_NOTHING_IS_SAID = 500
#: IIS in front of many servers refuses longer questions.
_LONGEST_QUERY = 1500
_SOURCE = re.compile(r"(?P<layer>.*/(?:FeatureServer|MapServer)/\d+)(?:/.*)?", re.IGNORECASE)
_TRANSIENT_CODES = {408, 425, 429, 500, 502, 503, 504}
#: `dateFieldsTimeReference` speaks of time zones as Windows does.
_IANA_OF_WINDOWS = {
    "UTC": "UTC",
    "Coordinated Universal Time": "UTC",
    "Eastern Standard Time": "America/New_York",
    "US Eastern Standard Time": "America/Indiana/Indianapolis",
    "Central Standard Time": "America/Chicago",
    "Mountain Standard Time": "America/Denver",
    "US Mountain Standard Time": "America/Phoenix",
    "Pacific Standard Time": "America/Los_Angeles",
    "Alaskan Standard Time": "America/Anchorage",
    "Hawaiian Standard Time": "Pacific/Honolulu",
    "SA Western Standard Time": "America/Puerto_Rico",
}
_DATE = "esriFieldTypeDate"

_PAGE = """
    json_array_length(body, '$.features'),
    json_type(body, '$.features'),
    json_extract_string(body, ['$.exceededTransferLimit', '$.properties.exceededTransferLimit']),
    list_transform(json_extract(body, $ids), lambda said: try_cast(said as bigint)),
    json_extract_string(body, '$.fields[*].name')
"""
_EDITED = """
    list_max(list_filter(
        list_transform(json_extract(body, $edited), lambda said: try_cast(said as bigint)),
        lambda said: said between 0 and $latest
    ))
"""
_IDS = """
    json_type(body, '$.objectIds'),
    list_transform(json_extract(body, '$.objectIds[*]'), lambda said: try_cast(said as bigint)),
    json_extract_string(body, ['$.objectIdFieldName', '$.exceededTransferLimit'])
"""
_ERROR = """
    json_extract_string(body, ['$.error.code', '$.error.message', '$.error.details[0]'])
"""


@dataclass(frozen=True)
class _Layer:
    """What a layer says of itself.

    Attributes:
        fields: Name and type, without the geometry.
        object_id: The field that pages are ordered by, where one is named.
        most_rows: Rows of an answer at most, where said.
        most_ids: The same of answers without geometry.
        has_pages: Whether pages may be walked by object id.
        clock: The clock in which it reads `TIMESTAMP '…'`; nothing where it names one that we do not know.
    """

    title: str
    version: float
    fields: dict[str, str]
    object_id: str | None
    geometry: str | None
    most_rows: int | None
    most_ids: int | None
    has_pages: bool
    clock: tzinfo | None
    changed_at: datetime | None


@dataclass(frozen=True)
class _Features:
    """What a page is known by.

    Attributes:
        is_more: What the flag says; nothing where it is missing.
        ids: Object ids in the order of the page; shorter than the page where features have none.
        edited: Newest edit in it that is no poison, in epoch milliseconds.
    """

    rows: int
    is_more: bool | None
    ids: list[int]
    columns: tuple[str, ...]
    edited: int | None

    def is_ordered_after(self, last: int | None) -> bool:
        """Whether its ids go up, from beyond the last one of the page before."""
        before = ([] if last is None else [last]) + self.ids
        return len(self.ids) == self.rows and all(one < other for one, other in pairwise(before))


@dataclass
class _Walk:
    """One way through the rows of a question, and how far it has come."""

    condition: str
    fields: str
    rows_at_once: int
    with_geometry: bool
    latest: int
    after: int | None = None
    edited: int | None = None


class ArcGIS:
    """One layer."""

    def __init__(self, feed: Feed, part: Part, wire: Wire) -> None:
        """Prepare; nothing is asked yet.

        Raises:
            DeliveryError: The source is no address of a layer.
        """
        request = feed.request_of(part)
        sync = feed.sync_of(part)
        self._url = _layer_of(part.source)
        self._wire = wire
        self._where = request.where or "1=1"
        self._page_rows = request.page_rows
        self._cursor = sync.cursor
        self._created = sync.created
        self._is_geojson = part.format == "geojson"
        self._said: _Layer | None = None

    def describe(self) -> Description:
        """Ask for the layer's fields and count its rows."""
        layer = self._layer()
        way = "pages by object id" if layer.has_pages else "rows by lists of object ids"
        notes = (f"ArcGIS {layer.version:g}: {layer.title}", way)
        return Description(
            columns=layer.fields | dict.fromkeys(self._geometry_columns(), layer.geometry or ""),
            rows=self._count({"where": f"({self._where})"}),
            changed_at=layer.changed_at,
            notes=notes,
        )

    def pages(self, ask: Ask) -> Iterator[Page]:
        """Yield the pages of an answer; the cursor is there where `sync.cursor` names an edit date."""
        layer = self._layer()
        walk = _Walk(
            condition=self._condition(ask),
            fields="*",
            rows_at_once=_least(self._page_rows or _ROWS_AT_ONCE, layer.most_rows),
            with_geometry=True,
            latest=round(ask.until.replace(tzinfo=UTC).timestamp() * 1000),
        )
        if self._cursor:
            self._date_field(self._cursor)
        yield from self._rows_of(walk, ask.resume)

    def count(self, ask: Ask) -> int:
        """Return how many rows the question has."""
        return self._count({"where": self._condition(ask)})

    def months(self, column: str) -> None:
        """Return nothing: not every server groups, and ids cost little here."""
        return

    def ids(self, columns: tuple[str, ...], created: str | None, month: str | None) -> Iterator[Page]:
        """Yield the id columns of all rows; as `months` counts none, no month is ever asked for."""
        layer = self._layer()
        geometry = [name for name in columns if name in ("geometry_x", "geometry_y")]
        wanted = [self._field(name) for name in columns if name not in geometry]
        # Without it no page can be told from the next one.
        fields = dict.fromkeys([layer.object_id, *wanted]) if layer.object_id else ("*",)
        walk = _Walk(
            condition=f"({self._where})",
            fields=",".join(fields),
            rows_at_once=_least(
                self._page_rows or _IDS_AT_ONCE, layer.most_rows if geometry else layer.most_ids
            ),
            with_geometry=bool(geometry),
            latest=0,
        )
        yield from self._rows_of(walk, None)

    # How a walk goes.

    def _rows_of(self, walk: _Walk, resume: str | None) -> Iterator[Page]:
        state = told(resume) if resume else {}
        walk.after, walk.edited = state.get("after"), state.get("edited")
        if self._layer().has_pages and not state.get("by_ids"):
            is_over = yield from self._by_pages(walk)
            if is_over:
                return
        yield from self._by_ids(walk)

    def _by_pages(self, walk: _Walk) -> Iterator[Page]:
        """Yield ordered pages; returns whether they were all, else the rest is to be had by ids."""
        object_id = self._layer().object_id
        while True:
            beyond = "" if walk.after is None else f" AND {object_id} > {walk.after}"
            answer, features = self._features(
                walk,
                {
                    "where": walk.condition + beyond,
                    "orderByFields": object_id,
                    "resultRecordCount": walk.rows_at_once,
                },
            )
            if not features.rows and not features.is_more:
                yield self._page(answer, features, walk, None)
                return True
            if not features.rows or not features.is_ordered_after(walk.after):
                return False
            walk.after = features.ids[-1]
            # A missing flag is no word: one question more, which an empty page answers, costs little.
            is_last = features.is_more is False
            yield self._page(answer, features, walk, None if is_last else {"after": walk.after})
            if is_last:
                return True

    def _by_ids(self, walk: _Walk) -> Iterator[Page]:
        """Yield the rows of all ids from where the walk has come to, some ids at a time."""
        ids = self._object_ids(walk)
        if not ids:
            answer, features = self._features(walk, {"where": f"{walk.condition} AND 1=0"})
            yield self._page(answer, features, walk, None)
            return
        size = _least(walk.rows_at_once, self._layer().most_rows or _ROWS_WHEN_NOTHING_IS_SAID)
        begun, open_ids = 0, list[int]()
        while open_ids or begun < len(ids):
            if not open_ids:
                open_ids = ids[begun : begun + size]
                begun += len(open_ids)
            asked = open_ids[:size]
            answer, features = self._features(walk, {"objectIds": _listed(asked)})
            came = set(features.ids).intersection(asked)
            if not came and (features.is_more or self._count({"objectIds": _listed(asked)})):
                if len(asked) == 1:
                    raise self._broken(f"counts the object {asked[0]} and does not give it")
                size = len(asked) // 2
                continue
            if came and len(came) < len(asked):
                # It gives less at once than it said, if it said anything.
                size = max(len(came), size // 2)
            # Those that did not come and are not counted were deleted since they were listed.
            over = came or set(asked)
            open_ids = [each for each in open_ids if each not in over]
            done = open_ids[0] - 1 if open_ids else ids[begun - 1]
            is_last = not open_ids and begun == len(ids)
            state = {"by_ids": True, "after": done, "open": len(open_ids)}
            yield self._page(answer, features, walk, None if is_last else state)

    def _object_ids(self, walk: _Walk) -> list[int]:
        name, after, ids = self._layer().object_id, walk.after, list[int]()
        while True:
            beyond = f" AND {name} > {after}" if name and after is not None else ""
            said = {"where": walk.condition + beyond, "returnIdsOnly": "true"}
            _, (listed, told_name, is_more) = self._asked("query", said, _read_ids)
            if name is None:
                name = told_name
                self._said = replace(self._layer(), object_id=name)
            new = sorted({each for each in listed if after is None or each > after})
            ids += new
            if not is_more:
                return ids
            if not new or not name:
                raise self._broken("says that there are more object ids and does not give them")
            after = new[-1]

    def _page(
        self, answer: Answer, features: _Features, walk: _Walk, state: Mapping[str, Any] | None
    ) -> Page:
        if features.edited is not None:
            walk.edited = max(features.edited, walk.edited or features.edited)
        is_shape = self._is_geojson and walk.with_geometry
        return Page(
            body=answer.body,
            rows=features.rows,
            next=None if state is None else token(**state, edited=walk.edited),
            records="$.features[*]",
            content="geojson" if is_shape else "json",
            cursor=None if walk.edited is None else Cursor(_iso(walk.edited)),
            columns=features.columns,
        )

    # What is asked.

    def _condition(self, ask: Ask) -> str:
        where = f"({self._where})"
        if ask.days is not None:
            created = self._known_field(self._created)
            if created is None or self._layer().fields[created] != _DATE:
                return where
            # The days are the city's, the layer's clock is perhaps another: a day more on both sides.
            first, after = (_midnight(day) for day in ask.days)
            since, until = self._literal(first - timedelta(days=1)), self._literal(after + timedelta(days=2))
            return f"{where} AND {created} >= {since} AND {created} < {until}"
        if ask.mode == "incremental" and ask.since is not None and self._cursor:
            return f"{where} AND {self._date_field(self._cursor)} > {self._literal(_moment(ask.since.at))}"
        return where

    def _literal(self, lower: datetime) -> str:
        """Write a lower bound, UTC without a zone, on the layer's clock; never a later one."""
        clock = self._layer().clock
        if clock is None:
            said = lower - timedelta(days=1)
        elif clock is UTC:
            said = lower
        else:
            # In the hour that comes twice the layer may mean the other one.
            said = lower.replace(tzinfo=UTC).astimezone(clock).replace(tzinfo=None) - timedelta(hours=1)
        return f"TIMESTAMP '{said:%Y-%m-%d %H:%M:%S}'"

    def _features(self, walk: _Walk, said: Mapping[str, Any]) -> tuple[Answer, _Features]:
        values = "properties" if self._is_geojson else "attributes"
        object_id = self._layer().object_id or ""
        paths = {"ids": f"$.features[*].{values}{member(object_id)}"}
        cursor = self._known_field(self._cursor)
        if cursor is not None and walk.latest:
            paths["edited"] = f"$.features[*].{values}{member(cursor)}"
        question = {
            **said,
            "outFields": walk.fields,
            "returnGeometry": "true" if walk.with_geometry else "false",
            "outSR": "4326",
        }
        form = "geojson" if self._is_geojson else "json"
        answer, features = self._asked(
            "query", question, lambda got: _read_features(got, paths, walk.latest), form
        )
        told_columns = [name for name in features.columns if name in self._layer().fields]
        columns = (*told_columns, *self._geometry_columns()) if told_columns else ()
        return answer, _Features(features.rows, features.is_more, features.ids, columns, features.edited)

    def _count(self, said: Mapping[str, Any]) -> int:
        _, rows = self._asked("query", {**said, "returnCountOnly": "true"}, _read_count)
        return rows

    def _asked(self, what: str, said: Mapping[str, Any], read: Any, form: str = "json") -> tuple[Answer, Any]:
        said = {name: value for name, value in said.items() if value is not None} | {"f": form}
        url = f"{self._url}/{what}" if what else self._url

        def checked(answer: Answer) -> Any:
            # The wire refuses any other status itself.
            return read(answer) if answer.status == 200 else None

        if self._wire.token:
            # In an address it would stand in logs.
            said["token"] = self._wire.token
        if self._wire.token or len(urlencode(said)) > _LONGEST_QUERY:
            return ask_and_read(self._wire.post, url, checked, data=said)
        return ask_and_read(self._wire.get, url, checked, params=said)

    # What is known of the layer.

    def _layer(self) -> _Layer:
        if self._said is None:
            _, self._said = self._asked("", {}, _read_layer)
        return self._said

    def _geometry_columns(self) -> tuple[str, ...]:
        has_point = self._is_geojson or self._layer().geometry == "esriGeometryPoint"
        return ("geometry_x", "geometry_y") if self._layer().geometry and has_point else ()

    def _known_field(self, name: str | None) -> str | None:
        """Return a field as the layer spells it: the cases of a declaration and a layer may differ."""
        of_lower = {each.lower(): each for each in self._layer().fields}
        return of_lower.get(name.lower()) if name else None

    def _field(self, name: str) -> str:
        found = self._known_field(name)
        if found is None:
            raise DeliveryError(
                "ColumnsGone",
                f"{shown(self._url)} has no field {name!r}; correct the declaration after the layer's page",
                "blocked",
            )
        return found

    def _date_field(self, name: str) -> str:
        field = self._field(name)
        kind = self._layer().fields[field]
        if kind != _DATE:
            raise DeliveryError(
                "WrongCursor",
                f"{shown(self._url)} keeps {field!r} as {kind}, which does not order as time does; "
                "let `sync.cursor` name an edit date, or leave it out",
                "blocked",
            )
        return field

    def _broken(self, what: str) -> DeliveryError:
        return DeliveryError(
            "BrokenAnswer", f"{shown(self._url)} {what}; run again later, or tell the publisher"
        )


def _layer_of(source: str) -> str:
    try:
        parts, where = urlsplit(source), shown(source)
    except ValueError:
        parts, where = urlsplit(""), "the source"
    found = _SOURCE.fullmatch(parts.path)
    if found is None or parts.scheme not in ("http", "https"):
        raise DeliveryError(
            "WrongSource",
            f"{where} is no ArcGIS layer; write the address of a layer, such as "
            "https://host/arcgis/rest/services/name/FeatureServer/0",
        )
    return urlunsplit((parts.scheme, parts.netloc, found["layer"], "", ""))


def _read_layer(answer: Answer) -> _Layer:
    said = small_object(answer.body)
    if "error" in said:
        _refuse(answer)
    try:
        layer = _layer_said(said)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, OSError):
        raise RetryError("no description of a layer came") from None
    if not layer.fields:
        raise DeliveryError(
            "WrongSource",
            f"{shown(answer.url)} has no fields ({said.get('type', 'no type')}); name a layer with data",
        )
    return layer


def _layer_said(said: Mapping[str, Any]) -> _Layer:
    if "fields" not in said and "type" not in said:
        raise KeyError("fields")
    fields = {field["name"]: field["type"] for field in said.get("fields") or []}
    of_type = {kind: name for name, kind in fields.items()}
    object_id = said.get("objectIdField") or of_type.get("esriFieldTypeOID")
    can = said.get("advancedQueryCapabilities") or {}
    version = float(said.get("currentVersion") or 0)
    most = said.get("maxRecordCount")
    return _Layer(
        title=str(said.get("name", "")),
        version=version,
        fields={name: kind for name, kind in fields.items() if kind != "esriFieldTypeGeometry"},
        object_id=object_id,
        geometry=said.get("geometryType"),
        most_rows=most,
        most_ids=said.get("standardMaxRecordCountNoGeometry") or most,
        has_pages=bool(
            object_id
            and version >= _FIRST_WITH_PAGES
            and can.get("supportsPagination")
            and can.get("supportsOrderBy", True)
        ),
        clock=_clock(said.get("dateFieldsTimeReference")),
        changed_at=_changed_at(said.get("editingInfo") or {}),
    )


def _read_features(answer: Answer, paths: Mapping[str, str], latest: int) -> _Features:
    rows, kind, flags, ids, columns = look_up(answer.body, _PAGE, ids=paths["ids"])
    if kind != "ARRAY":
        _refuse(answer)
    flag = next((said for said in flags if said is not None), None)
    edited = None
    if "edited" in paths and rows:
        (edited,) = look_up(answer.body, _EDITED, edited=paths["edited"], latest=latest)
    known = [each for each in ids or [] if each is not None]
    return _Features(rows, None if flag is None else flag == "true", known, tuple(columns or ()), edited)


def _read_count(answer: Answer) -> int:
    (rows,) = look_up(answer.body, "try_cast(json_extract(body, '$.count') as bigint)")
    if rows is None:
        _refuse(answer)
    return rows


def _read_ids(answer: Answer) -> tuple[list[int], str | None, bool]:
    kind, ids, (name, flag) = look_up(answer.body, _IDS)
    # Where nothing matches, the list is null.
    if kind not in ("ARRAY", "NULL") or None in (ids or []):
        _refuse(answer)
    return ids or [], name, flag == "true"


def _refuse(answer: Answer) -> NoReturn:
    """Raise what an answer without the expected content means."""
    ((code, message, detail),) = look_up(answer.body, _ERROR)
    if code is None and message is None:
        raise RetryError("an answer without the expected content came")
    number = int(code) if code and code.isdigit() else 500
    told_why = " ".join(filter(None, (message, detail)))[:300]
    said = f"{shown(answer.url)} answered with error {code} in a 200 ({told_why})"
    if number in _TRANSIENT_CODES:
        raise RetryError(f"error {code} in a 200: {(message or '')[:200]}")
    if number in (401, 403, 498, 499):
        raise DeliveryError(
            "Unauthorised",
            f"{said}; the token is missing, wrong or expired: renew it and set the variable of `token_env`",
        )
    # A hosted layer that was deleted is no longer an address.
    if number in (404, 410) or (number == 400 and message == "Invalid URL"):
        raise DeliveryError(
            "DatasetGone",
            f"{said}; the layer was retired or moved: look for its successor and declare it",
        )
    raise DeliveryError(f"Http{number}", f"{said}; check `source`, `request.where` and the declared columns")


def _clock(reference: Mapping[str, Any] | None) -> tzinfo | None:
    said = reference or {}
    name = said.get("timeZoneIANA") or said.get("timeZone")
    if name is None:
        return UTC
    name = _IANA_OF_WINDOWS.get(name, name)
    if name == "UTC":
        return UTC
    try:
        zone = ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None
    if said.get("respectsDaylightSaving", True):
        return zone
    return timezone(zone.utcoffset(datetime(2024, 1, 1)))  # noqa: DTZ001  a wall clock's


def _changed_at(editing: Mapping[str, Any]) -> datetime | None:
    at = editing.get("dataLastEditDate") or editing.get("lastEditDate")
    return datetime.fromtimestamp(at / 1000, UTC).replace(tzinfo=None) if at else None


def _moment(said: str) -> datetime:
    """Read a cursor, ISO or epoch milliseconds, as UTC without a zone."""
    if said.isdigit():
        return datetime.fromtimestamp(int(said) / 1000, UTC).replace(tzinfo=None)
    at = datetime.fromisoformat(said)
    return at if at.tzinfo is None else at.astimezone(UTC).replace(tzinfo=None)


def _iso(milliseconds: int) -> str:
    at = datetime.fromtimestamp(milliseconds / 1000, UTC).replace(tzinfo=None)
    return at.isoformat(timespec="milliseconds") + "Z"


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day)  # noqa: DTZ001  UTC without a zone, as all our times


def _least(*numbers: int | None) -> int:
    return min(number for number in numbers if number)


def _listed(ids: list[int]) -> str:
    return ",".join(map(str, ids))
