"""Alerts posted to those who subscribed, signed, in order, until they are taken; what waits is in outbox.

A receiver that does not answer stops its own line and nobody else's: the message at the head is tried again
in this look and, ever later, in the next ones, and no other goes ahead of it. What it refuses for good, or
what waited too long, becomes a dead letter with the reason.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import httpx2
import stamina

from assets.ingest.portals.wire import USER_AGENT, retry_after, shown
from assets.relay.outbox import Failing, Message, Outbox
from assets.relay.signatures import signed_headers
from assets.relay.subscriptions import Subscription

#: 4xx that may be another answer in a moment; every other one is for good.
PASSING_REFUSALS = frozenset({408, 425, 429})
ATTEMPTS = 3
#: How long a receiver may take, and how long one message may in one look.
TIMEOUT = httpx2.Timeout(4.0, read=8.0)
LOOK_SECONDS = 8.0
FIRST_REST, LONGEST_REST = timedelta(seconds=10), timedelta(minutes=2)
#: Looks in which a message failed before its age counts: after a night without us the first hiccup is no end.
FEWEST_LOOKS = 3


class _PassingError(Exception):
    """An answer that may be another one in a moment."""

    def __init__(self, reason: str, wait_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


class _RefusedError(Exception):
    """An answer that will stay the same."""


@dataclass
class Outcome:
    """What one look at an outbox did.

    Attributes:
        delivered: Messages taken by the receiver.
        buried: Messages given up.
        waiting: Messages that still wait.
        reason: Why they do, where the receiver is the reason.
    """

    delivered: int = 0
    buried: int = 0
    waiting: int = 0
    reason: str | None = None


def deliver(
    outbox: Outbox,
    subscription: Subscription,
    *,
    now: Callable[[], datetime],
    deadline: float,
    first_wait_seconds: float = 0.3,
) -> Outcome:
    """Post what waits, in order, as far as the receiver takes it and time reaches; the outbox is held.

    Args:
        outbox: Of the subscription.
        subscription: Where to, and how it is signed.
        now: The clock.
        deadline: No post is begun after it, by `time.monotonic`.
        first_wait_seconds: Before the second attempt in this look.

    Raises:
        SecretError: There is no secret to sign with; everything waits.
    """
    outcome = Outcome()
    names = outbox.waiting()
    failing = outbox.failing()
    secret = subscription.secret() if names else ""
    if failing is not None and now() < failing.not_before:
        return Outcome(waiting=len(names), reason=failing.reason)
    with httpx2.Client(timeout=TIMEOUT, follow_redirects=False, headers={"User-Agent": USER_AGENT}) as client:
        for name in names:
            if time.monotonic() > deadline:
                break
            message = outbox.message(name)
            before = failing if failing is not None and failing.message == name else None
            tries = before.attempts if before else 0
            try:
                for attempt in stamina.retry_context(
                    on=_is_retried,
                    attempts=ATTEMPTS,
                    timeout=LOOK_SECONDS,
                    wait_initial=first_wait_seconds,
                    wait_jitter=first_wait_seconds,
                ):
                    with attempt:
                        tries += 1
                        _post(client, subscription, secret, message)
            except _RefusedError as error:
                outbox.bury(message, str(error), tries)
                outcome.buried += 1
                continue
            except (_PassingError, httpx2.HTTPError) as error:
                looks = 1 + (before.looks if before else 0)
                failing = _failed(message, tries, looks, error, now())
                outcome.reason = failing.reason
                outbox.note_failure(failing)
                outcome.buried += _bury_old(outbox, subscription, failing, now())
                break
            outbox.note_delivery(message, now(), tries)
            outcome.delivered += 1
    outcome.waiting = len(outbox.waiting())
    return outcome


def _post(client: httpx2.Client, subscription: Subscription, secret: str, message: Message) -> None:
    body = message.body.encode()
    # Signed for this moment: a receiver refuses what was signed long ago.
    headers = signed_headers(secret, message.id, body, at=time.time())
    # What the receiver says beside its status is of no use here, and is not read.
    with client.stream("POST", subscription.url, content=body, headers=headers) as answer:
        status, wait = answer.status_code, retry_after(answer.headers)
    if 200 <= status < 300:
        return
    if 400 <= status < 500 and status not in PASSING_REFUSALS:
        raise _RefusedError(f"HTTP {status}")
    raise _PassingError(f"HTTP {status}", wait)


def _is_retried(error: Exception) -> bool:
    if isinstance(error, _PassingError):
        # Who says how long to wait is asked again in another look.
        return error.wait_seconds is None
    return isinstance(error, httpx2.TransportError)


def _failed(message: Message, attempts: int, looks: int, error: Exception, now: datetime) -> Failing:
    rest = min(FIRST_REST * 2 ** min(looks - 1, 10), LONGEST_REST)
    wait = error.wait_seconds if isinstance(error, _PassingError) else None
    if wait is not None:
        rest = max(rest, timedelta(seconds=wait))
    # The text of a transport's own error may repeat the address.
    reason = str(error) if isinstance(error, _PassingError) else type(error).__name__
    return Failing(message.name, attempts, looks, now + rest, reason)


def _bury_old(outbox: Outbox, subscription: Subscription, failing: Failing, now: datetime) -> int:
    """Give up what waited longer than is declared; what came later waits on."""
    if failing.looks < FEWEST_LOOKS:
        return 0
    buried = 0
    for name in outbox.waiting():
        message = outbox.message(name)
        if now - message.queued_at < timedelta(hours=subscription.give_up_after_hours):
            break
        reason = f"not taken within {subscription.give_up_after_hours:g} hours ({failing.reason})"
        outbox.bury(message, reason, failing.attempts if name == failing.message else 0)
        buried += 1
    return buried


def receiver_name(subscription: Subscription) -> str:
    """Return a receiver as it may be shown."""
    return f"{subscription.id} ({shown(subscription.url)})"
