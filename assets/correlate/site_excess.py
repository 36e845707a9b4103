"""Which sites draw more complaints after hours than their days and their daytime complaints explain; pure.

The expectation of a site is a per day of work plus b per daytime complaint: some people complain in the
evening about the day's noise. What is counted at a site belongs to dbt, files to `permit_noise`.
"""

from dataclasses import astuple, dataclass
from typing import Self

import numpy as np
from scipy import optimize, special, stats

#: A site is a candidate from this share of false ones on, from so many complaints and distinct evenings.
MAX_Q = 0.10
MIN_COMPLAINTS = 3
MIN_EVENINGS = 2
#: The fit looks at the lower part of each site's own distribution, where sites that break the rule are few.
FITTED_SHARE = 0.90
#: Fewer sites, or fewer complaints after hours among those fitted, tell no expectation.
MIN_SITES = 100
MIN_FITTED_COMPLAINTS = 20

#: A fit is settled that a further round moves by less than this share.
_SETTLED = 0.01
_MAX_ROUNDS = 12
_LEAST = 1e-9
#: Of what is fitted: per day, per daytime complaint, dispersion.
_LIMITS = ((1e-9, 1.0), (1e-6, 10.0), (1e-4, 100.0))


@dataclass(frozen=True)
class SiteCounts:
    """What was counted at the sites of one city, an element per site.

    Attributes:
        days: Days of work on which complaints are known and no variance was in force.
        daytime: Complaints within the hours.
        after_hours: Complaints outside them while no variance was in force.
        evenings: Distinct evenings of those.
    """

    days: np.ndarray
    daytime: np.ndarray
    after_hours: np.ndarray
    evenings: np.ndarray

    def where(self, keep: np.ndarray) -> Self:
        """Return the sites for which `keep` is true."""
        return type(self)(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))

    def __len__(self) -> int:
        """Return the number of sites."""
        return len(self.days)


@dataclass(frozen=True)
class Expectation:
    """Complaints after hours that a city's ordinary sites draw.

    Attributes:
        per_day: Per day of work.
        per_daytime_complaint: Per complaint within the hours.
        dispersion: Variance is mean + dispersion * mean squared.
    """

    per_day: float
    per_daytime_complaint: float
    dispersion: float

    def of(self, sites: SiteCounts) -> np.ndarray:
        """Return the expected complaints after hours of each site."""
        expected = self.per_day * sites.days + self.per_daytime_complaint * sites.daytime
        # A site that held a variance all the time has no day; its chance must still be a number.
        return np.maximum(expected, _LEAST)

    def tail(self, sites: SiteCounts) -> np.ndarray:
        """Return the chance of each site's count or a higher one at a site that is ordinary."""
        size, share = _size_and_share(self.of(sites), self.dispersion)
        return stats.nbinom.sf(sites.after_hours - 1, size, share)


@dataclass(frozen=True)
class JudgedSites:
    """The sites of one city, in the order in which they came; nothing but `is_candidate` without a fit.

    Attributes:
        expectation: None where too little is known.
        n_fitted: Sites in the lower part that was fitted.
        expected: Complaints after hours expected of each site.
        p_value: Chance of its count or a higher one.
        q_value: The same, adjusted over the city's sites by Benjamini and Hochberg.
        is_candidate: Whether an inspection is worth it; never that a rule was broken.
    """

    expectation: Expectation | None
    n_fitted: int
    expected: np.ndarray | None
    p_value: np.ndarray | None
    q_value: np.ndarray | None
    is_candidate: np.ndarray


def judge_sites(sites: SiteCounts) -> JudgedSites:
    """Return which sites of one city are worth an inspection."""
    expectation, n_fitted = fit_expectation(sites)
    if expectation is None:
        return JudgedSites(None, n_fitted, None, None, None, np.zeros(len(sites), bool))
    p_value = expectation.tail(sites)
    q_value = stats.false_discovery_control(p_value, method="bh")
    is_candidate = (
        (q_value <= MAX_Q) & (sites.after_hours >= MIN_COMPLAINTS) & (sites.evenings >= MIN_EVENINGS)
    )
    return JudgedSites(expectation, n_fitted, expectation.of(sites), p_value, q_value, is_candidate)


def fit_expectation(sites: SiteCounts) -> tuple[Expectation | None, int]:
    """Return what ordinary sites draw, and from how many it was fitted; None from too few.

    Each round keeps the sites up to the 90th percentile of their own distribution under the round before,
    and takes the likelihood given that they are there: without that, cutting off the upper tenth of ordinary
    sites too would make the expectation too small.
    """
    n_fitted = 0
    expectation = None
    cut = np.full(len(sites), max(1.0, np.quantile(sites.after_hours, FITTED_SHARE)) if len(sites) else 1.0)
    for _ in range(_MAX_ROUNDS):
        kept = sites.after_hours <= cut
        n_fitted = int(kept.sum())
        # That a count is 0 where it can be nothing else tells nothing.
        telling = kept & (cut > 0)
        fitted = sites.where(telling)
        if len(fitted) < MIN_SITES or fitted.after_hours.sum() < MIN_FITTED_COMPLAINTS:
            return None, n_fitted
        last, expectation = expectation, _most_likely(fitted, cut[telling], expectation)
        if last is not None and np.allclose(astuple(last), astuple(expectation), rtol=_SETTLED, atol=0):
            break
        size, share = _size_and_share(expectation.of(sites), expectation.dispersion)
        cut = stats.nbinom.ppf(FITTED_SHARE, size, share)
    return expectation, n_fitted


def _most_likely(sites: SiteCounts, cut: np.ndarray, last: Expectation | None) -> Expectation:
    """Return the expectation under which counts up to `cut`, given that they are, are most likely.

    Args:
        sites: Those whose counts are up to `cut`.
        cut: How high each count could have been.
        last: Where to begin the search.
    """
    n = sites.after_hours
    of_counts = special.gammaln(n + 1)

    def surprise(logs: np.ndarray) -> float:
        expectation = Expectation(*np.exp(logs))
        mean, dispersion = expectation.of(sites), expectation.dispersion
        size, share = _size_and_share(mean, dispersion)
        chance = (
            special.gammaln(size + n)
            - special.gammaln(size)
            - of_counts
            - size * np.log1p(dispersion * mean)
            + n * (np.log(dispersion * mean) - np.log1p(dispersion * mean))
        )
        below = special.betainc(size, cut + 1, share)
        # Far from the data the chance to be there is too small for a float; so is the count's own.
        return -float(np.sum(chance - np.log(below, where=below > 0, out=np.zeros(len(below)))))

    half = n.sum() / 2
    first = Expectation(half / max(1, sites.days.sum()), half / max(1, sites.daytime.sum()), 1.0)
    limits = np.log(_LIMITS)
    found = optimize.minimize(
        surprise,
        np.clip(np.log(astuple(last or first)), limits[:, 0], limits[:, 1]),
        method="L-BFGS-B",
        bounds=limits,
    )
    return Expectation(*np.exp(found.x).tolist())


def _size_and_share(mean: np.ndarray, dispersion: float) -> tuple[float, np.ndarray]:
    """Return the parameters by which scipy knows a negative binomial."""
    return 1 / dispersion, 1 / (1 + dispersion * mean)
