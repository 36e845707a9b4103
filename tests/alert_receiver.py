"""A receiver of webhooks on the loopback, as an agency would write one, that can be down and refuse."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from assets.relay.signatures import ID, SignatureError, verify


@dataclass
class Receiver:
    """What came, and how it answers.

    Attributes:
        secret: The shared secret.
        posts: Ids of all messages that were signed well, repeats among them.
        taken: Ids without repeats, in the order in which they came first.
        bodies: Their bodies, by id.
        refused: Why messages were not believed.
        answers: Statuses of the next answers; once there is none, 204.
        drops_repeats: As a receiver should.
    """

    secret: str
    url: str = ""
    posts: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    bodies: dict[str, bytes] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    answers: deque[int] = field(default_factory=deque)
    headers: dict[str, str] = field(default_factory=dict)
    drops_repeats: bool = True

    def receive(self, headers: dict[str, str], body: bytes) -> int:
        """Take a message, or not, and return the status of the answer."""
        try:
            message = verify(self.secret, headers, body)
        except SignatureError as error:
            self.refused.append(str(error))
            return 401
        if self.answers and (status := self.answers.popleft()) >= 300:
            return status
        self.posts.append(message)
        if message not in self.taken or not self.drops_repeats:
            self.taken.append(message)
            self.bodies[message] = body
        assert headers["Idempotency-Key"] == headers[ID]
        return 204


@contextmanager
def receiving(receiver: Receiver, port: int = 0) -> Iterator[Receiver]:
    """Let a receiver be up; its address stays the same from one time to the next where the port does."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = receiver.receive(dict(self.headers), body)
            self.send_response(status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *said: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_port}/alerts"
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
