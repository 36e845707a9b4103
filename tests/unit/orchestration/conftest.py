"""A small declared city and settings in a temporary home; no test here lands or builds anything."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.ingest.receipts import Delivery, write_receipt
from orchestration.settings import Settings, load_settings

CITY = """\
name: Tinyville
country: US
state: Illinois
time_zone: {zone}
crs: EPSG:26916
bbox: [-88.0, 41.5, -87.0, 42.5]
"""
FEED = """\
title: Requests of {city}
kind: {kind}
publisher: {city} Clerk
landing_page: https://example.org/{city}
licence: CC0-1.0
owner_agency: Streets & San
cadence: {cadence}
portal: {portal}
parts:
  - {{id: all, source: "{source}", format: {format}}}
columns:
  source_id: id
  x: lon
  y: lat
"""
MEANING = {
    "service_request": "  requested_at: created\nevent_type: pothole\n",
    "asset": "asset_type: hydrant\n",
}


@pytest.fixture
def declare(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that declares a city with one feed and returns the folder of cities."""

    def write(
        city: str = "tinyville",
        *,
        zone: str = "America/Chicago",
        cadence: str = "daily",
        feed: str = "requests",
        kind: str = "service_request",
        portal: str = "files",
        source: str | None = None,
        is_simulated: bool = False,
    ) -> Path:
        folder = tmp_path / "cities" / city
        folder.mkdir(parents=True, exist_ok=True)
        simulated = "is_simulated: true\n" if is_simulated else ""
        (folder / "_city.yaml").write_text(CITY.format(zone=zone) + simulated, encoding="utf-8")
        said = {"city": city, "cadence": cadence, "kind": kind, "portal": portal}
        said["source"] = source or f"../../files/{city}.csv"
        said["format"] = "csv" if portal == "files" else "json"
        text = FEED.format(**said) + MEANING[kind]
        (folder / f"{feed}.yaml").write_text(text, encoding="utf-8")
        return folder.parent

    return write


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a home of its own, with the folder that `declare` writes to."""
    (tmp_path / "cities").mkdir(exist_ok=True)
    return load_settings(
        {
            "CITYSIGNAL_HOME": str(tmp_path / "home"),
            "CITYSIGNAL_CITIES": str(tmp_path / "cities"),
            "CITYSIGNAL_CLOCK": "2026-01-02T06:00:00Z",
        }
    )


@pytest.fixture
def use(settings: Settings) -> Callable[[str], None]:
    """Return a function that puts a city into use, as its first fetch does."""
    return lambda city: settings.lake.landing(city, "requests").mkdir(parents=True, exist_ok=True)


@pytest.fixture
def receipt(settings: Settings) -> Callable[..., Delivery]:
    """Return a function that writes the receipt of one attempt at tinyville/requests, part `all`."""

    def write(day: int, outcome: str = "landed", **said: Any) -> Delivery:
        at = datetime(2025, 12, day, 6)  # noqa: DTZ001  receipts hold UTC without a zone
        part = said.pop("part", "all")
        delivery = Delivery(
            city="tinyville",
            feed="requests",
            part=part,
            kind="service_request",
            fetch_id=f"{at:%Y%m%dT%H%M%SZ}-{part}-0",
            outcome=outcome,
            action=said.pop("action", "fetch"),
            source="https://data.example.org/requests",
            attempted_at=at,
            **said,
        )
        folder = settings.lake.landing("tinyville", "requests") / delivery.fetch_id
        folder.mkdir(parents=True)
        write_receipt(delivery, folder)
        return delivery

    return write


@pytest.fixture
def instance() -> dg.DagsterInstance:
    """A run history in memory."""
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral
