"""Writes releases of open data from the open_data views; which rows and values they show is dbt's matter."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from assets.ingest.lake import Lake
from assets.publish.dictionary import Column, Extract, ExtractTerms, field_type, read_extracts
from assets.publish.privacy import refuse_personal_data
from assets.publish.released_cards import FOLDER as CARDS_FOLDER
from assets.publish.released_cards import release_cards
from assets.publish.snapshot import check_generation_name
from assets.warehouse import reader

PACKAGE_PROFILE = "https://datapackage.org/profiles/2.0/datapackage.json"
# A sort of ten million rows spills beyond this instead of taking the machine.
MEMORY_LIMIT = "2GB"


class ReleaseError(Exception):
    """A release that must not be published, and why."""


@dataclass(frozen=True)
class DatasetSummary:
    """One dataset of a release: its folder, rows, bytes of its data files, and whether rows are simulated."""

    dataset: str
    title: str
    folder: Path
    rows: int
    bytes: int
    is_simulated: bool


@dataclass(frozen=True)
class ReleaseSummary:
    """One release: its generation, its folder, its datasets by name, and how many method cards it has."""

    generation: str
    folder: Path
    datasets: tuple[DatasetSummary, ...]
    n_cards: int


def publish_release(
    lake: Lake,
    manifest_path: Path,
    generation: str,
    *,
    now: datetime,
    cards: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> ReleaseSummary:
    """Write every declared extract of a generation as one immutable release and point `latest` at it.

    The release is built beside its final place and appears there by one rename, `latest` after it. A release
    that a killed run left complete but not yet `latest` is only pointed at, not written again.

    Args:
        lake: Where the warehouse and the releases lie.
        manifest_path: The dbt manifest whose exposures declare the extracts.
        generation: The warehouse generation to release.
        now: Time of publication, with a zone; it goes into the descriptors, never into the data files.
        cards: Folder of the generation's method cards, which then are part of the release. None: no cards.
        progress: Told one line per dataset.

    Raises:
        ReleaseError: When the release exists, a dataset is empty, or a cleared column is not in its view.
        DictionaryError: When an extract is declared wrongly.
        MissingCardsError: When a verdict has no card.
        PersonalDataError: When a file shows what looks like personal data.
        WarehouseError: When no warehouse file holds the generation.
            Whatever is raised, `latest` and all releases are as they were.
    """
    check_generation_name(generation)
    folder = lake.releases / generation
    latest = lake.releases / "latest"
    if folder.exists():
        if latest.is_symlink() and latest.lstat().st_mtime_ns >= folder.stat().st_mtime_ns:
            raise ReleaseError(f"{folder}: this generation is already released, and a release never changes")
        _point(latest, generation)
        return read_release(folder)
    extracts = read_extracts(manifest_path)
    warehouse = reader.find_generation(lake, generation)
    lake.releases.mkdir(parents=True, exist_ok=True)
    for leftover in lake.releases.glob(".*.tmp"):
        shutil.rmtree(leftover)
    staging = lake.releases / f".{generation}.tmp"
    staging.mkdir()
    before = {one.dataset: one.rows for one in read_release(latest).datasets} if latest.exists() else {}
    try:
        connection = reader.connect(warehouse, output=staging.resolve(), memory_limit=MEMORY_LIMIT)
        try:
            for extract in extracts:
                rows = _write_dataset(connection, extract, staging.resolve(), generation, now)
                # `allow_empty` is for what has never had rows; rows that are gone are a failure upstream.
                if rows == 0 and (lost := before.get(extract.terms.dataset)):
                    raise ReleaseError(
                        f"dataset {extract.terms.dataset} has no rows, and {lost:,} in the release before; "
                        "find out where they went, or remove `latest` if it is right"
                    )
                if progress is not None:
                    progress(f"{extract.terms.dataset}: {rows:,} rows")
            if cards is not None:
                _write_sums(staging / CARDS_FOLDER, release_cards(connection, cards, staging))
        finally:
            connection.close()
        shutil.rmtree(staging / ".spill", ignore_errors=True)
        _fsync_tree(staging)
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    _fsync(lake.releases)
    _point(latest, generation)
    return read_release(folder)


def read_release(folder: Path) -> ReleaseSummary:
    """Return what a release on disk says of itself."""
    datasets = []
    for path in sorted(folder.glob("*/datapackage.json")):
        package = json.loads(path.read_text(encoding="utf-8"))
        datasets.append(
            DatasetSummary(
                dataset=package["name"],
                title=package["title"],
                folder=path.parent,
                rows=package["rows"],
                bytes=sum(resource["bytes"] for resource in package["resources"]),
                is_simulated=package["simulated"],
            )
        )
    n_cards = len(list(folder.glob(f"{CARDS_FOLDER}/*/*.html")))
    return ReleaseSummary(folder.name, folder, tuple(datasets), n_cards)


def _write_dataset(
    connection: duckdb.DuckDBPyConnection, extract: Extract, staging: Path, generation: str, now: datetime
) -> int:
    terms = extract.terms
    view = f"{reader.quote(extract.schema)}.{reader.quote(extract.view)}"
    found = dict(connection.execute(f"select column_name, column_type from (describe {view})").fetchall())  # noqa: S608
    missing = [column.name for column in extract.columns if column.name not in found]
    if missing:
        raise ReleaseError(
            f"{view}: published column {', '.join(missing)} is not in the view; add it there, "
            "or take it out of the view's YAML"
        )
    types = {column.name: found[column.name] for column in extract.columns}
    fields = [_field(view, column, types[column.name]) for column in extract.columns]

    folder = staging / terms.dataset
    folder.mkdir()
    parquet = folder / f"{terms.dataset}.parquet"
    csv = folder / f"{terms.dataset}.csv"
    rows = _write_parquet(connection, view, types, terms.primary_key, parquet)
    if rows == 0 and not terms.allow_empty:
        raise ReleaseError(
            f"{view}: dataset {terms.dataset} has no rows, which is seldom the truth; "
            "find out why, or set allow_empty: true in its exposure"
        )
    _refuse_repeated_keys(connection, parquet, terms.primary_key, view)
    refuse_personal_data(
        connection, parquet, [field["name"] for field in fields if field["type"] == "string"]
    )
    _write_csv(connection, parquet, types, csv)

    is_simulated = "is_simulated" in found and _has_simulated(
        connection, f"read_parquet({reader.literal(str(parquet))})" if "is_simulated" in types else view
    )
    digests = {path.name: _sha256(path) for path in (csv, parquet)}
    package = {
        **_describe_package(terms, rows, is_simulated, generation, now),
        "resources": _describe_files(terms, fields, (csv, parquet), digests),
    }
    descriptor = json.dumps(package, indent=2, ensure_ascii=False) + "\n"
    (folder / "datapackage.json").write_text(descriptor, encoding="utf-8")
    (folder / "README.md").write_text(_readme(package, terms.cadence), encoding="utf-8")
    _write_sums(folder, ("datapackage.json", "README.md"), digests)
    return rows


def _write_parquet(
    connection: duckdb.DuckDBPyConnection,
    view: str,
    types: dict[str, str],
    primary_key: tuple[str, ...],
    path: Path,
) -> int:
    # A time named _at is UTC; as a zoned type the file says so itself.
    columns = ", ".join(
        f"{reader.quote(name)}::timestamptz as {reader.quote(name)}"
        if kind.startswith("TIMESTAMP") and not name.endswith("_local")
        else reader.quote(name)
        for name, kind in types.items()
    )
    order = ", ".join(reader.quote(name) for name in primary_key)
    (rows,) = connection.execute(
        f"copy (select {columns} from {view} order by {order}) "  # noqa: S608
        f"to {reader.literal(str(path))} (format parquet, compression zstd)"
    ).fetchone()
    return rows


def _write_csv(
    connection: duckdb.DuckDBPyConnection, parquet: Path, types: dict[str, str], path: Path
) -> None:
    # From the Parquet file: the view is computed and sorted once, and the two files cannot differ.
    connection.execute(
        f"copy (select {', '.join(_csv_expression(*column) for column in types.items())} "  # noqa: S608
        f"from read_parquet({reader.literal(str(parquet))})) "
        f"to {reader.literal(str(path))} (format csv, header)"
    )


def _csv_expression(name: str, kind: str) -> str:
    column = reader.quote(name)
    if not kind.startswith("TIMESTAMP"):
        return column
    zone = "" if name.endswith("_local") else "Z"
    return f"replace(cast({column}::timestamp as varchar), ' ', 'T') || '{zone}' as {column}"


def _refuse_repeated_keys(
    connection: duckdb.DuckDBPyConnection, parquet: Path, primary_key: tuple[str, ...], view: str
) -> None:
    """Refuse a key that is null or repeated: readers rely on it, and the order of rows would be chance."""
    key = ", ".join(reader.quote(name) for name in primary_key)
    any_null = " or ".join(f"{reader.quote(name)} is null" for name in primary_key)
    example = connection.execute(
        f"select {key} from read_parquet({reader.literal(str(parquet))}) "  # noqa: S608
        f"group by {key} having count(*) > 1 or {any_null} order by all limit 1"
    ).fetchone()
    if example is not None:
        raise ReleaseError(
            f"{view}: primary key ({', '.join(primary_key)}) is null or repeated, for instance {example}; "
            "give the exposure a key that is unique in the view"
        )


def _has_simulated(connection: duckdb.DuckDBPyConnection, source: str) -> bool:
    (found,) = connection.execute(f"select bool_or(is_simulated) from {source}").fetchone()  # noqa: S608
    return bool(found)


def _field(view: str, column: Column, duckdb_type: str) -> dict[str, Any]:
    field = {"name": column.name, "type": field_type(view, column.name, duckdb_type)}
    return {**field, "description": column.description}


def _describe_package(
    terms: ExtractTerms, rows: int, is_simulated: bool, generation: str, now: datetime
) -> dict[str, Any]:
    return {
        "$schema": PACKAGE_PROFILE,
        "name": terms.dataset,
        "title": terms.title + (" (simulated)" if is_simulated else ""),
        "description": terms.description,
        "version": generation,
        "created": now.isoformat(timespec="seconds"),
        "licenses": [terms.licence.model_dump(exclude_none=True)],
        "rows": rows,
        "simulated": is_simulated,
    }


def _describe_files(
    terms: ExtractTerms, fields: list[dict[str, Any]], files: tuple[Path, Path], digests: dict[str, str]
) -> list[dict[str, Any]]:
    csv, parquet = files
    return [
        {
            "name": terms.dataset,
            "path": csv.name,
            "type": "table",
            "format": "csv",
            "mediatype": "text/csv",
            "encoding": "utf-8",
            "bytes": csv.stat().st_size,
            "hash": f"sha256:{digests[csv.name]}",
            "dialect": {"lineTerminator": "\n"},
            "schema": {"fields": fields, "primaryKey": list(terms.primary_key), "missingValues": [""]},
        },
        {
            "name": f"{terms.dataset}_parquet",
            "path": parquet.name,
            # As a "table" its bytes and hash would not be checked by frictionless.
            "type": "file",
            "format": "parquet",
            "mediatype": "application/vnd.apache.parquet",
            "bytes": parquet.stat().st_size,
            "hash": f"sha256:{digests[parquet.name]}",
        },
    ]


def _readme(package: dict[str, Any], cadence: str) -> str:
    notice = (
        "**Simulated data.** Some or all rows come from a simulated city and describe no real event.\n\n"
        if package["simulated"]
        else ""
    )
    licence = " ".join(package["licenses"][0].values())
    key = ", ".join(package["resources"][0]["schema"]["primaryKey"])
    return (
        f"# {package['title']}\n\n{notice}{package['description']}\n\n"
        f"* Rows: {package['rows']:,}, one per `{key}`\n"
        f"* Release: {package['version']}, published {package['created']}; updated {cadence}\n"
        f"* Licence: {licence}\n"
        "* Columns: `datapackage.json`. Check the files with `sha256sum -c SHA256SUMS`.\n"
        "* Times ending in `Z` are UTC; columns ending in `_local` are the city's clock.\n"
        "* Text is as recorded: a value may begin with `=`, `+`, `-` or `@`. In a spreadsheet, import text "
        "columns as text.\n"
    )


def _write_sums(folder: Path, names: Iterable[str], known: Mapping[str, str] | None = None) -> None:
    """Write the SHA256SUMS of some files of a folder, and of those whose digests are known already."""
    digests = {**(known or {}), **{name: _sha256(folder / name) for name in names}}
    sums = [f"{digests[name]}  {name}\n" for name in sorted(digests)]
    (folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _point(latest: Path, generation: str) -> None:
    link = latest.with_name(".latest")
    link.unlink(missing_ok=True)
    link.symlink_to(generation)
    link.replace(latest)
    _fsync(latest.parent)


def _fsync_tree(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        _fsync(path)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
