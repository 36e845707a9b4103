"""How true events become service requests: delays and repeated reports; what becomes of them is casework's.

Everything here comes after the effects, so a report is a blurred copy of what happened.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from assets.simulate.calendar import CUT_2025, clock_times, days_later
from assets.simulate.casework import worked
from assets.simulate.catalogue import REQUEST_SUBTYPES, RHYTHM_OF, SERVICES
from assets.simulate.chance import pick, stream
from assets.simulate.ground import SIDE_M, SOUTH_M, WEST_M, inside
from assets.simulate.process import Happenings

#: Reported at once by whoever hears or sees it: their effects act on the report itself.
_UNDELAYED = ("rodent", "noise_residential", "noise_construction")
#: How much faster what is known is reported again in the fastest place than in the slowest: as far apart as
#: neighbourhoods were found to be (Liu & Garg, doi 10.1038/s43588-023-00572-6).
FASTEST_TO_SLOWEST = 3.0
#: Speed changes over districts, not over streets: waves this long cross the city once or twice.
_WAVES, _WAVE_M = 5, (8_000.0, 16_000.0)


@dataclass(frozen=True)
class Complaints:
    """True reports of one type with their own times: what construction sites bring about."""

    happenings: Happenings
    requested: np.ndarray


def service_requests(happenings: dict[str, Happenings], noise: Complaints, seed: int) -> pd.DataFrame:
    """Return one row per report, ordered by time, with all that will ever happen to it.

    Columns: source_id, event_type, subtype (row of REQUEST_SUBTYPES), service (row of SERVICES), case (row
    of the true event within its type), is_repeat, x, y, spot, asset, speed (`reporting_speed` where the first
    report lies), requested, and those of `casework.worked`. Times are wall clock, NaT where never.
    """
    frames = []
    for row, service in enumerate(SERVICES):
        rng = stream(seed, f"reports {service.event_type}")
        if service.event_type == "noise_construction":
            frames.append(_first_reports(noise.happenings, noise.requested, row, rng))
        else:
            events = happenings[service.event_type]
            frames.append(
                _first_reports(events, _report_times(service.event_type, events.day, rng), row, rng)
            )
        frames[-1]["speed"] = reporting_speed(frames[-1].x.to_numpy(), frames[-1].y.to_numpy(), seed)
        frames.append(_repeats(frames[-1], service.repeats, rng))
    reports = pd.concat(frames, ignore_index=True)
    reports = reports[(reports.requested < CUT_2025) & inside(reports.x.to_numpy(), reports.y.to_numpy())]
    reports = reports.sort_values(["requested", "service", "case", "is_repeat"], ignore_index=True)
    reports["source_id"] = _numbers(reports.requested)
    return worked(reports, seed)


def reporting_speed(x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    """Return how fast what was reported at each point is reported again, relative to the mean of the city.

    Smooth over the ground and the same for all types. First reports are left alone: what a late one does to
    an effect is the matter of `_report_times`.

    Args:
        x: Local metres.
        y: The same.
        seed: The city's seed.
    """
    rng = stream(seed, "reporting speed")
    direction, phase = rng.uniform(0, 2 * np.pi, (2, _WAVES))
    number = 2 * np.pi / rng.uniform(*_WAVE_M, _WAVES)

    def height(east: np.ndarray, north: np.ndarray) -> np.ndarray:
        along = np.multiply.outer(east, np.cos(direction)) + np.multiply.outer(north, np.sin(direction))
        return np.sin(number * along + phase).sum(axis=-1)

    grid = height(*np.meshgrid(*[np.linspace(0, SIDE_M, 101)] * 2))
    per_height = np.log(FASTEST_TO_SLOWEST) / (grid.max() - grid.min())
    return np.exp(per_height * height(x - WEST_M, y - SOUTH_M)) / np.exp(per_height * grid).mean()


def _report_times(event_type: str, day: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    times = clock_times(day, RHYTHM_OF[event_type], rng)
    if event_type in _UNDELAYED:
        return times
    # Four of five are reported the day they begin. A mean delay near half a day moves a planted 1.6 by 3 %;
    # the 3-day mean of the delay scenario would move it by 12 %.
    delay = np.where(rng.random(day.size) < 0.8, 0.0, rng.exponential(2.0, day.size))
    return days_later(times, delay)


def _first_reports(
    events: Happenings, requested: np.ndarray, service: int, rng: np.random.Generator
) -> pd.DataFrame:
    event_type = SERVICES[service].event_type
    filed_as = [row for row, subtype in enumerate(REQUEST_SUBTYPES) if subtype.event_type == event_type]
    shares = np.array([REQUEST_SUBTYPES[row].share for row in filed_as])
    return pd.DataFrame(
        {
            "event_type": event_type,
            "service": service,
            "subtype": np.array(filed_as)[pick(rng, shares, events.size)],
            "case": np.arange(events.size),
            "is_repeat": False,
            "x": events.x + rng.normal(0, 1.0, events.size),
            "y": events.y + rng.normal(0, 1.0, events.size),
            "spot": events.spot,
            "asset": events.asset,
            "requested": requested,
        }
    )


def _repeats(first: pd.DataFrame, mean: float, rng: np.random.Generator) -> pd.DataFrame:
    # Some things are reported by everyone who passes, most by nobody else: a gamma-mixed Poisson.
    expected = rng.gamma(1.0, mean, len(first)) if mean else np.zeros(len(first))
    counts = rng.poisson(expected * first.speed.to_numpy())
    again = first.loc[first.index.repeat(counts)].copy()
    # Not the rule that a detector would use: 6 % lie beyond 40 m, 4 % come after 10 days.
    distance, angle = rng.lognormal(np.log(10), 0.9, len(again)), rng.uniform(0, 2 * np.pi, len(again))
    again["x"] += distance * np.cos(angle)
    again["y"] += distance * np.sin(angle)
    again["requested"] = days_later(again.requested.to_numpy(), 0.01 + rng.gamma(0.9, 3.2, len(again)))
    again["is_repeat"] = True
    return again


def _numbers(requested: pd.Series) -> np.ndarray:
    year = requested.dt.year.to_numpy()
    number = np.arange(len(requested)) - np.searchsorted(year, year)
    return np.char.add(np.char.mod("SR%02d-", year % 100), np.char.mod("%08d", number + 1)).astype(object)
