"""A week in which every portal but one has its trouble: each is told, none spreads, nothing good is lost."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import stamina

from assets.ingest import landing
from assets.ingest.feed import City, Feed
from assets.ingest.lake import Lake
from assets.ingest.receipts import Delivery, read_receipts
from assets.simulate.serving.server import serve
from assets.simulate.serving.store import Store
from orchestration.feed_state import judged
from orchestration.recorded import feed_record
from tests.declared_feed import declared_town
from tests.portal_town import NOW, SOURCE, PortalTown

ROWS, NEW_A_DAY = 100, 4
TOKEN = "TOWN_TOKEN"
#: Each feed: its protocol, the day its trouble begins, what its receipts call it, and what they say of it.
FEEDS: dict[str, tuple[str, int, str | None, str]] = {
    "down": ("ckan", 1, "SourceUnreachable", "HTTP 503"),
    "html": ("opendatasoft", 2, "WrongFormat", "<html>"),
    "truncated": ("open311", 3, "SourceUnreachable", "broke off"),
    "clamped": ("carto", 3, None, ""),
    "renamed": ("arcgis", 4, "ColumnsGone", "'what' (for category)"),
    "shrunk": ("arcgis", 5, "GateFailed", "rows of the part"),
    "retired": ("arcgis", 6, "DatasetGone", ""),
    "revoked": ("socrata", 6, "Unauthorised", "HTTP 403"),
    "healthy": ("arcgis", 9, None, ""),
}
TROUBLED = [name for name, (_, _, error_type, _) in FEEDS.items() if error_type]


class Portal(PortalTown):
    """One feed of the town; all of them share a server and a lake, and no two share a key."""

    def __init__(self, name: str, folder: Path, store: Store, lake: Lake, first: int) -> None:
        protocol = FEEDS[name][0]
        super().__init__(protocol, folder)
        self.name, self.lake, self.first, self.filled = name, lake, first, 0
        if protocol == "arcgis":
            self.dataset.id = name
        self.store = store
        store.add(self.dataset)
        self.request = {"page_rows": 30}
        if name == "revoked":
            self.request["token_env"] = TOKEN
        if name == "truncated":
            # What is asked for since the last answer holds no more than a page.
            self.request = {"page_rows": 30, "window_days": 30}

    @property
    def feed(self) -> Feed:
        source = SOURCE[self.protocol].format(base=self.base, id=self.dataset.id)
        self.declared = {
            **self.declared,
            "id": self.name,
            "parts": [{"id": "one", "source": source, "format": "json"}],
        }
        return super().feed

    def add(self, rows: int) -> None:
        """Let new calls come in, a few minutes apart until now."""
        made = []
        for step in range(rows):
            row = self.row(self.first + self.filled)
            row[self.created] = self.store.now - timedelta(minutes=20 + 7 * (rows - step))
            made.append(row)
            self.filled += 1
        self.dataset.insert(made)

    def mine(self, rows: dict[str, str]) -> dict[str, str]:
        keys = {f"k{self.first + number:07d}" for number in range(self.filled)}
        return {key: what for key, what in rows.items() if key in keys}

    def state(self) -> dict[str, str]:
        return self.mine(super().state())

    def receipts(self) -> list[Delivery]:
        return read_receipts(self.lake.landing("town", self.name))


class Week:
    """The town, its portals, and what is seen of it day by day."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store, self.lake, self.folder = Store(NOW), Lake(folder / "home"), folder
        self.monkeypatch = monkeypatch
        self.portals = {
            name: Portal(name, folder, self.store, self.lake, 10_000 * number)
            for number, name in enumerate(FEEDS)
        }
        #: What the lake held of each feed after the last day on which it was well.
        self.good: dict[str, dict[str, str]] = {}
        self.away: list[dict[str, Any]] = []
        self.outcomes: dict[str, list[str]] = {name: [] for name in FEEDS}

    def city(self) -> City:
        return declared_town(self.folder, *(portal.feed for portal in self.portals.values()))

    def trouble(self, day: int) -> None:
        """Let the troubles of a day begin; they last."""
        faults = self.store.faults
        if day == 1:
            faults.add("status", on="any", protocol="ckan", times=None, code=503)
        if day == 2:
            faults.add("html", on="any", protocol="opendatasoft", times=None)
        if day == 3:
            faults.add("truncated", protocol="open311", times=None)
            faults.add("clamp", protocol="carto", times=None, rows=11)
        if day == 4:
            self.portals["renamed"].dataset.rename_column("what", "kind_of_call")
        if day == 5:
            dataset = self.portals["shrunk"].dataset
            rows = dataset.truth()
            keys = sorted(rows)[: len(rows) * 6 // 10]
            self.away = [{**rows[key], "place": (-87.5, 42.0)} for key in keys]
            dataset.delete(keys)
        if day == 6:
            self.portals["retired"].dataset.is_retired = True
            faults.add("token", on="any", protocol="socrata", times=None, token="new")

    def mend(self) -> None:
        self.store.faults.clear()
        self.store.faults.add("token", on="any", protocol="socrata", times=None, token="new")
        self.monkeypatch.setenv(TOKEN, "new")
        renamed = self.portals["renamed"]
        renamed.dataset.rename_column("kind_of_call", "what")
        self.portals["shrunk"].dataset.insert(self.away)
        self.portals["retired"].dataset.is_retired = False

    def land(self) -> None:
        city = self.city()
        for name in FEEDS:
            made = landing.land_feed(
                self.lake,
                city,
                city.feeds[name],
                now=self.store.now,
                wire_options={"attempts": 2, "first_wait_seconds": 0.001},
            )
            self.outcomes[name].append(made[-1].outcome)

    def live(self) -> None:
        """Live through the week."""
        for portal in self.portals.values():
            portal.add(ROWS)
        self.store.advance(timedelta(hours=1))
        self.land()
        for day in range(1, 8):
            self.store.advance(timedelta(days=1))
            for name, portal in self.portals.items():
                if FEEDS[name][1] >= day:
                    self.good[name] = portal.state()
                if name != "renamed" or day < 5:
                    portal.add(NEW_A_DAY)
            self.trouble(day)
            self.store.advance(timedelta(minutes=5))
            self.land()


@pytest.fixture(scope="module")
def week(tmp_path_factory):
    stamina.instrumentation.set_on_retry_hooks([])
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv(TOKEN, "old")
        week = Week(tmp_path_factory.mktemp("week"), monkeypatch)
        with serve(week.store) as base:
            for portal in week.portals.values():
                portal.base = base
            week.live()
            yield week
    stamina.instrumentation.set_on_retry_hooks(None)


def began(name: str) -> datetime:
    """Return when the first landing was that met a feed's trouble."""
    day = FEEDS[name][1]
    return NOW + timedelta(hours=1, days=day, minutes=5 * day)


@pytest.mark.parametrize("name", FEEDS)
def test_a_feed_is_well_until_its_day_and_only_then_in_trouble(week, name):
    _, day, error_type, _ = FEEDS[name]
    arrived = [outcome in ("landed", "unchanged") for outcome in week.outcomes[name]]
    assert arrived[:8] == ([True] * day + [False] * (8 - day) if error_type else [True] * 8)


@pytest.mark.parametrize("name", TROUBLED)
def test_the_receipts_tell_since_when_why_and_what_to_do(week, name):
    _, day, error_type, said = FEEDS[name]
    last = week.portals[name].receipts()[7]
    assert last.error_type == error_type
    assert last.outcome == ("blocked" if error_type in ("ColumnsGone", "GateFailed") else "failed")
    assert last.message.startswith(f"town/{name}, part one, ")
    assert said in last.message
    assert ";" in last.message
    assert "\n" not in last.message
    assert "old" not in last.message.replace("older", "")

    (trouble,) = feed_record(week.lake, week.portals[name].feed).troubles
    assert trouble.error_type == error_type
    assert trouble.since == began(name)
    assert trouble.last_attempt == began(name) + timedelta(days=7 - day, minutes=5 * (7 - day))
    assert trouble.remedy
    verdict, since, line = judged(feed_record(week.lake, week.portals[name].feed), None)
    assert verdict == ("blocked" if last.outcome == "blocked" else "failing")
    assert since == began(name)
    assert line.startswith(f"town/{name} {verdict} since {since:%Y-%m-%d} ({error_type}): ")


@pytest.mark.parametrize("name", [name for name in FEEDS if name not in TROUBLED])
def test_all_other_feeds_are_current(week, name):
    portal = week.portals[name]
    assert portal.state() == portal.truth()
    assert len(portal.state()) == ROWS + 7 * NEW_A_DAY
    assert feed_record(week.lake, portal.feed).troubles == []
    assert portal.receipts()[7].attempted_at == began("healthy") - timedelta(days=2, minutes=10)


@pytest.mark.parametrize("name", TROUBLED)
def test_no_good_rows_were_replaced(week, name):
    portal = week.portals[name]
    assert portal.state() == week.good[name]
    assert len(week.good[name]) == ROWS + (FEEDS[name][1] - 1) * NEW_A_DAY
    keys = set(week.good[name])
    assert not [key for key, _, _ in portal.absences() if key in keys]


def test_once_mended_all_feeds_are_as_their_portals_again(week):
    week.mend()
    for _ in range(2):
        week.store.advance(timedelta(days=1))
        week.land()
    for name, portal in week.portals.items():
        assert portal.state() == portal.truth(), name
        assert not feed_record(week.lake, portal.feed).troubles, name
        assert len(portal.state()) == portal.filled
