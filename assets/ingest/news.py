"""One hurried question to a portal about what it has since a cursor; nothing lands from it."""

from collections.abc import Iterator
from datetime import UTC, datetime

from assets.ingest.feed import Feed
from assets.ingest.lake import Lake
from assets.ingest.part import Part
from assets.ingest.portals.connectors import connect_portal
from assets.ingest.portals.page import Ask, Cursor, Page
from assets.ingest.portals.wire import Wire, read_token

#: Who does not answer at once is asked again by the next look, and not by this one.
LOOK_SECONDS = 8.0


def pages_after(lake: Lake, feed: Feed, part: Part, since: Cursor, now: datetime) -> Iterator[Page]:
    """Yield the pages that a portal has from a cursor on; to be closed by who does not read to the end.

    Args:
        lake: Keeps how many may ask one host at once.
        feed: The feed.
        part: What to ask for.
        since: From where on.
        now: Up to when, with a zone.

    Raises:
        DeliveryError: The portal gave no usable answer at once.
    """
    request = feed.request_of(part)
    wire = Wire(
        token=read_token(request.token_env),
        slots=lake.host_slots,
        calls_at_once=request.calls_at_once,
        attempts=1,
        read_seconds=LOOK_SECONDS,
    )
    try:
        until = now.astimezone(UTC).replace(tzinfo=None)
        yield from connect_portal(feed, part, wire).pages(Ask(mode="tail", until=until, since=since))
    finally:
        wire.close()
