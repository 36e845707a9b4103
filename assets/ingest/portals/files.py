"""Files as a portal: a path or an http(s) address in, verbatim bytes out; reading them is parsing's."""

import gzip
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import httpx2
import stamina

from assets.ingest.part import Part
from assets.ingest.receipts import DeliveryError

CHUNK_BYTES = 1 << 20
#: Level 6 takes three times as long as level 2 and saves a tenth (36 MB of permits: 0.9 s, 6.7 MB).
GZIP_LEVEL = 2
GZIP_MAGIC = b"\x1f\x8b"
#: Longer waits than this belong to the next scheduled run.
LONGEST_RETRY_AFTER_SECONDS = 900.0

# 202: ArcGIS Hub and others answer so while they still write an export.
_RETRIED_STATUSES = frozenset({202, 408, 425, 429, 500, 502, 503, 504})
_SAID_OF = {
    httpx2.TimeoutException: "no answer in time",
    httpx2.ConnectError: "nobody answers there",
    httpx2.RemoteProtocolError: "the answer broke off",
    httpx2.ReadError: "the answer broke off",
    httpx2.DecodingError: "its compression is broken",
    httpx2.InvalidURL: "it is no address",
}
_SUFFIXES = {".csv", ".tsv", ".txt", ".geojson", ".json", ".jsonl", ".ndjson", ".parquet", ".zip"}


@dataclass(frozen=True)
class Fetched:
    """Bytes that lie on disk, or the word of the source that they have not changed.

    Attributes:
        path: Where they lie, gzipped; nothing where the source says 304.
        sha: sha256 hex of the verbatim bytes, before gzip unless the source itself is gzip.
        size_bytes: How many verbatim bytes.
    """

    path: Path | None
    sha: str | None = None
    size_bytes: int = 0
    etag: str | None = None
    last_modified: str | None = None


