"""One question to a simulated portal and its answer, apart from sockets and from any protocol."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import parse_qs


@dataclass(frozen=True)
class Request:
    """One question as it came in.

    Attributes:
        method: `GET`, `POST`, ...
        protocol: The first segment of the path, such as `socrata`.
        path: The rest of it, decoded, with its leading slash: `/resource/abcd-1234.json`.
        query: Decoded, every value of each name.
        headers: Names in lower case.
        kind: What is asked: `meta`, `count`, `months`, `page`, `ids` or `file`.
    """

    method: str
    protocol: str
    path: str
    query: Mapping[str, list[str]] = field(default_factory=dict)
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""

    @cached_property
    def form(self) -> dict[str, list[str]]:
        """What a form in the body says; nothing where the body is no form."""
        if not self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return {}
        return parse_qs(self.body.decode(errors="replace"), keep_blank_values=True)

    def one(self, name: str, default: str = "") -> str:
        """Return the first value of a name, of the query or else of the form."""
        return (self.query.get(name) or self.form.get(name) or [default])[0]


@dataclass(frozen=True)
class Response:
    """One answer as a protocol means it; how it goes wrong on the way is the server's.

    Attributes:
        body: Not compressed.
        headers: Those beside Content-Type, Content-Length and Content-Encoding.
        is_stable: Whether the same question brings the same bytes until the store changes.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    is_stable: bool = False
