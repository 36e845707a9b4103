"""HTTP as every connector uses it: retries, waits, a limit per host, counts; protocols have their modules.

What comes back is whole or an exception. An answer that may be another one in a moment is asked for again;
where it stays so, DeliveryError says it. Never is a failed answer an empty one.
"""

import hashlib
import logging
import os
import random
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import stamina
from filelock import FileLock, Timeout

from assets.ingest.receipts import DeliveryError

# Repeats are counted in the receipt; a line for each would stand between those of the run's progress.
stamina.instrumentation.set_on_retry_hooks(())
# It logs every address at INFO, its query included, and a key may stand there.
logging.getLogger("httpx2").setLevel(logging.WARNING)

#: Longer waits than this belong to the next scheduled run.
LONGEST_RETRY_AFTER_SECONDS = 900.0
#: How long a host at which nobody answered is asked once only.
SILENT_SECONDS = 600.0
#: An answer of this size is no page; a portal that sends more of it is broken or hostile.
LARGEST_ANSWER_BYTES = 1 << 30
# 202: Socrata and ArcGIS Hub answer so while they still work on it.
RETRIED_STATUSES = frozenset({202, 408, 425, 429, 500, 502, 503, 504})
USER_AGENT = "citysignal"
_GZIP = 16 + zlib.MAX_WBITS

_SAID_OF = {
    httpx2.TimeoutException: "no answer in time",
    httpx2.ConnectError: "nobody answers there",
    httpx2.RemoteProtocolError: "the answer broke off",
    httpx2.ReadError: "the answer broke off",
    httpx2.DecodingError: "its compression is broken",
    httpx2.InvalidURL: "it is no address",
}