class _RetryableError(Exception):
    """An answer that may be another one in a moment."""

    def __init__(self, reason: str, wait_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


def shown(source: str) -> str:
    """Return a source as it may be shown: without credentials, query values and fragment."""
    if not source.startswith(("http://", "https://")):
        return source
    parts = urlsplit(source)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" + ("?…" if parts.query else "")


def fetch(
    part: Part,
    folder: Path,
    *,
    etag: str | None = None,
    last_modified: str | None = None,
    attempts: int = 6,
    first_wait_seconds: float = 1.0,
) -> Fetched:
    """Store the bytes of a part in a folder, gzipped, hashing them on the way.

    Args:
        part: The declared part; its source is a path or an http(s) address.
        folder: Where to; it exists. The file's name never comes from the source.
        etag: What the source last called these bytes; with it the source may answer "unchanged".
        last_modified: The same, as a date.
        attempts: How often an address is asked before it counts as failed.
        first_wait_seconds: The first wait between two attempts; it doubles, with jitter, up to a minute.

    Raises:
        DeliveryError: There are no bytes, or not all of them.
    """
    target = folder / f"{part.id}{_suffix(part)}.gz"
    if not part.is_remote:
        return _from_disk(part, target)
    headers = {"User-Agent": "citysignal", "Accept-Encoding": "gzip"}
    if etag:
        headers["If-None-Match"] = etag
    if last_modified:
        headers["If-Modified-Since"] = last_modified
    try:
        for attempt in stamina.retry_context(
            on=_retry_hook,
            attempts=attempts,
            timeout=None,
            wait_initial=first_wait_seconds,
            wait_max=60.0,
            wait_jitter=first_wait_seconds,
        ):
            with attempt:
                return _from_web(part, target, headers)
    except (httpx2.HTTPError, httpx2.InvalidURL, _RetryableError) as error:
        raise DeliveryError(
            "SourceUnreachable",
            f"{shown(part.source)} gave no complete answer ({_reason(error)}); "
            "check the address and the network, then run again",
        ) from None
    raise AssertionError("a retry ends in an answer or an error")


def _suffix(part: Part) -> str:
    path = urlsplit(part.source).path if part.is_remote else part.source
    suffix = PurePosixPath(unquote(path).lower().removesuffix(".gz")).suffix
    return suffix if suffix in _SUFFIXES else f".{part.format}"


def _from_disk(part: Part, target: Path) -> Fetched:
    source = Path(part.source)
    try:
        with source.open("rb") as stream, _storing(target) as store:
            while chunk := stream.read(CHUNK_BYTES):
                store(chunk)
    except FileNotFoundError:
        raise DeliveryError(
            "SourceMissing", f"{source} is not there; put the file there or correct `source`"
        ) from None
    except OSError as error:
        raise DeliveryError(
            "SourceUnreadable",
            f"{source} cannot be read ({error.strerror}); check that it is a file and its permissions",
        ) from None
    return _complete(part, target, store)


def _from_web(part: Part, target: Path, headers: dict[str, str]) -> Fetched:
    with (
        httpx2.Client(follow_redirects=True, timeout=httpx2.Timeout(30.0, read=120.0)) as client,
        client.stream("GET", part.source, headers=headers) as response,
    ):
        if response.status_code == 304:
            return Fetched(
                None, etag=headers.get("If-None-Match"), last_modified=headers.get("If-Modified-Since")
            )
        if response.status_code in _RETRIED_STATUSES:
            raise _RetryableError(f"HTTP {response.status_code}", _retry_after(response))
        if response.status_code != 200:
            raise DeliveryError(
                f"Http{response.status_code}",
                f"{shown(part.source)} answered HTTP {response.status_code}; "
                "check the address, and whether it wants a login",
            )
        with _storing(target) as store:
            for chunk in response.iter_bytes(CHUNK_BYTES):
                store(chunk)
        announced = response.headers.get("Content-Length")
        if announced is not None and int(announced) != response.num_bytes_downloaded:
            raise _RetryableError(f"{response.num_bytes_downloaded} of {announced} bytes came")
        fetched = _complete(part, target, store)
        return Fetched(
            fetched.path,
            fetched.sha,
            fetched.size_bytes,
            etag=response.headers.get("ETag"),
            last_modified=response.headers.get("Last-Modified"),
        )


class _Store:
    """Takes verbatim chunks; gzip goes to disk as it is, all else through gzip."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._sink = None
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def __call__(self, chunk: bytes) -> None:
        if self._sink is None:
            # mtime 0: the same bytes give the same file.
            self._sink = (
                self._file
                if chunk.startswith(GZIP_MAGIC)
                else gzip.GzipFile("", "wb", GZIP_LEVEL, self._file, mtime=0)
            )
        self._hash.update(chunk)
        self.size_bytes += len(chunk)
        self._sink.write(chunk)

    @property
    def sha(self) -> str:
        return self._hash.hexdigest()

    def close(self) -> None:
        if self._sink is not None and self._sink is not self._file:
            self._sink.close()
        self._file.close()


@contextmanager
def _storing(target: Path) -> Iterator[_Store]:
    store = _Store(target)
    try:
        yield store
    except BaseException:
        store.close()
        target.unlink(missing_ok=True)
        raise
    store.close()


def _complete(part: Part, target: Path, store: _Store) -> Fetched:
    if store.size_bytes == 0:
        target.unlink(missing_ok=True)
        raise DeliveryError(
            "EmptyFile",
            f"{shown(part.source)} is empty (0 bytes); ask the publisher, or wait for the next delivery",
        )
    return Fetched(target, store.sha, store.size_bytes)


def _retry_hook(error: Exception) -> bool | float:
    if isinstance(error, _RetryableError):
        return True if error.wait_seconds is None else error.wait_seconds
    return isinstance(error, httpx2.TransportError | httpx2.DecodingError)


def _retry_after(response: httpx2.Response) -> float | None:
    said = response.headers.get("Retry-After", "").strip()
    if said.isdigit():
        seconds = float(said)
    else:
        try:
            seconds = parsedate_to_datetime(said).timestamp() - time.time()
        except ValueError:
            return None
    # Above zero: zero would tell the retry loop not to retry.
    return min(max(seconds, 0.01), LONGEST_RETRY_AFTER_SECONDS)


def _reason(error: Exception) -> str:
    # An exception's own text may repeat the address, and with it a token.
    if isinstance(error, _RetryableError):
        return str(error)
    return next((said for kind, said in _SAID_OF.items() if isinstance(error, kind)), type(error).__name__)
