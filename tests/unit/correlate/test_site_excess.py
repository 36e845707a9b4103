"""Which sites are candidates: where some break the rule, where none does, and where nothing can be told."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from assets.correlate.site_excess import (
    MIN_SITES,
    Expectation,
    SiteCounts,
    fit_expectation,
    judge_sites,
)

#: What ordinary sites of the made-up city draw: per day, per daytime complaint, and how much they differ.
PER_DAY, PER_DAYTIME, DISPERSION = 0.002, 0.35, 0.7


def made_up(seed: int, n: int = 3_000, violators: float = 0.08) -> tuple[SiteCounts, np.ndarray]:
    """Return sites that all draw late complaints about the day, and which of them also work by night."""
    rng = np.random.default_rng(seed)
    days = rng.lognormal(np.log(90), 0.8, n).clip(5, 700).round()
    daytime = rng.poisson(rng.gamma(0.6, 1 / 0.6, n) * days / 100).astype(float)
    mean = PER_DAY * days + PER_DAYTIME * daytime
    ordinary = rng.poisson(rng.gamma(1 / DISPERSION, DISPERSION, n) * mean)
    is_violator = rng.random(n) < violators
    by_night = np.where(is_violator, rng.poisson(rng.gamma(1.2, 5, n)), 0)
    after_hours = (ordinary + by_night).astype(float)
    # Some complaints come on one evening.
    evenings = np.where(after_hours > 0, 1 + rng.binomial(np.maximum(after_hours - 1, 0).astype(int), 0.8), 0)
    return SiteCounts(days, daytime, after_hours, evenings), is_violator


def rates(flagged: np.ndarray, is_violator: np.ndarray) -> tuple[float, float]:
    """Return precision and recall."""
    return is_violator[flagged].mean(), flagged[is_violator].mean()


@pytest.mark.parametrize("seed", [1, 2])
def test_excess_finds_who_works_by_night_and_counting_does_not(seed):
    sites, is_violator = made_up(seed)
    precision, recall = rates(judge_sites(sites).is_candidate, is_violator)
    assert precision >= 0.85
    assert recall >= 0.4
    # The twin: without the excess the same sites, on as many complaints and evenings, are mostly innocent.
    counted = (sites.after_hours >= 3) & (sites.evenings >= 2)
    assert rates(counted, is_violator)[0] < 0.6
    assert rates(sites.after_hours > 0, is_violator)[0] < 0.3


def test_late_complaints_about_the_day_are_no_excess():
    """A site that is loud by day draws many in the evening too: days alone would accuse it."""
    sites, is_violator = made_up(3)
    as_counted = judge_sites(sites).is_candidate
    blind = judge_sites(replace(sites, daytime=np.zeros(len(sites)))).is_candidate
    loud = ~is_violator & (sites.daytime >= 5)
    assert as_counted[loud].mean() < 0.03
    assert blind[loud].mean() > 3 * as_counted[loud].mean()
    assert rates(blind, is_violator)[0] < rates(as_counted, is_violator)[0]


def test_fit_is_that_of_ordinary_sites_in_spite_of_the_others():
    sites, _ = made_up(4, n=4_000)
    expectation, n_fitted = fit_expectation(sites)
    assert expectation.per_day == pytest.approx(PER_DAY, rel=0.2)
    assert expectation.per_daytime_complaint == pytest.approx(PER_DAYTIME, rel=0.2)
    assert expectation.dispersion == pytest.approx(DISPERSION, rel=0.5)
    assert n_fitted < len(sites)
    # The twin: a mean over all sites takes those who work by night for usual.
    assert sites.after_hours.sum() > 1.3 * expectation.of(sites).sum()


def test_where_nobody_breaks_the_rule_chances_are_what_they_say():
    sites, _ = made_up(5, violators=0)
    judged = judge_sites(sites)
    for chance in (0.1, 0.01):
        assert (judged.p_value <= chance).mean() < 1.3 * chance + 0.002
    assert judged.is_candidate.sum() <= 2


def test_a_tail_is_that_of_a_negative_binomial():
    expectation = Expectation(0.01, 0.5, 0.25)
    sites = SiteCounts(*(np.array([value]) for value in (100.0, 2.0, 5.0, 3)))
    # Mean 2, variance 2 + 0.25 * 4 = 3: size 4, share 2/3.
    expected = 1 - sum(stats.nbinom.pmf(n, 4, 2 / 3) for n in range(5))
    assert expectation.tail(sites) == pytest.approx([expected])


@pytest.mark.parametrize(("complaints", "evenings", "is_candidate"), [(9, 2, 1), (9, 1, 0), (2, 2, 0)])
def test_a_rare_count_needs_three_complaints_on_two_evenings(complaints, evenings, is_candidate):
    sites, _ = made_up(6, n=1_000, violators=0)
    quiet = int(np.argmin(sites.days + 1000 * sites.daytime))
    sites.days[quiet], sites.daytime[quiet] = 5, 0
    sites.after_hours[quiet], sites.evenings[quiet] = complaints, evenings
    judged = judge_sites(sites)
    # That it is rare all the same is why the count and the evenings must be asked.
    assert judged.p_value[quiet] < 0.001
    assert judged.is_candidate[quiet] == is_candidate


def test_order_of_sites_changes_nothing_but_the_order():
    sites, _ = made_up(7, n=1_000)
    judged, turned = judge_sites(sites), judge_sites(sites.where(np.arange(len(sites))[::-1]))
    assert turned.q_value[::-1] == pytest.approx(judged.q_value, rel=1e-3)
    assert (turned.is_candidate[::-1] == judged.is_candidate).all()
    # A second run over the same rows is the same to the last digit.
    assert (judge_sites(sites).q_value == judged.q_value).all()


def test_a_site_that_held_a_variance_all_the_time_has_a_chance():
    sites, _ = made_up(8, n=1_000)
    sites.days[0], sites.daytime[0], sites.after_hours[0] = 0, 0, 0
    judged = judge_sites(sites)
    assert judged.p_value[0] == 1
    assert np.isfinite(judged.p_value).all()


@pytest.mark.parametrize("sites", [made_up(9, n=MIN_SITES - 1)[0], made_up(9, n=0)[0]])
def test_too_few_sites_tell_nothing(sites):
    judged = judge_sites(sites)
    assert judged.expectation is None
    assert judged.q_value is None
    assert not judged.is_candidate.any()


def test_complaints_at_a_few_sites_only_tell_nothing_of_the_others():
    sites, _ = made_up(10)
    silent = replace(sites, after_hours=np.where(np.arange(len(sites)) < 5, 30.0, 0.0))
    assert judge_sites(silent).expectation is None
