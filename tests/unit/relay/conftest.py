"""Alerts of a made-up town, an outbox of its own and a receiver on the loopback."""

import hashlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from assets.ingest.lake import Lake
from assets.relay.alert import Alert
from assets.relay.outbox import Outbox
from assets.relay.subscriptions import Subscription
from assets.relay.webhooks import Outcome, deliver
from tests.alert_receiver import Receiver, receiving

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = "q7-Only-For-Tests-Wd3"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "home")


@pytest.fixture
def alert() -> Callable[..., Alert]:
    """Return a function that makes an alert; alerts of other names are of other happenings."""

    def make(name: str = "one", **said: Any) -> Alert:
        at = said.pop("at", NOW)
        usual = {
            "alert_id": hashlib.md5(name.encode()).hexdigest(),
            "revision": 1,
            "message": "Alert",
            "city": "town",
            "rule": "flooded_intersection",
            "agency": "fire",
            "event_key": "k1",
            "event_keys": ("k1",),
            "event_type": "flooding",
            "severity": "Severe",
            "headline": "Flooded intersection: 1 report",
            "context": {"signals": [{"asset_id": "S 12", "distance_m": 8.5}], "schools": []},
            "lon": -87.62345,
            "lat": 41.88123,
            "radius_m": 150.0,
            "reported_at": at - timedelta(minutes=2),
            "available_at": at - timedelta(seconds=30),
            "alerted_at": at,
            "expires_at": at + timedelta(hours=6),
            "is_simulated": True,
        }
        return Alert(**{**usual, **said})

    return make


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(Receiver(SECRET)) as up:
        yield up


class Line:
    """One subscription, its outbox, and a clock that a test moves."""

    def __init__(self, lake: Lake, url: str) -> None:
        self.lake, self.now = lake, NOW
        self.subscription = Subscription(id="fire_dispatch", url=url, secret_env="FIRE_SECRET")
        self.outbox = Outbox(lake, "fire_dispatch")

    def take(self, *alerts: Alert) -> int:
        with self.outbox.held():
            return self.outbox.take(alerts, self.now)

    def deliver(self) -> Outcome:
        with self.outbox.held():
            return deliver(
                self.outbox,
                self.subscription,
                now=lambda: self.now,
                deadline=time.monotonic() + 30,
                first_wait_seconds=0.01,
            )

    def later(self, **span: float) -> None:
        self.now += timedelta(**span)


@pytest.fixture
def line(lake: Lake, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.setenv("FIRE_SECRET", SECRET)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return Line(lake, receiver.url)
