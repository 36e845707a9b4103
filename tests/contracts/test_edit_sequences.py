"""Whatever publishers and portals do one after the other, the lake ends where the portal is.

A sequence is a list of edits, faults, moves of the clock and landings. CITYSIGNAL_SOAK says how many are
tried; without it they are few and always the same.
"""

import os
import tempfile
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import pytest
import stamina
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from assets.ingest import fetching, landing
from assets.ingest.feed import Feed
from assets.ingest.receipts import Delivery, read_receipts
from assets.simulate.serving.store import Column
from tests.declared_feed import declared_feed
from tests.portal_town import PortalTown

SOAK = int(os.environ.get("CITYSIGNAL_SOAK", "0"))
SEQUENCES = SOAK or 50
#: How many rows there are at first. A loss of more than a twentieth is taken for a half-loaded portal.
ROWS = 120
MOST_GONE = 5
WIRE = {"attempts": 3, "first_wait_seconds": 0.001}
ARRIVED = ("landed", "unchanged")

#: Feeds that are tried: the protocol, how it is kept up, and what only its portal may do wrong.
WAYS: dict[str, tuple[str, dict[str, str], tuple[str, ...]]] = {
    "socrata by month": ("socrata", {"deletions": "by_month"}, ("clamp", "short_page", "error_in_200")),
    "socrata by id": ("socrata", {"deletions": "by_id"}, ("clamp", "short_page", "error_in_200")),
    "arcgis": (
        "arcgis",
        {},
        ("clamp", "short_page", "empty_page", "no_flag", "error_in_200"),
    ),
    "ckan": ("ckan", {}, ("clamp", "error_in_200")),
    "carto": ("carto", {}, ("clamp", "midstream", "error_in_200", "shuffle")),
    "opendatasoft": ("opendatasoft", {}, ("midstream", "error_in_200", "shuffle")),
    "files": ("files", {}, ()),
}
ON_THE_WAY = ("reset", "truncated", "truncated_gzip", "wrong_length", "html")
#: Faults that stay until they are cleared.
LASTING = ("clamp", "shuffle", "no_flag", "token")


class FileTown(PortalTown):
    """The same town with its rows in a CSV file on a web server."""

    def __init__(self, folder: Path, **said: Any) -> None:
        super().__init__("socrata", folder, **said)

    @property
    def feed(self) -> Feed:
        self._publish()
        return declared_feed(
            columns={"source_id": "id", "requested_at": "created", "category": "what"},
            parts=[{"id": "one", "source": f"{self.base}/files/calls.csv"}],
            **self.declared,
        )

    def _publish(self) -> None:
        names = [column.name for column in self.dataset.columns if column.type != "point"]
        rows = [[str(row[name]) for name in names] for row in self.dataset.truth().values()]
        text = "".join(",".join(line) + "\n" for line in [names, *rows])
        there = self.store.find_file("calls.csv")
        if there is None or there.content != text.encode():
            self.store.add_file("calls.csv", text.encode())


def steps(way: str) -> st.SearchStrategy[list[tuple]]:
    """Return the sequences of one way: every step is a name and its arguments."""
    few, many = st.integers(1, 4), st.integers(1, 25)
    place = st.integers(0, 10_000)
    kinds = st.sampled_from([*ON_THE_WAY, "status", "token", *WAYS[way][2]])
    edits = st.one_of(
        st.tuples(st.just("insert"), many),
        st.tuples(st.just("insert_late"), few, st.integers(1, 700)),
        st.tuples(st.just("update"), place, many),
        st.tuples(st.just("reopen"), place),
        st.tuples(st.just("delete"), place, few),
        st.tuples(st.just("undelete"), few),
        st.tuples(st.just("reload")),
        st.tuples(st.just("add_column")),
        st.tuples(st.just("date_anew"), place, st.integers(1, 300)),
        st.tuples(st.just("half_loaded"), st.sampled_from([15, 60])),
        st.tuples(st.just("rename")),
    )
    faults = st.tuples(
        st.just("fault"),
        kinds,
        st.sampled_from(["page", "page", "page", "ids", "months", "count", "meta", "any"]),
        st.integers(1, 4),
        st.integers(0, 3),
        st.sampled_from([500, 429, 503, 202]),
    )
    clock = st.tuples(st.just("later"), st.sampled_from([1, 9, 30, 60 * 5, 60 * 26, 60 * 24 * 8]))
    calm, land = st.tuples(st.just("calm")), st.tuples(st.just("land"))
    return st.lists(st.one_of(edits, edits, faults, clock, calm, land, land), min_size=4, max_size=14)


