"""CSV as cities write it becomes CSV that DuckDB reads exactly, counted on the way; typing belongs to dbt.

The pass exists because DuckDB 1.5.5 loses rows, in silence or with "invalid state", where carriage returns
meet quotes (a third of random tables with both), and because a count is only worth checking when another
program made it. Only lines with a quote in them are looked into: counting the 128 MB of Chicago's permits
takes 0.2 s so, and 1.1 s with csv.reader over all lines.
"""

import codecs
import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import BinaryIO, TextIO

from assets.ingest.part import Part
from assets.ingest.receipts import DeliveryError

#: What a record may hold at most; a quote that opens and never closes would otherwise swallow the file.
LARGEST_RECORD = 32 << 20
BLOCK_BYTES = 1 << 20

#: Stands for a carriage return inside a value, which DuckDB's reader would take for the end of a record.
ESCAPE = "\ufdd0"
#: DuckDB drops one byte order mark at the start of a file, also where it belongs to the first value.
BOM = "\ufeff"

# Windows-1252 as browsers read it: its five unassigned bytes are control characters, so that no byte is lost.
_WINDOWS_1252 = "".join(bytes([i]).decode("cp1252", "ignore") or chr(i) for i in range(256))


@dataclass
class CsvRecords:
    """A CSV file made plain: UTF-8, records end in a bare line feed, no header, no blank line.

    Attributes:
        path: The plain file; record n of it is record n of the source.
        rejects: JSON lines of the records that no CSV reader understands; the plain file has a stand-in of
            too many columns in their place, so that record numbers hold.
        columns: Source column names, unique without regard to case.
        count: Records of the source.
        longest: Characters of the longest record.
        has_escapes: Whether values hold ESCAPE sequences.
        fallback_lines: Lines that are not UTF-8 and were read as windows-1252.
    """

    path: Path
    rejects: Path
    columns: tuple[str, ...] = ()
    count: int = 0
    longest: int = 0
    has_escapes: bool = False
    fallback_lines: int = 0
    notes: list[str] = field(default_factory=list)


def write_records(stream: BinaryIO, part: Part, folder: Path) -> CsvRecords:
    """Read a CSV stream once and write it plain.

    Args:
        stream: The source's bytes, out of gzip.
        part: Says encoding, delimiter, lines to skip, and the header where the source's own is wrong.
        folder: Where to write.

    Raises:
        DeliveryError: There is no header, or the bytes are not in the declared encoding.
    """
    records = CsvRecords(folder / "records.csv", folder / "rejected.jsonl")
    csv.field_size_limit(max(csv.field_size_limit(), LARGEST_RECORD))
    try:
        lines = _lines(stream, part, records)
        for _ in range(part.skip_rows):
            next(lines, None)
        records.columns = _header(lines, part)
        # Cells with text: DuckDB overlooks superfluous cells at the end of a record that are empty.
        stand_in = part.delimiter.join("x" * (len(records.columns) + 1)) + "\n"
        with (
            records.path.open("w", encoding="utf-8", newline="\n") as plain,
            records.rejects.open("w", encoding="utf-8") as rejects,
        ):
            plain.write(BOM)
            _write_all(lines, part.delimiter, stand_in, plain, rejects, records)
    except (UnicodeError, LookupError) as error:
        reason = error.reason if isinstance(error, UnicodeDecodeError) else str(error)
        raise DeliveryError(
            "WrongEncoding",
            f"the file is not {part.encoding or 'UTF-8'} throughout ({reason}); correct or remove `encoding`",
        ) from None
    if records.fallback_lines:
        records.notes.append(f"{records.fallback_lines} lines are not UTF-8; they were read as windows-1252")
    return records


def _write_all(
    lines: Iterator[str],
    delimiter: str,
    stand_in: str,
    plain: TextIO,
    rejects: TextIO,
    records: CsvRecords,
) -> None:
    count = longest = 0
    pushed_back: list[str] = []
    while True:
        line = pushed_back.pop() if pushed_back else next(lines, None)
        if line is None:
            break
        if '"' in line:
            taken, trouble = _quoted_record(line, lines, pushed_back, delimiter)
            if trouble:
                # Only the first line is given up: a stray quote must not take its neighbours along.
                count += 1
                plain.write(stand_in)
                reject = {"source_row": count, "detail": trouble, "raw_record": line.rstrip("\r\n")}
                rejects.write(json.dumps(reject) + "\n")
                pushed_back.extend(reversed(taken[1:]))
                continue
            line = "".join(taken)
        if line.endswith("\r\n"):
            line = line[:-2] + "\n"
        elif not line.endswith("\n"):
            line += "\n"
        if line == "\n":
            continue
        if "\r" in line or ESCAPE in line:
            records.has_escapes = True
            line = line.replace(ESCAPE, ESCAPE + "d").replace("\r", ESCAPE + "r")
        count += 1
        if len(line) > longest:
            longest = len(line)
        plain.write(line)
    records.count, records.longest = count, longest


