import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from assets.ingest.lake import Lake
from assets.publish.snapshot import PUBLIC_SCHEMAS, SnapshotError, publish_snapshot
from assets.warehouse import reader

PUBLISHER = """
import itertools, sys, duckdb
from pathlib import Path
from assets.ingest.lake import Lake
from assets.publish.snapshot import publish_snapshot

lake = Lake(Path(sys.argv[1]))
for number in itertools.count(int(sys.argv[2])):
    connection = duckdb.connect(str(lake.build_warehouse))
    connection.execute("begin")
    connection.execute("update quality.generation set generation = ?", [f"g{number:05}"])
    connection.execute("update core.fct_requests set generation = ?", [f"g{number:05}"])
    connection.execute("commit")
    connection.close()
    publish_snapshot(lake, f"g{number:05}", keep=2)
    print(number, flush=True)
"""


def query(path: Path, sql: str) -> list[tuple]:
    connection = reader.connect(path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def generations_in(path: Path) -> set[str]:
    rows = query(
        path, "select generation from quality.generation union select generation from core.fct_requests"
    )
    return {generation for (generation,) in rows}


def test_published_file_holds_the_public_schemas_only(workshop):
    build = workshop.build("g1")
    summary = publish_snapshot(workshop.lake, "g1")
    assert summary.path == workshop.lake.published_warehouse
    assert summary.bytes == summary.path.stat().st_size
    schemas = query(
        summary.path,
        "select schema_name from duckdb_schemas() where database_name = current_database() and not internal",
    )
    assert {name for (name,) in schemas} == set(PUBLIC_SCHEMAS)
    tables = "select count(*) from duckdb_tables() where schema_name in ('main', 'staging')"
    assert query(summary.path, tables) == [(0,)]
    assert query(build, tables) == [(2,)], "the build keeps its private tables for the next run"


def test_views_and_comments_survive(workshop):
    workshop.build("g1", rows=7)
    path = publish_snapshot(workshop.lake, "g1").path
    # A plain client, as BI tools connect: the catalog is named after the file.
    connection = duckdb.connect(str(path), read_only=True)
    assert connection.execute("select count(*) from warehouse.open_data.requests").fetchone() == (7,)
    comments = connection.execute(
        "select comment from duckdb_tables() where comment is not null "
        "union all select comment from duckdb_columns() where comment is not null "
        "union all select comment from duckdb_views() where comment is not null"
    ).fetchall()
    connection.close()
    assert comments == [("One row per request.",), ("The city.",), ("Requests, public.",)]


def test_published_file_is_read_only_and_without_log(workshop):
    workshop.build("g1")
    path = publish_snapshot(workshop.lake, "g1").path
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    names = {file.name for file in path.parent.iterdir()}
    assert names == {"warehouse.duckdb", "generations"}


def test_log_of_the_build_is_folded_in(workshop):
    build = workshop.build("g1")
    script = (
        "import duckdb, os, sys\n"
        "connection = duckdb.connect(sys.argv[1])\n"
        "connection.execute(\"set checkpoint_threshold = '1TB'\")\n"
        "connection.execute(\"update quality.generation set generation = 'g2'\")\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(build)], check=True)
    assert build.with_name(build.name + ".wal").exists(), (
        "the build was left with its log, as a killed run leaves it"
    )
    assert reader.read_generation(publish_snapshot(workshop.lake, "g2").path) == "g2"
    assert not build.with_name(build.name + ".wal").exists()


def test_another_generation_is_refused_and_nothing_changes(workshop):
    workshop.build("g1")
    published = publish_snapshot(workshop.lake, "g1").path
    inode = published.stat().st_ino
    with pytest.raises(SnapshotError, match="holds generation g1, not g2"):
        publish_snapshot(workshop.lake, "g2")
    assert published.stat().st_ino == inode
    assert not list(published.parent.glob(".*"))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("drop schema correlation", "lacks the schemas correlation"),
        ("drop table quality.generation", "last build step is missing"),
        ("delete from quality.generation", "holds generation none"),
        ("insert into quality.generation values ('g0')", "holds generation g0, g1"),
        (
            "create view open_data.leak as select * from warehouse.staging.records",
            "open_data.leak: the view reads something that is not in the published file",
        ),
        (
            "copy (select 1 as a) to '{file}'; create view quality.outside as from read_csv('{file}')",
            "quality.outside: the view reads",
        ),
    ],
)
def test_broken_builds_are_refused(workshop, tmp_path, extra, message):
    workshop.build("g1", extra=extra.format(file=tmp_path / "outside.csv"))
    with pytest.raises(SnapshotError, match=message):
        publish_snapshot(workshop.lake, "g1")
    assert not workshop.lake.published_warehouse.exists()


def test_missing_build_names_the_file(tmp_path):
    with pytest.raises(SnapshotError, match=r"warehouse\.duckdb: there is no build"):
        publish_snapshot(Lake(tmp_path), "g1")


def test_generation_must_be_a_name(workshop):
    workshop.build("g1")
    with pytest.raises(SnapshotError, match="must be letters"):
        publish_snapshot(workshop.lake, "../g1")


def test_a_build_being_written_is_refused(workshop):
    build = workshop.build("g1")
    script = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(build)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        writer.stdout.readline()
        with pytest.raises(SnapshotError, match="lock"):
            publish_snapshot(workshop.lake, "g1")
        writer.communicate()
    assert publish_snapshot(workshop.lake, "g1").generation == "g1"


def test_the_newest_generations_are_kept(workshop):
    for number in range(5):
        workshop.build(f"g{number}")
        summary = publish_snapshot(workshop.lake, f"g{number}", keep=3)
    assert summary.kept == ("g4", "g3", "g2")
    folder = workshop.lake.published_warehouse.parent / "generations"
    assert {path.name for path in folder.iterdir()} == {"g4", "g3", "g2"}
    assert reader.read_generation(folder / "g2" / "warehouse.duckdb") == "g2"
    assert (folder / "g4" / "warehouse.duckdb").samefile(workshop.lake.published_warehouse)


def test_publishing_a_generation_again_gives_the_same(workshop):
    workshop.build("g1")
    first = publish_snapshot(workshop.lake, "g1")
    second = publish_snapshot(workshop.lake, "g1")
    assert second.kept == first.kept == ("g1",)
    assert generations_in(second.path) == {"g1"}


def test_kill_at_any_moment_leaves_one_whole_generation(workshop):
    workshop.build("g00000", rows=20_000)
    publish_snapshot(workshop.lake, "g00000")
    seen, chance = set(), random.Random(20260101)
    for attempt in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", PUBLISHER, str(workshop.lake.home), str(1000 * (attempt + 1))],
            stdout=subprocess.PIPE,
        )
        process.stdout.readline()
        time.sleep(chance.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        held = generations_in(workshop.lake.published_warehouse)
        assert len(held) == 1
        seen |= held
    assert len(seen) == 8, "every publisher got at least one generation out before it was killed"
    # The next run clears what the killed ones left and publishes.
    (current,) = generations_in(workshop.lake.build_warehouse)
    publish_snapshot(workshop.lake, current, keep=2)
    folder = workshop.lake.published_warehouse.parent
    assert not list(folder.glob(".*"))
    assert len(list((folder / "generations").iterdir())) == 2
