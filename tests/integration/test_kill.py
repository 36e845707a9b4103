"""A run ended by `kill -9` at any moment, then run again, leaves what an undisturbed run leaves."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from assets.simulate.city import simulate

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CLOCK = "2026-01-02T06:00:00+00:00"
#: Feeds whose portals give the same bytes for the same question.
SAME_BYTES = ("crimes", "service_requests", "work_orders")
KILLS = int(os.environ.get("CITYSIGNAL_KILLS", "1"))


def command(home: Path) -> tuple[list[str], dict[str, str]]:
    environment = {**os.environ, "CITYSIGNAL_HOME": str(home), "CITYSIGNAL_CLOCK": CLOCK}
    return [sys.executable, "-m", "orchestration.cli", "run", "--city", "simulated"], environment


def run_to_the_end(home: Path) -> float:
    arguments, environment = command(home)
    started = time.monotonic()
    done = subprocess.run(
        arguments, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return time.monotonic() - started


def run_and_kill(home: Path, after_seconds: float) -> None:
    arguments, environment = command(home)
    process = subprocess.Popen(
        arguments,
        env=environment,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        process.wait(timeout=after_seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def contents(home: Path) -> dict[str, tuple[int, int]]:
    """Return rows and an order-free hash of every published table outside `quality`.

    Some portals answer the same question with other bytes that say the same (a map's list has no order, CARTO
    tells how long it took), so `delivery_sha` is compared of the others' cases only.
    """
    with duckdb.connect(str(home / "warehouse" / "published" / "warehouse.duckdb"), read_only=True) as con:
        tables = con.execute(
            """select table_schema, table_name, bool_or(column_name = 'delivery_sha')
               from information_schema.columns
               where table_schema not in ('quality', 'information_schema') group by all"""
        ).fetchall()
        found = {}
        for schema, table, has_sha in tables:
            columns = "* exclude (delivery_sha)" if has_sha else "*"
            found[f"{schema}.{table}"] = con.execute(
                f"""select count(*), coalesce(bit_xor(hash(t)), 0)
                    from (select {columns} from "{schema}"."{table}") as t"""
            ).fetchone()
        found["delivery_sha"] = con.execute(
            f"""select count(*), bit_xor(hash(event_key, delivery_sha)) from core.fct_events
                where feed in {SAME_BYTES}"""
        ).fetchone()
        return found


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("portal") / "simulated"
    simulate(folder, seed=5, scale=0.05)
    return folder


def new_home(portal: Path, home: Path) -> Path:
    shutil.copytree(portal, home / "simulated")
    return home


@pytest.fixture(scope="module")
def undisturbed(portal: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, float]:
    home = new_home(portal, tmp_path_factory.mktemp("undisturbed"))
    seconds = run_to_the_end(home)
    tables = contents(home)
    assert len(tables) >= 20
    assert tables["core.fct_events"][0] > 5_000
    assert tables["delivery_sha"][0] > 5_000
    return home, tables, seconds


@pytest.mark.parametrize("kill", range(KILLS))
def test_killed_at_a_random_moment_then_run_again_gives_the_same_tables(portal, undisturbed, tmp_path, kill):
    _, tables, seconds = undisturbed
    home = new_home(portal, tmp_path / "killed")
    moment = random.SystemRandom().uniform(0.1, 0.95) * seconds
    print(f"kill {kill}: after {moment:.2f} s of {seconds:.2f} s")
    run_and_kill(home, moment)
    run_to_the_end(home)
    assert contents(home) == tables


def test_the_comparison_sees_a_single_changed_row(undisturbed, tmp_path):
    """The guard switched off: a table that did change must not compare as equal."""
    home, tables, _ = undisturbed
    copy = tmp_path / "warehouse" / "published" / "warehouse.duckdb"
    copy.parent.mkdir(parents=True)
    copy.write_bytes((home / "warehouse" / "published" / "warehouse.duckdb").read_bytes())
    assert contents(tmp_path) == tables
    with duckdb.connect(str(copy)) as con:
        con.execute(
            "update core.fct_events set x_m = coalesce(x_m, 0) + 1 "
            "where event_key = (select min(event_key) from core.fct_events)"
        )
    assert contents(tmp_path) != tables
