"""One round of the relay: what is known becomes alerts, files and messages; portals are looked at before it.

Everything that a round does is found again on disk by the next one, so it may be killed anywhere: alerts are
stored whole, files are made from what is stored, and each subscription takes from it what it has not yet.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from filelock import FileLock, Timeout

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
#: Where nothing came, alerts are still looked after so often: what holds no longer is cancelled.
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
    try:
        with FileLock(folder / ".round.lock", timeout=0):
            done.raised = _raise(lake, rules, clock.now())
            alerts = read_alerts(lake, since=clock.now() - NEWS)
            published = publish_alerts(
                lake.home, alerts, read_acknowledgements(lake), at=clock.now(), inspect=inspect
            )
            done.withheld = published.withheld
    except Timeout:
        # Another round raises; what waits can be sent all the same.
        alerts = read_alerts(lake, since=clock.now() - NEWS)
    done.notes += [f"alert {key} is in no file: {reason}" for key, reason in done.withheld.items()]
    write_no_deliveries(lake)
    # Side by side: a receiver that hangs holds its own line only.
    with ThreadPoolExecutor(max_workers=LINES_AT_ONCE) as pool:
        lines = [pool.submit(_deliver, lake, one, alerts, clock, deadline) for one in subscriptions]
    for subscription, line in zip(subscriptions, lines, strict=True):
        outcome, notes = line.result()
        done.notes += notes
        if outcome is not None:
            done.outcomes[subscription.id] = outcome
    return done


def _raise(lake: Lake, rules: Sequence[AlertRule], now: datetime) -> list[Alert]:
    """Raise alerts where something came since it was done last, or that was long ago."""
    if not lake.published_warehouse.is_file():
        # Before the first build there is no context to tell.
        return []
    marker = lake.derived / "alerts" / "raised.json"
    stamp = _newest(lake)
    if marker.is_file():
        said = json.loads(marker.read_bytes())
        passed = now - datetime.fromisoformat(said["at"])
        if said["stamp"] == stamp and timedelta(0) <= passed < QUIET:
            return []
    raised = raise_alerts(lake, rules, now=now)
    if raised:
        store_alerts(lake, raised)
    # After them: cut off here, the next round raises again, and what is stored is not new then.
    put(marker, json.dumps({"stamp": stamp, "at": now.isoformat()}).encode())
    return raised


def _newest(lake: Lake) -> int:
    """Return when the newest of what alerts are made of was written, in nanoseconds."""
    files: list[Path] = [lake.published_warehouse]
    files += (lake.derived / "alerts" / "seen").glob("*/*.parquet")
    return max(path.stat().st_mtime_ns for path in files)


def _deliver(
    lake: Lake, subscription: Subscription, alerts: Sequence[Alert], clock: Clock, deadline: float
) -> tuple[Outcome | None, list[str]]:
    """Queue what a subscription has not yet and send what waits; nothing where another process does."""
    outbox = Outbox(lake, subscription.id)
    with outbox.held() as is_mine:
        if not is_mine:
            return None, []
        outbox.take((one for one in alerts if subscription.wants(one)), clock.now())
        try:
            outcome = deliver(outbox, subscription, now=clock.now, deadline=deadline)
        except SecretError as error:
            return None, [str(error)]
        if outcome.delivered:
            write_deliveries(lake, outbox)
    notes = []
    if outcome.reason is not None:
        notes.append(f"{receiver_name(subscription)} does not take alerts: {outcome.reason}")
    if outcome.buried:
        notes.append(
            f"{outcome.buried} messages to {subscription.id} were given up; `citysignal alerts` says why"
        )
    return outcome, notes
