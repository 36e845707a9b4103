"""Lag curves against numbers made by hand, and what their band promises on simulated strata."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.correlate.lag_curves import LAGS, LagSums, curve, lag_curves
from assets.correlate.ratios import mantel_haenszel

FIGURES = ("rr", "ci_low", "ci_high", "band_low", "band_high")


def simulated(unit, rng, *, cells=40, months=12, d=0.3, r=6.0, bump=None):
    """Strata with a season of their own; hot cells, and shocks that hit the disc of one stratum and lag."""
    lags = LAGS[unit]
    n = cells * months
    season = 1 + 0.3 * np.sin(rng.uniform(0, 6, (n, 1)) + 2 * lags / len(lags))
    heat = np.repeat(rng.lognormal(0, 0.5, cells), months)[:, None]
    effect = np.ones(len(lags))
    for lag, ratio in (bump or {}).items():
        effect[lags == lag] = ratio
    shock = rng.gamma(4, 1 / 4, (n, len(lags)))
    disc = rng.poisson(d * heat * season * shock * effect)
    rest = rng.poisson(r * season * np.ones((n, len(lags))))
    block = np.arange(n) // months if unit == "week" else np.arange(n)
    return disc, rest, block, lags < 0


def sums(disc, rest, *, unit="week", months=12, city="town", question_id="q", sparse=False):
    """The table that holds these strata, without the rows in which nothing happened if asked."""
    n, lags = disc.shape
    stratum, column = np.divmod(np.arange(n * lags), lags)
    month = np.datetime64("2022-01") + stratum % months
    rows = LagSums(
        city=np.full(n * lags, city, object),
        question_id=np.full(n * lags, question_id, object),
        unit=np.full(n * lags, unit, object),
        h3_7=stratum // months,
        month=month.astype("datetime64[D]"),
        lag=LAGS[unit][column],
        d=disc.ravel(),
        r=rest.ravel(),
    )
    return taken(rows, (rows.d > 0) | (rows.r > 0)) if sparse else rows


def taken(rows, keep):
    return LagSums(**{name: getattr(rows, name)[keep] for name in LagSums.__dataclass_fields__})


def stack(*parts):
    return LagSums(
        **{f: np.concatenate([getattr(p, f) for p in parts]) for f in LagSums.__dataclass_fields__}
    )


def test_two_strata_by_hand():
    """Two weeks before with d 6 and 4, r 30 and 20, one after with d 12, r 25; elsewhere all d one more."""
    d, r = np.array([[6, 4, 12], [7, 5, 13]]), np.array([[30, 20, 25], [30, 20, 25]])
    found = curve(
        np.repeat(d, 10, axis=0), np.repeat(r, 10, axis=0), np.arange(20), np.array([1, 1, 0], bool)
    )
    before = (6 + 7) / (10 * 30 / 50 + 12 * 30 / 50)
    after = (12 * 50 / 75 + 13 * 50 / 75) / (10 * 25 / 75 + 12 * 25 / 75)
    assert found["rr"] == pytest.approx([before, (4 + 5) / (10 * 20 / 50 + 12 * 20 / 50), after])
    assert after == pytest.approx(25 / 11)
    assert found["d"].tolist() == [130, 90, 250]
    assert found["n_block"] == 20


def test_intervals_equal_those_of_a_loop():
    rng = np.random.default_rng(4)
    d, r, block, is_reference = simulated("week", rng, cells=12, months=3)
    found = curve(d, r, block, is_reference)
    num, den = np.zeros((12, 16)), np.zeros((12, 16))
    for i in range(len(d)):
        reference_d, reference_r = d[i, :8].sum(), r[i, :8].sum()
        for lag in range(16):
            n = reference_r if lag < 8 else reference_r + r[i, lag]
            num[block[i], lag] += d[i, lag] * reference_r / n
            den[block[i], lag] += reference_d * r[i, lag] / n
    for lag in range(16):
        expected = mantel_haenszel(num[:, lag], den[:, lag])
        for name in ("rr", "ci_low", "ci_high"):
            assert found[name][lag] == pytest.approx(getattr(expected, name))


@given(st.integers(0, 2**30))
@settings(max_examples=25, deadline=None)
def test_reference_lags_have_the_mean_one(seed):
    d, r, block, is_reference = simulated("week", np.random.default_rng(seed), cells=40, months=2, d=1.0)
    found = curve(d, r, block, is_reference)
    share = r[:, :8] / r[:, :8].sum(axis=1, keepdims=True)
    weight = (d[:, :8].sum(axis=1, keepdims=True) * share).sum(axis=0)
    assert np.sum(weight * found["rr"][:8]) / weight.sum() == pytest.approx(1)


@given(st.integers(0, 2**30), st.floats(0.01, 100))
@settings(max_examples=25, deadline=None)
def test_a_factor_on_the_rest_changes_nothing(seed, times):
    d, r, block, is_reference = simulated("week", np.random.default_rng(seed), cells=40, months=2, d=1.0)
    one, other = curve(d, r, block, is_reference), curve(d, times * r, block, is_reference)
    assert np.isfinite(one["rr"]).any()
    for name in FIGURES:
        assert other[name] == pytest.approx(one[name], rel=1e-6, nan_ok=True)


@given(st.integers(0, 2**30), st.integers(2, 9))
@settings(max_examples=25, deadline=None)
def test_a_factor_on_the_disc_changes_nothing_either(seed, times):
    d, r, block, is_reference = simulated("week", np.random.default_rng(seed), cells=40, months=2, d=1.0)
    one, other = curve(d, r, block, is_reference), curve(times * d, r, block, is_reference)
    for name in FIGURES:
        assert other[name] == pytest.approx(one[name], rel=1e-6, nan_ok=True)


@pytest.mark.parametrize(("unit", "cells", "months"), [("week", 40, 12), ("day", 1, 36)])
def test_band_holds_a_flat_curve_in_95_of_100(unit, cells, months):
    rng = np.random.default_rng(2)
    level = {"week": {}, "day": {"d": 3.0, "r": 60.0}}[unit]
    held, alone = [], []
    for _ in range(200):
        found = curve(*simulated(unit, rng, cells=cells, months=months, **level))
        held.append(np.all((found["band_low"] <= 1) & (found["band_high"] >= 1)))
        alone.append(np.mean((found["ci_low"] <= 1) & (found["ci_high"] >= 1)))
    # 200 curves tell 95 % from 91 %, and from 99 %.
    assert 0.91 <= np.mean(held) <= 0.99
    assert 0.93 <= np.mean(alone) <= 0.97
    # Without the band, some lag of most curves would look like a finding.
    assert np.mean(np.array(alone) == 1) < 0.7


def test_a_planted_bump_lies_outside_the_band():
    rng = np.random.default_rng(3)
    found = curve(*simulated("week", rng, d=0.6, bump={1: 1.5, 2: 1.4}))
    outside = (found["band_low"] > 1) | (found["band_high"] < 1)
    assert LAGS["week"][outside].tolist() == [1, 2]
    assert found["rr"][LAGS["week"] == 1] == pytest.approx(1.5, rel=0.12)


def test_an_earlier_rise_is_seen_before_the_signal():
    rng = np.random.default_rng(3)
    found = curve(*simulated("week", rng, d=0.6, bump={-1: 1.6}))
    assert found["band_low"][LAGS["week"] == -1] > 1


def test_interval_lies_inside_the_band():
    rng = np.random.default_rng(1)
    for unit in LAGS:
        found = curve(*simulated(unit, rng, cells=20))
        ends = np.array([found[n] for n in ("band_low", "ci_low", "rr", "ci_high", "band_high")])
        assert (np.diff(ends, axis=0) >= 0).all()


def test_fewer_than_fifty_outcomes_publish_no_curve():
    rng = np.random.default_rng(6)
    d, r, block, is_reference = simulated("week", rng, cells=12, months=4)
    d = np.zeros_like(d)
    d.ravel()[rng.permutation(d.size)[:49]] = 1
    thin = curve(d, r, block, is_reference)
    assert all(np.isnan(thin[name]).all() for name in FIGURES)
    assert thin["d"].sum() == 49
    d.ravel()[np.flatnonzero(d.ravel() == 0)[0]] = 1
    assert np.isfinite(curve(d, r, block, is_reference)["rr"]).any()


def test_few_effective_blocks_publish_no_curve():
    rng = np.random.default_rng(6)
    d, r, block, is_reference = simulated("week", rng, cells=8, months=4, d=3.0)
    assert np.isnan(curve(d, r, block, is_reference)["rr"]).all()
    d, r, block, is_reference = simulated("week", rng, cells=30, months=4, d=3.0)
    assert np.isfinite(curve(d, r, block, is_reference)["rr"]).all()
    d[block == 0] *= 200
    r[block == 0] *= 200
    assert np.isnan(curve(d, r, block, is_reference)["rr"]).all()


def test_a_lag_without_outcomes_or_of_one_block_has_no_ratio():
    rng = np.random.default_rng(7)
    d, r, block, is_reference = simulated("week", rng, d=2.0)
    d[:, 9] = 0
    d[block != 3, 12] = 0
    found = curve(d, r, block, is_reference)
    missing = np.isnan([found[name] for name in FIGURES])
    assert (missing == missing[0]).all()
    assert np.flatnonzero(missing[0]).tolist() == [9, 12]


def test_curves_come_from_the_rows_of_their_city_question_and_unit():
    rng = np.random.default_rng(9)
    one, other = (simulated("week", rng, d=0.5) for _ in range(2))
    daily = simulated("day", rng, cells=1, months=24, d=2.0, r=30.0)
    rows = stack(
        sums(*one[:2]),
        sums(*other[:2], question_id="p", sparse=True),
        sums(*daily[:2], unit="day", months=24),
        sums(*other[:2], city="elsewhere"),
    )
    found = lag_curves(taken(rows, np.random.default_rng(1).permutation(len(rows))))
    assert [(c.city, c.question_id, c.unit) for c in found] == [
        ("elsewhere", "q", "week"),
        ("town", "p", "week"),
        ("town", "q", "day"),
        ("town", "q", "week"),
    ]
    for got, given_strata in zip(found, (other, other, daily, one), strict=True):
        expected = curve(*given_strata)
        assert got.lag.tolist() == LAGS[got.unit].tolist()
        assert got.d.tolist() == expected["d"].tolist()
        assert got.n_block == expected["n_block"]
        for name in FIGURES:
            assert getattr(got, name) == pytest.approx(expected[name], nan_ok=True, rel=1e-6)


def test_a_second_run_gives_the_same_bits():
    rows = sums(*simulated("week", np.random.default_rng(9), d=0.5)[:2])
    (one,), (other,) = lag_curves(rows), lag_curves(rows)
    for name in FIGURES:
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes()


@pytest.mark.parametrize("lag", [0, 9, -9])
def test_a_lag_that_the_unit_lacks_is_named(lag):
    rows = sums(*simulated("week", np.random.default_rng(9))[:2])
    with pytest.raises(ValueError, match=f"int_lag_blocks, town, q: lag {lag} is none of unit week"):
        lag_curves(replace(rows, lag=np.where(np.arange(len(rows)) == 5, lag, rows.lag)))


def test_no_rows_no_curves():
    rows = sums(*simulated("week", np.random.default_rng(9))[:2])
    assert lag_curves(taken(rows, np.zeros(len(rows), bool))) == []
