"""Measures what landing over the wire costs, against the simulated portal in a process of its own.

Two questions. How fast and how small is the landing of a large data set behind 200 ms of latency, compared
with a bare script that downloads pages and lets DuckDB read them? And does a day's change of a data set of
millions of rows cost what changed, or what is there?
"""

import argparse
import importlib
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ID = "wire-0001"
NOW = datetime.fromisoformat("2026-03-01T12:00:00")
BOX = (-88.0, 41.0, -87.0, 43.0)
LARGEST_BYTES = 1_000_000_000
LEAST_RATIO = 0.5
#: Of a day's delta: new, changed, vanished. Of the changed ones, so many are of the last sixty days.
DELTA = (0.6, 0.38, 0.02)
RECENT_SHARE = 0.9
_IMPORTED = ("duckdb", "httpx2", "h3ronpy.vector", "pyproj", "assets.ingest.landing", "assets.ingest.gate")
_IMPORTED += ("great_expectations", "great_expectations.expectations", "pandas", "pyarrow.parquet")
_PROCESSES = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Shape:
    """What the portal's data set looks like.

    Attributes:
        is_wide: With the columns of a service request, about 600 bytes of JSON a row; else the least.
        days: How far back its rows reach.
    """

    rows: int
    is_wide: bool
    days: int


def rows_of(shape: Shape, first: int, last: int, day: int) -> str:
    """Return SQL that makes some rows; `day` is the age of the newest of them in days."""
    created = (
        f"timestamp '{NOW}' - to_seconds(({shape.rows} - least(i, {shape.rows} - 1)) * {shape.days} * 86400.0"
        f" / {shape.rows}) - to_days({day})"
    )
    wide = """
        , 'Department of ' || ['Streets', 'Water', 'Buildings', 'Parks'][i % 4 + 1] as agency
        , 'CSR-' || (i * 7919 % 999983) as reference
        , (i % 9800 + 100) || ' ' || ['N Main St', 'S State St', 'W Lake St', 'E 47th St'][i % 4 + 1]
            as address
        , 'Reported by phone, seen by the crew on the way, reference ' || md5(i::varchar) as notes
        , (60601 + i % 56)::varchar as zip, (i % 50 + 1)::bigint as ward, (i % 25 + 1)::bigint as district
        , created + to_hours(i % 900) as closed
    """
    return f"""
        select i, 'r' || printf('%09d', i) as id, created
            , ['pothole', 'graffiti', 'street light out', 'rodents', 'tree debris'][i % 5 + 1] as what
            , ['open', 'closed'][i % 2 + 1] as status
            , {{'lon': -87.9 + (i * 31 % 8009) / 10000.0, 'lat': 41.1 + (i * 17 % 17989) / 10000.0}} as place
            {wide if shape.is_wide else ""}
        from (select i, {created} as created from range({first}, {last}) as rows(i))
    """  # noqa: S608


# --- the portal, in its own process --------------------------------------------------------------------


def serve(pipe: Connection, shape: Shape, latency: float) -> None:
    """Serve the data set until the pipe closes; first the address is sent, then each edit is answered."""
    import duckdb

    from assets.simulate.serving.server import serve as serving
    from assets.simulate.serving.store import Column, Dataset, Store

    names = ["id", "created", "what", "status", "place"]
    if shape.is_wide:
        names += ["agency", "reference", "address", "notes", "zip", "ward", "district", "closed"]
    types = {"created": "floating_timestamp", "closed": "floating_timestamp", "place": "point"}
    types |= {"ward": "number", "district": "number"}
    store = Store(NOW)
    columns = [Column(name, types.get(name, "text")) for name in names]
    dataset = store.add(Dataset("socrata", ID, "Service requests", columns, "id", "created"))

    def fill(first: int, last: int, at: datetime) -> None:
        for start in range(first, last, 1_000_000):
            made = rows_of(shape, start, min(start + 1_000_000, last), 0)
            dataset.insert(duckdb.sql(f"select {', '.join(names)} from ({made})").to_arrow_table(), at)  # noqa: S608

    fill(0, shape.rows, NOW - timedelta(days=30))
    store.faults.add("slow", times=None, seconds=latency)
    with serving(store) as address:
        pipe.send(address)
        while True:
            try:
                delta = pipe.recv()
            except EOFError:
                return
            edit(store, dataset, shape, delta, fill)
            pipe.send(store.now)


def edit(
    store: Any,
    dataset: Any,
    shape: Shape,
    delta: tuple[int, int, int],
    fill: Callable[[int, int, datetime], None],
) -> None:
    """Let a day pass at the portal: rows come, change and vanish, most of them young."""
    new, changed, vanished = delta
    store.advance(timedelta(hours=23))
    chance = random.Random(3)  # noqa: S311
    recent = max(int(shape.rows * 60 / shape.days), 1)
    young = lambda: shape.rows - 1 - chance.randrange(recent)  # noqa: E731
    old = lambda: chance.randrange(shape.rows)  # noqa: E731
    edited: dict[int, None] = {}
    while len(edited) < changed + vanished:
        is_young = len(edited) < vanished or chance.random() < RECENT_SHARE
        edited[young() if is_young else old()] = None
    keys = [f"r{number:09d}" for number in edited]
    dataset.delete(keys[:vanished])
    dataset.update(keys[vanished:], {"status": "closed after review"})
    fill(shape.rows, shape.rows + new, store.now)
    store.advance(timedelta(hours=1))


@contextmanager
def portal(shape: Shape, latency: float) -> Iterator[tuple[str, Callable[..., datetime]]]:
    """Start the portal; yield its address, and a function that lets a day's delta happen there."""
    mine, its = _PROCESSES.Pipe()
    process = _PROCESSES.Process(target=serve, args=(its, shape, latency), daemon=True)
    process.start()
    its.close()

    def tell(*delta: int) -> datetime:
        mine.send(delta)
        return mine.recv()

    try:
        yield mine.recv(), tell
    finally:
        mine.close()
        process.join(timeout=30)


# --- the two ways, each in a process of its own --------------------------------------------------------


def land(home: str, address: str, now: datetime, mode: str | None, profile: str | None) -> dict[str, Any]:
    """Land the data set; return counts of the receipt."""
    from assets.ingest import landing
    from assets.ingest.feed import City, Feed
    from assets.ingest.lake import Lake

    folder = Path(home)
    columns = {"source_id": "id", "requested_at": "created", "category": "what", "status": "status"}
    columns |= {
        axis: {"sql": f"json_extract_string(\"place\", '$.coordinates[{place}]')"}
        for place, axis in enumerate("xy")
    }
    if profile == "wide":
        columns |= {"agency": "agency", "address": "address", "status_notes": "notes", "closed_at": "closed"}
    feed = Feed(
        city="bench",
        id="calls",
        file=Path("calls.yaml"),
        city_crs="EPSG:26916",
        city_bbox=BOX,
        title="Calls",
        kind="service_request",
        publisher="Town",
        landing_page="https://town.example",
        licence="CC0",
        owner_agency="Streets",
        cadence="daily",
        portal="socrata",
        sync={"mode": mode} if mode else {"deletions": "by_month"},
        columns=columns,
        parts=[{"id": "one", "source": f"{address}/socrata/resource/{ID}", "format": "json"}],
    )
    city = City(
        id="bench",
        folder=folder,
        name="Town",
        country="US",
        state="IL",
        time_zone="America/Chicago",
        crs="EPSG:26916",
        bbox=BOX,
        feeds={"calls": feed},
    )
    (delivery,) = landing.land_feed(Lake(folder), city, feed, now=now)
    if delivery.outcome not in ("landed", "unchanged"):
        raise RuntimeError(delivery.message)
    told = ("mode", "outcome", "rows_in_file", "rows_new", "rows_changed", "rows_missing", "rows_known")
    return {name: getattr(delivery, name) for name in (*told, "rows_raw", "calls", "bytes_received")}


