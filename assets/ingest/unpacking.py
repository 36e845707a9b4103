"""From stored bytes to a readable stream, out of gzip and zip; what is plainly another format is refused."""

import gzip
import io
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from assets.ingest.part import Part
from assets.ingest.receipts import DeliveryError

CHUNK_BYTES = 1 << 20
#: A zip that says it unpacks to more than this is refused: no city file is that large, zip bombs are.
LARGEST_UNPACKED_BYTES = 32 << 30

_ZIP_MAGIC = b"PK\x03\x04"
_SHAPEFILE_MEMBERS = (".shp", ".dbf", ".shx", ".prj", ".cpg")
_MARKUP = re.compile(rb"\s*<[!?a-zA-Z]")
_TEXT_FORMATS = ("csv", "json", "jsonl", "geojson")
_OTHER_FORMATS = ((_ZIP_MAGIC, "a zip or Excel file"), (b"%PDF", "a PDF"), (b"PAR1", "a Parquet file"))


@contextmanager
def opened(stored: Path, part: Part, folder: Path) -> Iterator[BinaryIO]:
    """Open stored bytes as a stream of what the source says, out of gzip and out of a zip of one member.

    Args:
        stored: The gzip file that landing keeps.
        part: Says which format the bytes should have.
        folder: Where a zip is laid down while it is read.

    Raises:
        DeliveryError: The bytes are cut, empty, or plainly something else (also while they are read).
    """
    try:
        with _unpacked(stored, part, folder) as stream:
            buffered = io.BufferedReader(stream, CHUNK_BYTES)
            _refuse_other_formats(buffered.peek(4096)[:4096], part)
            yield buffered
    except (EOFError, gzip.BadGzipFile, zlib.error, zipfile.BadZipFile) as error:
        raise DeliveryError(
            "TruncatedFile",
            f"the file is cut or damaged ({error}); fetch it again, or ask the publisher for a whole copy",
        ) from None


@contextmanager
def _unpacked(stored: Path, part: Part, folder: Path) -> Iterator[BinaryIO]:
    with gzip.open(stored, "rb") as stream:
        if part.format == "parquet" or not _starts_with_zip(stream):
            yield stream
            return
    with _zip(stored, folder) as archive:
        found = [
            member
            for member in _safe_members(archive)
            if PurePosixPath(member.filename).suffix.lower() in (f".{part.format}", ".txt", ".tsv")
        ]
        if len(found) != 1:
            raise DeliveryError(
                "WrongZip",
                f"the zip holds {len(found)} {part.format} files where one is expected; "
                "declare the file inside as the source",
            )
        with archive.open(found[0]) as stream:
            yield stream


def shapefile_layer(stored: Path, folder: Path) -> Path:
    """Lay the one shapefile of a stored zip down under names of our own, and return its .shp.

    Raises:
        DeliveryError: There is no zip, not exactly one .shp, or a member that points out of the zip.
    """
    try:
        with gzip.open(stored, "rb") as stream:
            is_zip = _starts_with_zip(stream)
        if not is_zip:
            raise DeliveryError("WrongFormat", "the file is no zip; declare a zipped shapefile")
        with _zip(stored, folder) as archive:
            members = _safe_members(archive)
            layers = [m for m in members if PurePosixPath(m.filename).suffix.lower() == ".shp"]
            if len(layers) != 1:
                raise DeliveryError(
                    "WrongZip",
                    f"the zip holds {len(layers)} .shp files where one is expected; "
                    "declare a zip with exactly one shapefile",
                )
            stem = PurePosixPath(layers[0].filename).with_suffix("").as_posix().lower()
            for member in members:
                path = PurePosixPath(member.filename)
                suffix = path.suffix.lower()
                if suffix in _SHAPEFILE_MEMBERS and path.with_suffix("").as_posix().lower() == stem:
                    with archive.open(member) as source, (folder / f"layer{suffix}").open("wb") as target:
                        shutil.copyfileobj(source, target, CHUNK_BYTES)
    except (EOFError, gzip.BadGzipFile, zlib.error, zipfile.BadZipFile) as error:
        raise DeliveryError(
            "TruncatedFile",
            f"the file is cut or damaged ({error}); fetch it again, or ask the publisher for a whole copy",
        ) from None
    if missing := [s for s in (".dbf", ".shx") if not (folder / f"layer{s}").is_file()]:
        raise DeliveryError(
            "WrongZip", f"the zip lacks the shapefile's {' and '.join(missing)}; ask for the whole shapefile"
        )
    return folder / "layer.shp"


def _starts_with_zip(stream: gzip.GzipFile) -> bool:
    head = stream.read(4)
    stream.seek(0)
    return head == _ZIP_MAGIC


@contextmanager
def _zip(stored: Path, folder: Path) -> Iterator[zipfile.ZipFile]:
    # A zip's index is at its end, so it cannot be read as a stream.
    path = folder / "archive.zip"
    with gzip.open(stored, "rb") as source, path.open("wb") as target:
        shutil.copyfileobj(source, target, CHUNK_BYTES)
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    finally:
        path.unlink()


def _safe_members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    members = [member for member in archive.infolist() if not member.is_dir()]
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
            raise DeliveryError(
                "UnsafeZip",
                f"the zip member {member.filename!r} points out of the zip; ask for a clean one",
            )
    if sum(member.file_size for member in members) > LARGEST_UNPACKED_BYTES:
        raise DeliveryError(
            "UnsafeZip", "the zip unpacks to over 32 GiB; do not use this file, ask the publisher"
        )
    # macOS puts a shadow of every file beside it.
    return [m for m in members if "__MACOSX" not in PurePosixPath(m.filename).parts]


def _refuse_other_formats(head: bytes, part: Part) -> None:
    if not head:
        raise DeliveryError(
            "EmptyFile", "the file is empty; ask the publisher, or wait for the next delivery"
        )
    if part.format not in _TEXT_FORMATS:
        return
    for magic, name in _OTHER_FORMATS:
        if head.startswith(magic):
            raise DeliveryError(
                "WrongFormat", f"the file is {name}, not {part.format}; correct `source` or `format`"
            )
    if is_markup(head):
        raise DeliveryError(
            "HtmlInsteadOfData",
            f"the file is a web page, not {part.format} (it begins {head[:40].decode('latin-1').strip()!r}); "
            "the portal probably showed an error or a login: open the address in a browser",
        )
    if part.format == "csv" and head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b'[{"')):
        raise DeliveryError(
            "WrongFormat",
            f"the file is JSON, not csv (it begins {head[:60].decode('utf-8', 'replace').strip()!r}); "
            "the portal probably answered with an error message, else correct `format`",
        )


def is_markup(head: bytes) -> bool:
    """Tell whether bytes begin as a web page or XML does."""
    return _MARKUP.match(head.removeprefix(b"\xef\xbb\xbf")) is not None
