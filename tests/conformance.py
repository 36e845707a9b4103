"""What the conformance suite is made of: case ids, a town behind any protocol, and ways to interfere."""

import csv
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from assets.ingest.feed import Feed
from assets.ingest.receipts import Delivery
from assets.simulate.serving.exchange import Request
from tests.declared_feed import declared_feed
from tests.portal_town import PROTOCOLS, PortalTown

ALL = (*PROTOCOLS, "files")
#: Protocols that give a data set in many answers.
PAGED = ("socrata", "arcgis", "ckan", "carto", "opendatasoft", "open311")
#: Protocols with errors of their own inside an answer of status 200.
WITH_ENVELOPE = (*PAGED, "outages")
FILE = "calls.csv"


def cases(case: str, did: str, protocols: Iterable[str]) -> list[Any]:
    """Return one parameter per protocol; its id says what the server did: `C08-socrata-answers-202`."""
    return [pytest.param(protocol, id=f"{case}-{protocol}-{did}") for protocol in protocols]


def faults(case: str, protocols: Iterable[str], **told: dict[str, Any]) -> list[Any]:
    """Return one parameter per protocol and fault; a fault's name says what the server did."""
    return [
        pytest.param(protocol, fault, id=f"{case}-{protocol}-{name.replace('_', '-')}")
        for name, fault in told.items()
        for protocol in protocols
    ]


class FileTown(PortalTown):
    """A town whose feed is a CSV on a web server, written anew with every landing."""

    def __init__(self, folder: Path) -> None:
        super().__init__("socrata", folder)
        self.protocol = "files"

    @property
    def feed(self) -> Feed:
        """The feed as it is declared now."""
        columns = {"source_id": self.key, "requested_at": self.created, "category": self.changing}
        parts = [{"id": "one", "source": f"{self.base}/files/{FILE}"}]
        return declared_feed(**{"columns": columns, "parts": parts, **self.declared})

    def land(self, **said: Any) -> list[Delivery]:
        """Publish the data set as it is, then land it."""
        self.publish()
        return super().land(**said)

    def publish(self) -> None:
        """Write the data set as the file that is served."""
        rows = self.dataset.query("* exclude (_rid, _created_at, _updated_at)", order="_row").to_pylist()
        text = io.StringIO()
        names = [column.name for column in self.dataset.columns]
        writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        if not self.dataset.is_retired:
            self.store.add_file(FILE, text.getvalue().encode())


def town_of(protocol: str, folder: Path, **traits: Any) -> PortalTown:
    """Return a town behind a protocol, ten rows a page where it has pages."""
    if protocol == "files":
        return FileTown(folder)
    town = PortalTown(protocol, folder, **traits)
    if protocol in PAGED:
        town.request["page_rows"] = 10
    return town


def spoil(town: PortalTown, kind: str, **said: Any) -> None:
    """Let the server do something wrong to questions for rows."""
    on = "file" if town.protocol == "files" else "page"
    town.store.faults.add(kind, **{"on": on, **said})


def landed(town: PortalTown, **said: Any) -> Delivery:
    """Land a town's feed and return the one delivery there has to be."""
    [delivery] = town.land(**said)
    return delivery


def asked(town: PortalTown, kind: str = "page") -> list[Request]:
    """Return the questions of a kind that the server saw."""
    return [request for request in town.store.requests if request.kind == kind]


def assert_true_to(town: PortalTown) -> None:
    """Compare what the lake holds to be true with what the server has."""
    assert town.state() == town.truth()


def assert_whole(town: PortalTown, delivery: Delivery, *, retries: int | None = None) -> None:
    """Compare a first landing with the server: all rows, each one counted once, and nothing else."""
    assert (delivery.outcome, delivery.error_type) == ("landed", None), delivery.message
    truth = town.truth()
    # A portal may show a row twice, in two windows; what it is does not differ.
    assert set(town.rows()) == set(truth.items())
    assert delivery.rows_known == len(truth)
    assert delivery.rows_in_file == delivery.rows_raw + delivery.rows_quarantined + delivery.rows_unchanged
    if town.protocol != "open311":
        assert (len(town.rows()), delivery.rows_new) == (len(truth), len(truth))
    if retries is not None:
        assert delivery.retries == retries


def assert_nothing_landed(town: PortalTown, delivery: Delivery, outcome: str = "failed") -> None:
    """Check that an attempt says what was wrong and took nothing."""
    assert delivery.outcome == outcome
    assert delivery.error_type
    assert "\n" not in delivery.message
    assert town.rows() == []
    assert town.absences() == []


class _Watched(list):
    def __init__(self, notice: Callable[[Request], None]) -> None:
        super().__init__()
        self._notice = notice

    def append(self, request: Request) -> None:
        super().append(request)
        self._notice(request)


def at_question(town: PortalTown, number: int, do: Callable[[], None], kind: str = "page") -> None:
    """Let something happen when the server gets its n-th question of a kind, before it answers."""
    seen = 0

    def notice(request: Request) -> None:
        nonlocal seen
        seen += request.kind == kind
        if request.kind == kind and seen == number:
            do()

    town.store.requests = _Watched(notice)


def stop_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch off the comparison of what came with what the portal counts."""
    monkeypatch.setattr("assets.ingest.fetching.PortalFetch._verify", lambda *_: None)


def stop_on_short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Socrata, CARTO and Opendatasoft take a page that is not full for the last one, as sodapy does."""
    monkeypatch.setattr(
        "assets.ingest.portals.keyset.End.is_reached", lambda end, rows, new, asked, remaining: rows < asked
    )
