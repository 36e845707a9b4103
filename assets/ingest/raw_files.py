"""The Parquet files of raw and quarantine, and what they say of themselves; when they land is landing's."""

from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from assets.ingest.contracts import DELIVERY_COLUMNS, KINDS, LOCATION_COLUMNS, column_names
from assets.ingest.feed import Feed
from assets.ingest.lake import Lake
from assets.ingest.parsing import GEOMETRY_KINDS, source_rows
from assets.ingest.part import Part
from assets.ingest.receipts import Delivery
from assets.ingest.sql_expression import literal, quoted

QUARANTINE_COLUMNS: dict[str, str] = {
    "part": "VARCHAR",
    "source_row": "BIGINT",
    "reason": "VARCHAR",
    "detail": "VARCHAR",
    "raw_record": "VARCHAR",
    "delivery_sha": "VARCHAR",
    "delivered_at": "TIMESTAMP",
}


def write_raw(
    con: duckdb.DuckDBPyConnection, staged: Path, feed: Feed, part: Part, delivery: Delivery, path: Path
) -> None:
    """Write the rows of the contract: mapped, hashed, dated and located. Needs the table `places`."""
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
    rows = source_rows(con, f"read_parquet({literal(str(staged))}, file_row_number = true)")
    content_hash = f"md5(concat_ws(chr(31), {', '.join(texts)}))"
    metadata = {
        "part": part.id,
        "sha": delivery.sha,
        "fingerprint": delivery.fingerprint,
        "delivered_at": delivery.delivered_at.isoformat(),
        "rows_in_file": str(delivery.rows_in_file),
        "fetch_id": delivery.fetch_id,
    }
    said = ", ".join(f"{key}: {literal(value)}" for key, value in metadata.items())
    con.execute(
        f"""
        copy (
            select {", ".join(selected)} from (select *, {content_hash} as content_hash from {rows}) s
            left join places p on s.x is not distinct from p.x and s.y is not distinct from p.y
        ) to {literal(str(path))} (format parquet, compression zstd, kv_metadata {{{said}}})
        """  # noqa: S608
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


def write_empty(lake: Lake) -> None:
    """Write a zero-row raw and quarantine file of every kind."""
    with duckdb.connect() as con:
        for kind in KINDS:
            empty = {
                lake.raw(kind, "_none", "_none"): _raw_columns(kind),
                lake.quarantine(kind, "_none", "_none"): QUARANTINE_COLUMNS,
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


def versions(lake: Lake, feed: Feed, part: Part) -> list[dict[str, Any]]:
    """Return what the raw files of a part say of themselves, oldest delivery first."""
    folder = lake.raw(feed.kind, feed.city, feed.id)
    found = []
    for path in folder.glob(f"{part.id}-*.parquet"):
        metadata = pq.read_metadata(path)
        said = {key.decode(): value.decode() for key, value in (metadata.metadata or {}).items()}
        # A part's id may begin another one's.
        if said.get("part") == part.id:
            found.append(
                {key: said[key] for key in ("sha", "fingerprint", "delivered_at", "rows_in_file")}
                | {"rows": metadata.num_rows}
            )
    return sorted(found, key=lambda version: version["delivered_at"])
