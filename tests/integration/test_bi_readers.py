"""BI tools keep reading while generations are published: no error, and never a mixture of two generations."""

import json
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from assets.ingest.lake import Lake
from assets.publish import snapshot

PUBLISHES = 5

# A plain DuckDB client, as every BI tool is; it knows nothing of the product.
READER = """
import json, sys, time
from pathlib import Path
import duckdb

path, stop, holds = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "hold"
SQL = "select count(distinct generation), min(generation), count(*) from open_data.events"
reads, errors, generations, mixed = 0, [], set(), 0
held = duckdb.connect(path, read_only=True) if holds else None
print("ready", flush=True)
while not stop.exists():
    try:
        connection = held or duckdb.connect(path, read_only=True)
        different, generation, rows = connection.execute(SQL).fetchone()
        if held is None:
            connection.close()
        reads += 1
        mixed += different != 1 or rows != 40000
        generations.add(generation)
    except Exception as error:
        errors.append(f"{type(error).__name__}: {error}"[:200])
    time.sleep(0.005)
print(json.dumps({"reads": reads, "errors": errors, "generations": sorted(generations), "mixed": mixed}))
"""


def build(lake: Lake, generation: str) -> None:
    path = lake.build_warehouse
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    connection = duckdb.connect(str(path))
    for schema in snapshot.PUBLIC_SCHEMAS:
        connection.execute(f"create schema {schema}")
    connection.execute(
        f"""
        create table core.early as select range as i, '{generation}' as generation from range(20000);
        create table quality.generation as select '{generation}' as generation;
        create table core.late as select range as i, '{generation}' as generation from range(20000);
        create view open_data.events as from warehouse.core.early union all from warehouse.core.late;
        """
    )
    connection.close()


def write_in_place(lake: Lake, generation: str) -> None:
    """What publishing without a rename does: the same rows, written into the file that readers open."""
    connection = duckdb.connect(str(lake.published_warehouse))
    for table in ("core.early", "core.late", "quality.generation"):
        connection.execute(f"update {table} set generation = ?", [generation])
        time.sleep(0.05)
    connection.close()


def observe(lake: Lake, folder: Path, kinds: list[str], publish) -> tuple[list[dict], list[str]]:
    """Publish several generations under readers; return what each reader saw, and the publisher's errors."""
    stop = folder / "stop"
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(lake.published_warehouse), str(stop), kind],
            stdout=subprocess.PIPE,
            text=True,
        )
        for kind in kinds
    ]
    errors = []
    try:
        for reader in readers:
            assert reader.stdout.readline() == "ready\n"
        for number in range(1, PUBLISHES + 1):
            try:
                publish(f"g{number}")
            except duckdb.Error as error:
                errors.append(str(error))
            time.sleep(0.1)
    finally:
        stop.touch()
        outputs = [reader.communicate(timeout=60)[0] for reader in readers]
    return [json.loads(output) for output in outputs], errors


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path)
    build(lake, "g0")
    snapshot.publish_snapshot(lake, "g0")
    return lake


def test_readers_never_see_an_error_or_a_mixture(lake, tmp_path):
    def publish(generation):
        build(lake, generation)
        snapshot.publish_snapshot(lake, generation)

    seen, errors = observe(lake, tmp_path, ["fresh", "fresh", "hold"], publish)
    assert errors == [], "no reader keeps the publisher out"
    assert [reader["errors"] for reader in seen] == [[], [], []]
    assert [reader["mixed"] for reader in seen] == [0, 0, 0]
    assert all(reader["reads"] > PUBLISHES for reader in seen)
    assert seen[2]["generations"] == ["g0"], "a held connection keeps its generation"
    for fresh in seen[:2]:
        assert fresh["generations"][-1] == f"g{PUBLISHES}"
        assert len(fresh["generations"]) > 2


def test_twin_writing_in_place_gives_errors(lake, tmp_path):
    lake.published_warehouse.chmod(0o644)
    seen, errors = observe(
        lake, tmp_path, ["fresh", "fresh"], lambda generation: write_in_place(lake, generation)
    )
    assert errors + [error for reader in seen for error in reader["errors"]], "one side was locked out"


def test_twin_a_holder_keeps_a_writer_out_for_good(lake, tmp_path):
    lake.published_warehouse.chmod(0o644)
    seen, errors = observe(lake, tmp_path, ["hold"], lambda generation: write_in_place(lake, generation))
    assert len(errors) == PUBLISHES
    assert seen[0]["errors"] == []
