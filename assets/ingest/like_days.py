"""How many new rows a day like this one brings, public holidays apart; judging a delivery is the gate's."""

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from statistics import median

#: So many like days are looked at, newest first; with fewer than the least nothing is said.
MOST_LIKE_DAYS, LEAST_LIKE_DAYS = 8, 4
#: Of the median of the like days.
LEAST_SHARE, MOST_SHARE = 0.25, 4.0
_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Bounds:
    """Between how many new rows a day is a usual one; nothing where nothing can be said.

    Attributes:
        low: Fewest rows.
        high: Most rows.
        usual: Median of the like days.
        days: Like days there were.
    """

    low: float | None = None
    high: float | None = None
    usual: float | None = None
    days: int = 0


@lru_cache
def public_holidays(country: str, state: str) -> Container[date]:
    """Return the public holidays of a state, of its country where the state is not known, else none.

    Args:
        country: ISO 3166-1 code, as `_city.yaml` says it.
        state: Its subdivision, as `_city.yaml` says it.
    """
    from holidays import country_holidays

    for subdivision in (state, None):
        try:
            return country_holidays(country, subdiv=subdivision)
        except NotImplementedError:  # how the package says that it does not know the place
            continue
    return frozenset()


def like_day_expectation(
    history: Sequence[tuple[datetime, int]], day: date, holidays: Container[date]
) -> Bounds:
    """Return how many new rows a part is expected to bring on a day.

    Working days are like each other, Saturdays are, Sundays are; a holiday is like none of them. What came in
    several deliveries of one day counts together, so that a second run of the same day is no empty day.

    Args:
        history: Local time and new rows of the part's earlier deliveries, in any order.
        day: The local day that is judged; what the history says of it or of later days is not looked at.
        holidays: Public holidays. What arrives on one, or on the morning after it, has no lower bound.
    """
    rows_of: Counter[date] = Counter()
    for at, rows in history:
        if at.date() < day and at.date() not in holidays:
            rows_of[at.date()] += rows
    like = [rows for at, rows in sorted(rows_of.items()) if _class_of(at) == _class_of(day)]
    like = like[-MOST_LIKE_DAYS:]
    if len(like) < LEAST_LIKE_DAYS:
        return Bounds(days=len(like))
    usual = float(median(like))
    is_quiet = day in holidays or day - _ONE_DAY in holidays
    return Bounds(
        low=None if is_quiet else LEAST_SHARE * usual,
        # Where most like days bring nothing, any row would be infinitely many.
        high=MOST_SHARE * usual if usual else None,
        usual=usual,
        days=len(like),
    )


def rows_of_day(history: Sequence[tuple[datetime, int]], day: date, rows: int) -> int:
    """Return the new rows of a day whose latest delivery brought some; the history may hold earlier ones."""
    return rows + sum(earlier for at, earlier in history if at.date() == day)


def _class_of(day: date) -> int:
    """Return 0 for a working day, 1 for a Saturday, 2 for a Sunday."""
    return max(0, day.weekday() - 4)