@dataclass(frozen=True)
class Answer:
    """One whole answer.

    Attributes:
        body: Decoded from the transfer's compression.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


class RetryError(Exception):
    """An answer that may be another one in a moment; raised by the wire and by a connector's `check`.

    Attributes:
        error_type: What the DeliveryError is called if the last attempt ends so.
    """

    def __init__(
        self, reason: str, wait_seconds: float | None = None, error_type: str = "SourceUnreachable"
    ) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds
        self.error_type = error_type


class SmallerPageError(Exception):
    """The portal cannot give so much at once; the connector asks for less. Never retried by the wire."""


Check = Callable[[Answer], Any]
#: Opens a place for a body; what it gives takes the body in chunks.
Storing = Callable[[], AbstractContextManager[Callable[[bytes], None]]]


@cache
def _authorities() -> ssl.SSLContext:
    """Return whom HTTPS trusts; reading it takes 25 ms, and every attempt at a part has a client."""
    return httpx2.create_ssl_context()


class Wire:
    """The way to the hosts of one part, for one attempt.

    Attributes:
        calls: Questions sent, repeats included.
        retries: Of these, repeats.
        bytes_received: Bytes of all answers, as they came over the wire.
    """

    def __init__(
        self,
        *,
        token: str | None = None,
        slots: Path | None = None,
        calls_at_once: int = 2,
        attempts: int = 6,
        first_wait_seconds: float = 1.0,
        read_seconds: float = 120.0,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        """Prepare; nothing is asked yet.

        Args:
            token: The portal's token; how it is sent is the connector's. Never shown.
            slots: Folder of lock files that limit the open questions to a host among all processes.
            calls_at_once: How many.
            attempts: How often a question is asked before it counts as failed.
            first_wait_seconds: The first wait between two attempts; it doubles, with jitter, up to a minute.
            read_seconds: How long a host may stay silent.
            transport: Another way to the hosts, such as recorded answers.
        """
        self.token = token
        self.calls = 0
        self.retries = 0
        self.bytes_received = 0
        self._slots = slots
        self._at_once = calls_at_once
        self._attempts = attempts
        self._first_wait = first_wait_seconds
        self._counting = threading.Lock()
        self._client = httpx2.Client(
            follow_redirects=True,
            transport=transport,
            verify=_authorities(),
            timeout=httpx2.Timeout(30.0, read=read_seconds),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "gzip"},
        )

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def get(
        self,
        url: str,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        check: Check | None = None,
        checked: Collection[int] = (429,),
        attempts: int | None = None,
    ) -> Answer:
        """Ask with GET until there is a whole answer that passes the check.

        Args:
            url: The address.
            params: Query values; a value of None is left out.
            headers: Beside the usual ones; the token belongs here.
            check: Looks at every answer of status 200; raises RetryError where it may be another one in a
                moment, SmallerPageError or DeliveryError where not.
            checked: Statuses that are asked again and that the check sees first.
            attempts: Where not the usual number.

        Raises:
            DeliveryError: There is no such answer. Its `error_type` is one of Unauthorised (401, 403),
                DatasetGone (404, 410), Http<status> and SourceUnreachable.
        """
        said = {"params": _said(params), "headers": headers}
        return self._ask(url, attempts, lambda: self._once("GET", url, check, checked, said))

    def post(
        self,
        url: str,
        *,
        data: Mapping[str, Any] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        check: Check | None = None,
        checked: Collection[int] = (429,),
        attempts: int | None = None,
    ) -> Answer:
        """Ask with POST, a form or JSON; else as `get`. Only for questions that may be repeated."""
        said = {"data": _said(data), "json": json, "headers": headers}
        return self._ask(url, attempts, lambda: self._once("POST", url, check, checked, said))

    def download(self, url: str, headers: Mapping[str, str], storing: Storing) -> Answer:
        """Stream an answer to where `storing` puts it; a body that breaks off is fetched again.

        Args:
            url: The address.
            headers: Beside the usual ones.
            storing: Opens a place for the body, and takes it away again where it was left by an exception.

        Returns:
            The answer without its body; of status 304 where the source says that nothing changed.

        Raises:
            DeliveryError: As of `get`.
        """
        return self._ask(url, None, lambda: self._stored(url, headers, storing))

    def _stored(self, url: str, headers: Mapping[str, str], storing: Storing) -> Answer:
        with self._client.stream("GET", url, headers=headers) as response:
            answer = Answer(response.status_code, response.headers, b"", url)
            if answer.status == 200:
                with storing() as store:
                    for chunk in _unpacked(response, 1 << 20):
                        store(chunk)
                    self._count(bytes_received=response.num_bytes_downloaded)
                    _refuse_cut(response)
        if answer.status in RETRIED_STATUSES:
            raise RetryError(f"HTTP {answer.status}", retry_after(answer.headers))
        if answer.status not in (200, 304):
            raise refusal(answer)
        return answer

    def _ask(self, url: str, attempts: int | None, once: Callable[[], Answer]) -> Answer:
        tries = 0
        try:
            for attempt in stamina.retry_context(
                on=_is_retried,
                attempts=1 if self._is_silent(url) else attempts or self._attempts,
                timeout=None,
                wait_initial=self._first_wait,
                wait_max=60.0,
                wait_jitter=self._first_wait,
            ):
                with attempt, self._slot(url):
                    tries += 1
                    self._count(calls=1, retries=int(tries > 1))
                    return once()
        except (httpx2.HTTPError, httpx2.InvalidURL, RetryError) as error:
            if isinstance(error, httpx2.ConnectError) and self._slots is not None:
                self._slots.mkdir(parents=True, exist_ok=True)
                self._silence_of(url).touch()
            raise DeliveryError(
                getattr(error, "error_type", "SourceUnreachable"),
                f"{shown(url)} gave no complete answer in {_times(tries)} ({self._hidden(_reason(error))}); "
                "check the address and the network, or wait for the portal, then run again",
            ) from None
        except DeliveryError as error:
            raise DeliveryError(error.error_type, self._hidden(str(error)), error.outcome) from None
        raise AssertionError("a retry ends in an answer or an error")

    def _is_silent(self, url: str) -> bool:
        """Whether nobody answered at the host a moment ago: then the next feed need not wait as long."""
        if self._slots is None or not (noted := self._silence_of(url)).is_file():
            return False
        return time.time() - noted.stat().st_mtime < SILENT_SECONDS

    def _silence_of(self, url: str) -> Path:
        return self._slots / f"{_host(url)}.silent"

    def _once(
        self, method: str, url: str, check: Check | None, checked: Collection[int], said: dict[str, Any]
    ) -> Answer:
        with self._client.stream(method, url, **said) as response:
            chunks, size = [], 0
            for chunk in _unpacked(response):
                size += len(chunk)
                if size > LARGEST_ANSWER_BYTES:
                    said = f"{shown(url)} sends over 1 GB as one page; lower page_rows"
                    raise DeliveryError("AnswerTooLarge", said)
                chunks.append(chunk)
            self._count(bytes_received=response.num_bytes_downloaded)
            _refuse_cut(response)
            answer = Answer(response.status_code, response.headers, b"".join(chunks), url)
            wait = retry_after(response.headers)
        if answer.status in RETRIED_STATUSES:
            if check is not None and answer.status in checked:
                check(answer)
            raise RetryError(f"HTTP {answer.status}", wait)
        if answer.status == 304:
            return answer
        if answer.status != 200:
            if check is not None:
                check(answer)
            raise refusal(answer)
        if check is not None:
            check(answer)
        return answer

    def _hidden(self, text: str) -> str:
        # A portal may repeat the token that it does not like.
        return text.replace(self.token, "…") if self.token else text

    def _count(self, **more: int) -> None:
        with self._counting:
            for name, number in more.items():
                setattr(self, name, getattr(self, name) + number)

    @contextmanager
    def _slot(self, url: str) -> Iterator[None]:
        """Hold one of the host's slots; other processes and threads hold the others."""
        if self._slots is None:
            yield
            return
        self._slots.mkdir(parents=True, exist_ok=True)
        locks = [
            FileLock(self._slots / f"{_host(url)}.{number}", timeout=0, thread_local=False)
            for number in range(self._at_once)
        ]
        while True:
            for lock in random.sample(locks, len(locks)):
                try:
                    lock.acquire()
                except Timeout:
                    continue
                try:
                    yield
                finally:
                    lock.release()
                return
            time.sleep(0.02 + random.random() * 0.03)  # noqa: S311