def download(home: str, address: str) -> dict[str, Any]:
    """Do what a short script does: a page, to disk, into Parquet, the next one."""
    import duckdb
    import httpx2

    folder = Path(home)
    folder.mkdir(parents=True)
    rows, last = 0, None
    with httpx2.Client(timeout=120, headers={"Accept-Encoding": "gzip"}) as client, duckdb.connect() as con:
        while True:
            where = {"$where": f":id > '{last}'"} if last else {}
            question = {"$select": ":*,*", **where, "$order": ":id", "$limit": 50_000}
            answer = client.get(f"{address}/socrata/resource/{ID}.json", params=question).raise_for_status()
            if len(answer.content) < 10:
                return {"rows_in_file": rows}
            page = folder / f"{rows:012d}"
            page.with_suffix(".json").write_bytes(answer.content)
            con.execute(
                f"copy (from read_json('{page}.json', maximum_object_size = 33554432))"
                f" to '{page}.parquet' (compression zstd)"
            )
            count, last = con.execute(f"""select count(*), max(":id") from '{page}.parquet'""").fetchone()  # noqa: S608
            rows += count
            if count < 50_000:
                return {"rows_in_file": rows}


def _measured(pipe: Connection, do: Callable[..., dict[str, Any]], arguments: tuple[Any, ...]) -> None:
    # A process that lands many feeds imports once; what a first import costs is no property of a feed.
    for module in _IMPORTED:
        importlib.import_module(module)
    before, started = _read_bytes(), time.monotonic()
    worked = time.process_time()
    found = do(*arguments)
    found["seconds"] = time.monotonic() - started
    found["cpu_seconds"] = time.process_time() - worked
    found["bytes_read"] = _read_bytes() - before
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    found["peak_bytes"] = int(status["VmHWM"].split()[0]) * 1024
    pipe.send(found)


