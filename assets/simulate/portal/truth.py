"""What is true of the simulated city, for tests: effects, events, what befell requests, dirt, violators."""

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa

from assets.simulate import casework
from assets.simulate.catalogue import EFFECTS, NULL_PAIRS, ROUTING_SHIFTS
from assets.simulate.portal.dirt import Ledger
from assets.simulate.portal.files import write_parquet
from assets.simulate.process import Happenings, Thinning


def write_effects(folder: Path, thinnings: list[Thinning]) -> None:
    """Write effects.json (what was planted) and candidates.parquet (candidates of affected outcomes)."""
    told = {
        "planted": [vars(effect) for effect in EFFECTS],
        "null": [{"cause": cause, "outcome": outcome, "rate_ratio": 1.0} for cause, outcome in NULL_PAIRS],
    }
    (folder / "effects.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    candidates = [
        _events(thinning.effect.outcome, thinning.candidates).assign(
            is_exposed=thinning.is_exposed, is_kept=thinning.is_kept
        )
        for thinning in thinnings
    ]
    _write(folder / "candidates.parquet", pd.concat(candidates, ignore_index=True))


def write_events(folder: Path, happenings: dict[str, Happenings]) -> int:
    """Write events.parquet, one row per true event, its day counted from 2024-01-01; return rows."""
    events = pd.concat([_events(name, events) for name, events in happenings.items()], ignore_index=True)
    _write(folder / "events.parquet", events)
    return len(events)


def write_reports(folder: Path, requests: pd.DataFrame) -> None:
    """Write requests.parquet: which true event each request tells of, and what will ever happen to it.

    `speed`: how fast what lies there is reported again, relative to the mean of the city.
    """
    columns = ["source_id", "event_type", "case", "is_repeat", "is_labelled", "parent", "x", "y", "speed"]
    _write(
        folder / "requests.parquet", requests[[*columns, "requested", "closed", "reopened", "closed_again"]]
    )


def write_casework(folder: Path, requests: pd.DataFrame) -> None:
    """Write what goes wrong with requests, whenever it will: handoffs, repeat_contacts and stalls.parquet.

    Beside them routing_shifts.json: days of the city's clock, and how many requests they hold.
    """
    _write(folder / "handoffs.parquet", casework.handoffs(requests))
    _write(folder / "repeat_contacts.parquet", casework.repeat_contacts(requests))
    _write(folder / "stalls.parquet", casework.stalls(requests))
    shifts = [
        {
            "event_type": shift.event_type,
            "agency": shift.agency,
            "first_on": shift.first_on.isoformat(),
            "last_on": shift.last_on.isoformat(),
            "requests": int(casework.is_shifted(requests, shift).sum()),
        }
        for shift in ROUTING_SHIFTS
    ]
    (folder / "routing_shifts.json").write_text(json.dumps(shifts, indent=2) + "\n", encoding="utf-8")


def write_work_orders(folder: Path, orders: pd.DataFrame, discrepancies: pd.DataFrame) -> None:
    """Write work_orders.parquet (which request each order is for and names) and reconciliation.parquet."""
    columns = ["source_id", "event_type", "answers", "request", "error", "completed"]
    _write(folder / "work_orders.parquet", orders[columns])
    _write(folder / "reconciliation.parquet", discrepancies)


def write_dirt(folder: Path, ledger: Ledger) -> None:
    """Write dirt.json (counts by feed, part and kind) and dirt.parquet (one row per spoiled record)."""
    (folder / "dirt.json").write_text(json.dumps(ledger.counts(), indent=2) + "\n", encoding="utf-8")
    rows = pd.DataFrame(ledger.rows, columns=["feed", "part", "kind", "source_id"])
    _write(folder / "dirt.parquet", rows)


def write_violators(folder: Path, violators: pd.DataFrame) -> None:
    """Write violators.parquet: permits of the sites that work after hours without a variance."""
    _write(folder / "violators.parquet", violators)


def _events(event_type: str, events: Happenings) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "event_type": event_type,
            "case": range(events.size),
            "x_m": events.x,
            "y_m": events.y,
            "day": events.day,
        }
    )


def _write(path: Path, frame: pd.DataFrame) -> None:
    write_parquet(path, pa.Table.from_pandas(frame, preserve_index=False))