def _quoted_record(
    line: str, lines: Iterator[str], pushed_back: list[str], delimiter: str
) -> tuple[list[str], str | None]:
    """Return the lines of the record that begins with a line, and what is wrong with its quotes."""
    taken: list[str] = []
    size = 0

    def feed() -> Iterator[str]:
        nonlocal size
        following = chain(
            (line,), iter(lambda: pushed_back.pop() if pushed_back else next(lines, None), None)
        )
        for each in following:
            taken.append(each)
            size += len(each)
            if size > LARGEST_RECORD:
                raise csv.Error("unexpected end of data")
            # csv.reader refuses a bare carriage return outside quotes; here it is a character like others.
            yield each.rstrip("\r\n").replace("\r", " ") + "\n"

    try:
        next(csv.reader(feed(), delimiter=delimiter, strict=True))
    except csv.Error as error:
        if "unexpected end" in str(error):
            return taken, "a quote opens and never closes"
        return taken, "text follows a closing quote"
    return taken, None


def _header(lines: Iterator[str], part: Part) -> tuple[str, ...]:
    line = next((line for line in lines if line.strip("\r\n")), None)
    if line is None:
        raise DeliveryError("EmptyFile", "the file has no header line; ask the publisher for a whole copy")
    taken, trouble = _quoted_record(line, lines, [], part.delimiter) if '"' in line else ([line], None)
    if trouble:
        raise DeliveryError("BrokenHeader", f"the header line is broken ({trouble}); ask for a whole copy")
    if part.header is not None:
        return unique_names(part.header)
    text = "".join(taken).rstrip("\r\n")
    return unique_names(next(csv.reader(io.StringIO(text, newline=""), delimiter=part.delimiter)))


def unique_names(names: Iterator[str] | list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """Return column names that differ also for an engine blind to case; the first of a name keeps it."""
    seen: dict[str, str] = {}
    for position, name in enumerate(names):
        wanted = name.replace("\x00", "") or f"column{position}"
        unique, number = wanted, 0
        while unique.lower() in seen:
            number += 1
            unique = f"{wanted}_{number}"
        seen[unique.lower()] = unique
    return tuple(seen.values())


def _lines(stream: BinaryIO, part: Part, records: CsvRecords) -> Iterator[str]:
    """Yield the lines of a stream, cut only after line feeds."""
    head = stream.peek(4)[:4]
    encoding = part.encoding
    if encoding is None and head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    if encoding is None or codecs.lookup(encoding).name == "utf-8":
        blocks = _utf8_blocks(stream, records, is_strict=encoding is not None)
    else:
        blocks = iter(io.TextIOWrapper(stream, encoding, newline="\n"))
    first = next(blocks, "").removeprefix(BOM)
    return chain.from_iterable(io.StringIO(block, newline="\n") for block in chain((first,), blocks))


def _utf8_blocks(stream: BinaryIO, records: CsvRecords, *, is_strict: bool) -> Iterator[str]:
    rest = b""
    has_bare_returns: bool | None = None
    while block := stream.read(BLOCK_BYTES):
        if has_bare_returns is None:
            # Lines that end in a carriage return alone: old Macintosh, still written by spreadsheets.
            has_bare_returns = b"\n" not in block and b"\r" in block
        if has_bare_returns:
            block = block.replace(b"\r", b"\n")
        block = rest + block
        end = block.rfind(b"\n") + 1
        rest = block[end:]
        if end:
            yield _decoded(block[:end], records, is_strict=is_strict)
        elif len(rest) > LARGEST_RECORD:
            raise DeliveryError("NoLines", "the file has a line of over 32 MiB; correct `format`")
    if rest:
        yield _decoded(rest, records, is_strict=is_strict)


def _decoded(block: bytes, records: CsvRecords, *, is_strict: bool) -> str:
    try:
        return block.decode("utf-8")
    except UnicodeDecodeError:
        if is_strict:
            raise
    # Line by line, because exports that were glued together mix both encodings.
    texts = []
    for line in io.BytesIO(block):
        try:
            texts.append(line.decode("utf-8"))
        except UnicodeDecodeError:
            records.fallback_lines += 1
            texts.append(codecs.charmap_decode(line, "strict", _WINDOWS_1252)[0])
    return "".join(texts)