def _profiled(do: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    import cProfile
    import pstats

    profile = cProfile.Profile()
    found = profile.runcall(do, *arguments)
    pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(25)
    return found


def _read_bytes() -> int:
    """Return what this process has read from files so far, cached or not; what sockets bring is not in it."""
    said = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(said["rchar"])


def measured(do: Callable[..., dict[str, Any]], *arguments: Any, profile: bool = False) -> dict[str, Any]:
    """Run a function in a new process; return what it returns, with seconds, bytes read and peak memory."""
    mine, its = _PROCESSES.Pipe()
    said = (_profiled, (do, *arguments)) if profile else (do, arguments)
    process = _PROCESSES.Process(target=_measured, args=(its, *said))
    process.start()
    its.close()
    try:
        return mine.recv()
    except EOFError:
        raise SystemExit(f"{do.__name__} failed, see above") from None
    finally:
        process.join()


# --- what is asked -------------------------------------------------------------------------------------


def compare_throughput(rows: int, latency: float, folder: Path, profile: bool) -> bool:
    """Land a data set and download it barely; return whether memory and speed are as they should be."""
    print(f"{rows:,} rows behind {latency * 1000:.0f} ms of latency per page")
    with portal(Shape(rows, is_wide=True, days=1500), latency) as (address, _):
        # The portal keeps its pages ready once written: neither way waits for the other's.
        measured(download, str(folder / "first"), address)
        landed = measured(land, str(folder / "lake"), address, NOW, None, "wide", profile=profile)
        bare = measured(download, str(folder / "bare"), address)
    once = count_rows(folder / "lake")
    ratio = bare["seconds"] / landed["seconds"]
    for name, found in (("landing", landed), ("bare script", bare)):
        speed = found["rows_in_file"] / found["seconds"]
        print(
            f"  {name:<12}{found['seconds']:8.1f} s ({found['cpu_seconds']:.1f} s of processor)"
            f" {speed:10,.0f} rows/s"
            f"   peak memory {found['peak_bytes'] / 1e6:6,.0f} MB"
        )
    print(f"  rows landed {once[0]:,}, keys {once[1]:,}; throughput {ratio:.2f} of the bare script's")
    return _told(
        {
            "every row once": once == (rows, rows) and bare["rows_in_file"] == rows,
            f"peak memory under {LARGEST_BYTES / 1e6:,.0f} MB": landed["peak_bytes"] < LARGEST_BYTES,
            f"at least {LEAST_RATIO} of the bare script's throughput": ratio >= LEAST_RATIO,
        }
    )


def compare_delta(rows: int, delta: int, latency: float, folder: Path, profile: bool) -> bool:
    """Land a data set, then a day's delta, then all of it again; return whether the delta is cheaper."""
    new, changed, vanished = (round(delta * share) for share in DELTA)
    print(f"a day's delta of {delta:,} ({new:,} new, {changed:,} changed, {vanished:,} vanished) on {rows:,}")
    home = str(folder / "lake")
    with portal(Shape(rows, is_wide=False, days=3650), latency) as (address, tell):
        found = {"first landing": measured(land, home, address, NOW, None, None)}
        now = tell(new, changed, vanished)
        found["the delta"] = measured(land, home, address, now, None, None, profile=profile)
        found["full reload"] = measured(land, home, address, now + timedelta(hours=1), "full", None)
    for name, each in found.items():
        print(
            f"  {name:<14}{each['seconds']:8.1f} s ({each['cpu_seconds']:.1f} s of processor)"
            f"  received {each['bytes_received'] / 1e6:8,.1f} MB"
            f"  read {each['bytes_read'] / 1e6:8,.1f} MB  peak {each['peak_bytes'] / 1e6:6,.0f} MB"
            f"  {each['calls']:4} calls  {each['rows_new']:,} new, {each['rows_changed']:,} changed,"
            f" {each['rows_missing']:,} missing"
        )
    small, large = found["the delta"], found["full reload"]
    shares = {name: small[name] / large[name] for name in ("seconds", "bytes_received", "bytes_read")}
    print("  of a full reload: " + ", ".join(f"{name} {share:.1%}" for name, share in shares.items()))
    seen = (small["rows_new"], small["rows_changed"], small["rows_missing"])
    return _told(
        {
            "the delta is what happened": seen == (new, changed, vanished),
            "a full reload finds nothing more": (large["rows_new"], large["rows_changed"]) == (0, 0),
            "less than a fifth of a reload in seconds and bytes": max(shares.values()) < 0.2,
        }
    )


def count_rows(home: Path) -> tuple[int, int]:
    """Return rows and distinct keys of what landed."""
    import duckdb

    files = f"{home}/lake/raw/*/city=bench/*/*.parquet"
    return duckdb.execute(f"select count(*), count(distinct source_id) from '{files}'").fetchone()  # noqa: S608


def _told(checks: dict[str, bool]) -> bool:
    for what, holds in checks.items():
        print(f"  {'ok' if holds else 'NOT'}: {what}")
    return all(checks.values())


def main() -> int:
    """Measure what is asked for; 1 where a bound does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m bench.wire --scale 0.1",
    )
    parser.add_argument("--only", choices=("throughput", "delta"), help="one of the two questions")
    parser.add_argument("--scale", type=float, default=1.0, help="of all numbers of rows (default 1)")
    parser.add_argument("--latency", type=float, default=0.2, help="seconds per page (default 0.2)")
    parser.add_argument("--profile", action="store_true", help="where the landing's time goes, to stderr")
    parser.add_argument("--keep", type=Path, help="a new folder in which to leave the lakes")
    said = parser.parse_args()
    folder = said.keep or Path(tempfile.mkdtemp(prefix="wire-"))
    folder.mkdir(exist_ok=True)
    holds = True
    try:
        if said.only != "delta":
            rows = int(1_200_000 * said.scale)
            holds &= compare_throughput(rows, said.latency, folder / "throughput", said.profile)
        if said.only != "throughput":
            rows, delta = int(5_000_000 * said.scale), int(50_000 * said.scale)
            holds &= compare_delta(rows, delta, said.latency, folder / "delta", said.profile)
    finally:
        if said.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
