"""A small declared city and settings in a temporary home; no test here lands or builds anything."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

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
portal: files
parts:
  - {{id: all, source: ../../files/{city}.csv, format: csv}}
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
    ) -> Path:
        folder = tmp_path / "cities" / city
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "_city.yaml").write_text(CITY.format(zone=zone), encoding="utf-8")
        text = FEED.format(city=city, cadence=cadence, kind=kind) + MEANING[kind]
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
def instance() -> dg.DagsterInstance:
    """A run history in memory."""
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral
