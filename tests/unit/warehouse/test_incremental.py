"""A warehouse that was built by deltas holds what one built whole from the same lake holds."""

import random
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import duckdb

CITY = "town"
FIRST = datetime.fromisoformat("2025-03-01T12:00:00")
#: Which tables may differ: when and how things ran, and what only a whole build keeps.
NOT_COMPARED = ("quality", "loaded_batches", "loaded_project", "int_batches", "int_changed_keys")
MODELS = ("build", "--exclude-resource-type", "test")
KINDS = {
    "calls": ("service_request", "requested_at"),
    "works": ("infrastructure", "occurred_at"),
    "outages": ("utility", "started_at"),
}


class Story:
    """A town whose sources change at random: rows come, change, move, vanish, and are told badly."""

    def __init__(self, lake, seed: int) -> None:
        self.lake = lake
        self.chance = random.Random(seed)
        self.now = FIRST
        self.keys: dict[str, list[str]] = {feed: [] for feed in KINDS}
        lake.city(CITY, "America/Chicago")
        for feed, (kind, _) in KINDS.items():
            lake.feed(CITY, feed, kind, event_type="pothole" if feed == "calls" else None)
        lake.category(CITY, "calls", category="Hole", event_type="pothole")
        lake.category(CITY, "calls", category="Leak", event_type="water_leak")
        for source_status, status in (("Open", "open"), ("Done", "closed"), ("Dup", "closed_duplicate")):
            lake.status(CITY, "calls", source_status, status)

    def row(self, feed: str, key: str) -> dict[str, str | None]:
        kind, event_time = KINDS[feed]
        days = self.chance.choice([0, 1, 5, 20, 700])
        happened = FIRST - timedelta(days=days, hours=self.chance.randrange(24))
        x, y = self.chance.choice([(100, 100), (120, 110), (900, 900)])
        row = {
            "source_id": key,
            event_time: f"{happened:%Y-%m-%dT%H:%M:%S}",
            "category": self.chance.choice(["Hole", "Leak", "Hum", None]),
            "agency": self.chance.choice(["Roads", "Water"]),
            "lon": -87.6,
            "lat": 41.8,
            "x_m": float(x),
            "y_m": float(y + self.chance.randrange(30)),
            "h3_7": 1,
            "h3_9": 2,
            "h3_10": 3,
            "location_quality": "ok",
        }
        if self.chance.random() < 0.1:
            row[event_time] = self.chance.choice([None, "soon", "2115-01-01T00:00:00"])
        if kind == "service_request":
            status = self.chance.choice(["Open", "Done", "Dup", "Odd"])
            row["status"] = status
            if status == "Done":
                row["closed_at"] = f"{happened + timedelta(days=3):%Y-%m-%dT%H:%M:%S}"
            if status == "Dup":
                row["parent_id"] = self.chance.choice([*self.keys[feed], "nobody"])
        return row

    def day(self) -> None:
        """Let every source deliver what changed in a day; some deliver nothing."""
        self.now += timedelta(days=1)
        for feed, (kind, _) in KINDS.items():
            known = self.keys[feed]
            changed = [key for key in known if self.chance.random() < 0.25]
            new = [f"{feed}-{len(known) + number}" for number in range(self.chance.randrange(1, 6))]
            gone = [key for key in known if key not in changed and self.chance.random() < 0.1]
            told = {"ended": gone} if kind == "utility" else {"absent": dict.fromkeys(gone, 2)}
            known += new
            rows = [self.row(feed, key) for key in [*changed, *new]]
            self.lake.land(CITY, feed, kind, self.now, rows, **told)


def build(lake, dbt: Callable[..., dict[str, str]], *, notes: bool = True) -> None:
    """Build on what is there; with `notes` the next build goes on from here."""
    lake.write()
    statuses = dbt(lake.home, *MODELS)
    assert {name: said for name, said in statuses.items() if said not in ("success", "no-op")} == {}
    if notes:
        dbt(lake.home, "run-operation", "mark_loaded", "--args", "{project: test}")


def tables(home: Path) -> dict[str, list[tuple]]:
    """Return the rows of every table, in an order of their own."""
    with duckdb.connect(str(home / "warehouse" / "build" / "warehouse.duckdb"), read_only=True) as con:
        names = con.execute(
            "select table_schema, table_name from information_schema.tables where table_type = 'BASE TABLE'"
        ).fetchall()
        return {
            f"{schema}.{name}": sorted(con.execute(f'from {schema}."{name}"').fetchall(), key=repr)
            for schema, name in names
            if schema not in NOT_COMPARED and name not in NOT_COMPARED
        }


def built_whole(lake, dbt: Callable[..., dict[str, str]], folder: Path) -> dict[str, list[tuple]]:
    """Build another home from the same lake, whole."""
    shutil.copytree(lake.home / "lake", folder / "lake")
    dbt(folder, *MODELS)
    return tables(folder)


def batches(home: Path) -> tuple[int, int]:
    """Return how many batches the last build took for new, and how many there are."""
    with duckdb.connect(str(home / "warehouse" / "build" / "warehouse.duckdb"), read_only=True) as con:
        query = """
            select count(*) filter (where is_new), count(*) from intermediate.int_batches
            where file_set = 'raw' and not is_gone
        """
        return con.execute(query).fetchone()


def test_a_warehouse_built_by_deltas_is_the_one_built_whole(tiny_lake, dbt, tmp_path) -> None:
    lake = tiny_lake("deltas")
    story = Story(lake, seed=7)
    story.day()
    build(lake, dbt)
    a_day = len(KINDS)
    assert batches(lake.home) == (a_day, a_day)

    story.day()
    late = story.row("calls", "late") | {"requested_at": "2023-03-05T08:00:00", "category": "Hole"}
    lake.land(CITY, "calls", "service_request", story.now, [late])
    build(lake, dbt, notes=False)
    assert batches(lake.home) == (a_day + 1, 2 * a_day + 1)
    with duckdb.connect(str(lake.home / "warehouse" / "build" / "warehouse.duckdb"), read_only=True) as con:
        query = """
            select v.observed_at from core.fct_event_versions v join core.fct_events e using (event_key)
            where e.source_id = 'late'
        """
        # A version says when we learned of what happened two years ago.
        assert con.execute(query).fetchall() == [(story.now,)]

    story.day()
    build(lake, dbt)
    # The build before did not get through to its end, so its delta was done again.
    assert batches(lake.home) == (2 * a_day + 1, 3 * a_day + 1)

    # Rows are taken back: no delta can tell of them, so everything is built whole.
    max(lake.lake.raw("service_request", CITY, "calls").glob("all-*.parquet")).unlink()
    build(lake, dbt)
    with duckdb.connect(str(lake.home / "warehouse" / "build" / "warehouse.duckdb"), read_only=True) as con:
        assert con.execute("select count(*) from intermediate.int_batches where is_gone").fetchone() == (1,)

    # The declaration changes: what was read before means something else now, of that feed.
    lake.category(CITY, "calls", category="Hum", event_type="noise_other")
    lake.exclude(CITY, "works", (FIRST - timedelta(days=1)).date(), None)
    build(lake, dbt)
    assert batches(lake.home) == (2 * 3, 3 * a_day)

    # A feed that is declared no more takes its rows with it.
    lake.declared["feeds"] = [row for row in lake.declared["feeds"] if row["feed"] != "outages"]
    story.day()
    build(lake, dbt)
    assert tables(lake.home) == built_whole(lake, dbt, tmp_path)
