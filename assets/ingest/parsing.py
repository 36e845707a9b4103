"""From stored bytes of any format to staged rows with canonical names, all text; they land by landing.

Whatever the format, the steps are the same: count the records without DuckDB, let DuckDB read and map them,
and keep what it refuses with a reason. A source's column names reach SQL only quoted, its values never.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import duckdb

from assets.ingest import csv_records, geometries, json_records
from assets.ingest.feed import Feed
from assets.ingest.part import GEOMETRY_FORMATS, Part
from assets.ingest.receipts import DeliveryError
from assets.ingest.sql_expression import literal, quoted
from assets.ingest.unpacking import opened, shapefile_layer

#: DuckDB counts its buffers only; with Python, the libraries and what else it takes, a landing of 1.2 M rows
#: stays under 1 GB (`make bench`).
MEMORY_LIMIT = "400MB"
#: What one step frees is given back before the next one asks; as shipped, 150 MB more were held.
FREED_EARLY = {"allocator_flush_threshold": "16MB", "allocator_bulk_deallocation_flush_threshold": "32MB"}
GEOMETRY_KINDS = ("asset", "boundary")

#: Cannot occur in valid JSON, so that a line of JSON is one column; where it does occur the line is refused.
_RECORD_SEPARATOR = "chr(30)"
_LARGEST_DEFAULT_LINE = 2_000_000


@dataclass
class Staged:
    """Rows of one part in the fetch folder, before location and hash.

    Attributes:
        relation: SQL that gives the mapped canonical columns as text, `geometry` for areas and assets, and
            `source_row`, the number of the record in the source.
        rows_in_file: Records counted by another program than the one that read them.
        source_columns: What the source calls its columns.
    """

    relation: str
    rows_in_file: int
    source_columns: tuple[str, ...]
    notes: list[str] = field(default_factory=list)


def connect(folder: Path) -> duckdb.DuckDBPyConnection:
    """Return a DuckDB of its own for one delivery; what does not fit into memory spills into the folder."""
    con = duckdb.connect(
        config={
            "memory_limit": MEMORY_LIMIT,
            "temp_directory": str(folder / "spill"),
            **FREED_EARLY,
        }
    )
    # A text without a zone must mean the same on every machine.
    con.execute("set TimeZone = 'UTC'; set enable_progress_bar = false")
    return con


def stage(con: duckdb.DuckDBPyConnection, stored: Path, feed: Feed, part: Part, folder: Path) -> Staged:
    """Read stored bytes into staged.parquet, and what cannot be read into the table `rejects`.

    Args:
        con: The delivery's own connection; `rejects` (source_row, reason, detail, raw_record) is made in it.
        stored: The gzip file that landing keeps.
        feed: Says which canonical columns come from where.
        part: Says how its bytes are read.
        folder: The fetch folder.

    Raises:
        DeliveryError: The bytes are unusable, or lack a mapped column.
    """
    con.execute(
        "create or replace temp table rejects"
        " (source_row bigint, reason varchar, detail varchar, raw_record varchar)"
    )
    staged = folder / "staged.parquet"
    if part.format == "csv":
        with opened(stored, part, folder) as stream:
            records = csv_records.write_records(stream, part, folder)
        _stage_csv(con, records, feed, part, staged)
        return Staged(_numbered(con, staged), records.count, records.columns, records.notes)
    if part.format == "parquet":
        return _stage_parquet(con, stored, feed, part, folder, staged)
    if part.format == "shapefile":
        layer = shapefile_layer(stored, folder)
        source = folder / "source.parquet"
        rows = geometries.write_shapefile(layer, feed.crs_of(part), source)
        columns = _columns_of(con, f"read_parquet({_path(source)})")
        _copy_mapped(con, f"from read_parquet({_path(source)})", columns, feed, part, staged)
        return Staged(_numbered(con, staged), rows.count, columns, rows.notes)
    with opened(stored, part, folder) as stream:
        lines = json_records.write_records(stream, part, folder)
    columns = _stage_json(con, lines, feed, part, folder, staged)
    return Staged(_numbered(con, staged), lines.count, columns)


def _stage_csv(
    con: duckdb.DuckDBPyConnection, records: csv_records.CsvRecords, feed: Feed, part: Part, staged: Path
) -> None:
    is_parallel = True
    while True:
        relation = _read_csv(records.path, records.columns, part.delimiter, '"', records.longest, is_parallel)
        values = _unescaped(records.columns) if records.has_escapes else "*"
        _copy_mapped(con, f"select {values} from {relation}", records.columns, feed, part, staged)  # noqa: S608
        _take_rejects(con, has_escapes=records.has_escapes)
        con.execute(
            # What Python refused stands in the file as a record that DuckDB refuses too; Python knows why.
            f"""
            create or replace temp table explained as
            select r.source_row, coalesce(p.reason, r.reason) as reason,
                coalesce(p.detail, r.detail) as detail, coalesce(p.raw_record, r.raw_record) as raw_record
            from rejects r
            left join (
                select source_row, 'malformed_quotes' as reason, detail, raw_record
                from read_json({_path(records.rejects)}, format = 'newline_delimited', columns =
                    {{source_row: 'BIGINT', detail: 'VARCHAR', raw_record: 'VARCHAR'}},
                    maximum_object_size = {max(1 << 24, 8 * records.longest)})
            ) p using (source_row)
            """  # noqa: S608
        )
        con.execute("drop table rejects; alter table explained rename to rejects")
        read = con.execute(
            f"select (select count(*) from read_parquet({_path(staged)})) + (select count(*) from rejects)"  # noqa: S608
        ).fetchone()[0]
        # Threads guess where records begin in the middle of a file; a reader that starts at the top does not.
        if read == records.count or not is_parallel:
            return
        is_parallel = False
        con.execute("delete from rejects")


def _stage_json(
    con: duckdb.DuckDBPyConnection,
    lines: json_records.JsonRecords,
    feed: Feed,
    part: Part,
    folder: Path,
    staged: Path,
) -> tuple[str, ...]:
    relation = _read_csv(lines.path, ("line",), None, "", lines.longest, is_parallel=True)
    texts = folder / "lines.parquet"
    con.execute(f"copy (select line from {relation}) to {_path(texts)} (format parquet, compression snappy)")  # noqa: S608
    _take_rejects(con, has_escapes=False)
    con.execute("update rejects set reason = 'malformed_json'")
    con.execute("create or replace temp table unread as from rejects")
    shifted = source_rows(con, f"read_parquet({_path(texts)}, file_row_number = true)", "unread")
    is_geographic = part.format == "geojson"
    is_bad_geometry = "false"
    if is_geographic:
        geometries.write_geojson(con, texts, feed.crs_of(part), folder / "shapes.parquet")
        shifted = (
            f"(select l.*, s.geometry, s.geometry_x, s.geometry_y, s.is_bad from {shifted} l"  # noqa: S608
            f" join read_parquet({_path(folder / 'shapes.parquet')}, file_row_number = true) s"
            " using (file_row_number))"
        )
        is_bad_geometry = "is_bad"
    con.execute(
        f"""
        create or replace temp view judged as
        select *, case
            when not json_valid(line) then 'malformed_json'
            when json_type(line) <> 'OBJECT' then 'not_an_object'
            when {is_bad_geometry} then 'malformed_geometry'
        end as reason
        from {shifted}
        """  # noqa: S608
    )
    con.execute(
        "insert into rejects select source_row, reason, null, line from judged where reason is not null"
    )
    record = "json_extract(line, '/properties')" if is_geographic else "line::json"
    keys = con.execute(
        # First seen, first named.
        f"""
        select key
        from (select unnest(json_keys({record})) as key, source_row from judged where reason is null)
        group by key order by min(source_row), key
        """  # noqa: S608
    ).fetchall()
    keys = [key for (key,) in keys]
    columns = csv_records.unique_names(keys)
    pointers = ", ".join(literal("/" + key.replace("~", "~0").replace("/", "~1")) for key in keys)
    values = [f"v[{number}] as {quoted(name)}" for number, name in enumerate(columns, start=1)]
    if is_geographic:
        values += [
            f"{name} as {quoted(name)}"
            for name in ("geometry_x", "geometry_y", "geometry")
            if name not in {column.lower() for column in columns}
        ]
        columns = (*columns, "geometry_x", "geometry_y")
    extracted = f"json_extract_string({record}, [{pointers}])" if keys else "[]::varchar[]"
    # The join with the geometries forgets the order of the file, and source_row is counted in that order: the
    # last row of a key wins, so an order that differs by run is a record that differs by run.
    good = f"select *, {extracted} as v from judged where reason is null order by source_row"  # noqa: S608
    relation = f"select {', '.join(values) or '1'} from ({good})"  # noqa: S608
    _copy_mapped(con, relation, columns, feed, part, staged)
    return columns


def _stage_parquet(
    con: duckdb.DuckDBPyConnection, stored: Path, feed: Feed, part: Part, folder: Path, staged: Path
) -> Staged:
    import shutil

    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "source.parquet"
    with opened(stored, part, folder) as source, path.open("wb") as target:
        shutil.copyfileobj(source, target, csv_records.BLOCK_BYTES)
    try:
        count = pq.read_metadata(path).num_rows
        columns = _columns_of(con, f"read_parquet({_path(path)})")
    except (pa.ArrowInvalid, duckdb.Error):
        raise DeliveryError(
            "WrongFormat", "the file is no whole Parquet file; fetch it again, or correct `format`"
        ) from None
    values = ", ".join(f"cast({quoted(name)} as varchar) as {quoted(name)}" for name in columns)
    _copy_mapped(con, f"select {values} from read_parquet({_path(path)})", columns, feed, part, staged)  # noqa: S608
    return Staged(_numbered(con, staged), count, columns)


def _numbered(con: duckdb.DuckDBPyConnection, staged: Path) -> str:
    return source_rows(con, f"read_parquet({_path(staged)}, file_row_number = true)")


def source_rows(con: duckdb.DuckDBPyConnection, relation: str, rejects: str = "rejects") -> str:
    """Return a relation with `source_row`, the record number in the source, from its `file_row_number`.

    Rows that were read keep their order, so a row's record number is its rank plus the rejects before it.
    """
    if not con.execute(f"select 1 from {rejects} limit 1").fetchall():  # noqa: S608
        return f"(select *, file_row_number + 1 as source_row from {relation})"  # noqa: S608
    return f"""(
        select r.*, r.file_row_number + 1 + coalesce(b.rejects_before, 0) as source_row
        from {relation} r
        asof left join (
            select source_row - rank as rows_before, max(rank) as rejects_before
            from (select source_row, row_number() over (order by source_row) as rank from {rejects})
            group by rows_before
        ) b on r.file_row_number >= b.rows_before
    )"""  # noqa: S608


def _copy_mapped(
    con: duckdb.DuckDBPyConnection,
    relation: str,
    columns: Sequence[str],
    feed: Feed,
    part: Part,
    staged: Path,
) -> None:
    _refuse_missing_columns(columns, feed, part)
    write_mapped(con, relation, mapped_select(feed, part), staged)


def write_mapped(
    con: duckdb.DuckDBPyConnection, relation: str, selected: Sequence[str], target: Path
) -> None:
    """Write select items over a relation as Parquet.

    Raises:
        DeliveryError: A declared expression does not fit the values.
    """
    try:
        con.execute(
            f"copy (select {', '.join(selected)} from ({relation})) to {_path(target)}"  # noqa: S608
            " (format parquet, compression snappy)"
        )
    except (duckdb.ConversionException, duckdb.BinderException, duckdb.InvalidInputException) as error:
        reason = str(error).splitlines()[0][:300]
        raise DeliveryError(
            "MappingFailed",
            f"the declared expressions do not fit the records ({reason}); use try_cast in `columns`",
            "blocked",
        ) from None


def mapped_select(feed: Feed, part: Part, names: Sequence[str] | None = None) -> list[str]:
    """Return the select items that give the canonical columns of a part from its source columns.

    Args:
        feed: Gives the mapping.
        part: Of the feed.
        names: The canonical columns wanted; nothing: all that are mapped, and of places the geometry.
    """
    # x and y are there in any case: rows without them are located too, as missing.
    mapping = {"x": "null::varchar", "y": "null::varchar"} | feed.mapping(part)
    selected = [
        f"{expression} as {quoted(name)}"
        for name, expression in mapping.items()
        if names is None or name in names
    ]
    if names is None and feed.kind in GEOMETRY_KINDS:
        selected.append("geometry" if part.format in GEOMETRY_FORMATS else "null::blob as geometry")
    return selected


def _refuse_missing_columns(columns: Sequence[str], feed: Feed, part: Part) -> None:
    there = {name.lower() for name in columns}
    wanted = {
        name: canonical
        for canonical, source in feed.sources(part).items()
        for name in source.columns()
        if name.lower() not in there
    }
    if not wanted:
        return
    missing = ", ".join(f"{name!r} (for {canonical})" for name, canonical in list(wanted.items())[:6])
    close = [hit for name in wanted for hit in get_close_matches(name, columns, n=1)]
    hint = f"near: {', '.join(map(repr, close[:4]))}; " if close else ""
    raise DeliveryError(
        "MissingColumns",
        f"the file lacks the mapped column{'s' if len(wanted) > 1 else ''} {missing}; {hint}"
        f"it has {', '.join(columns[:12])}{', …' if len(columns) > 12 else ''}; "
        "it is another feed's file, or the source renamed columns: correct `source` or `columns`",
        "blocked",
    )


def _read_csv(
    path: Path,
    columns: Sequence[str],
    delimiter: str | None,
    quote: str,
    longest: int,
    is_parallel: bool,
) -> str:
    types = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in columns)
    delimiter_sql = _RECORD_SEPARATOR if delimiter is None else literal(delimiter)
    # A character has up to four bytes.
    line = max(_LARGEST_DEFAULT_LINE, 4 * longest + 16)
    return (
        f"read_csv({_path(path)}, auto_detect = false, header = false, strict_mode = true,"
        " null_padding = false,"
        f" delim = {delimiter_sql}, quote = {literal(quote)}, escape = {literal(quote)},"
        f" columns = {{{types}}},"
        f" store_rejects = true, parallel = {str(is_parallel).lower()}, max_line_size = {line},"
        f" buffer_size = {max(16 * _LARGEST_DEFAULT_LINE, 2 * line)})"
    )


def _take_rejects(con: duckdb.DuckDBPyConnection, *, has_escapes: bool) -> None:
    """Move what read_csv refused into `rejects`; one record may have several errors, the first one counts."""
    raw_record = "trim(any_value(csv_line), chr(10) || chr(13))"
    if has_escapes:
        raw_record = _unescape(raw_record)
    con.execute(
        f"""
        insert into rejects
        select line, lower(replace(arg_min(error_type::varchar, coalesce(column_idx, 0)), ' ', '_')),
            arg_min(error_message, coalesce(column_idx, 0)), {raw_record}
        from reject_errors group by line
        """  # noqa: S608
    )
    con.execute("drop table reject_errors; drop table reject_scans")


def _unescaped(columns: Sequence[str]) -> str:
    return ", ".join(f"{_unescape(quoted(name))} as {quoted(name)}" for name in columns)


def _unescape(expression: str) -> str:
    mark = csv_records.ESCAPE
    return f"replace(replace({expression}, '{mark}r', chr(13)), '{mark}d', '{mark}')"


def _columns_of(con: duckdb.DuckDBPyConnection, relation: str) -> tuple[str, ...]:
    described = con.execute(f"describe select * from {relation}").fetchall()  # noqa: S608
    return tuple(row[0] for row in described if row[0] != "geometry")


def _path(path: Path) -> str:
    return literal(str(path))
