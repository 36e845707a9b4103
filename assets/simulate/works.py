"""Crew records, sensor readings and outages: what departments and utilities log; files belong to `portal`."""

import numpy as np
import pandas as pd

from assets.simulate.calendar import CUT_2025, clock_times, days_later, to_utc
from assets.simulate.catalogue import RHYTHM_OF
from assets.simulate.chance import pick, stream
from assets.simulate.ground import inside
from assets.simulate.process import Happenings
from assets.simulate.reporting import state_at

_REPAIRS = {"streetlight_outage": "infra_streetlight_repair", "pothole": "infra_pothole_repair"}
_SEVERITIES = np.array(["MINOR", "MODERATE", "MAJOR"])


def crimes(happenings: dict[str, Happenings], event_types: tuple[str, ...], seed: int) -> pd.DataFrame:
    """Return one row per crime that was reported before the copy, ordered by time.

    Columns: source_id, event_type, case, x, y, spot, occurred, reported.
    """
    rng = stream(seed, "crime reports")
    frames = []
    for event_type in event_types:
        events = happenings[event_type]
        frames.append(
            pd.DataFrame(
                {
                    "event_type": event_type,
                    "case": np.arange(events.size),
                    "x": events.x,
                    "y": events.y,
                    "spot": events.spot,
                    "occurred": clock_times(events.day, RHYTHM_OF[event_type], rng),
                }
            )
        )
    rows = pd.concat(frames, ignore_index=True)
    lag_days = rng.lognormal(np.log(0.15), 1.6, len(rows))
    rows["reported"] = days_later(rows.occurred.to_numpy().astype("datetime64[s]"), lag_days)
    rows = rows[rows.reported < CUT_2025].sort_values(["occurred", "event_type", "case"], ignore_index=True)
    rows["source_id"] = np.char.mod("CR%07d", 2_400_001 + np.arange(len(rows))).astype(object)
    return rows


def work_orders(requests: pd.DataFrame, breaks: Happenings, seed: int) -> pd.DataFrame:
    """Return one row per repair or main break, ordered by time.

    Columns: source_id, event_type, request (source_id it answers, or None), case, x, y, asset, occurred,
    completed, quantity, severity.
    """
    rng = stream(seed, "work orders")
    answered = requests.assign(done=state_at(requests, CUT_2025).closed)
    answered = answered[
        answered.event_type.isin(_REPAIRS)
        & ~answered.is_labelled
        & answered.done.notna()
        & (answered.ending == "Completed")
    ]
    answered = answered[rng.random(len(answered)) < 0.9]
    hours = rng.uniform(1, 5, len(answered))
    repairs = pd.DataFrame(
        {
            "event_type": answered.event_type.map(_REPAIRS).to_numpy(),
            "request": answered.source_id.to_numpy(),
            "case": -1,
            # Crews log where the truck stands.
            "x": answered.x.to_numpy() + rng.normal(0, 5, len(answered)),
            "y": answered.y.to_numpy() + rng.normal(0, 5, len(answered)),
            "asset": answered.asset.to_numpy(),
            "occurred": days_later(answered.done.to_numpy().astype("datetime64[s]"), -hours / 24),
            "completed": answered.done.to_numpy(),
            "quantity": np.where(answered.event_type == "pothole", 1 + rng.poisson(2.0, len(answered)), 1),
            "severity": None,
        }
    )
    started = clock_times(breaks.day, "any", rng)
    mended = days_later(started, rng.lognormal(np.log(0.6), 0.7, breaks.size))
    broken = pd.DataFrame(
        {
            "event_type": "infra_main_break",
            "request": None,
            "case": np.arange(breaks.size),
            "x": breaks.x,
            "y": breaks.y,
            "asset": breaks.asset,
            "occurred": started,
            "completed": np.where(mended < CUT_2025, mended, np.datetime64("NaT", "s")),
            "quantity": 1,
            "severity": _SEVERITIES[pick(rng, np.array([0.5, 0.35, 0.15]), breaks.size)],
        }
    )
    rows = pd.concat(
        [repairs.astype({"severity": object}), broken.astype({"request": object})], ignore_index=True
    )
    keep = (rows.occurred < CUT_2025) & inside(rows.x.to_numpy(), rows.y.to_numpy())
    rows = rows[keep].sort_values(["occurred", "event_type", "case", "request"], ignore_index=True)
    rows["source_id"] = np.char.mod("WO-%07d", 1 + np.arange(len(rows))).astype(object)
    return rows