def _unpacked(response: httpx2.Response, size: int | None = None) -> Iterator[bytes]:
    """Yield a body without the transfer's compression; one that ends in its middle is refused.

    The client's own decoder takes what there is of a gzip that was cut off for all of it.
    """
    if response.headers.get("Content-Encoding", "").strip().lower() not in ("gzip", "x-gzip"):
        yield from response.iter_bytes(size)
        return
    stream, is_begun = zlib.decompressobj(_GZIP), False
    try:
        for chunk in response.iter_raw(size):
            while chunk:
                if stream.eof:
                    if not chunk.startswith(b"\x1f"):
                        # Padding behind the compressed body is none of it.
                        break
                    stream = zlib.decompressobj(_GZIP)
                is_begun = True
                yield stream.decompress(chunk)
                chunk = stream.unused_data
    except zlib.error:
        raise RetryError("its compression is broken") from None
    if is_begun and not stream.eof:
        raise RetryError("its compression breaks off")


def _times(tries: int) -> str:
    return "1 attempt" if tries == 1 else f"{tries} attempts"


def _host(url: str) -> str:
    # A host's name comes from a declaration, or from a portal's redirect: never a path.
    return hashlib.sha256(urlsplit(url).netloc.encode()).hexdigest()[:16]


def _refuse_cut(response: httpx2.Response) -> None:
    announced, came = response.headers.get("Content-Length"), response.num_bytes_downloaded
    if announced is not None and announced.isdigit() and int(announced) != came:
        raise RetryError(f"{came} of {announced} bytes came")


def refusal(answer: Answer, said: str = "") -> DeliveryError:
    """Return what an answer that will not change is, for people.

    Args:
        answer: Of any status.
        said: What the portal's body says, in one line; it is feed content and shown as such.
    """
    tail = f" ({said[:300]})" if said else ""
    if answer.status in (401, 403):
        return DeliveryError(
            "Unauthorised",
            f"{shown(answer.url)} answered HTTP {answer.status}{tail}; "
            "the token is missing, wrong or revoked: renew it and set the variable of `token_env`",
        )
    if answer.status in (404, 410):
        return DeliveryError(
            "DatasetGone",
            f"{shown(answer.url)} answered HTTP {answer.status}{tail}; "
            "the data set was retired or moved: look for its successor and declare it as a further part",
        )
    return DeliveryError(
        f"Http{answer.status}",
        f"{shown(answer.url)} answered HTTP {answer.status}{tail}; check `source` and the declared columns",
    )


def shown(source: str) -> str:
    """Return a source as it may be shown: without credentials, query values and fragment."""
    if not source.startswith(("http://", "https://")):
        return source
    parts = urlsplit(source)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" + ("?…" if parts.query else "")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return how long a host asks to wait, in seconds; nothing where it says nothing usable."""
    said = headers.get("Retry-After", "").strip()
    try:
        # Carto says -1 when nothing stands in the way: that is no wait.
        seconds = float(said)
        if seconds < 0:
            return None
    except ValueError:
        try:
            seconds = parsedate_to_datetime(said).timestamp() - time.time()
        except ValueError:
            return None
    # Above zero: zero would tell the retry loop not to retry.
    return min(max(seconds, 0.01), LONGEST_RETRY_AFTER_SECONDS)


def read_token(variable: str | None) -> str | None:
    """Return the token that a declaration's `token_env` names.

    Raises:
        DeliveryError: It is declared and not set.
    """
    if variable is None:
        return None
    said = os.environ.get(variable)
    if not said:
        raise DeliveryError(
            "TokenMissing", f"the variable {variable} is not set; put the portal's token into it"
        )
    return said


def _said(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if values is None else {key: value for key, value in values.items() if value is not None}


def _is_retried(error: Exception) -> bool | float:
    if isinstance(error, RetryError):
        return True if error.wait_seconds is None else error.wait_seconds
    return isinstance(error, httpx2.TransportError | httpx2.DecodingError)


def _reason(error: Exception) -> str:
    # An exception's own text may repeat the address, and with it a token.
    if isinstance(error, RetryError):
        return str(error)
    return next((said for kind, said in _SAID_OF.items() if isinstance(error, kind)), type(error).__name__)
