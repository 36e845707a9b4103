"""Outage maps: one JSON with all that is out at the moment; what is gone from it has ended.

An empty list is a good answer. An answer without the list is none: no outage and no answer must differ.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from assets.ingest.feed import Feed
from assets.ingest.part import Part
from assets.ingest.portals.json_answers import ask_and_read, look_up, member
from assets.ingest.portals.page import Ask, Description, Page
from assets.ingest.portals.wire import LARGEST_ANSWER_BYTES, Answer, RetryError, Wire, shown
from assets.ingest.receipts import DeliveryError

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP = 16 + zlib.MAX_WBITS

_LIST = """
    json_type(body, $path),
    json_array_length(body, $path),
    list_distinct(list_transform(json_extract(body, $each), lambda one: json_type(one)))
"""


@dataclass(frozen=True)
class _Snapshot:
    """One answer; `body` is unpacked."""

    body: bytes
    rows: int
    records: str


class Outages:
    """One outage map."""

    def __init__(self, feed: Feed, part: Part, wire: Wire) -> None:
        """Prepare; nothing is asked yet."""
        self._source = part.source
        self._is_remote = part.is_remote
        self._pointer = feed.request_of(part).records
        self._wire = wire

    def describe(self) -> Description:
        """Return nothing: an outage map tells nothing of itself."""
        return Description()

    def pages(self, ask: Ask) -> Iterator[Page]:
        """Yield the one page there is.

        Raises:
            DeliveryError: `BrokenAnswer` where no whole JSON came, `WrongFormat` where it lacks the list that
                `request.records` points to; beside those of the wire.
        """
        snapshot = self._from_web() if self._is_remote else self._from_disk()
        yield Page(snapshot.body, snapshot.rows, None, snapshot.records)

    def count(self, ask: Ask) -> None:
        """Return nothing: the map does not count."""
        return

    def months(self, column: str) -> None:
        """Return nothing: the map does not group."""
        return

    def ids(self, columns: tuple[str, ...], created: str | None, month: str | None) -> Iterator[Page]:
        """Yield the snapshot: it holds every id there is."""
        snapshot = self._from_web() if self._is_remote else self._from_disk()
        yield Page(snapshot.body, snapshot.rows, None, snapshot.records)

    def _from_web(self) -> _Snapshot:
        headers = {"Authorization": f"Bearer {self._wire.token}"} if self._wire.token else None

        def read(answer: Answer) -> _Snapshot | None:
            if answer.status != 200:
                return None
            try:
                return self._read(answer.body)
            except DeliveryError as error:
                # A map in trouble answers with something else for a while.
                raise RetryError(str(error), error_type=error.error_type) from None

        return ask_and_read(self._wire.get, self._source, read, headers=headers)[1]

    def _from_disk(self) -> _Snapshot:
        path = Path(self._source)
        try:
            return self._read(path.read_bytes())
        except FileNotFoundError:
            raise DeliveryError(
                "SourceMissing", f"{path} is not there; put the file there or correct `source`"
            ) from None
        except OSError as error:
            raise DeliveryError(
                "SourceUnreadable",
                f"{path} cannot be read ({error.strerror}); check that it is a file and its permissions",
            ) from None

    def _read(self, body: bytes) -> _Snapshot:
        try:
            body = _unpacked(body)
            path = _path_of(body, self._pointer)
            kind, rows, kinds = look_up(body, _LIST, path=path, each=f"{path}[*]")
        except RetryError as error:
            said = f"{shown(self._source)} gave no whole JSON: {error}; check `source`, or wait for the map"
            raise DeliveryError("BrokenAnswer", said) from None
        if kind != "ARRAY" or (rows and kinds != ["OBJECT"]):
            raise DeliveryError(
                "WrongFormat",
                f"{shown(self._source)} holds no list of outages at {self._pointer or 'its top'!r}; "
                "correct `request.records` after what it answers now",
            )
        return _Snapshot(body, rows, f"{path}[*]")


def _unpacked(body: bytes) -> bytes:
    """Return what a gzip file holds: archives of snapshots are served so, without saying it."""
    if not body.startswith(_GZIP_MAGIC):
        return body
    stream = zlib.decompressobj(_GZIP)
    try:
        plain = stream.decompress(body, LARGEST_ANSWER_BYTES)
    except zlib.error:
        raise RetryError("a broken gzip came") from None
    if not stream.eof:
        raise RetryError("a gzip that ends early or holds over 1 GB came")
    return plain


def _path_of(body: bytes, pointer: str) -> str:
    """Return a JSON pointer as a DuckDB path; only the answer tells whether `/0` is a place or a key."""
    path = "$"
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        is_place = name.isdigit() and look_up(body, "json_type(body, $path)", path=path) == ("ARRAY",)
        path += f"[{name}]" if is_place else member(name)
    return path
