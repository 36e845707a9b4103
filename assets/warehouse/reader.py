"""Opens warehouse files for reading, the only Python that does; writing is dbt's, queries their callers'."""

from pathlib import Path

import duckdb

from assets.ingest.lake import Lake

GENERATION_TABLE = "quality.generation"


class WarehouseError(Exception):
    """A warehouse file that cannot be read, with the file and what to do about it."""


def quote(name: str) -> str:
    """Return a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return text as an SQL string, for the statements that take no parameters."""
    return "'" + text.replace("'", "''") + "'"


def connect(
    path: Path, *, output: Path | None = None, memory_limit: str | None = None
) -> duckdb.DuckDBPyConnection:
    """Open a warehouse file read-only, cut off from every other file.

    The file is attached to a fresh in-memory database instead of being connected to: within one process
    `duckdb.connect(path)` hands out the old instance, and so the old generation, for as long as any other
    connection to that path is open.

    Args:
        path: The warehouse file.
        output: Absolute folder that COPY may write to and read back, and that sorts spill into. None: none.
        memory_limit: DuckDB's limit, such as "2GB".

    Returns:
        A connection in UTC whose default catalog is the warehouse. The caller closes it.

    Raises:
        WarehouseError: When the file is missing, is being written, or is no DuckDB database.
    """
    if not path.is_file():
        raise WarehouseError(f"{path}: there is no warehouse file yet; run the pipeline first")
    connection = duckdb.connect(":memory:")
    try:
        # Views carry catalog-qualified names (`warehouse.core.…`), so the catalog must keep the file's stem.
        connection.execute(f"attach {literal(str(path))} as {quote(path.stem)} (read_only)")
        connection.execute(f"use {quote(path.stem)}")
        connection.execute("set TimeZone = 'UTC'")
        connection.execute("set enable_progress_bar = false")
        if memory_limit is not None:
            connection.execute(f"set memory_limit = {literal(memory_limit)}")
        # Left alone, an in-memory database spills into `.tmp` under the working directory.
        spill = "" if output is None else str(output / ".spill")
        connection.execute(f"set temp_directory = {literal(spill)}")
        if output is not None:
            connection.execute(f"set allowed_directories = [{literal(str(output))}]")
        _lock(connection)
    except duckdb.Error as error:
        connection.close()
        raise WarehouseError(_explain(path, error)) from error
    return connection


def read_generation(path: Path) -> str | None:
    """Return the generation a warehouse file holds, None where it names none or more than one."""
    connection = connect(path)
    try:
        rows = connection.execute(f"select distinct generation from {GENERATION_TABLE}").fetchall()  # noqa: S608
    except duckdb.CatalogException:
        return None
    finally:
        connection.close()
    return str(rows[0][0]) if len(rows) == 1 else None


def find_generation(lake: Lake, generation: str) -> Path:
    """Return the file that holds a generation: the published one, else the build.

    The published file comes first because nothing ever writes to it.

    Raises:
        WarehouseError: When neither holds it.
    """
    found = {}
    for path in (lake.published_warehouse, lake.build_warehouse):
        if path.is_file():
            found[path] = read_generation(path)
            if found[path] == generation:
                return path
    held = "; ".join(f"{path} holds {held or 'none'}" for path, held in found.items()) or "there is no file"
    raise WarehouseError(f"No warehouse file holds generation {generation}: {held}. Build it, then publish.")


def _lock(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")


def _explain(path: Path, error: duckdb.Error) -> str:
    text = str(error).splitlines()[0]
    if "lock on file" in text:
        return f"{path}: another process is writing it; wait for that run to end, or stop it ({text})"
    if "already attached" in text:
        return f"{path}: this process holds it open for writing; close that connection first ({text})"
    return f"{path}: not readable as a warehouse ({text})"
