"""How a webhook proves who sent it and when, for both sides; sending is webhooks' business.

A message has three headers beside its JSON body:

* `Citysignal-Id`: `<alert_id>.<revision>`. A message may come twice (a process that is killed between the
  answer and its note sends again), always under the same id: keep the ids you took, and drop repeats.
* `Citysignal-Timestamp`: Unix seconds when it was sent.
* `Citysignal-Signature`: `v1=` and the hex HMAC-SHA256, under the shared secret, of the timestamp, a full
  stop and the bytes of the body.

A receiver takes the body as it came, before any JSON reader, and calls `verify`; or does the same steps in
its own language: compute the HMAC, compare it in constant time, refuse a timestamp over five minutes away,
refuse an id that is not that of the body.
"""

import hashlib
import hmac
import json
import time
from collections.abc import Mapping

ID = "Citysignal-Id"
TIMESTAMP = "Citysignal-Timestamp"
SIGNATURE = "Citysignal-Signature"
#: What a receiver's clock may differ, and how long a message that someone recorded can be sent again.
TOLERANCE_SECONDS = 300


class SignatureError(ValueError):
    """A message that is not to be believed; the text says why, and never what would have been right."""


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """Return the value of the signature header."""
    told = f"{timestamp}.".encode() + body
    return "v1=" + hmac.new(secret.encode(), told, hashlib.sha256).hexdigest()


def signed_headers(secret: str, message_id: str, body: bytes, *, at: float) -> dict[str, str]:
    """Return the headers of a message that is sent at a time, Unix seconds."""
    timestamp = int(at)
    return {
        "Content-Type": "application/json",
        "Idempotency-Key": message_id,
        ID: message_id,
        TIMESTAMP: str(timestamp),
        SIGNATURE: signature(secret, timestamp, body),
    }


def verify(secret: str, headers: Mapping[str, str], body: bytes, *, at: float | None = None) -> str:
    """Return the id of a message that the holder of the secret sent lately; for receivers.

    Args:
        secret: The shared secret.
        headers: Of the request; their names in any case.
        body: As it came.
        at: Now in Unix seconds, where not by this machine's clock.

    Raises:
        SignatureError: It is not signed so, too old, from the future, or under another's id.
    """
    told = {name.lower(): value for name, value in headers.items()}
    timestamp = told.get(TIMESTAMP.lower(), "")
    if not (timestamp.isascii() and timestamp.isdigit()) or len(timestamp) > 12:
        raise SignatureError(f"{TIMESTAMP} is missing or no number")
    right = signature(secret, int(timestamp), body)
    # Bytes: compare_digest refuses texts beyond ASCII, and a header may hold them.
    if not hmac.compare_digest(right.encode(), told.get(SIGNATURE.lower(), "").encode()):
        raise SignatureError(f"{SIGNATURE} is missing or not made with this secret over this body")
    if abs((time.time() if at is None else at) - int(timestamp)) > TOLERANCE_SECONDS:
        raise SignatureError(f"{TIMESTAMP} is over {TOLERANCE_SECONDS} seconds away")
    said = json.loads(body)
    named = f"{said['alert_id']}.{said['revision']}"
    if told.get(ID.lower()) != named:
        raise SignatureError(f"{ID} is not the id of the body")
    return named
