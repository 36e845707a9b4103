"""The Parquet files of raw, quarantine and absences, and their names; when they land is landing's."""

import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from assets.ingest.contracts import DELIVERY_COLUMNS, KINDS, LOCATION_COLUMNS, column_names
from assets.ingest.feed import Feed
from assets.ingest.known_rows import NO_ID
from assets.ingest.lake import Lake
from assets.ingest.parsing import GEOMETRY_KINDS
from assets.ingest.part import Part
from assets.ingest.receipts import Delivery
from assets.ingest.sql_expression import literal, quoted

#: Wide rows wait in memory until their group is whole, several groups at a time.
ROW_GROUP_ROWS = 30_720

QUARANTINE_COLUMNS: dict[str, str] = {
    "part": "VARCHAR",
    "source_row": "BIGINT",
    "reason": "VARCHAR",
    "detail": "VARCHAR",
    "raw_record": "VARCHAR",
    "delivery_sha": "VARCHAR",
    "delivered_at": "TIMESTAMP",
}

ABSENCE_COLUMNS: dict[str, str] = {
    "part": "VARCHAR",
    "source_id": "VARCHAR",
    "misses": "INTEGER",
    "observed_at": "TIMESTAMP",
    "delivery_id": "VARCHAR",
    "reason": "VARCHAR",
}


def write_raw(
    con: duckdb.DuckDBPyConnection, relation: str, feed: Feed, part: Part, delivery: Delivery, path: Path
) -> None:
    """Write every received row, mapped, hashed, dated and located. Needs the table `places`."""
    mapping = feed.mapping(part)
    names = column_names(feed.kind)
    texts = []
    for is_mapped, run in groupby(names, key=mapping.__contains__):
        if is_mapped:
            texts += [f"coalesce({quoted(name)}, chr(30))" for name in run]
        else:
            # Nulls of columns that are not mapped are the same in every row.
            texts.append(literal(chr(31).join(chr(30) for _ in run)))
    if feed.kind in GEOMETRY_KINDS:
        texts.append("coalesce(hex(geometry), chr(30))")
    added = {
        "part": literal(part.id),
        "source_row": "source_row",
        "delivery_id": literal(delivery.delivery_id),
        "delivery_sha": literal(delivery.sha),
        "delivered_at": f"{literal(delivery.delivered_at.isoformat())}::timestamp",
        "content_hash": "content_hash",
    }
    selected = [
        *(f"s.{quoted(name)}" if name in mapping else f"null::varchar as {quoted(name)}" for name in names),
        *(["s.geometry"] if feed.kind in GEOMETRY_KINDS else []),
        *(f"{added[name]} as {name}" for name in DELIVERY_COLUMNS),
        *(f"p.{name}" for name in LOCATION_COLUMNS),
    ]
    content_hash = f"md5(concat_ws(chr(31), {', '.join(texts)}))"
    _copy(
        con,
        f"""
        select {", ".join(selected)} from (select *, {content_hash} as content_hash from {relation}) s
        left join places p on s.x is not distinct from p.x and s.y is not distinct from p.y
        """,  # noqa: S608
        delivery,
        path,
    )


def write_changed(con: duckdb.DuckDBPyConnection, received: Path, delivery: Delivery, path: Path) -> None:
    """Write the received rows that are new or changed. Needs the table `compared`."""
    _copy(
        con,
        f"""
        select * from read_parquet({literal(str(received))})
        where coalesce(source_id, {NO_ID} || content_hash)
            in (select id from compared where verdict <> 'unchanged')
        """,  # noqa: S608
        delivery,
        path,
    )


def _copy(con: duckdb.DuckDBPyConnection, query: str, delivery: Delivery, path: Path) -> None:
    metadata = {
        "part": delivery.part,
        "sequence": str(delivery.sequence),
        "fingerprint": delivery.fingerprint or "",
        "fetch_id": delivery.fetch_id,
    }
    said = ", ".join(f"{key}: {literal(value)}" for key, value in metadata.items())
    con.execute(
        f"copy ({query}) to {literal(str(path))} (format parquet, compression zstd,"
        f" row_group_size {ROW_GROUP_ROWS}, kv_metadata {{{said}}})"
    )


