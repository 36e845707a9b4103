"""Agency alerts in seconds: Open311 feeds looked at, alerts raised and delivered inside a sensor's tick.

It waits for nothing: no run is queued behind the build, and nothing is written that a build reads while it
works. What is looked at is what `fast_lane` looks at; that one lands it when the build lets it.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime

import dagster as dg

from assets.ingest.declaration_text import DeclarationError
from assets.ingest.feed import City, Feed
from assets.ingest.lake import Lake
from assets.ingest.part import Part
from assets.ingest.portals.page import Cursor
from assets.publish.privacy import PersonalDataError, refuse_personal_text
from assets.relay.subscriptions import Subscription
from orchestration.fast_lane import EVERY_SECONDS, fast_feeds, look_around, noted, remembered
from orchestration.settings import Settings

ALERT_LANE = "agency_alerts"
#: A tick has 60 seconds; what is not sent by then is first in the next.
SEND_SECONDS = 45.0


def alert_lane_sensors(cities: Mapping[str, City], settings: Settings) -> list[dg.SensorDefinition]:
    """Return the sensors over fast feeds: that of simulated cities is off until someone turns it on."""
    return [
        alert_lane_sensor(cities, parts, settings, is_simulated=is_simulated)
        for is_simulated in (False, True)
        if (parts := fast_feeds(cities, is_simulated=is_simulated))
    ]


def alert_lane_sensor(
    cities: Mapping[str, City],
    parts: Sequence[tuple[Feed, Part]],
    settings: Settings,
    *,
    is_simulated: bool = False,
) -> dg.SensorDefinition:
    """Return the sensor that looks at some Open311 parts and relays what they mean.

    Args:
        cities: The cities of the parts.
        parts: What to look at.
        settings: The home, the clock and the subscriptions.
        is_simulated: Whether it is off until someone turns it on.
    """
    watched = {f"{feed.city}/{feed.id}/{part.id}": (feed, part) for feed, part in parts}

    def look(lake: Lake, feed: Feed, part: Part, cursor: Cursor, now: datetime) -> frozenset[str]:
        from assets.relay import arrivals

        found = arrivals.look(lake, cities[feed.city], feed, part, cursor, now)
        # What is new is on disk; to the memory of looks it is a name that no look gave before.
        return frozenset({now.isoformat()} if found.fresh else ())

    @dg.sensor(
        name=f"{ALERT_LANE}_simulated" if is_simulated else ALERT_LANE,
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.STOPPED if is_simulated else dg.DefaultSensorStatus.RUNNING,
        description="Raises agency alerts from new Open311 records and delivers them, whatever is at work.",
    )
    def agency_alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        started = time.monotonic()
        memories = remembered(context.cursor, watched)
        _, said = look_around(watched, memories, settings.lake, settings.clock.now(), look)
        context.update_cursor(noted(memories))
        said += relay_round(settings, deadline=started + SEND_SECONDS)
        return dg.SkipReason("; ".join(said) or "Nothing is new.")

    return agency_alerts


def relay_round(settings: Settings, *, deadline: float) -> list[str]:
    """Raise, publish and deliver, and return a line for each thing that happened.

    Args:
        settings: The home, the clock and the subscriptions.
        deadline: No message is sent after it, by `time.monotonic`.

    Raises:
        DeclarationError: Rules are declared wrongly.
    """
    from assets.relay.relaying import relay
    from assets.relay.rules import load_rules

    said: list[str] = []
    subscriptions: tuple[Subscription, ...] = ()
    try:
        subscriptions = settings.subscribers()
    except DeclarationError as error:
        # Alerts are raised and published all the same, and wait for the declaration to be corrected.
        said += str(error).splitlines()
    done = relay(
        settings.lake,
        load_rules(),
        subscriptions,
        clock=settings.clock,
        deadline=deadline,
        inspect=personal_data_in,
    )
    if done.raised:
        said.append(f"{len(done.raised)} alerts raised")
    said += [f"{name}: {one.delivered} delivered" for name, one in done.outcomes.items() if one.delivered]
    return said + done.notes


def personal_data_in(name: str, text: str) -> str | None:
    """Return why a text must not be published, where it must not."""
    try:
        refuse_personal_text(name, text)
    except PersonalDataError as error:
        return str(error)
    return None