def flood_readings(events: Happenings, storms: np.ndarray, seed: int) -> pd.DataFrame:
    """Return one row per flood event: source_id, sensor, x, y, started, ended (UTC), peak_mm."""
    rng = stream(seed, "flood sensors")
    # Sensors stand still: an event is read by one of 60, put near where it happens.
    order = rng.permutation(events.size)[:60]
    sensor = (events.spot * 2_654_435_761 % 2**32) % max(order.size, 1)
    started = clock_times(events.day, "any", rng)
    minutes = rng.lognormal(np.log(70), 0.7, events.size)
    rows = pd.DataFrame(
        {
            "sensor": sensor,
            "x": events.x[order[sensor]] if order.size else events.x,
            "y": events.y[order[sensor]] if order.size else events.y,
            "started": to_utc(started),
            "ended": to_utc(days_later(started, minutes / 1_440)),
            "peak_mm": np.round(rng.gamma(2.0, 45.0, events.size) * (1 + storms[events.day]), 1),
        }
    )
    rows = rows[rows.ended < to_utc(np.array([CUT_2025]))[0]].sort_values(
        ["started", "sensor"], ignore_index=True
    )
    rows["source_id"] = np.char.mod("FS%06d", 1 + np.arange(len(rows))).astype(object)
    return rows


def outages(happenings: dict[str, Happenings], breaks: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return one row per outage, ordered by start.

    Columns: source_id, event_type, x, y, started, estimated, restored (UTC, NaT while out), customers, cause,
    provider.

    Args:
        happenings: True events.
        breaks: The main breaks among the work orders; two of five cut off water.
        seed: The city's seed.
    """
    rng = stream(seed, "outages")
    frames = [
        _outages(
            "utility_power_outage", happenings["utility_power_outage"], 0.12, 90, "Lakewire Electric", rng
        ),
        _outages(
            "utility_planned_outage", happenings["utility_planned_outage"], 0.20, 40, "Lakewire Electric", rng
        ),
    ]
    dry = breaks[rng.random(len(breaks)) < 0.4]
    frames.append(
        pd.DataFrame(
            {
                "event_type": "utility_water_outage",
                "x": dry.x.to_numpy(),
                "y": dry.y.to_numpy(),
                "local": days_later(
                    dry.occurred.to_numpy().astype("datetime64[s]"), rng.uniform(0, 0.1, len(dry))
                ),
                "length": rng.lognormal(np.log(0.4), 0.6, len(dry)),
                "customers": 1 + rng.poisson(rng.gamma(1.5, 25, len(dry))),
                "cause": "MAIN BREAK",
                "provider": "Water Bureau",
            }
        )
    )
    rows = pd.concat(frames, ignore_index=True)
    local = rows.local.to_numpy().astype("datetime64[s]")
    rows["started"] = to_utc(local)
    rows["estimated"] = to_utc(days_later(local, rows.length * rng.lognormal(0, 0.4, len(rows))))
    restored = days_later(local, rows.length.to_numpy())
    is_back = (restored < CUT_2025) & (rng.random(len(rows)) < 0.985)
    rows["restored"] = np.where(is_back, to_utc(restored), np.datetime64("NaT", "s"))
    rows = rows[local < CUT_2025].sort_values(["started", "event_type", "x"], ignore_index=True)
    rows["source_id"] = np.char.mod("OUT-%06d", 1 + np.arange(len(rows))).astype(object)
    return rows.drop(columns=["local", "length"])


def _outages(
    event_type: str,
    events: Happenings,
    median_days: float,
    customers: float,
    provider: str,
    rng: np.random.Generator,
) -> pd.DataFrame:
    causes = np.array(["STORM", "EQUIPMENT", "TREE CONTACT", "VEHICLE", "UNKNOWN"], dtype=object)
    is_planned = event_type == "utility_planned_outage"
    return pd.DataFrame(
        {
            "event_type": event_type,
            "x": events.x,
            "y": events.y,
            "local": clock_times(events.day, "working" if is_planned else "any", rng),
            "length": rng.lognormal(np.log(median_days), 0.8, events.size),
            "customers": 1 + rng.poisson(rng.gamma(0.7, customers, events.size)),
            "cause": "PLANNED WORK" if is_planned else causes[pick(rng, np.arange(5, 0, -1), events.size)],
            "provider": provider,
        }
    )
