"""What `citysignal check` finds without fetching: wrong declarations, absent files, absent columns."""

import csv
import io
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from assets.ingest.declaration_text import Problem
from assets.ingest.feed import Feed, read_cities
from assets.ingest.packed import PackingError, content_of, geometry_path
from assets.ingest.part import GEOMETRY_FORMATS, Part


class _UnreadableError(Exception):
    """A file whose columns cannot be told; the message is `<what is wrong>; <remedy>`."""


def check_cities(folders: Sequence[Path], variables: Mapping[str, str]) -> list[Problem]:
    """Return everything that is wrong with the declarations of some folders and the local files they name.

    Args:
        folders: Folders that hold `<city>/_city.yaml`; later ones replace a city of the same name.
        variables: What `${NAME}` in a part's source stands for.
    """
    cities, problems = read_cities(folders, variables)
    for city in cities.values():
        for feed in city.feeds.values():
            for index, part in enumerate(feed.parts):
                # A simulated city's files are made by the run that first reads them.
                is_made_later = city.is_simulated and not Path(part.source).exists()
                if not (part.is_remote or is_made_later):
                    found = _part_problems(feed, index, part)
                    problems += [Problem(str(feed.file), key, message) for key, message in found]
    return problems


def _part_problems(feed: Feed, index: int, part: Part) -> Iterator[tuple[str, str]]:
    path = Path(part.source)
    if not path.is_file():
        yield f"parts[{index}].source", f"file not found: {path}; put it there or correct the source"
        return
    try:
        there = _columns_of(path, part)
    except _UnreadableError as error:
        yield f"parts[{index}].source", f"{path.name} {error}"
        return
    # DuckDB, and so landing, takes names that differ in case only for one column.
    counts = Counter(name.lower() for name in there)
    for canonical, source in feed.sources(part).items():
        key = f"parts[{index}].columns" if canonical in part.columns else "columns"
        for name in source.columns():
            if name.lower() not in counts:
                yield f"{key}.{canonical}", _absent(name, path, there)
            elif (count := counts[name.lower()]) > 1:
                said = f"{path.name} has {count} columns named {name!r}"
                yield f"{key}.{canonical}", f"{said}; name them all apart with `header:`"


def _absent(name: str, path: Path, there: Sequence[str]) -> str:
    by_plain = {known.casefold().strip(): known for known in there}
    close = get_close_matches(name.casefold().strip(), by_plain, n=1)
    hint = f"did you mean {by_plain[close[0]]!r}? " if close else ""
    return f"{path.name} has no column {name!r}; {hint}it has {', '.join(map(repr, there))}"


def _columns_of(path: Path, part: Part) -> Sequence[str]:
    """Return the source columns of a local part, reading no more than its header where the format has one."""
    try:
        if part.format == "csv":
            return _csv_header(path, part)
        if part.format in GEOMETRY_FORMATS:
            return (*_geometry_fields(path, part), "geometry_x", "geometry_y")
        if part.format == "parquet":
            import pyarrow.parquet as pq

            return pq.read_schema(path).names
        return _json_keys(path)
    except PackingError as error:
        raise _UnreadableError(str(error)) from None
    except (OSError, EOFError, csv.Error, zipfile.BadZipFile, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _UnreadableError(f"cannot be read as {part.format} ({reason}); correct `format:`") from None


def _csv_header(path: Path, part: Part) -> Sequence[str]:
    encodings = [part.encoding] if part.encoding else ["utf-8-sig", "windows-1252"]
    for encoding in encodings:
        try:
            with (
                content_of(path) as content,
                io.TextIOWrapper(content, encoding=encoding, newline="") as text,
            ):
                for _ in range(part.skip_rows):
                    next(text, None)
                header = next(csv.reader(text, delimiter=part.delimiter), [])
            break
        except UnicodeDecodeError:
            continue
        except LookupError:
            raise _UnreadableError(f"has no known encoding {encoding!r}; correct `encoding:`") from None
    else:
        raise _UnreadableError(f"is not written in {' or '.join(encodings)}; set `encoding:`")
    if part.header is None:
        return header
    if len(header) != len(part.header):
        said = f"has {len(header)} columns where `header:` names {len(part.header)}"
        raise _UnreadableError(f"{said}; name each of {', '.join(map(repr, header))}")
    return part.header


def _geometry_fields(path: Path, part: Part) -> Sequence[str]:
    import pyogrio

    readable = geometry_path(path)
    if part.format == "shapefile" and not readable.startswith("/vsizip/"):
        raise _UnreadableError("is no zip; pack the shapefile's files into one")
    try:
        return list(pyogrio.read_info(readable)["fields"])
    except pyogrio.errors.DataSourceError as error:
        raise _UnreadableError(f"holds no geometries that can be read ({error}); correct `format:`") from None


def _json_keys(path: Path) -> Sequence[str]:
    import duckdb

    # The sampled records only; keys that are rarer than that would not be a column to map either.
    try:
        with duckdb.connect() as con:
            relation = con.execute("describe select * from read_json(?, maximum_depth = 1)", [str(path)])
            return [row[0] for row in relation.fetchall()]
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise _UnreadableError(f"holds no records that can be read ({reason}); correct `format:`") from None
