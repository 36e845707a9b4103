"""Which rows a question is about, in the words of portals that take conditions; questions are theirs.

Socrata, CARTO and Opendatasoft differ in how they write a column and a day, not in what is asked of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from assets.ingest.moments import month_days
from assets.ingest.part import Sync
from assets.ingest.portals.page import Ask
from assets.ingest.receipts import DeliveryError


@dataclass(frozen=True)
class Dialect:
    """How a portal writes what conditions are made of.

    Attributes:
        name: Writes a column.
        day: Writes the midnight at which a day begins, by the portal's own clock.
        time: Writes the time of a cursor.
    """

    name: Callable[[str], str]
    day: Callable[[date], str]
    time: Callable[[str], str]

    def between(self, column: str | None, first: date, after: date) -> tuple[str, ...]:
        """Return the conditions for the rows of some days.

        Args:
            column: The one that gives the day.
            first: First day.
            after: First day after them.

        Raises:
            DeliveryError: No column gives it.
        """
        name = self.name(_declared(column))
        return (f"{name} >= {self.day(first)}", f"{name} < {self.day(after)}")

    def of_month(self, column: str | None, month: str | None) -> tuple[str, ...]:
        """Return the conditions for the rows of a month (`2024-03`), or without one (the empty text).

        Args:
            column: The one that gives the month.
            month: Nothing: all rows, without a condition.

        Raises:
            DeliveryError: A month is asked for and no column gives it.
        """
        if month is None:
            return ()
        if month == "":
            return (f"{self.name(_declared(column))} IS NULL",)
        return self.between(column, *month_days(month))

    def asked(self, ask: Ask, sync: Sync, source: str) -> tuple[str, ...]:
        """Return the conditions of a question to a portal that keeps no time of change of its own.

        Args:
            ask: The question.
            sync: How the part is kept up, with what its protocol makes of what is not said.
            source: The data set, as it may be shown.

        Raises:
            DeliveryError: Days or changes are asked for and no column tells them.
        """
        if ask.days is not None:
            return self.between(sync.created, *ask.days)
        if ask.mode != "incremental":
            return ()
        if sync.cursor is None:
            raise DeliveryError(
                "NoCursor",
                f"{source} keeps no time of change for its rows; declare `sync.cursor`, or `sync.mode: full`",
            )
        if ask.since is None:
            return ()
        name = self.name(sync.cursor)
        # A row without a time never shows that it changed, so it is read each time.
        return (f"({name} >= {self.time(ask.since.at)} OR {name} IS NULL)",)


def _declared(column: str | None) -> str:
    if column is None:
        raise DeliveryError(
            "NoEventTime",
            "no plain source column gives the event time, and days or months are asked for; "
            "declare `sync.created`",
        )
    return column
