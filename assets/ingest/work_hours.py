"""When a city lets construction be heard, and what lifts that; matching complaints with it belongs to dbt."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from assets.ingest.declared_values import Day, Id, Text
from assets.ingest.part import Declaration

Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
#: In ISO order: the first is 1.
WEEKDAYS: tuple[Weekday, ...] = (
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
)

_SPAN = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")


def _hours(value: Any) -> Any:
    """Return minutes after midnight of opening and closing; 24:00 is the end of the day."""
    if isinstance(value, tuple):
        return value
    found = _SPAN.fullmatch(value) if isinstance(value, str) else None
    opens, closes = (60 * int(found[n]) + int(found[n + 1]) for n in (1, 3)) if found else (0, 0)
    if not opens < closes <= 24 * 60:
        raise ValueError(f"{value!r} is no span of a day; write it as 07:00-18:00")
    return opens, closes


Hours = Annotated[tuple[int, int], BeforeValidator(_hours)]


class WorkHours(Declaration):
    """When construction work needs no special leave.

    Attributes:
        source: The rule's name or number, so that a reader can look it up.
        allowed: Hours of each weekday; on a day that is not named no work is allowed.
        holidays: Days on which no work is allowed, whatever their weekday.
        grace_minutes: A complaint so shortly before or after the hours is about work within them.
        variance_types: Permit types that lift the hours while they are in force. None: the city publishes no
            such permits, and no site is known to hold or to lack one.
        open_permit_days: How long work goes on under a permit that tells neither completion nor expiry.
            Nothing: it is not known, and such a permit is no site.
    """

    source: Text
    allowed: Annotated[dict[Weekday, Hours], Field(min_length=1)]
    holidays: tuple[Day, ...] = ()
    grace_minutes: int = Field(30, ge=0, le=180)
    variance_types: tuple[Id, ...] = ()
    open_permit_days: int | None = Field(None, ge=1)
