"""Pages of a portal become staged rows with canonical names, all text; files are parsing's.

DuckDB reads the bodies as they lie on disk, some fifty thousand records at a time, so that a page is read
while the next one is fetched and no feed is ever in memory.
"""

import gzip
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import duckdb

from assets.ingest import geometries
from assets.ingest.feed import Feed
from assets.ingest.parsing import Staged, mapped_select, write_mapped
from assets.ingest.part import Part
from assets.ingest.portals.pages_on_disk import StoredPage
from assets.ingest.receipts import DeliveryError
from assets.ingest.sql_expression import literal, quoted

#: Records of one piece; fewer mean more pieces, more mean more memory.
PIECE_ROWS = 40_000
#: DuckDB takes twice as much memory for its buffer at once, in each of its threads.
_LARGEST_RECORD = 1 << 25
#: Records are small; a page with a larger one is read the long way.
_LARGEST_FLAT_RECORD = 1 << 22
#: The first step of a JSON path that leads into an envelope, and the steps after it.
_INTO_ENVELOPE = re.compile(r'\$\.(?:"((?:[^"\\]|\\.)*)"|([A-Za-z_][A-Za-z0-9_]*))(.*)')


@dataclass
class _Pieces:
    """What was staged so far."""

    paths: list[Path] = field(default_factory=list)
    rows: int = 0
    columns: dict[str, None] = field(default_factory=dict)


def stage_pages(
    con: duckdb.DuckDBPyConnection,
    pages: Iterable[StoredPage],
    source: Path,
    feed: Feed,
    part: Part,
    folder: Path,
    *,
    known_columns: Sequence[str] = (),
    names: Sequence[str] | None = None,
) -> Staged:
    """Stage the records of pages, in their order, and what is no record into the table `rejects`.

    Args:
        con: The delivery's own connection; `rejects` (source_row, reason, detail, raw_record) is made in it.
        pages: May still be arriving.
        source: Folder in which the pages lie.
        feed: Says which canonical columns come from where.
        part: Says what its portal's records look like.
        folder: Where to put the pieces.
        known_columns: Source columns that the portal told; without them they are read from the records.
        names: The canonical columns to stage; nothing: all that are mapped.

    Raises:
        DeliveryError: A page cannot be read, or its records do not fit the mapping.
    """
    con.execute(
        "create or replace temp table rejects"
        " (source_row bigint, reason varchar, detail varchar, raw_record varchar)"
    )
    pieces = _Pieces(columns=dict.fromkeys(known_columns))
    selected = [*mapped_select(feed, part, names), "source_row"]
    for batch in _batches(pages):
        columns = _stage_batch(con, batch, source, feed, part, folder, pieces, list(known_columns), selected)
        pieces.columns |= dict.fromkeys(columns)
        pieces.rows += sum(page.rows for page in batch)
    if not pieces.paths:
        empty = folder / "piece-00000.parquet"
        needed = ", ".join(f"null::varchar as {quoted(name)}" for name in _needed(feed, part))
        extra = ", null::blob as geometry" if part.format == "geojson" else ""
        write_mapped(con, f"select {needed}, 0 as source_row{extra} limit 0", selected, empty)
        pieces.paths.append(empty)
    listed = ", ".join(literal(str(path)) for path in pieces.paths)
    return Staged(f"(select * from read_parquet([{listed}]))", pieces.rows, tuple(pieces.columns))  # noqa: S608


def _batches(pages: Iterable[StoredPage]) -> Iterator[list[StoredPage]]:
    batch: list[StoredPage] = []
    for page in pages:
        if batch and (page.records, page.content) != (batch[0].records, batch[0].content):
            yield batch
            batch = []
        batch.append(page)
        if sum(each.rows for each in batch) >= PIECE_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _needed(feed: Feed, part: Part) -> list[str]:
    """Return the source columns that the mapping names, each once."""
    names = [name for source in feed.sources(part).values() for name in source.columns()]
    return list({name.lower(): name for name in names}.values())


def _stage_batch(
    con: duckdb.DuckDBPyConnection,
    batch: list[StoredPage],
    source: Path,
    feed: Feed,
    part: Part,
    folder: Path,
    pieces: _Pieces,
    known_columns: list[str],
    selected: Sequence[str],
) -> Sequence[str]:
    batch = [page for page in batch if page.rows]
    if not batch:
        return ()
    piece = folder / f"piece-{len(pieces.paths) + 1:05d}.parquet"
    pieces.paths.append(piece)
    first = batch[0]
    files = [source / page.file for page in batch]
    if first.content == "xml":
        files = [_json_of_xml(file, first.records, folder / f"{file.stem}.json") for file in files]
    is_flat = first.content == "json" and first.records == "$[*]"
    if known_columns and is_flat and len(batch) == 1:
        relation = _flat(files[0], _needed(feed, part), pieces.rows)
        try:
            write_mapped(con, relation, selected, piece)
        except DeliveryError:
            # One element is no object, which the long way sets aside with the reason; or a large one.
            piece.unlink(missing_ok=True)
        else:
            return ()
    path = "$[*]" if first.content == "xml" else first.records
    _read_records(con, files, path, max(page.size_bytes for page in batch), pieces.rows)
    columns = [] if known_columns else _keys(con, _values_at(feed, part, first.content))
    relation = _extracted(con, feed, part, folder, len(pieces.paths), first.content)
    write_mapped(con, relation, selected, piece)
    con.execute("drop table page_records")
    return columns


def _flat(file: Path, needed: Sequence[str], before: int) -> str:
    spec = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in needed)
    return (
        f"select *, row_number() over () + {before} as source_row"  # noqa: S608
        f" from read_json({literal(str(file))}, format = 'array', columns = {{{spec}}},"
        f" maximum_object_size = {_LARGEST_FLAT_RECORD})"
    )


