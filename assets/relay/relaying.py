"""One round of the relay: what is known becomes alerts, files and messages; portals are looked at before it.

Everything that a round does is found again on disk by the next one, so it may be killed anywhere: alerts are
stored whole, files are made from what is stored, and each subscription takes from it what it has not yet.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from filelock import FileLock, Timeout

from assets.ingest.alert_tables import ALERT_TABLES, alerts_folder
from assets.ingest.clock import Clock
from assets.ingest.lake import Lake
from assets.relay.alert import Alert
from assets.relay.alert_files import Inspect, publish_alerts
from assets.relay.alert_store import read_acknowledgements, read_alerts, store_alerts
from assets.relay.alerting import raise_alerts
from assets.relay.deliveries import write_deliveries, write_no_deliveries
from assets.relay.durable import put
from assets.relay.outbox import NEWS, Outbox
from assets.relay.rules import AlertRule
from assets.relay.subscriptions import SecretError, Subscription
from assets.relay.webhooks import Outcome, deliver, receiver_name

LINES_AT_ONCE = 8
#: Of which state alerts were raised last; and published, and queued for everyone.
RAISED, RELAYED = "raised.json", "relayed.json"
#: Where nothing came, alerts are still looked after so often: what holds no longer is cancelled, or ends.
QUIET = timedelta(minutes=5)


@dataclass
class Round:
    """What one round did.

    Attributes:
        raised: New revisions.
        withheld: Why an alert that holds is in no file, by alert id.
        outcomes: Per subscription.
        notes: Lines for a person, about what did not go.
    """

    raised: list[Alert] = field(default_factory=list)
    withheld: dict[str, str] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def relay(
    lake: Lake,
    rules: Sequence[AlertRule],
    subscriptions: Sequence[Subscription],
    *,
    clock: Clock,
    deadline: float,
    inspect: Inspect,
) -> Round:
    """Raise what is new, publish what holds, and deliver what waits.

    Args:
        lake: Everything lies there.
        rules: Who is told of what.
        subscriptions: Who is sent it.
        clock: Now.
        deadline: No message is sent after it, by `time.monotonic`.
        inspect: Keeps alerts out of files that would show personal data.
    """
    done = Round()
    folder = lake.derived / "alerts"
    folder.mkdir(parents=True, exist_ok=True)
    alerts: list[Alert] | None = None
    state = ""
    # Another round that raises reads what is stored too; what waits can be sent all the same.
    with suppress(Timeout), FileLock(folder / ".round.lock", timeout=0):
        done.raised = _raise(lake, rules, clock.now())
        state = _stored(lake, subscriptions)
        if not _is_done(lake, RELAYED, state, clock.now()):
            alerts = read_alerts(lake, since=clock.now() - NEWS)
            published = publish_alerts(
                lake.home, alerts, read_acknowledgements(lake), at=clock.now(), inspect=inspect
            )
            done.withheld = published.withheld
    done.notes += [f"alert {key} is in no file: {reason}" for key, reason in done.withheld.items()]
    write_no_deliveries(lake)
    # Side by side: a receiver that hangs holds its own line only.
    with ThreadPoolExecutor(max_workers=LINES_AT_ONCE) as pool:
        lines = [pool.submit(_deliver, lake, one, alerts, clock, deadline) for one in subscriptions]
    are_taken = alerts is not None
    for subscription, line in zip(subscriptions, lines, strict=True):
        outcome, notes, is_taken = line.result()
        are_taken &= is_taken
        done.notes += notes
        if outcome is not None:
            done.outcomes[subscription.id] = outcome
    if are_taken:
        # After all of it: cut off here, the next round publishes and queues again what is there already.
        _note_done(lake, RELAYED, state, clock.now())
    return done


def _raise(lake: Lake, rules: Sequence[AlertRule], now: datetime) -> list[Alert]:
    """Raise alerts where something came since it was done last, or that was long ago."""
    if not lake.published_warehouse.is_file():
        # Before the first build there is no context to tell.
        return []
    stamp = _newest(lake)
    if _is_done(lake, RAISED, stamp, now):
        return []
    raised = raise_alerts(lake, rules, now=now)
    if raised:
        store_alerts(lake, raised)
    # After them: cut off here, the next round raises again, and what is stored is not new then.
    _note_done(lake, RAISED, stamp, now)
    return raised


def _is_done(lake: Lake, name: str, state: str, now: datetime) -> bool:
    """Return whether something was done of the same state, and not long ago."""
    marker = lake.derived / "alerts" / name
    if not marker.is_file():
        return False
    said = json.loads(marker.read_bytes())
    passed = now - datetime.fromisoformat(said["at"])
    return said["state"] == state and timedelta(0) <= passed < QUIET


def _note_done(lake: Lake, name: str, state: str, now: datetime) -> None:
    said = {"state": state, "at": now.isoformat()}
    put(lake.derived / "alerts" / name, json.dumps(said).encode())


def _newest(lake: Lake) -> str:
    """Return what changes whenever something came of which alerts are made."""
    seen = (lake.derived / "alerts" / "seen").glob("*/*.parquet")
    return str(max(path.stat().st_mtime_ns for path in (lake.published_warehouse, *seen)))


def _stored(lake: Lake, subscriptions: Sequence[Subscription]) -> str:
    """Return what changes whenever an alert is stored or acknowledged, or who is sent them."""
    kept = [path for table in ALERT_TABLES for path in alerts_folder(lake, table).glob("*.parquet")]
    newest = max((path.stat().st_mtime_ns for path in kept), default=0)
    return json.dumps([newest, [one.model_dump(mode="json") for one in subscriptions]])


def _deliver(
    lake: Lake, subscription: Subscription, alerts: Sequence[Alert] | None, clock: Clock, deadline: float
) -> tuple[Outcome | None, list[str], bool]:
    """Queue what a subscription has not yet, and send what waits.

    Returns:
        What was sent, where another process does not send it; lines for a person; whether what is there to
        be queued is queued.
    """
    outbox = Outbox(lake, subscription.id)
    with outbox.held() as is_mine:
        if not is_mine:
            return None, [], False
        if alerts is not None:
            outbox.take((one for one in alerts if subscription.wants(one)), clock.now())
        try:
            outcome = deliver(outbox, subscription, now=clock.now, deadline=deadline)
        except SecretError as error:
            return None, [str(error)], True
        if outcome.delivered:
            write_deliveries(lake, outbox)
    notes = []
    if outcome.reason is not None:
        notes.append(f"{receiver_name(subscription)} does not take alerts: {outcome.reason}")
    if outcome.buried:
        notes.append(
            f"{outcome.buried} messages to {subscription.id} were given up; `citysignal alerts` says why"
        )
    return outcome, notes, True
