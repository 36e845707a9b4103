"""Crew records, sensor readings and outages: what departments and utilities log; files belong to `portal`."""

import numpy as np
import pandas as pd

from assets.simulate.calendar import CUT_2025, clock_times, days_later, to_utc
from assets.simulate.casework import state_at
from assets.simulate.catalogue import RHYTHM_OF, SERVICES
from assets.simulate.chance import pick, stream
from assets.simulate.ground import inside
from assets.simulate.process import Happenings

_REPAIRS = {"streetlight_outage": "infra_streetlight_repair", "pothole": "infra_pothole_repair"}
_REPAIRED = [row for row, service in enumerate(SERVICES) if service.event_type in _REPAIRS]
_NEVER = np.datetime64("NaT", "s")
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

    Columns: source_id, event_type, answers (source_id of the request it is for, or None), request (the one
    that it names, or None), error ('wrong_log', 'closed_in_one_open_in_other' or None), case, x, y, asset,
    occurred, completed, quantity, severity.
    """
    rng = stream(seed, "work orders")
    repairable = _repairable(requests)
    visits = _misfiled(_repairs(_done(repairable), rng), stream(seed, "misfiled work orders"))
    stuck = _of_stuck(_stuck(repairable), stream(seed, "work orders of stuck requests"))
    started = clock_times(breaks.day, "any", rng)
    mended = days_later(started, rng.lognormal(np.log(0.6), 0.7, breaks.size))
    broken = pd.DataFrame(
        {
            "event_type": "infra_main_break",
            "answers": None,
            "request": None,
            "error": None,
            "case": np.arange(breaks.size),
            "x": breaks.x,
            "y": breaks.y,
            "asset": breaks.asset,
            "occurred": started,
            "completed": np.where(mended < CUT_2025, mended, _NEVER),
            "quantity": 1,
            "severity": _SEVERITIES[pick(rng, np.array([0.5, 0.35, 0.15]), breaks.size)],
        }
    )
    texts = dict.fromkeys(("answers", "request", "error", "severity"), object)
    rows = pd.concat([frame.astype(texts) for frame in (visits, stuck, broken)], ignore_index=True)
    keep = (rows.occurred < CUT_2025) & inside(rows.x.to_numpy(), rows.y.to_numpy())
    rows = rows[keep].sort_values(["occurred", "event_type", "case", "answers"], ignore_index=True)
    rows["source_id"] = np.char.mod("WO-%07d", 1 + np.arange(len(rows))).astype(object)
    return rows


def discrepancies(requests: pd.DataFrame, orders: pd.DataFrame) -> pd.DataFrame:
    """Return one row per disagreement of requests and work orders at the last copy.

    Columns: kind ('missing': done and no order; 'not_transferred': stuck and no order; 'wrong_log';
    'closed_in_one_open_in_other'), source_id (the request), work_order (or None), named (the request that
    the order names, or None).
    """
    repairable, answered = _repairable(requests), orders.answers.dropna()
    told = []
    for kind, of_kind in (("missing", _done(repairable)), ("not_transferred", _stuck(repairable))):
        without = of_kind[~of_kind.source_id.isin(answered)]
        told.append(
            pd.DataFrame({"kind": kind, "source_id": without.source_id, "work_order": None, "named": None})
        )
    wrong = orders[orders.error.notna()]
    told.append(
        pd.DataFrame(
            {
                "kind": wrong.error,
                "source_id": wrong.answers,
                "work_order": wrong.source_id,
                "named": wrong.request,
            }
        )
    )
    rows = pd.concat([frame.astype(object) for frame in told])
    return rows.sort_values(["kind", "source_id"], ignore_index=True)


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
    rows["restored"] = np.where(is_back, to_utc(restored), _NEVER)
    rows = rows[local < CUT_2025].sort_values(["started", "event_type", "x"], ignore_index=True)
    rows["source_id"] = np.char.mod("OUT-%06d", 1 + np.arange(len(rows))).astype(object)
    return rows.drop(columns=["local", "length"])


def _done(requests: pd.DataFrame) -> pd.DataFrame:
    """Return the requests that the last copy shows as completed, with `done`."""
    told = requests[requests.ending == "Completed"]
    told = told.assign(done=state_at(told, CUT_2025).closed)
    return told[told.done.notna()]


def _stuck(requests: pd.DataFrame) -> pd.DataFrame:
    """Return the requests that got stuck and are open at the last copy."""
    stuck = requests[requests.stall.notna()]
    return stuck[state_at(stuck, CUT_2025).closed.isna()]


def _repairable(requests: pd.DataFrame) -> pd.DataFrame:
    return requests[requests.service.isin(_REPAIRED) & ~requests.is_labelled]


def _repairs(done: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return the visits that ended requests, nine of ten: the others were never logged."""
    answered = done[rng.random(len(done)) < 0.9]
    hours = rng.uniform(1, 5, len(answered))
    return _orders(
        answered,
        days_later(answered.done.to_numpy().astype("datetime64[s]"), -hours / 24),
        answered.done.to_numpy(),
        rng,
    )


def _of_stuck(stuck: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return the orders of requests that got stuck: of some work goes on, of some only the request does.

    The others were never handed to a crew.
    """
    fate = pick(rng, np.array([0.45, 0.20, 0.35]), len(stuck))
    services = [next(row for row in SERVICES if row.event_type == name) for name in stuck.event_type]
    median, spread = (
        np.array([getattr(row, name) for row in services]) for name in ("median_days", "spread")
    )
    begun = days_later(
        stuck.assigned.to_numpy().astype("datetime64[s]"), rng.lognormal(np.log(median), spread)
    )
    finished = days_later(begun, rng.uniform(1, 5, len(stuck)) / 24)
    is_finished = (fate == 1) & (finished < CUT_2025)
    orders = _orders(stuck, begun, np.where(is_finished, finished, _NEVER), rng)
    orders["error"] = np.where(is_finished, "closed_in_one_open_in_other", None)
    return orders[fate < 2]


def _orders(
    requests: pd.DataFrame, occurred: np.ndarray, completed: np.ndarray, rng: np.random.Generator
) -> pd.DataFrame:
    count = len(requests)
    return pd.DataFrame(
        {
            "event_type": requests.event_type.map(_REPAIRS).to_numpy(),
            "answers": requests.source_id.to_numpy(),
            "request": requests.source_id.to_numpy(),
            "error": None,
            "case": -1,
            # Crews log where the truck stands.
            "x": requests.x.to_numpy() + rng.normal(0, 5, count),
            "y": requests.y.to_numpy() + rng.normal(0, 5, count),
            "asset": requests.asset.to_numpy(),
            "occurred": occurred,
            "completed": completed,
            "quantity": np.where(requests.event_type == "pothole", 1 + rng.poisson(2.0, count), 1),
            "severity": None,
        }
    )


def _misfiled(visits: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return the visits with what crews get wrong: numbers left out or mistaken, orders never closed."""
    slip = pick(rng, np.array([0.88, 0.08, 0.01, 0.01, 0.02]), len(visits))
    number = visits.request.to_numpy(dtype=object)
    # The next ticket of the same crew; in the order of their closing, as the visits come.
    order = np.lexsort((visits.completed.to_numpy(), visits.event_type.to_numpy(dtype=str)))
    neighbour = np.empty_like(number)
    neighbour[order] = np.roll(number[order], 1)
    digits = rng.integers(1, 10, len(visits)) * 10 ** rng.integers(0, 6, len(visits))
    typed = np.array(
        [f"{text[:5]}{int(text[5:]) + by:08d}" for text, by in zip(number, digits, strict=True)], dtype=object
    )
    is_left_open = slip == 4
    return visits.assign(
        request=np.select([slip == 1, slip == 2, slip == 3], [None, typed, neighbour], number),
        error=np.select(
            [np.isin(slip, (2, 3)), is_left_open], ["wrong_log", "closed_in_one_open_in_other"], None
        ),
        completed=visits.completed.where(~is_left_open),
    )


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
