"""What a subscription is still to be sent, on disk: waiting, sent and dead; posting belongs to webhooks.

A message is one file, named by its place in the order and its id. It is never changed while it waits, and
its state is the folder it lies in:

* `waiting/`: to be sent, the lowest name first.
* `sent/`: only a receipt of the delivery is left.
* `dead/`: given up, with the reason; `replay` puts it back, at its old place in the order.

Every change is one rename of a file that is on disk, so a process may be killed between any two lines of it.
A receipt is written before its message is taken away: killed between the two, the receipt holds. Killed
between the receiver's answer and the receipt, the message is sent again, under the same id.
"""

import json
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from assets.ingest.lake import Lake
from assets.relay.alert import Alert
from assets.relay.cap import message_id
from assets.relay.durable import move, put

#: A revision that was made longer ago is no news to a receiver that was declared, or forgot, meanwhile.
NEWS = timedelta(days=30)
#: Receipts tell which ids were sent: they stay well past NEWS.
RECEIPTS_KEPT_SECONDS = 75 * 86_400.0

_NAME = re.compile(r"(?P<number>\d{10})\.(?P<id>[0-9a-f]{32}\.\d+)\.json")


@dataclass(frozen=True)
class Failing:
    """How it stands with the message that is at the head of the line.

    Attributes:
        message: Name of its file.
        attempts: How often it was posted in vain.
        looks: In how many looks at the outbox.
        not_before: When it is posted again.
        reason: Why it failed last, without address or secret.
    """

    message: str
    attempts: int
    looks: int
    not_before: datetime
    reason: str


