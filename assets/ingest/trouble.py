"""What the receipts of a feed say is wrong with it: since when, why, what to do; verdicts are dbt's.

A part is in trouble while its last attempt brought nothing that counts; an attempt that did ends it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from assets.ingest.consistency import seed_rows
from assets.ingest.receipts import Delivery

#: Outcomes after which the raw rows are those of the delivery.
ARRIVED = ("landed", "unchanged")
#: What a person calls an outcome that did not arrive, the worse first.
_STATE = {"failed": "failing", "blocked": "blocked"}


@dataclass(frozen=True)
class Trouble:
    """Why a part of a feed does not arrive.

    Attributes:
        state: `failing` or `blocked`.
        since: First of the attempts in a row that brought nothing, UTC without a zone.
        last_attempt: The last of them.
        message: What went wrong, with the part where the feed has several, without the remedy.
        remedy: What to do.
    """

    city: str
    feed: str
    part: str
    state: str
    since: datetime
    last_attempt: datetime
    error_type: str
    message: str
    remedy: str

    def line(self) -> str:
        """Return it in one line, for people."""
        return (
            f"{self.city}/{self.feed} {self.state} since {self.since:%Y-%m-%d} ({self.error_type}): "
            f"{self.message} -> {self.remedy}"
        )


def troubles(receipts: Iterable[Delivery], parts: Sequence[str]) -> list[Trouble]:
    """Return what is wrong with the parts of a feed, the worst first.

    Args:
        receipts: Of one feed, oldest attempt first.
        parts: Ids of its declared parts; one that is no longer declared is not asked any more.
    """
    began: dict[str, Delivery] = {}
    last: dict[str, Delivery] = {}
    for receipt in receipts:
        part = receipt.part
        if receipt.action == "replay":
            # It settles what was refused. Where no bytes came, the portal still has to bring some.
            if receipt.outcome == "landed" and part in began and last[part].sha:
                del began[part]
            continue
        last[part] = receipt
        if receipt.outcome in ARRIVED:
            began.pop(part, None)
        else:
            began.setdefault(part, receipt)
    found = [_trouble(last[part], began[part], len(parts) > 1) for part in parts if part in began]
    return sorted(found, key=lambda one: list(_STATE.values()).index(one.state))


def trouble_line(found: Sequence[Trouble]) -> str:
    """Return what is wrong with a feed in one line, empty where nothing is."""
    if not found:
        return ""
    others = len(found) - 1
    more = f" (and {others} more part{'s' if others > 1 else ''})" if others else ""
    return found[0].line() + more


def _trouble(last: Delivery, first: Delivery, is_one_of_several: bool) -> Trouble:
    message, remedy = explained(last)
    if is_one_of_several:
        message = f"part {last.part}: {message}"
    return Trouble(
        last.city,
        last.feed,
        last.part,
        _STATE[last.outcome],
        first.first_attempted_at or first.attempted_at,
        last.attempted_at,
        last.error_type or last.outcome,
        message,
        remedy,
    )


def explained(receipt: Delivery) -> tuple[str, str]:
    """Return what went wrong, with the source, and the remedy.

    Messages of receipts are `<city>/<feed>, part <part>, <source>: <what is wrong>; <remedy>`.
    """
    place = f"{receipt.city}/{receipt.feed}, part {receipt.part}, "
    said = " ".join(receipt.message.split()).removeprefix(place) or "no reason was noted"
    what, semicolon, remedy = said.rpartition("; ")
    # The gate joins the checks that failed with semicolons; none of them is a remedy.
    if not semicolon or receipt.error_type == "GateFailed":
        return said, remedy_of(receipt.error_type)
    return what, remedy


def remedy_of(error_type: str | None) -> str:
    """Return what to do about a kind of error, as the warehouse says it too."""
    known = _remedies()
    family = f"{error_type[:5]}xx" if error_type and error_type.startswith("Http") else ""
    return known.get(error_type or "") or known.get(family) or known["other"]


@lru_cache
def _remedies() -> Mapping[str, str]:
    return {row["error_type"]: row["remedy"] for row in seed_rows("fetch_errors.csv")}
