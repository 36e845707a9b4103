"""Construction sites: permits, after-hours variances, the noise complaints they bring; no files."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from assets.simulate.calendar import DAYS, FIRST_DAY, clock_times, existing, is_weekend
from assets.simulate.chance import pick, stream
from assets.simulate.ground import inside
from assets.simulate.process import Happenings
from assets.simulate.reporting import Complaints


@dataclass(frozen=True)
class Work:
    """How work under one type of permit goes.

    Attributes:
        permit_type: The portal's category.
        work_class: BLDS work class.
        review_days: Median days from application to issue.
        work_days: Median days from issue to completion.
        cost_usd: Median estimated cost.
        complaints: Mean daytime noise complaints of a site.
    """

    event_type: str
    permit_type: str
    work_class: str
    review_days: float
    work_days: float
    cost_usd: float
    complaints: float


WORKS = (
    Work("permit_new_building", "PERMIT – NEW CONSTRUCTION", "New", 45, 220, 480_000, 1.5),
    Work("permit_alteration", "PERMIT – RENOVATION/ALTERATION", "Existing", 20, 75, 38_000, 0.25),
    Work("permit_electrical", "PERMIT – ELECTRIC WIRING", "Existing", 2, 25, 4_000, 0.0),
    Work("permit_demolition", "PERMIT – WRECKING/DEMOLITION", "Existing", 14, 20, 25_000, 1.0),
    Work("permit_street_opening", "PUBLIC WAY – OPENING", "Existing", 5, 6, 9_000, 0.4),
    Work("permit_after_hours_variance", "AFTER HOURS – VARIANCE", "Existing", 3, 14, 500, 0.0),
)
_VARIANCE = len(WORKS) - 1
_BUILDING_SITES = ("permit_new_building", "permit_alteration", "permit_demolition")
_VARIANCE_DAYS = 14


def permits(happenings: dict[str, Happenings], seed: int) -> pd.DataFrame:
    """Return one row per permit, ordered by the day of issue.

    Columns: source_id, work (row of WORKS), site (row of the permit the site began with), x, y, spot,
    applied, issued, completed, expires (days counted from the first, also outside the period), cost,
    is_violator.
    """
    rng = stream(seed, "permits")
    sites = pd.concat(
        [
            pd.DataFrame(
                {"work": row, "x": events.x, "y": events.y, "spot": events.spot, "issued": events.day}
            )
            for row, work in enumerate(WORKS)
            if (events := happenings.get(work.event_type)) is not None
        ],
        ignore_index=True,
    )
    sites["site"] = np.arange(len(sites))
    work_days = np.array([work.work_days for work in WORKS])[sites.work]
    sites["completed"] = sites.issued + 1 + rng.lognormal(np.log(work_days), 0.6).astype(int)
    sites["expires"] = sites.issued + np.where(work_days < 10, 30, 365)
    is_building = np.isin(
        sites.work, [row for row, work in enumerate(WORKS) if work.event_type in _BUILDING_SITES]
    )
    # Who holds a variance works at night lawfully; 8 % of the other building sites do so without one.
    has_variance = is_building & (rng.random(len(sites)) < np.where(sites.work == 0, 0.5, 0.1))
    sites["is_violator"] = is_building & ~has_variance & (rng.random(len(sites)) < 0.08)
    both = pd.concat([sites, _variances(sites[has_variance], rng)], ignore_index=True)
    both = both.sort_values(["issued", "site", "work"], ignore_index=True)
    review_days = np.array([work.review_days for work in WORKS])[both.work]
    both["applied"] = both.issued - rng.lognormal(np.log(review_days), 0.7).astype(int)
    both["cost"] = np.round(
        np.array([work.cost_usd for work in WORKS])[both.work] * rng.lognormal(0, 0.9, len(both)), -1
    )
    both["source_id"] = np.char.mod("P%07d", 4_000_001 + np.arange(len(both))).astype(object)
    return both


def construction_noise(permits: pd.DataFrame, seed: int) -> Complaints:
    """Return the complaints about sites: by day, late about the day, after hours where work goes on."""
    rng = stream(seed, "construction noise")
    mean = np.array([work.complaints for work in WORKS])[permits.work]
    by_day = permits.loc[permits.index.repeat(rng.poisson(rng.gamma(0.5, 2 * mean)))]
    day = _during(by_day, rng)
    second = _seconds(7, 18, len(by_day), rng)
    # One in seven complains in the evening about the day's noise.
    second = np.where(rng.random(len(by_day)) < 0.14, _seconds(18, 22, len(by_day), rng), second)
    lawful = permits.work == _VARIANCE
    rate = np.select([permits.is_violator & ~lawful, lawful], [5.0, 0.6], 0.0)
    by_night = permits.loc[permits.index.repeat(rng.poisson(rate))]
    night = _during(by_night, rng)
    evening = _seconds(19, 23, len(by_night), rng)
    evening = np.where(is_weekend(night), _seconds(8, 20, len(by_night), rng), evening)
    sites = pd.concat([by_day, by_night], ignore_index=True)
    days, seconds = np.concatenate([day, night]), np.concatenate([second, evening])
    distance, angle = rng.lognormal(np.log(25), 0.6, len(sites)), rng.uniform(0, 2 * np.pi, len(sites))
    x, y = sites.x + distance * np.cos(angle), sites.y + distance * np.sin(angle)
    keep = (days >= 0) & (days < DAYS) & inside(x.to_numpy(), y.to_numpy())
    order = np.flatnonzero(keep)[np.lexsort((seconds[keep], days[keep]))]
    spots = sites.spot.to_numpy()
    happenings = Happenings(
        spot=spots[order],
        x=x.to_numpy()[order],
        y=y.to_numpy()[order],
        day=days[order],
        asset=np.full(order.size, -1),
    )
    return Complaints(happenings, existing(FIRST_DAY + days[order], seconds[order]))


def permit_times(permits: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return applied, issued, completed and expires of each permit as wall-clock times of the working day."""
    rng = stream(seed, "permit hours")
    return pd.DataFrame(
        {
            name: clock_times(permits[name].to_numpy(), "working", rng)
            for name in ("applied", "issued", "completed", "expires")
        },
        index=permits.index,
    )


def violators(permits: pd.DataFrame) -> pd.DataFrame:
    """Return source_id of the building sites that work after hours without a variance."""
    return permits.loc[permits.is_violator & (permits.work != _VARIANCE), ["source_id"]]


def contractor_licences(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return licence numbers; a few contractors hold most permits."""
    return np.char.mod("GC%05d", 10_001 + pick(rng, 1 / np.arange(1, 401), count)).astype(object)


def _variances(sites: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    renewals = sites.loc[sites.index.repeat(1 + rng.geometric(0.4, len(sites)).clip(max=8))]
    turn = renewals.groupby(level=0).cumcount().to_numpy()
    renewals = renewals.assign(work=_VARIANCE, issued=renewals.issued + 7 + turn * _VARIANCE_DAYS)
    renewals = renewals.assign(
        expires=renewals.issued + _VARIANCE_DAYS, completed=renewals.issued + _VARIANCE_DAYS
    )
    return renewals[renewals.issued < DAYS]


def _during(sites: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    length = (sites.completed - sites.issued).to_numpy()
    return (sites.issued.to_numpy() + rng.random(len(sites)) * length).astype(int)


def _seconds(first_hour: int, last_hour: int, count: int, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(first_hour * 3_600, last_hour * 3_600, count)
