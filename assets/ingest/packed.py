"""Opening a file as what it holds, be it plain, gzipped or a zip archive; parsing belongs to landing."""

import gzip
import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

_GZIP, _ZIP = b"\x1f\x8b", b"PK"


class PackingError(ValueError):
    """An archive that does not hold exactly one file of the kind looked for; the message has the remedy."""


def _packing(path: Path) -> bytes:
    # Names lie: portals serve gzip under .csv, and browsers unpack .csv.gz without renaming it.
    with path.open("rb") as file:
        return file.read(2)


def _member(path: Path, suffix: str = "") -> str:
    """Return the one file of an archive whose name ends in `suffix`."""
    with zipfile.ZipFile(path) as archive:
        # macOS puts a shadow file beside each file it packs.
        names = [PurePosixPath(name) for name in archive.namelist() if not name.endswith("/")]
    found = [
        str(name)
        for name in names
        if name.name.lower().endswith(suffix)
        and "__MACOSX" not in name.parts
        and not name.name.startswith(".")
    ]
    if len(found) != 1:
        raise PackingError(f"holds {len(found)} {suffix or 'files'} where one is needed; pack one alone")
    return found[0]


@contextmanager
def content_of(path: Path) -> Iterator[io.BufferedIOBase]:
    """Open the bytes of a file, unpacked.

    Raises:
        PackingError: It is a zip archive of more or less than one file.
    """
    match _packing(path):
        case packing if packing == _GZIP:
            with gzip.open(path, "rb") as content:
                yield content
        case packing if packing == _ZIP:
            with zipfile.ZipFile(path) as archive, archive.open(_member(path)) as content:
                yield content
        case _:
            with path.open("rb") as content:
                yield content


def geometry_path(path: Path) -> str:
    """Return the path under which GDAL reads the GeoJSON or shapefile of a file, packed or not.

    Raises:
        PackingError: It is a zip archive without exactly one of them.
    """
    match _packing(path):
        case packing if packing == _GZIP:
            return f"/vsigzip/{path}"
        case packing if packing == _ZIP:
            with zipfile.ZipFile(path) as archive:
                has_shapefile = any(name.lower().endswith(".shp") for name in archive.namelist())
            return f"/vsizip/{path}/{_member(path, '.shp' if has_shapefile else 'json')}"
        case _:
            return str(path)
