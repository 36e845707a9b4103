"""What every portal's connector is asked and what it gives; how one portal does it belongs to its module.

A connector yields bodies as the portal sent them and never parses records into Python objects; rows are
DuckDB's work, once the bytes are on disk.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal, Protocol


@dataclass(frozen=True)
class Cursor:
    """Up to where a part was read: what changed later is asked for next time.

    Attributes:
        at: Highest change time seen, as the portal writes it.
        id: Highest row id at that time, as the portal writes it; empty where ids do not order.
    """

    at: str
    id: str = ""


@dataclass(frozen=True)
class Ask:
    """What a connector is to bring.

    Attributes:
        mode: As in Sync. For `full` and `snapshot` there is no lower bound.
        since: From where on, the overlap already taken off; nothing: from the beginning.
        until: Frozen upper bound of the run, UTC without a zone: what changes later belongs to the next run.
        resume: `Page.next` of the last page that lies on disk; nothing: from the first page.
        days: First day, and first day after, of a backfill by event time; then `since` says nothing.
    """

    mode: Literal["full", "incremental", "snapshot", "tail"]
    until: datetime
    since: Cursor | None = None
    resume: str | None = None
    days: tuple[date, date] | None = None


@dataclass(frozen=True)
class Page:
    """One answer of a portal, whole and checked for its envelope.

    Attributes:
        body: The bytes of the answer, decoded from the transfer's compression only.
        rows: Records in it, counted without the reader that lands them.
        next: What brings the page after it, opaque text; nothing after the last page.
        records: DuckDB JSON path of the records in the body (`$[*]`); of XML, the tag of a record.
        content: How the body is written.
        cursor: Highest cursor in this page or before it in the same run; nothing where the portal has none.
        columns: The columns the answer itself tells; nothing where it tells none.
    """

    body: bytes
    rows: int
    next: str | None
    records: str = "$[*]"
    content: Literal["json", "geojson", "xml"] = "json"
    cursor: Cursor | None = None
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Description:
    """What a portal says of a data set before it is read.

    Attributes:
        columns: Source columns and the portal's own word for their type; empty where it tells none.
        rows: Records in the data set, where it tells.
        changed_at: When its records last changed, as it says; UTC without a zone.
        notes: What a person may want to know.
    """

    columns: dict[str, str] = field(default_factory=dict)
    rows: int | None = None
    changed_at: datetime | None = None
    notes: tuple[str, ...] = ()


class Connector(Protocol):
    """One part of a feed, behind one protocol. Every method may raise DeliveryError, and nothing else."""

    def describe(self) -> Description:
        """Ask what the data set is."""

    def pages(self, ask: Ask) -> Iterator[Page]:
        """Yield the pages of an answer, each row at least once; an iterator that ends has brought all.

        Raises:
            DeliveryError: A page could not be had whole; nothing that was yielded before is wrong.
        """

    def count(self, ask: Ask) -> int | None:
        """Return how many rows the portal says the question has, nothing where it cannot say."""

    def months(self, column: str) -> dict[str, int] | None:
        """Return the rows by month of a source column (`2024-03`; rows without it under the empty text).

        Nothing where the portal cannot group; then all ids are read instead.
        """

    def ids(self, columns: tuple[str, ...], created: str | None, month: str | None) -> Iterator[Page]:
        """Yield pages that hold some columns only, of one month of a source column or of all rows.

        Args:
            columns: The source columns that the id is made of.
            created: The source column whose month is meant.
            month: `2024-03`, the empty text for rows without one; nothing for all rows.
        """


def token(**said: object) -> str:
    """Write what a connector wants to find again in `resume`."""
    return json.dumps(said, separators=(",", ":"), default=str)


def told(text: str) -> dict[str, object]:
    """Read what `token` wrote."""
    return json.loads(text)
