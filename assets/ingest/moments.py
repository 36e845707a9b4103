"""Times as portals write them, moved, compared and capped in the way they are written."""

import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ISO = re.compile(
    r"(?P<day>\d{4}-\d{2}-\d{2})(?:(?P<t>[T ])(?P<time>\d{2}:\d{2}(?::\d{2})?)(?P<fraction>\.\d+)?)?"
    r"(?P<zone>Z|[+-]\d{2}:?\d{2})?"
)


def instant(at: str, time_zone: str) -> datetime | None:
    """Return a cursor's time as UTC without a zone; nothing where it is no time.

    Args:
        at: Epoch milliseconds, or an ISO time; one without a zone is the city's wall clock.
        time_zone: The city's.
    """
    if re.fullmatch(r"\d{10,14}", at):
        seconds = int(at) / (1000 if len(at) > 11 else 1)
        return (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None)
    if not _ISO.fullmatch(at):
        return None
    moment = datetime.fromisoformat(at)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(time_zone))
    return moment.astimezone(UTC).replace(tzinfo=None)


def shifted(at: str, by: timedelta) -> str:
    """Return a cursor's time moved, written as it was written; one that is no time stays."""
    if re.fullmatch(r"\d{10,14}", at):
        return str(int(at) + round(by / step(at)))
    said = _ISO.fullmatch(at)
    if said is None:
        return at
    return _as_written(datetime.fromisoformat(at) + by, said)


def step(at: str) -> timedelta:
    """Return the smallest span by which a cursor's time moves in the way it is written."""
    if re.fullmatch(r"\d{10,14}", at):
        return timedelta(milliseconds=1) if len(at) > 11 else timedelta(seconds=1)
    said = _ISO.fullmatch(at)
    if said is None or said["fraction"]:
        return timedelta(milliseconds=1)
    if said["time"] is None:
        return timedelta(days=1)
    return timedelta(seconds=1) if said["time"].count(":") == 2 else timedelta(minutes=1)


def capped(at: str, until: datetime, time_zone: str) -> str:
    """Return a cursor's time, or the upper bound of the question where it is earlier.

    Args:
        at: As the portal writes it.
        until: UTC without a zone.
        time_zone: The city's.
    """
    moment = instant(at, time_zone)
    if moment is None or moment <= until:
        return at
    if (said := _ISO.fullmatch(at)) is None:
        return str(round((until.replace(tzinfo=UTC) - _EPOCH) / step(at)))
    bound = until.replace(tzinfo=UTC)
    zone = datetime.fromisoformat(at).tzinfo
    bound = bound.astimezone(zone) if zone else bound.astimezone(ZoneInfo(time_zone)).replace(tzinfo=None)
    return _as_written(bound, said)


def month_days(month: str) -> tuple[date, date]:
    """Return the first day of a month (`2024-03`) and the first day after it."""
    first = date(int(month[:4]), int(month[5:7]), 1)
    return first, date(first.year + first.month // 12, first.month % 12 + 1, 1)


def _as_written(moment: datetime, said: "re.Match[str]") -> str:
    if said["time"] is None:
        return f"{moment:%Y-%m-%d}"
    text = f"{moment:%Y-%m-%d}{said['t']}{moment:%H:%M}"
    if said["time"].count(":") == 2:
        text += f":{moment:%S}"
    if said["fraction"]:
        digits = len(said["fraction"]) - 1
        text += f".{moment:%f}"[: digits + 1].ljust(digits + 1, "0")
    if said["zone"]:
        text += said["zone"]
    return text