def write_quarantine(con: duckdb.DuckDBPyConnection, part: Part, delivery: Delivery, path: Path) -> None:
    """Write what could not be parsed, with the reason. Needs the table `rejects`."""
    con.execute(
        f"""
        copy (
            select {literal(part.id)} as part, source_row, reason, detail, raw_record,
                {literal(delivery.sha)} as delivery_sha,
                {literal(delivery.delivered_at.isoformat())}::timestamp as delivered_at
            from rejects order by source_row
        ) to {literal(str(path))} (format parquet, compression zstd)
        """  # noqa: S608
    )


def drop_known_rejects(con: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> int:
    """Take out of `rejects` what lies in quarantine already; return how many rows that were."""
    if not files or not con.execute("select 1 from rejects limit 1").fetchall():
        return 0
    listed = ", ".join(literal(str(file)) for file in files)
    before = con.execute("select count(*) from rejects").fetchone()[0]
    con.execute(
        f"""
        delete from rejects where md5(reason || chr(31) || coalesce(raw_record, '')) in (
            select md5(reason || chr(31) || coalesce(raw_record, '')) from read_parquet([{listed}])
        )
        """  # noqa: S608
    )
    return before - con.execute("select count(*) from rejects").fetchone()[0]


def write_absences(con: duckdb.DuckDBPyConnection, delivery: Delivery, path: Path) -> None:
    """Write what the source no longer has. Needs the table `gone`."""
    con.execute(
        f"""
        copy (
            select {literal(delivery.part)} as part, source_id, misses,
                {literal(delivery.delivered_at.isoformat())}::timestamp as observed_at,
                {literal(delivery.delivery_id)} as delivery_id, reason
            from gone where misses > 0 order by source_id
        ) to {literal(str(path))} (format parquet, compression zstd)
        """  # noqa: S608
    )


def files_of(folder: Path, part_id: str) -> list[Path]:
    """Return the files of a part in a folder of the lake, in the order of their deliveries."""
    # A part's id may begin another one's: after it come the six digits of the sequence and the delivery's id.
    pattern = re.compile(re.escape(part_id) + r"-[0-9]{6}-[0-9a-f]{12}[.]parquet")
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name))


def parts_files(folder: Path, part_id: str) -> list[Path]:
    """Return every file of a part in a folder of the lake, those of earlier versions of this software too."""
    if not folder.is_dir():
        return []
    pattern = re.compile(re.escape(part_id) + r"-([0-9]{6}-)?[0-9a-f]{12}[.]parquet")
    return sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name))


def file_name(delivery: Delivery) -> str:
    """Return the name of a delivery's files in the lake."""
    return f"{delivery.part}-{delivery.sequence:06d}-{delivery.delivery_id}.parquet"


def said_of(path: Path) -> dict[str, str]:
    """Return what a raw file says of itself."""
    metadata = pq.read_metadata(path).metadata or {}
    return {key.decode(): value.decode() for key, value in metadata.items() if key != b"ARROW:schema"}


def write_empty(lake: Lake) -> None:
    """Write zero-row raw, quarantine and absence files of every kind."""
    with duckdb.connect() as con:
        for kind in KINDS:
            empty = {
                lake.raw(kind, "_none", "_none"): _raw_columns(kind),
                lake.quarantine(kind, "_none", "_none"): QUARANTINE_COLUMNS,
                lake.absences(kind, "_none", "_none"): ABSENCE_COLUMNS,
            }
            for folder, columns in empty.items():
                nulls = ", ".join(f"null::{type_} as {quoted(name)}" for name, type_ in columns.items())
                _copy_atomically(con, f"select {nulls} limit 0", folder / "empty.parquet")


def _raw_columns(kind: str) -> dict[str, str]:
    geometry = {"geometry": "BLOB"} if kind in GEOMETRY_KINDS else {}
    return dict.fromkeys(column_names(kind), "VARCHAR") | geometry | DELIVERY_COLUMNS | LOCATION_COLUMNS


def _copy_atomically(con: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    con.execute(f"copy ({query}) to {literal(str(temporary))} (format parquet, compression zstd)")
    temporary.replace(path)
