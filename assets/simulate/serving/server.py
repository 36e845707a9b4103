"""The one loopback server in front of all simulated portals; what a portal says is its protocol's module.

Here is the way of an answer over the wire, and every fault that needs no knowledge of a protocol.
"""

import contextlib
import gzip
import importlib
import logging
import socket
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from assets.simulate.serving.exchange import Request, Response
from assets.simulate.serving.store import Store

log = logging.getLogger(__name__)

#: The module of each protocol, by the first segment of an address. It has `answer(store, request)` and
#: `kind_of(request)`, and may have `refuse(status, message)`: an error as the portal words it.
MODULE_OF_PROTOCOL = {
    protocol: f"assets.simulate.serving.{protocol}"
    for protocol in ("socrata", "arcgis", "ckan", "carto", "opendatasoft", "open311", "outages", "files")
}
#: Faults on the way of an answer that is right in itself.
DELIVERY_FAULTS = ("reset", "truncated", "wrong_length", "truncated_gzip")
#: Faults that leave the text of an answer as it is.
CONTENTLESS_FAULTS = {*DELIVERY_FAULTS, "slow", "token", "status", "html"}
#: Kept answers take no more than this, compressed.
KEPT_BYTES = 256 << 20
_WORTH_COMPRESSING = 512
_COMPRESSED = ("application/gzip", "application/zip")
# Level 1: a page of 40 MB in a fifth of a second; a portal would not take longer either.
_GZIP_LEVEL = 1
# Headers that no answer depends on.
_SAME = ("connection", "user-agent", "host", "accept")
_HTML = (
    b"<!DOCTYPE html><html><head><title>Site maintenance</title></head>"
    b"<body><h1>We'll be back soon!</h1></body></html>"
)


