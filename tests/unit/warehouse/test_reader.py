import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from assets.ingest.lake import Lake
from assets.warehouse import reader


def make(path: Path, *generations: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name("fresh.duckdb")
    connection = duckdb.connect(":memory:")
    connection.execute(f"attach '{fresh}' as warehouse")
    connection.execute("create schema warehouse.quality")
    connection.execute("create table warehouse.quality.generation (generation varchar)")
    for generation in generations:
        connection.execute("insert into warehouse.quality.generation values (?)", [generation])
    connection.execute("create view warehouse.quality.now as from warehouse.quality.generation")
    connection.close()
    fresh.replace(path)
    return path


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    return make(tmp_path / "warehouse.duckdb", "g1")


def temptations(folder: Path) -> dict[str, str]:
    (folder / "secret.csv").write_text("a\n1\n", encoding="utf-8")
    duckdb.connect(str(folder / "other.duckdb")).close()
    return {
        "read": f"from read_csv('{folder / 'secret.csv'}')",
        "write": f"copy (select 1 as a) to '{folder / 'stolen.csv'}'",
        "attach": f"attach '{folder / 'other.duckdb'}' as other",
        "configure": "set memory_limit = '1GB'",
    }


@pytest.mark.parametrize("temptation", ["read", "write", "attach", "configure"])
def test_connection_is_cut_off_from_other_files(warehouse, tmp_path, temptation):
    connection = reader.connect(warehouse)
    with pytest.raises((duckdb.PermissionException, duckdb.InvalidInputException)):
        connection.execute(temptations(tmp_path)[temptation])
    connection.close()
    assert not (tmp_path / "stolen.csv").exists()


@pytest.mark.parametrize("temptation", ["read", "write", "attach", "configure"])
def test_twin_without_the_lock_all_of_it_works(warehouse, tmp_path, monkeypatch, temptation):
    monkeypatch.setattr(reader, "_lock", lambda connection: None)
    connection = reader.connect(warehouse)
    connection.execute(temptations(tmp_path)[temptation])
    connection.close()


def test_connection_cannot_change_the_warehouse(warehouse):
    connection = reader.connect(warehouse)
    with pytest.raises(duckdb.InvalidInputException, match="read-only"):
        connection.execute("insert into quality.generation values ('g2')")
    connection.close()


def test_output_folder_opens_that_folder_only(warehouse, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    connection = reader.connect(warehouse, output=output)
    connection.execute(f"copy (from quality.now) to '{output / 'a.parquet'}'")
    assert connection.execute(f"from read_parquet('{output / 'a.parquet'}')").fetchall() == [("g1",)]
    for elsewhere in (tmp_path / "a.parquet", output / ".." / "a.parquet"):
        with pytest.raises(duckdb.PermissionException):
            connection.execute(f"copy (select 1) to '{elsewhere}'")
    connection.close()


LARGE_SORT = "select md5(range::varchar) as a, md5((range + 1)::varchar) as b from range(1500000) order by a"


def test_sorts_beyond_memory_spill_into_the_output_folder(warehouse, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    connection = reader.connect(warehouse, output=output, memory_limit="100MB")
    rows = connection.execute(f"copy ({LARGE_SORT}) to '{output / 'a.parquet'}'").fetchone()
    connection.close()
    assert rows == (1_500_000,)


def test_twin_without_an_output_folder_nothing_spills(warehouse, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    connection = reader.connect(warehouse, memory_limit="100MB")
    with pytest.raises(duckdb.OutOfMemoryException):
        connection.execute(f"create table memory.main.sorted as {LARGE_SORT}")
    connection.close()
    assert not (tmp_path / ".tmp").exists()


def test_a_replaced_file_is_seen_while_an_old_connection_is_open(warehouse):
    holder = reader.connect(warehouse)
    make(warehouse, "g2")
    fresh = reader.connect(warehouse)
    assert fresh.execute("from quality.now").fetchall() == [("g2",)]
    assert holder.execute("from quality.now").fetchall() == [("g1",)]
    fresh.close()
    holder.close()


def test_missing_and_foreign_files_are_explained(tmp_path):
    with pytest.raises(reader.WarehouseError, match="there is no warehouse file yet"):
        reader.connect(tmp_path / "warehouse.duckdb")
    (tmp_path / "warehouse.duckdb").write_text("no database " * 2000, encoding="utf-8")
    with pytest.raises(reader.WarehouseError, match="not readable as a warehouse"):
        reader.connect(tmp_path / "warehouse.duckdb")


def test_a_file_being_written_is_explained_at_once(warehouse):
    script = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(warehouse)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        writer.stdout.readline()
        with pytest.raises(reader.WarehouseError, match="another process is writing it"):
            reader.connect(warehouse)
        writer.communicate()


def test_find_generation_prefers_the_published_file(tmp_path):
    lake = Lake(tmp_path)
    with pytest.raises(reader.WarehouseError, match="there is no file"):
        reader.find_generation(lake, "g1")
    make(lake.build_warehouse, "g2")
    assert reader.find_generation(lake, "g2") == lake.build_warehouse
    make(lake.published_warehouse, "g2")
    assert reader.find_generation(lake, "g2") == lake.published_warehouse
    with pytest.raises(reader.WarehouseError, match="holds g2"):
        reader.find_generation(lake, "g3")


def test_a_file_of_two_generations_names_none(tmp_path):
    assert reader.read_generation(make(tmp_path / "warehouse.duckdb", "g1", "g2")) is None
