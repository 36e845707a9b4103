"""Files as a plain web server offers them: a tag, a time, and nothing sent twice to who has it already."""

import hashlib
import mimetypes
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from assets.simulate.serving.exchange import Request, Response
from assets.simulate.serving.store import Store

_TYPE_OF_SUFFIX = {".csv": "text/csv", ".json": "application/json", ".geojson": "application/geo+json"}


def kind_of(request: Request) -> str:
    """Tell what is asked: always a file."""
    return "file"


def answer(store: Store, request: Request) -> Response:
    """Answer with the file of the path, or say that it has not changed."""
    file = store.find_file(request.path.lstrip("/"))
    if file is None:
        return refuse(404, "Not Found")
    try:
        body = file.read()
    except OSError:
        return refuse(404, "Not Found")
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    changed_at = file.changed_at.replace(microsecond=0, tzinfo=UTC)
    headers = {"ETag": tag, "Last-Modified": format_datetime(changed_at, usegmt=True)}
    if _has_it(request, tag, changed_at):
        return Response(304, b"", headers, _content_type(file.name))
    return Response(200, body, headers, _content_type(file.name))


def refuse(status: int, message: str) -> Response:
    """Return an error as a web server words it."""
    text = f"<html><head><title>{status} {message}</title></head><body><h1>{message}</h1></body></html>"
    return Response(status, text.encode(), content_type="text/html")


def _content_type(name: str) -> str:
    kind, packing = mimetypes.guess_type(name)
    if packing == "gzip":
        return "application/gzip"
    suffix = "." + name.rpartition(".")[2].lower()
    return _TYPE_OF_SUFFIX.get(suffix) or kind or "application/octet-stream"


def _has_it(request: Request, tag: str, changed_at: datetime) -> bool:
    """Tell whether the client has these bytes; where it names a tag, its time says nothing (RFC 9110)."""
    named = request.headers.get("if-none-match")
    if named is not None:
        return named.strip() == "*" or tag in (part.strip().removeprefix("W/") for part in named.split(","))
    since = request.headers.get("if-modified-since")
    if since is None:
        return False
    try:
        return changed_at <= parsedate_to_datetime(since)
    except (TypeError, ValueError):
        return False
