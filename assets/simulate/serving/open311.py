"""Open311 GeoReport v2 as cities serve it, JSON and XML; a data set's columns are the keys of a request.

`/{endpoint}/v2/requests.json`, `/requests/{id}.json`, `/services.json`, the same with `.xml`; the endpoint
is the data set's id, and left out (`/v2/...`) it is the store's first. Traits or attributes of a data set:
`has_pages` (without, a server stops at 1000 rows and does not say so), `page_base` (1), `time_zone` (in which
times are written), `has_minutes_only` (`updated_datetime` loses its seconds; true).
"""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring
from zoneinfo import ZoneInfo

from assets.simulate.serving.exchange import Request, Response
from assets.simulate.serving.store import Dataset, Store, quoted

MOST_ROWS = 1000
LONGEST_RANGE = timedelta(days=90)
_PAGE_ROWS = 50
_PATH = re.compile(
    r"^(?:/(?P<id>[^/]+))?/v2/(?P<what>requests|services)(?:/(?P<one>[^/]+))?\.(?P<form>json|xml)$"
)
_NUMBERS = ("lat", "long")
_RANGES = {
    "requested_datetime": ("start_date", "end_date"),
    "updated_datetime": ("updated_after", "updated_before"),
}


class _RefusalError(Exception):
    """What the endpoint refuses: the status, and its description."""

    def __init__(self, status: int, description: str) -> None:
        super().__init__(description)
        self.status = status


