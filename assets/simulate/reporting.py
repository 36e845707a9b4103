"""How true events become service requests: delays, repeated reports, who works them and how they end.

Everything here comes after the effects, so a report is a blurred copy of what happened.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from assets.simulate.calendar import CUT_2024, CUT_2025, clock_times, days_later
from assets.simulate.catalogue import REQUEST_SUBTYPES, RHYTHM_OF, SERVICES
from assets.simulate.chance import pick, stream
from assets.simulate.ground import inside
from assets.simulate.process import Happenings

_NEVER = np.datetime64("NaT", "s")
#: Reported at once by whoever hears or sees it: their effects act on the report itself.
_UNDELAYED = ("rodent", "noise_residential", "noise_construction")
_ENDINGS = np.array(["Completed", "No Action Taken", "Transferred", "Canceled"])
_ENDING_WEIGHTS = np.array([0.86, 0.06, 0.04, 0.04])
_CHANNELS = np.array(["PHONE", "APP", "WEB", "Open311", "Walk-in"])
_CHANNEL_WEIGHTS = np.array([0.46, 0.30, 0.17, 0.06, 0.01])


@dataclass(frozen=True)
class Complaints:
    """True reports of one type with their own times: what construction sites bring about."""

    happenings: Happenings
    requested: np.ndarray


def service_requests(happenings: dict[str, Happenings], noise: Complaints, seed: int) -> pd.DataFrame:
    """Return one row per report, ordered by time, with all that will ever happen to it.

    Columns: source_id, event_type, subtype (row of REQUEST_SUBTYPES), service (row of SERVICES), case (row
    of the true event within its type), is_repeat, is_labelled (the portal calls it a duplicate), parent
    (source_id or None), x, y, spot, asset, requested, due, assigned, closed, ending, reopened, closed_again,
    channel. Times are wall clock, NaT where never.
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
        frames.append(_repeats(frames[-1], service.repeats, rng))
    reports = pd.concat(frames, ignore_index=True)
    reports = reports[(reports.requested < CUT_2025) & inside(reports.x.to_numpy(), reports.y.to_numpy())]
    reports = reports.sort_values(["requested", "service", "case", "is_repeat"], ignore_index=True)
    reports["source_id"] = _numbers(reports.requested)
    return _worked(reports, stream(seed, "casework"))


def state_at(requests: pd.DataFrame, cut: np.datetime64) -> pd.DataFrame:
    """Return status, closed and updated of each request as the portal shows them at `cut`.

    Args:
        requests: Rows of `service_requests` made before the cut.
        cut: Wall-clock time of the copy.
    """
    is_reopened = (requests.reopened <= cut).to_numpy()
    closed = np.where(is_reopened, requests.closed_again, requests.closed)
    is_closed = closed <= cut
    is_labelled = requests.is_labelled.to_numpy()
    status = np.where(requests.assigned <= cut, "In Progress", "Open")
    status = np.where(is_reopened, "Reopened", status)
    status = np.where(is_labelled, "Open - Dup", status)
    done = np.where(is_labelled, "Completed - Dup", requests.ending)
    steps = requests[["requested", "assigned", "closed", "reopened", "closed_again"]]
    return pd.DataFrame(
        {
            "status": np.where(is_closed, done, status),
            "closed": pd.Series(closed, index=requests.index).where(is_closed),
            "updated": steps.where(steps <= cut).max(axis=1),
        },
        index=requests.index,
    )


def known_at_2024(requests: pd.DataFrame) -> pd.DataFrame:
    """Return the requests of the yearly copy taken at the end of 2024."""
    return requests[requests.requested < CUT_2024]


def new_in_2025(requests: pd.DataFrame) -> pd.DataFrame:
    """Return the requests of the copy taken at the end of 2025: the new ones, and older ones that changed."""
    return requests[(requests.requested >= CUT_2024) | (state_at(requests, CUT_2025).updated >= CUT_2024)]


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
    # Some places are reported by everyone who passes, most by nobody else: a gamma-mixed Poisson.
    counts = rng.poisson(rng.gamma(1.0, mean, len(first)) if mean else np.zeros(len(first)))
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


def _worked(reports: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    count = len(reports)
    median, spread, target = (
        np.array([getattr(service, name) for service in SERVICES])[reports.service]
        for name in ("median_days", "spread", "target_days")
    )
    requested = reports.requested.to_numpy().astype("datetime64[s]")
    lag = rng.lognormal(np.log(median), spread)
    reports["due"] = days_later(requested, target)
    reports["assigned"] = days_later(requested, np.minimum(rng.exponential(0.3 * median), 0.9 * lag))
    never = rng.random(count) < 0.08
    reports["closed"] = np.where(never, _NEVER, days_later(requested, lag))
    reports["ending"] = _ENDINGS[pick(rng, _ENDING_WEIGHTS, count)]
    reports["channel"] = _CHANNELS[pick(rng, _CHANNEL_WEIGHTS, count)]
    _label_duplicates(reports, rng)
    is_reopened = ~never & ~reports.is_labelled & (rng.random(count) < 0.02)
    closed = reports.closed.to_numpy().astype("datetime64[s]")
    reopened = np.where(is_reopened, days_later(closed, rng.uniform(1, 60, count)), _NEVER)
    reports["reopened"] = reopened
    reports["closed_again"] = days_later(reopened, rng.lognormal(np.log(median), spread))
    return reports


def _label_duplicates(reports: pd.DataFrame, rng: np.random.Generator) -> None:
    """Let the portal recognise 60 % of the repeated reports that come while the first is open."""
    firsts = reports[~reports.is_repeat].set_index(["service", "case"])
    of_first = reports.set_index(["service", "case"]).index
    still_open = firsts.closed.reindex(of_first).to_numpy()
    parent = firsts.source_id.reindex(of_first).to_numpy(dtype=object)
    requested = reports.requested.to_numpy()
    in_time = np.isnat(still_open) | (requested < still_open)
    known = pd.notna(parent) & (requested >= firsts.requested.reindex(of_first).to_numpy())
    labelled = reports.is_repeat.to_numpy() & known & in_time & (rng.random(len(reports)) < 0.6)
    reports["is_labelled"] = labelled
    reports["parent"] = np.where(labelled, parent, None)
    # A recognised duplicate ends with its parent; one in five is closed at once.
    at_once = days_later(requested, rng.exponential(0.4, len(reports)))
    ends = np.where(rng.random(len(reports)) < 0.2, at_once, still_open)
    reports["closed"] = np.where(labelled, ends, reports.closed.to_numpy())
