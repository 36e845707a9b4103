"""The `alerts` subcommand: what holds, what waits, what was given up; raising and sending are the relay's."""

import time
from collections.abc import Sequence
from datetime import datetime

from rich.console import Console
from rich.markup import escape

from assets.relay.alert import Alert
from assets.relay.alert_files import current_alerts
from assets.relay.alert_store import acknowledge, read_acknowledgements, read_alerts
from assets.relay.deliveries import write_deliveries
from assets.relay.outbox import NEWS, Outbox
from assets.relay.subscriptions import Subscription
from assets.relay.webhooks import deliver, receiver_name
from orchestration.console import make_console, named_table
from orchestration.declared_cities import load_declared
from orchestration.settings import Settings, load_settings
from orchestration.usage import UsageError

#: How long a replay sends; what is left waits for the alert lane.
SEND_SECONDS = 60.0
#: How long a replay waits for a round of the alert lane to end.
HELD_SECONDS = 60.0


def show_alerts(cities: Sequence[str], *, is_replayed: bool, acknowledged: str | None) -> int:
    """Do what is asked, then print the current alerts and how each subscription stands.

    Args:
        cities: Only alerts of these cities; none: all.
        is_replayed: Put dead letters back and send them.
        acknowledged: Id of an alert to acknowledge first.

    Returns:
        0, or 1 where messages wait for a receiver that does not take them, or were given up.

    Raises:
        DeclarationError: The subscriptions are declared wrongly.
        SecretError: Dead letters are to be sent, and their secret is not set.
        UnknownAlertError: No such alert was raised.
        UsageError: A city is not declared, nobody could be replayed to, or the outbox is held.
    """
    settings = load_settings()
    if cities:
        load_declared(settings).pick(cities)
    console = make_console()
    subscriptions = settings.subscribers()
    if acknowledged is not None:
        revision = acknowledge(settings.lake, acknowledged, now=settings.clock.now())
        console.print(f"{acknowledged} is acknowledged, as of its revision {revision}")
    if is_replayed:
        if not subscriptions:
            raise UsageError(
                "nobody is subscribed; name the file that declares receivers in CITYSIGNAL_SUBSCRIPTIONS"
            )
        for subscription in subscriptions:
            replay(settings, subscription, console)
    now = settings.clock.now()
    alerts = [
        one
        for one in current_alerts(read_alerts(settings.lake, since=now - NEWS), now)
        if not cities or one.city in cities
    ]
    show_current(alerts, settings, now, console)
    if not subscriptions:
        return 0
    return show_subscriptions(settings, subscriptions, console)


def replay(settings: Settings, subscription: Subscription, console: Console) -> None:
    """Put the dead letters of a subscription back and send what waits."""
    outbox = Outbox(settings.lake, subscription.id)
    if not outbox.dead():
        return
    # Before anything is moved: without it nothing can be sent.
    subscription.secret()
    with outbox.held(HELD_SECONDS) as is_mine:
        if not is_mine:
            raise UsageError(f"{subscription.id} is being sent to by another process; run this again then")
        back = outbox.replay(settings.clock.now())
        outcome = deliver(
            outbox, subscription, now=settings.clock.now, deadline=time.monotonic() + SEND_SECONDS
        )
        write_deliveries(settings.lake, outbox)
    console.print(f"{subscription.id}: {back} dead letters put back, {outcome.delivered} messages delivered")


def show_current(alerts: Sequence[Alert], settings: Settings, now: datetime, console: Console) -> None:
    """Print the alerts that hold."""
    if not alerts:
        console.print("no alert holds now")
        return
    seen = read_acknowledgements(settings.lake)
    table = named_table(
        "alert", "city", "agency", "severity", "headline", "reports", "since", "until", "seen"
    )
    for one in alerts:
        at = seen.get(one.alert_id)
        table.add_row(
            one.alert_id,
            one.city,
            one.agency,
            one.severity.value,
            escape(one.headline),
            str(len(one.event_keys)),
            f"{one.reported_at:%Y-%m-%d %H:%M}",
            f"{one.expires_at:%Y-%m-%d %H:%M}",
            f"{at:%H:%M}" if at else "no",
        )
    console.print(table)
    console.print(f"times are UTC; files: {settings.home / 'alerts'}", soft_wrap=True)


def show_subscriptions(settings: Settings, subscriptions: Sequence[Subscription], console: Console) -> int:
    """Print how each subscription stands, and each dead letter; return 1 where something is wrong."""
    table = named_table("subscription", "receiver", "waiting", "since", "dead letters", "why it waits")
    letters = []
    is_wrong = False
    for one in subscriptions:
        outbox = Outbox(settings.lake, one.id)
        waiting, dead, failing = outbox.waiting(), outbox.dead(), outbox.failing()
        is_wrong |= bool(dead) or failing is not None
        letters += [(one.id, letter) for letter in dead]
        table.add_row(
            one.id,
            escape(receiver_name(one)),
            str(len(waiting)),
            f"{outbox.message(waiting[0]).queued_at:%Y-%m-%d %H:%M}" if waiting else "",
            str(len(dead)),
            escape(f"{failing.reason} ({failing.attempts} attempts)") if failing else "",
        )
    console.print(table)
    for name, letter in letters:
        said = f"dead letter for {name}: {letter.id}: {letter.reason} ({letter.attempts} attempts)"
        console.print(said, markup=False, soft_wrap=True)
    if letters:
        console.print("once the receiver takes them: citysignal alerts --replay")
    return int(is_wrong)
