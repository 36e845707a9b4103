"""The simulated city as a whole: what portals publish and what is true, written whole or not at all."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from assets.simulate import building, works
from assets.simulate.catalogue import CRIME_SUBTYPES
from assets.simulate.ground import lay_ground
from assets.simulate.portal import boundaries, inventories, permits, requests, truth
from assets.simulate.portal import crimes as crimes_portal
from assets.simulate.portal import works as works_portal
from assets.simulate.portal.dirt import Ledger
from assets.simulate.process import happen
from assets.simulate.reporting import service_requests

#: Raise it when the same seed and scale give other bytes: finished cities are then built anew.
GENERATOR_VERSION = 3
MARKER = "simulated.json"
_SMALLEST_SCALE = 0.05

Progress = Callable[[str, float], None]


class SimulationError(ValueError):
    """A city that cannot be simulated as asked; the message says why and what to do."""


@dataclass(frozen=True)
class SimulationSummary:
    """What was simulated.

    Attributes:
        folder: Where it lies.
        rows: Records per published file, with their dirt.
        events: True events of all kinds, before reports repeat or miss them.
        is_fresh: Whether this call wrote it; False where it lay there already.
    """

    folder: Path
    seed: int
    scale: float
    generator_version: int
    rows: dict[str, int]
    events: int
    is_fresh: bool


def simulate(
    folder: Path, *, seed: int = 311, scale: float = 1.0, progress: Progress | None = None
) -> SimulationSummary:
    """Write a city's portal files and its truth; the same seed and scale give the same bytes.

    The folder gets `portal/`, `truth/` and the marker `simulated.json`. It is built beside and renamed, so
    it is whole or absent. Where it is already there, whole, of the same parameters, nothing is written.

    Args:
        folder: Replaced if it holds another simulated city.
        seed: Decides everything that is random.
        scale: Multiplies the number of events; ground and inventories stay.
        progress: Called with a stage and the share done, 0 to 1.

    Raises:
        SimulationError: The scale is too small, or the folder holds something else.
    """
    if not scale >= _SMALLEST_SCALE:
        raise SimulationError(
            f"scale {scale} is too small to hold every kind of dirt; use {_SMALLEST_SCALE} or more"
        )
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        _refuse_strangers(folder)
        asked = {"seed": seed, "scale": scale, "generator_version": GENERATOR_VERSION}
        marker = _intact_marker(folder, asked)
        is_fresh = marker is None
        if marker is None:
            partial, outgoing = (
                folder.with_name(f".{folder.name}.{what}") for what in ("partial", "outgoing")
            )
            for leftover in (partial, outgoing):
                shutil.rmtree(leftover, ignore_errors=True)
            marker = asked | _build(partial, seed, scale, progress or (lambda stage, share: None))
            (partial / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")
            if folder.exists():
                folder.rename(outgoing)
            partial.rename(folder)
            shutil.rmtree(outgoing, ignore_errors=True)
    return SimulationSummary(
        folder=folder, **asked, rows=marker["rows"], events=marker["events"], is_fresh=is_fresh
    )


def _build(folder: Path, seed: int, scale: float, progress: Progress) -> dict[str, Any]:
    portal, told = folder / "portal", folder / "truth"
    portal.mkdir(parents=True)
    told.mkdir()
    ledger = Ledger()

    progress("ground", 0.0)
    ground = lay_ground(seed)
    progress("events", 0.05)
    happenings, thinnings, activity = happen(ground, seed, scale)
    truth.write_effects(told, thinnings)
    events = truth.write_events(told, happenings)

    progress("permits", 0.15)
    site_permits = building.permits(happenings, seed)
    truth.write_violators(told, building.violators(site_permits))
    rows = permits.publish(portal, site_permits, ground, seed, ledger)

    progress("service requests", 0.25)
    noise = building.construction_noise(site_permits, seed)
    reports = service_requests(happenings, noise, seed)
    truth.write_reports(told, reports)
    truth.write_casework(told, reports)
    rows |= requests.publish(portal, reports, ground, seed, ledger)

    progress("crimes", 0.55)
    offences = works.crimes(happenings, tuple(dict.fromkeys(row.event_type for row in CRIME_SUBTYPES)), seed)
    rows |= crimes_portal.publish(portal, offences, ground, seed, ledger)

    progress("works and outages", 0.75)
    orders = works.work_orders(reports, happenings["infra_main_break"], seed)
    truth.write_work_orders(told, orders, works.discrepancies(reports, orders))
    rows |= works_portal.publish_work_orders(portal, orders, ground, seed, ledger)
    readings = works.flood_readings(happenings["flood_sensor_event"], activity.storms, seed)
    rows |= works_portal.publish_flood_sensors(portal, readings, seed, ledger)
    outages = works.outages(happenings, orders[orders.event_type == "infra_main_break"], seed)
    rows |= works_portal.publish_outages(portal, outages, seed, ledger)

    progress("places", 0.85)
    rows |= inventories.publish(portal, ground, seed)
    rows |= boundaries.publish(portal, ground)
    truth.write_dirt(told, ledger)
    progress("done", 1.0)
    files = {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.glob("*/*"))}
    return {"rows": rows, "events": events, "files": files}


def _intact_marker(folder: Path, asked: dict[str, Any]) -> dict[str, Any] | None:
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        is_as_asked = all(marker[name] == value for name, value in asked.items())
        sizes = {name: (folder / name).stat().st_size for name in marker["files"]}
        return marker if is_as_asked and sizes == marker["files"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _refuse_strangers(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise SimulationError(f"{folder} is a file; name a folder for the simulated city")
    strangers = sorted({path.name for path in folder.iterdir()} - {"portal", "truth", MARKER})
    if strangers:
        raise SimulationError(
            f"{folder} holds {strangers[0]}, which is no part of a simulated city; name another folder"
        )