@dataclass(frozen=True)
class Message:
    """One message as it waits, or as it was given up.

    Attributes:
        name: Name of its file.
        body: What is posted.
        queued_at: Since when it waits.
        reason: Of a dead letter: why it was given up.
    """

    name: str
    body: str
    queued_at: datetime
    attempts: int = 0
    reason: str | None = None

    @property
    def id(self) -> str:
        """The id that the receiver sees."""
        return _NAME.fullmatch(self.name)["id"]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `written` wrote."""
        said = json.loads(path.read_bytes())
        return cls(path.name, **{**said, "queued_at": datetime.fromisoformat(said["queued_at"])})

    def written(self) -> bytes:
        """Return it as its file holds it."""
        said = {name: value for name, value in vars(self).items() if name != "name"}
        return json.dumps({**said, "queued_at": self.queued_at.isoformat()}, ensure_ascii=False).encode()


class Outbox:
    """The messages of one subscription. What changes it holds its lock."""

    def __init__(self, lake: Lake, subscription: str) -> None:
        """Name the folder; nothing is made yet."""
        self.subscription = subscription
        self.folder = lake.derived / "alerts" / "outbox" / subscription
        self._waiting, self._sent, self._dead = (self.folder / name for name in ("waiting", "sent", "dead"))
        self._since, self._retry = self.folder / "since.json", self.folder / "retry.json"

    @contextmanager
    def held(self, wait_seconds: float = 0.0) -> Iterator[bool]:
        """Hold the outbox alone and finish what was cut off; yield whether that went.

        Another process that holds it is sending: then there is nothing to do here.
        """
        for folder in (self._waiting, self._sent, self._dead):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / ".lock", timeout=wait_seconds):
                self._settle()
                yield True
        except Timeout:
            yield False

    def _settle(self) -> None:
        """Take away messages whose receipt, or whose dead letter, is there."""
        done = _names(self._sent) | _names(self._dead)
        for name in _names(self._waiting) & done:
            (self._waiting / name).unlink()

    def take(self, alerts: Iterable[Alert], now: datetime) -> int:
        """Queue what is not queued yet, in the order in which it was raised.

        Args:
            alerts: Every stored revision that the subscription wants; what is known of them is left.
            now: Now. A subscription that is new gets what holds now, not what held once.

        Returns:
            How many were queued.
        """
        alerts = sorted(alerts, key=lambda one: (one.alerted_at, one.alert_id, one.revision))
        is_new = not self._since.is_file()
        if is_new:
            newest = {one.alert_id: one for one in alerts}
            wanted = [one for one in newest.values() if not one.is_over(now)]
            wanted.sort(key=lambda one: (one.alerted_at, one.alert_id))
        else:
            since = datetime.fromisoformat(json.loads(self._since.read_bytes())["since"])
            wanted = [one for one in alerts if one.alerted_at >= max(since, now - NEWS)]
        found = [_NAME.fullmatch(name) for name in self._all()]
        known = {one["id"] for one in found}
        number = max((int(one["number"]) for one in found), default=0)
        fresh = [one for one in wanted if message_id(one) not in known]
        for alert in fresh:
            number += 1
            message = Message(
                f"{number:010d}.{message_id(alert)}.json", alert.model_dump_json(), now.astimezone(UTC)
            )
            put(self._waiting / message.name, message.written())
        if is_new:
            # Last: a first look that is cut off is made again.
            put(self._since, json.dumps({"since": now.astimezone(UTC).isoformat()}).encode())
        return len(fresh)

    def waiting(self) -> list[str]:
        """Return the names of what waits, in the order in which it is sent."""
        return sorted(_names(self._waiting))

    def message(self, name: str) -> Message:
        """Return a message that waits."""
        return Message.read(self._waiting / name)

    def dead(self) -> list[Message]:
        """Return the dead letters, in order."""
        return [Message.read(self._dead / name) for name in sorted(_names(self._dead))]

    def failing(self) -> Failing | None:
        """Return how it stands with the head of the line, where it failed."""
        if not self._retry.is_file():
            return None
        said = json.loads(self._retry.read_bytes())
        failing = Failing(**{**said, "not_before": datetime.fromisoformat(said["not_before"])})
        return failing if (self._waiting / failing.message).is_file() else None

    def note_failure(self, failing: Failing) -> None:
        """Keep how it stands with the head of the line."""
        put(
            self._retry,
            json.dumps({**vars(failing), "not_before": failing.not_before.isoformat()}).encode(),
        )

    def note_delivery(self, message: Message, delivered_at: datetime, attempts: int) -> None:
        """Put a receipt into the place of a message that its receiver took."""
        said = json.loads(message.body)
        receipt: dict[str, Any] = {
            "alert_id": said["alert_id"],
            "revision": said["revision"],
            "subscription": self.subscription,
            **{name: said[name] for name in ("reported_at", "available_at", "alerted_at")},
            "delivered_at": delivered_at.astimezone(UTC).isoformat(),
            "attempts": attempts,
        }
        put(self._sent / message.name, json.dumps(receipt).encode())
        (self._waiting / message.name).unlink()

    def bury(self, message: Message, reason: str, attempts: int) -> None:
        """Give a message up."""
        letter = Message(message.name, message.body, message.queued_at, attempts, reason)
        put(self._dead / message.name, letter.written())
        (self._waiting / message.name).unlink()

    def replay(self, now: datetime) -> int:
        """Put all dead letters back, each at its old place in the order, and say how many."""
        letters = self.dead()
        for letter in letters:
            # First as new as if it had been queued now, else it would be too old to wait; then the rename.
            put(
                self._dead / letter.name,
                Message(letter.name, letter.body, now.astimezone(UTC)).written(),
            )
            move(self._dead / letter.name, self._waiting)
        self._retry.unlink(missing_ok=True)
        return len(letters)

    def receipts(self) -> list[dict[str, Any]]:
        """Return what was delivered, in the order of the messages; the oldest receipts are let go."""
        kept = []
        for name in sorted(_names(self._sent)):
            path = self._sent / name
            if time.time() - path.stat().st_mtime > RECEIPTS_KEPT_SECONDS:
                path.unlink()
                continue
            kept.append(json.loads(path.read_bytes()))
        return kept

    def _all(self) -> set[str]:
        return _names(self._waiting) | _names(self._sent) | _names(self._dead)


def _names(folder: Path) -> set[str]:
    if not folder.is_dir():
        return set()
    return {path.name for path in folder.iterdir() if _NAME.fullmatch(path.name)}
