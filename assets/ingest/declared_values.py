"""The types of single values in a declaration, each refusing with a remedy; models belong to feed, part."""

import re
from datetime import UTC, date, datetime, time
from functools import lru_cache
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field

_ID = re.compile(r"[a-z][a-z0-9_]*")


def _identifier(text: str) -> str:
    if not _ID.fullmatch(text):
        raise ValueError(f"{text!r} cannot be an id; use lower-case letters, digits and _, a letter first")
    return text


@lru_cache
def _projected_unit(text: str) -> str | None:
    """Return the unit of a projected coordinate reference system, nothing for an unprojected one."""
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        crs = CRS.from_user_input(text)
    except CRSError:
        raise ValueError(f"{text!r} is no coordinate reference system; write it as EPSG:<number>") from None
    return crs.axis_info[0].unit_name if crs.is_projected else None


def _crs(text: str) -> str:
    _projected_unit(text)
    return text


def _metre_crs(text: str) -> str:
    if _projected_unit(text) != "metre":
        raise ValueError(f"{text!r} is not projected in metres; use the city's UTM zone, such as EPSG:26916")
    return text


def _time_zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{text!r} is no time zone; use an IANA name such as America/Chicago") from None
    return text


def _bbox(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    west, south, east, north = box
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise ValueError(f"{list(box)} is out of order; write [west, south, east, north] in degrees")
    return box


def _day(value: Any) -> date:
    # pydantic would take the number 2015 for seconds since 1970.
    try:
        day = date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        day = None
    if not isinstance(day, date) or isinstance(day, datetime):
        raise ValueError(f"{value!r} is no date; write it as 2015-01-02")
    return day


def _moment(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        moment = None
    if isinstance(moment, datetime):
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    if isinstance(moment, date):
        return datetime.combine(moment, time())
    raise ValueError(f"{value!r} is no date or time; write it as 2015-01-02 or 2015-01-02T06:00:00Z")


def _point(point: tuple[float, float]) -> tuple[float, float]:
    lon, lat = point
    if not (-180 <= lon <= 180 and -90 <= lat <= 90):
        raise ValueError(f"{list(point)} is not on the earth; write [longitude, latitude] in degrees")
    return point


#: Ids become folder names, so they are kept to what every file system and SQL engine takes.
Id = Annotated[str, AfterValidator(_identifier)]
Text = Annotated[str, Field(min_length=1)]
Crs = Annotated[str, AfterValidator(_crs)]
MetreCrs = Annotated[str, AfterValidator(_metre_crs)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
Box = Annotated[tuple[float, float, float, float], AfterValidator(_bbox)]
Point = Annotated[tuple[float, float], AfterValidator(_point)]
Day = Annotated[date, BeforeValidator(_day)]
#: UTC without a zone; a date is its midnight.
Moment = Annotated[datetime, BeforeValidator(_moment)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