@dataclass(frozen=True)
class _Endpoint:
    """One data set as an endpoint."""

    dataset: Dataset

    def trait(self, name: str, otherwise: Any) -> Any:
        return getattr(self.dataset, name, self.dataset.traits.get(name, otherwise))

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.trait("time_zone", "America/Chicago"))

    def moment(self, name: str) -> str:
        """Return the SQL of a time as UTC without a zone; null where the text is no time."""
        if name not in {column.name for column in self.dataset.columns}:
            return "null::timestamp"
        if self.dataset.column(name).type in ("floating_timestamp", "fixed_timestamp"):
            return quoted(name)
        return f"(epoch_ms(epoch_ms(try_cast({quoted(name)} as timestamptz))))"

    def told(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row as the endpoint writes it."""
        written: dict[str, Any] = {}
        for name, value in row.items():
            if isinstance(value, datetime):
                value = value.replace(tzinfo=UTC).astimezone(self.zone).isoformat(timespec="seconds")
            if name == "updated_datetime" and value and self.trait("has_minutes_only", True):
                value = re.sub(r"(T\d\d:\d\d):\d\d(?:\.\d+)?", r"\1:00", value)
            written[name] = _number(value) if name in _NUMBERS else value
        return written


def kind_of(request: Request) -> str:
    """Return what is asked: `meta` for the services, `page` for requests."""
    found = _PATH.match(request.path)
    return "page" if found and found["what"] == "requests" else "meta"


def answer(store: Store, request: Request) -> Response:
    """Answer as the endpoint would; errors are a list of code and description."""
    found = _PATH.match(request.path)
    form = found["form"] if found else "json"
    try:
        fault = store.faults.take("error_in_200", "open311", kind_of(request))
        if fault is not None:
            said = [{"code": fault.get("code", 500), "description": fault.get("message", "backend error")}]
            return _told(said, form, "errors", "error")
        endpoint = _endpoint(store, found["id"] if found else None)
        if found is None or endpoint is None:
            raise _RefusalError(404, "resource not found")
        if found["what"] == "services":
            return _told(_services(endpoint), form, "services", "service")
        if found["one"]:
            return _told(_single(endpoint, found["one"]), form, "service_requests", "request")
        return _told(_requests(store, request, endpoint), form, "service_requests", "request")
    except _RefusalError as refusal:
        error = [{"code": refusal.status, "description": str(refusal)}]
        return _told(error, form, "errors", "error", refusal.status)


def refuse(status: int, message: str) -> Response:
    """Return an error as the endpoint words it."""
    return _told([{"code": status, "description": message}], "json", "errors", "error", status)


def _endpoint(store: Store, name: str | None) -> _Endpoint | None:
    dataset = store.find("open311", name) if name else next(iter(store.datasets("open311")), None)
    return _Endpoint(dataset) if dataset is not None and not dataset.is_retired else None


def _services(endpoint: _Endpoint) -> list[dict[str, Any]]:
    rows = endpoint.dataset.query(
        "service_code, min(service_name) as service_name",
        "service_code is not null group by service_code",
        "service_code",
    ).to_pylist()
    return [row | {"metadata": False, "type": "realtime", "keywords": "", "group": ""} for row in rows]


def _single(endpoint: _Endpoint, request_id: str) -> list[dict[str, Any]]:
    key = quoted(endpoint.dataset.key)
    rows = endpoint.dataset.query(_select(endpoint), f"{key} = ?", "_row desc", 1, parameters=[request_id])
    if not rows.num_rows:
        raise _RefusalError(404, "service_request_id was not found")
    return [endpoint.told(row) for row in rows.to_pylist()]


def _requests(store: Store, request: Request, endpoint: _Endpoint) -> list[dict[str, Any]]:
    where, parameters = _condition(store, request, endpoint)
    # Newest first; what shares a second comes in the order of its arrival.
    order = f"{endpoint.moment('requested_datetime')} desc nulls last, _row"
    limit, offset = _window(store, request, endpoint)
    rows = endpoint.dataset.query(_select(endpoint), where, order, limit, offset, parameters)
    is_past_end = not rows.num_rows and offset > 0
    if is_past_end and store.faults.take("repeat_last_page", "open311", "page") is not None:
        total = endpoint.dataset.count(where, parameters)
        last = max(0, total - 1) // limit * limit
        rows = endpoint.dataset.query(_select(endpoint), where, order, limit, last, parameters)
    return [endpoint.told(row) for row in rows.to_pylist()]


def _select(endpoint: _Endpoint) -> str:
    return ", ".join(quoted(column.name) for column in endpoint.dataset.columns)


def _condition(store: Store, request: Request, endpoint: _Endpoint) -> tuple[str, list[Any]]:
    conditions, parameters = ["true"], []
    for name, column in (
        ("service_request_id", endpoint.dataset.key),
        ("service_code", "service_code"),
        ("status", "status"),
    ):
        wanted = [value.strip() for value in request.one(name).split(",") if value.strip()]
        if wanted:
            conditions.append(f"{quoted(column)} in ({', '.join('?' * len(wanted))})")
            parameters += wanted
            if name == "service_request_id":
                # Ids overrule every other question.
                return conditions[-1], wanted
    has_range = False
    for column, names in _RANGES.items():
        low, high = (_moment(store, request, endpoint, name) for name in names)
        if low is None and high is None:
            continue
        has_range = True
        low = low or high - LONGEST_RANGE
        high = high or min(low + LONGEST_RANGE, max(store.now, low))
        if high - low > LONGEST_RANGE:
            raise _RefusalError(400, f"the range from {names[0]} to {names[1]} is longer than 90 days")
        conditions.append(f"{endpoint.moment(column)} between ? and ?")
        parameters += [low, high]
    if not has_range:
        conditions.append(f"{endpoint.moment('requested_datetime')} >= ?")
        parameters.append(store.now - LONGEST_RANGE)
    return " and ".join(conditions), parameters


def _moment(store: Store, request: Request, endpoint: _Endpoint, name: str) -> datetime | None:
    said = request.one(name)
    if not said:
        return None
    has_fraction = re.search(r"\d\.\d", said) is not None
    if has_fraction and store.faults.take("fractional_seconds_500", "open311", "page") is not None:
        raise _RefusalError(500, "internal server error")
    try:
        # A plus sign that nobody encoded arrives as a space.
        moment = datetime.fromisoformat(said.replace(" ", "+") if "T" in said else said)
    except ValueError:
        raise _RefusalError(400, f"{name} is not a valid date") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=endpoint.zone)
    return moment.astimezone(UTC).replace(tzinfo=None)


def _window(store: Store, request: Request, endpoint: _Endpoint) -> tuple[int, int]:
    """Return how many rows go out, and how many are passed over."""
    clamp = store.faults.take("clamp", "open311", "page")
    most = min(MOST_ROWS, int(clamp["rows"])) if clamp else MOST_ROWS
    if not endpoint.trait("has_pages", True):
        # Such a server takes the parameters and does nothing with them.
        return most, 0
    limit = min(max(1, _whole(request, "page_size", _PAGE_ROWS)), most)
    told = store.faults.take("page_base", "open311", "page") or {}
    base = int(told.get("base", endpoint.trait("page_base", 1)))
    return limit, max(0, _whole(request, "page", base) - base) * limit


def _whole(request: Request, name: str, otherwise: int) -> int:
    said = request.one(name)
    if said and not said.isdigit():
        raise _RefusalError(400, f"{name} is not a number")
    return int(said) if said else otherwise


def _number(value: Any) -> Any:
    try:
        return float(value) if value is not None else None
    except ValueError:
        return value


def _told(told: list[dict[str, Any]], form: str, whole: str, single: str, status: int = 200) -> Response:
    if form == "json":
        body = json.dumps(told, ensure_ascii=False).encode()
        return Response(status, body, content_type="application/json; charset=utf-8")
    root = Element(whole)
    for row in told:
        element = SubElement(root, single)
        for name, value in row.items():
            # A null is an empty element.
            SubElement(element, name).text = None if value is None else _xml_text(value)
    body = tostring(root, encoding="utf-8", xml_declaration=True)
    return Response(status, body, content_type="text/xml; charset=utf-8")


def _xml_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