def _read_records(
    con: duckdb.DuckDBPyConnection, files: Sequence[Path], path: str, largest: int, before: int
) -> None:
    """Make the table page_records (source_row, record); what is no object goes to `rejects`."""
    envelope = _INTO_ENVELOPE.fullmatch(path)
    listed = ", ".join(literal(str(file)) for file in files)
    if envelope is not None:
        # An envelope is one object: all of it has to fit into the reader's buffer.
        escaped, plain, rest = envelope.groups()
        key = plain or re.sub(r"\\(.)", r"\1", escaped)
        records = f"""
            select page, unnest(records) as record, generate_subscripts(records, 1) as place
            from (
                select row_number() over () as page,
                    json_extract({quoted(key)}, {literal(f"${rest}")}) as records
                from read_json([{listed}], columns = {{{literal(key)}: 'JSON'}}, format = 'unstructured',
                    records = 'true', maximum_object_size = {max(largest, _LARGEST_RECORD)})
            )
        """  # noqa: S608
    else:
        records = f"""
            select 1 as page, json as record, row_number() over () as place
            from read_json([{listed}], columns = {{json: 'JSON'}}, format = 'array', records = 'false',
                maximum_object_size = {_LARGEST_RECORD})
        """  # noqa: S608
    con.execute(
        f"""
        create or replace temp table page_records as
        select row_number() over (order by page, place) + {before} as source_row, record from ({records})
        """  # noqa: S608
    )
    con.execute(
        """
        insert into rejects
        select source_row, 'not_an_object', null, record::varchar
        from page_records where record is null or json_type(record) <> 'OBJECT'
        """
    )
    con.execute("delete from page_records where record is null or json_type(record) <> 'OBJECT'")


def _values_at(feed: Feed, part: Part, content: str) -> str:
    """Return the JSON pointer under which a record keeps its columns."""
    if content == "geojson" or part.format == "geojson":
        return "/properties"
    return "/attributes" if feed.portal_of(part) == "arcgis" else ""


def _keys(con: duckdb.DuckDBPyConnection, at: str) -> list[str]:
    record = f"json_extract(record, {literal(at)})" if at else "record"
    found = con.execute(
        f"""
        select key from (select unnest(json_keys({record})) as key, source_row from page_records)
        group by key order by min(source_row), key
        """  # noqa: S608
    ).fetchall()
    return [key for (key,) in found]


def _extracted(
    con: duckdb.DuckDBPyConnection, feed: Feed, part: Part, folder: Path, number: int, content: str
) -> str:
    """Return the relation that gives the needed source columns of page_records as text."""
    needed = _needed(feed, part)
    at = _values_at(feed, part, content)
    pointers = []
    for name in needed:
        if (
            feed.portal_of(part) == "arcgis"
            and part.format != "geojson"
            and name in ("geometry_x", "geometry_y")
        ):
            pointers.append(f"/geometry/{name[-1]}")
        else:
            pointers.append(f"{at}/" + name.replace("~", "~0").replace("/", "~1"))
    listed = ", ".join(map(literal, pointers))
    shapes = ""
    taken = needed
    if content == "geojson":
        taken = [name for name in needed if name not in ("geometry_x", "geometry_y")]
        listed = ", ".join(literal(p) for p, name in zip(pointers, needed, strict=True) if name in taken)
        lines, shape = folder / f"lines-{number}.parquet", folder / f"shapes-{number}.parquet"
        con.execute(
            "copy (select record::varchar as line, source_row from page_records order by source_row)"  # noqa: S608
            f" to {literal(str(lines))} (format parquet)"
        )
        geometries.write_geojson(con, lines, feed.crs_of(part), shape)
        con.execute(
            f"""
            create or replace temp table page_shapes as
            select l.source_row, s.geometry, s.geometry_x, s.geometry_y, s.is_bad
            from read_parquet({literal(str(lines))}, file_row_number = true) l
            join read_parquet({literal(str(shape))}, file_row_number = true) s using (file_row_number)
            """  # noqa: S608
        )
        con.execute(
            "insert into rejects select source_row, 'malformed_geometry', null, record::varchar"
            " from page_records join page_shapes using (source_row) where is_bad"
        )
        con.execute(
            "delete from page_records where source_row in (select source_row from page_shapes where is_bad)"
        )
        shapes = " join page_shapes using (source_row)"
    values = [f"v[{number}] as {quoted(name)}" for number, name in enumerate(taken, start=1)]
    if content == "geojson":
        values += ["geometry", "geometry_x", "geometry_y"]
    extract = f"json_extract_string(record, [{listed}])" if taken else "[]::varchar[]"
    return (
        f"select {', '.join([*values, 'source_row'])}"  # noqa: S608
        f" from (select *, {extract} as v from page_records{shapes}) order by source_row"
    )


def _json_of_xml(file: Path, tag: str, target: Path) -> Path:
    """Write the records of an Open311 XML page as a JSON array; such pages hold a thousand at most."""
    with gzip.open(file, "rb") as stream:
        body = stream.read()
    if b"<!DOCTYPE" in body[:2000].upper():
        raise DeliveryError(
            "WrongFormat", "the XML declares a document type, which no portal needs; it is not read"
        )
    try:
        root = ElementTree.fromstring(body)  # noqa: S314  without a document type there are no entities
    except ElementTree.ParseError as error:
        raise DeliveryError("BrokenAnswer", f"the XML is broken ({error}); fetch again") from None
    records = [
        {_local(child.tag): (child.text or "").strip() or None for child in record}
        for record in root.iter()
        if _local(record.tag) == tag
    ]
    target.write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
    return target


def _local(tag: str) -> str:
    """Return an element's name without its namespace."""
    return tag.rpartition("}")[2]