class Story:
    """One sequence on one feed, with what must hold after every landing."""

    def __init__(self, way: str, folder: Path) -> None:
        protocol, sync, _ = WAYS[way]
        self.town = FileTown(folder) if protocol == "files" else PortalTown(protocol, folder)
        self.town.sync = sync
        if protocol != "files":
            self.town.request = {"page_rows": 40}
        self.town.declared = {"expect": {"max_quarantine_share": 0.5}}
        self.is_file = protocol == "files"
        self.numbers = count()
        self.removed: dict[str, dict[str, Any]] = {}
        self.columns = count(1)

    def begin(self) -> None:
        self.insert(ROWS, spread=True)
        self.town.later(hours=1)
        self.land()

    # --- what publishers do ---

    def insert(self, rows: int, *, spread: bool = False) -> None:
        now = self.town.store.now
        made = []
        for _ in range(rows):
            number = next(self.numbers)
            row = self.town.row(number)
            row[self.town.created] = now - timedelta(hours=6 + (number * 13 % 2900 if spread else 0))
            made.append(row)
        self.town.dataset.insert(made)

    def insert_late(self, rows: int, days: int) -> None:
        """Add rows now whose event was long ago."""
        made = [self.town.row(next(self.numbers)) for _ in range(rows)]
        for row in made:
            row[self.town.created] = self.town.store.now - timedelta(days=days)
        self.town.dataset.insert(made)

    def _keys(self, place: int, many: int) -> list[str]:
        live = sorted(self.town.dataset.truth())
        return [live[(place + step) % len(live)] for step in range(min(many, len(live)))]

    def update(self, place: int, many: int) -> None:
        self.town.dataset.update(self._keys(place, many), {"what": f"edit {place % 7}"})

    def reopen(self, place: int) -> None:
        """Change a row and put it back, as one that is opened again."""
        keys = self._keys(place, 1)
        before = self.town.dataset.truth()[keys[0]]["what"]
        self.town.dataset.update(keys, {"what": "closed"})
        self.town.later(minutes=2)
        self.town.dataset.update(keys, {"what": before})

    def date_anew(self, place: int, days: int) -> None:
        """Give a row's event another date, perhaps in another month."""
        then = self.town.store.now - timedelta(days=days)
        self.town.dataset.update(self._keys(place, 1), {self.town.created: then})

    def delete(self, place: int, many: int) -> None:
        self._take(self._keys(place, min(many, MOST_GONE - len(self.removed))))

    def _take(self, keys: list[str]) -> None:
        truth = self.town.dataset.truth()
        self.removed |= {key: truth[key] for key in keys}
        self.town.dataset.delete(keys)

    def undelete(self, many: int) -> None:
        for key in list(self.removed)[:many]:
            self._return(key)

    def _return(self, key: str) -> None:
        row = self.removed.pop(key)
        there = {column.name for column in self.town.dataset.columns}
        place = next(column.name for column in self.town.dataset.columns if column.type == "point")
        plain = {name: value for name, value in row.items() if name in there and name != place}
        self.town.dataset.insert([plain | {place: (-87.5, 42.0)}])

    def reload(self) -> None:
        self.town.dataset.reload()

    def add_column(self) -> None:
        self.town.dataset.add_column(Column(f"more_{next(self.columns)}"), "x")

    def half_loaded(self, percent: int) -> None:
        """Let many rows be away for one landing: nothing may be taken for gone."""
        keys = sorted(self.town.dataset.truth())
        away = keys[: len(keys) * percent // 100]
        gone, before = dict(self.removed), self.town.state()
        self._take(away)
        for delivery in self._landed():
            assert delivery.rows_missing == 0, delivery
        assert set(before) - set(self.town.state()) == set()
        for key in away:
            self._return(key)
        self.removed = gone

    def rename(self) -> None:
        """Let a mapped column have another name for one landing: it is refused."""
        self.town.dataset.rename_column("what", "was")
        before = self.town.state()
        self.town.changing = "was"
        declared = self.town.declared
        columns = {"source_id": "id", "requested_at": self.town._time(), "category": "what"}
        self.town.declared = declared if self.is_file else {**declared, "columns": columns}
        assert not [d for d in self._landed() if d.action == "fetch" and d.outcome in ARRIVED]
        assert self.town.state() == before
        self.town.declared, self.town.changing = declared, "what"
        self.town.dataset.rename_column("was", "what")

    # --- what portals do ---

    def fault(self, kind: str, on: str, times: int, after: int, code: int) -> None:
        said: dict[str, Any] = {
            "status": {"code": code, "retry_after": "0" if code == 429 else None},
            "clamp": {"rows": 17},
            "short_page": {"share": 0.5},
            "error_in_200": {"code": 500, "message": "Internal error"},
            "token": {"token": "secret"},
        }.get(kind, {})
        on = "file" if self.is_file and on != "any" else on
        if kind in LASTING:
            # Limits hold for pages; a token is asked for everywhere.
            on, lasts = ("any" if kind == "token" else "page"), None
        else:
            lasts = times
        self.town.store.faults.add(kind, on=on, times=lasts, after=after, **said)

    def calm(self) -> None:
        self.town.store.faults.clear()

    def later(self, minutes: int) -> None:
        self.town.later(minutes=minutes)

    # --- what we do ---

    def land(self) -> None:
        before = self.town.state()
        made = self._landed()
        state, truth = self.town.state(), self.town.truth()
        if self._went_on(made):
            # It brings what was there when the attempt began that was cut off; the next one brings the rest.
            assert set(before) & set(truth) <= set(state)
        elif made[-1].outcome in ARRIVED:
            assert state == truth
        elif all(delivery.outcome not in ARRIVED for delivery in made):
            assert state == before

    @staticmethod
    def _went_on(made: list[Delivery]) -> bool:
        return any("attempt that was cut off" in said for delivery in made for said in delivery.notes)

    def _landed(self) -> list[Delivery]:
        made = self.town.land(wire_options=WIRE)
        note(
            " | ".join(
                f"{d.action} {d.mode} {d.outcome} {d.error_type or ''} {d.message[:150]}" for d in made
            )
        )
        for delivery in made:
            if delivery.outcome == "landed":
                accounted = delivery.rows_raw + delivery.rows_quarantined + delivery.rows_unchanged
                assert delivery.rows_in_file == accounted, delivery
        return made

    def end(self) -> None:
        """Let all be well again and land twice more: a row is gone for good that is missing twice."""
        self.calm()
        receipts, whole = self.town.lake.landing("town", "calls"), 0
        for _ in range(4):
            self.town.later(days=1)
            self.land()
            last = read_receipts(receipts)[-1]
            # An attempt that goes on with the pages of one that was cut off may find them out of date.
            whole += last.outcome in ARRIVED and not self._went_on([last])
            if whole == 2:
                break
            assert whole or self._went_on([last]), last.message
        assert whole == 2
        assert self.town.state() == self.town.truth()
        assert self._rows_are_once()
        if not self.is_file:
            assert self._told_gone() == set(self.removed) & self._landed_once()
        replayed = landing.replay_feed(
            self.town.lake, self.town.city(), self.town.feed, now=self.town.store.now
        )
        assert [delivery.outcome for delivery in replayed] == ["landed"], replayed
        assert self.town.state() == self.town.truth()
        if not self.is_file:
            assert self._told_gone() == set(self.removed) & self._landed_once()

    def _rows_are_once(self) -> bool:
        """Tell whether no two rows of raw are the same version of one row, one after the other."""
        files = f"{self.town.lake.home}/lake/raw/*/city=town/*/*.parquet"
        gone = {(key, at) for key, at in self._gone_times()}
        rows = duckdb.execute(
            "select source_id, delivery_id, content_hash, lag(delivery_id) over each, lag(content_hash) over"
            f" each from '{files}' window each as (partition by source_id order by delivery_id, source_row)"
        ).fetchall()
        for key, at, content, at_before, before in rows:
            is_told_again = content == before and at != at_before
            if is_told_again and not any(k == key and at_before < t < at for k, t in gone):
                note(f"{key} landed twice alike: {at_before}, {at}")
                return False
        return True

    def _gone_times(self) -> list[tuple[str, str]]:
        if not list(self.town.lake.home.glob("lake/absences/*/city=town/*/*.parquet")):
            return []
        files = f"{self.town.lake.home}/lake/absences/*/city=town/*/*.parquet"
        return duckdb.execute(f"select source_id, delivery_id from '{files}'").fetchall()

    def _landed_once(self) -> set[str]:
        return {key for key, _ in self.town.rows()}

    def _told_gone(self) -> set[str]:
        """Return the keys of which the last that was told is that they are missing twice."""
        if not self._gone_times():
            return set()
        raw, absences = (
            f"'{self.town.lake.home}/lake/{zone}/*/city=town/*/*.parquet'" for zone in ("raw", "absences")
        )
        told = duckdb.execute(
            f"""
            select source_id from {absences} a
            where misses = 2 and not exists (
                select 1 from {raw} r where r.source_id = a.source_id and r.delivery_id > a.delivery_id)
            """
        ).fetchall()
        return {key for (key,) in told}


@pytest.fixture(autouse=True)
def _silent():
    """Keep the log of retries, of which there are hundreds, out of what a failure shows."""
    stamina.instrumentation.set_on_retry_hooks([])
    yield
    stamina.instrumentation.set_on_retry_hooks(None)


def play(way: str, sequence: list[tuple]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        story = Story(way, Path(folder))
        with story.town:
            story.begin()
            for name, *said in sequence:
                getattr(story, name)(*said)
            story.end()


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_lake_ends_where_its_portal_is(way):
    @settings(
        max_examples=-(-SEQUENCES // len(WAYS)),
        derandomize=not SOAK,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    @given(sequence=steps(way))
    def tried(sequence):
        play(way, sequence)

    tried()


def reloaded_between_two_attempts(town: PortalTown) -> list[str]:
    """Cut an attempt off after its first page, let the publisher load all anew, and land twice more."""
    town.request = {"page_rows": 40}
    town.fill(ROWS)
    town.land()
    town.later(days=1)
    town.fill(3, start=ROWS)
    town.store.faults.add("reset", times=None, after=1)
    assert [delivery.outcome for delivery in town.land(wire_options=WIRE)] == ["failed"]
    town.store.faults.clear()
    town.later(hours=2)
    town.dataset.reload()
    return [town.land()[-1].outcome for _ in range(2)]


RELOADED = {"socrata": {"mode": "full"}, "arcgis": {}, "ckan": {}, "carto": {}}


@pytest.mark.parametrize("protocol", RELOADED)
def test_pages_of_before_a_reload_are_not_gone_on_with(protocol, tmp_path):
    with PortalTown(protocol, tmp_path) as town:
        town.sync = RELOADED[protocol]
        assert reloaded_between_two_attempts(town) == ["failed", "landed"]
        assert town.state() == town.truth()
        assert town.absences() == []


def test_pages_of_before_a_reload_lose_rows_where_nobody_looks(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching.PortalFetch, "_verify", lambda *said: None)
    with PortalTown("ckan", tmp_path) as town:
        assert reloaded_between_two_attempts(town)[0] == "landed"
        gone_on_with = read_receipts(town.lake.landing("town", "calls"))[2]
        # As many records as the portal has, and some of them twice: others were never read.
        assert gone_on_with.rows_in_file == len(town.truth())
        assert gone_on_with.distinct_keys < gone_on_with.rows_in_file