@dataclass(frozen=True)
class Sent:
    """An answer as it goes over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes


class KeptAnswers:
    """Answers kept ready while the store stays as it is; a page of millions of rows is written once."""

    def __init__(self, largest: int = KEPT_BYTES) -> None:
        self._largest = largest
        self._held = 0
        self._version = -1
        self._sent: OrderedDict[tuple, Sent] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, version: int, key: tuple) -> Sent | None:
        """Return an answer that was kept at this version of the store."""
        with self._lock:
            return self._sent.get(key) if version == self._version else None

    def keep(self, version: int, key: tuple, sent: Sent) -> None:
        """Keep one, and let the oldest go where they are too many."""
        with self._lock:
            if version != self._version:
                self._sent.clear()
                self._held, self._version = 0, version
            if key in self._sent:
                return
            self._sent[key] = sent
            self._held += len(sent.body)
            while self._held > self._largest:
                self._held -= len(self._sent.popitem(last=False)[1].body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, port: int, store: Store) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.store = store
        self.kept = KeptAnswers()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that hangs up is no error of the server; all else is one of this package.
        log.debug("an exchange with %s broke off", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "portal", ""
    # Headers and body are two writes; without this the second waits for the client's acknowledgement.
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        self._exchange()

    def do_HEAD(self) -> None:
        self._exchange()

    def do_POST(self) -> None:
        self._exchange()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the name is http.server's
        log.debug(format, *args)

    def _exchange(self) -> None:
        store = self.server.store
        request, module = self._request()
        store.requests.append(request)
        if module is None:
            self._send(_packed(Response(404, b"Not found", content_type="text/plain"), request))
            return
        spoiled = _spoiled(store, request, module)
        sent = _packed(spoiled, request) if spoiled else self._answered(request, module)
        for kind in DELIVERY_FAULTS:
            args = store.faults.take(kind, request.protocol, request.kind)
            if args is not None:
                self._send_badly(kind, sent, args)
                return
        self._send(sent)

    def _request(self) -> tuple[Request, ModuleType | None]:
        parts = urlsplit(self.path)
        protocol, _, path = parts.path.lstrip("/").partition("/")
        request = Request(
            method=self.command,
            protocol=protocol,
            path="/" + unquote(path),
            query=parse_qs(parts.query, keep_blank_values=True),
            body=self.rfile.read(int(self.headers.get("Content-Length") or 0)),
            headers={name.lower(): value for name, value in self.headers.items()},
        )
        if protocol not in MODULE_OF_PROTOCOL:
            return request, None
        module = importlib.import_module(MODULE_OF_PROTOCOL[protocol])
        return replace(request, kind=module.kind_of(request)), module

    def _answered(self, request: Request, module: ModuleType) -> Sent:
        store = self.server.store
        # Whatever makes two answers differ; credentials and conditions are in the headers.
        told = tuple(sorted((name, value) for name, value in request.headers.items() if name not in _SAME))
        key = (request.method, self.path, request.body, told)
        version = store.version
        is_calm = not store.faults.kinds(request.protocol) - CONTENTLESS_FAULTS
        kept = self.server.kept.find(version, key) if is_calm else None
        if kept is not None:
            return kept
        try:
            response = module.answer(store, request)
        except Exception:
            log.exception("%s %s: the simulated portal has a fault of its own", request.method, self.path)
            return _packed(_refusal(module, 500, "Internal error"), request)
        sent = _packed(response, request)
        if is_calm and response.is_stable:
            self.server.kept.keep(version, key, sent)
        return sent

    def _head(self, sent: Sent, length: int) -> None:
        self.send_response(sent.status)
        for name, value in sent.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _send(self, sent: Sent) -> None:
        self._head(sent, len(sent.body))
        if self.command != "HEAD" and sent.status != 304:
            self.wfile.write(sent.body)

    def _send_badly(self, kind: str, sent: Sent, args: dict[str, Any]) -> None:
        if kind == "truncated_gzip" and sent.headers.get("Content-Encoding") != "gzip":
            body = gzip.compress(sent.body, _GZIP_LEVEL, mtime=0)
            sent = Sent(sent.status, sent.headers | {"Content-Encoding": "gzip"}, body)
        part = int(len(sent.body) * args.get("share", 0.5))
        if kind == "truncated_gzip":
            self._send(Sent(sent.status, sent.headers, sent.body[:part]))
            return
        self.close_connection = True
        if kind == "wrong_length":
            # Too short a length: a client takes the half for the whole. What is too much must not be taken
            # for the answer to its next question.
            self._head(Sent(sent.status, sent.headers | {"Connection": "close"}, b""), part)
            self.wfile.write(sent.body)
        else:
            self._head(sent, len(sent.body))
            self.wfile.write(sent.body[:part])
            if kind == "reset":
                self._reset()

    def _reset(self) -> None:
        """Close the connection the hard way: the client sees a reset, no end."""
        self.wfile.flush()
        linger_not = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_not)
        # http.server would shut the connection down in order first, which sends an end and no reset.
        self.connection.close()


def _spoiled(store: Store, request: Request, module: ModuleType) -> Response | None:
    """Return what goes out instead of an answer, where a fault says so."""
    waits = store.faults.take("slow", request.protocol, request.kind)
    if waits is not None:
        time.sleep(waits["seconds"])
    asks = store.faults.take("token", request.protocol, request.kind)
    if asks is not None and asks["token"] not in _credentials(request):
        return _refusal(module, 403, "Invalid token specified")
    says = store.faults.take("status", request.protocol, request.kind)
    if says is not None:
        return _status(module, **says)
    page = store.faults.take("html", request.protocol, request.kind)
    return Response(body=_HTML, content_type="text/html; charset=utf-8") if page is not None else None


def _status(
    module: ModuleType, code: int, retry_after: object = None, body: bytes | str | None = None
) -> Response:
    response = _refusal(module, code, "The server says so")
    if body is not None:
        body = body.encode() if isinstance(body, str) else body
        is_html = body.lstrip().startswith(b"<")
        response = Response(code, body, content_type="text/html" if is_html else "application/json")
    if retry_after is not None:
        response = replace(response, headers={**response.headers, "Retry-After": str(retry_after)})
    return response


def _refusal(module: ModuleType, status: int, message: str) -> Response:
    if hasattr(module, "refuse"):
        return module.refuse(status, message)
    return Response(status, message.encode(), content_type="text/plain")


def _credentials(request: Request) -> set[str]:
    """Return every token that a request carries, wherever one portal or another looks for it."""
    found = {request.headers.get(name, "") for name in ("x-app-token", "authorization", "x-api-key")}
    found |= {request.one(name) for name in ("$$app_token", "token", "api_key", "apikey")}
    return {text.rpartition(" ")[2] for text in found if text}


def _packed(response: Response, request: Request) -> Sent:
    headers = {"Content-Type": response.content_type, **response.headers}
    body = response.body
    if "gzip" in request.headers.get("accept-encoding", "") and _is_worth_compressing(response):
        body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
        headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return Sent(response.status, headers, body)


def _is_worth_compressing(response: Response) -> bool:
    return len(response.body) >= _WORTH_COMPRESSING and response.content_type not in _COMPRESSED


@contextmanager
def serve(store: Store, port: int = 0) -> Iterator[str]:
    """Serve a store on the loopback address and yield its base address, without a slash at the end.

    Args:
        store: May be changed while it is served.
        port: 0: any free one.
    """
    server = _Server(port, store)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        with contextlib.suppress(OSError):
            server.server_close()
