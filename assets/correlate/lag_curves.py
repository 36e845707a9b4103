"""The level of outcomes near a signal by week and by day before and after it; numbers only.

A curve shows when a level moved and whether it had moved before the signal. It decides nothing: its
reference, the eight weeks before, reaches further from the signal than the adjacent windows of `inference`,
so slow local drift is not cancelled as it is there.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

from assets.correlate.ratios import MAX_LOG_MARGIN, MIN_DF, MIN_OUTCOMES, number_groups

REFERENCE_DAYS = 56
#: Lags of each unit: as many after the signal as before it; there is no lag 0, its order is unknown.
LAGS = {
    unit: np.concatenate([np.arange(-reach, 0), np.arange(1, reach + 1)])
    for unit, reach in (("week", REFERENCE_DAYS // 7), ("day", REFERENCE_DAYS))
}
#: Draws for the quantile of the largest of all lags; their number moves it by about 1 %.
N_DRAWS = 2_000
SEED = 20_240_229


@dataclass(frozen=True)
class LagSums:
    """Columns of `int_lag_blocks`, one element per city, question, unit, H3-7 cell, month and lag.

    Lags that a stratum (city, question, unit, cell, month) does not name have no outcomes in it.
    """

    city: np.ndarray
    question_id: np.ndarray
    unit: np.ndarray
    h3_7: np.ndarray
    month: np.ndarray
    lag: np.ndarray
    d: np.ndarray
    r: np.ndarray

    def __len__(self) -> int:
        return len(self.city)


@dataclass(frozen=True, kw_only=True)
class LagCurve:
    """The curve of one question in one city: arrays over the lags of its unit, NaN where none is published.

    `rr` is 1 at the mean level of the eight weeks before the signal. `ci_*` hold each lag by itself, `band_*`
    all lags at once, both with 95 %. `d` counts outcomes in the disc; `n_block` the cells (of a daily curve,
    months) that the jackknife leaves out one by one.
    """

    city: str
    question_id: str
    unit: str
    lag: np.ndarray
    d: np.ndarray
    rr: np.ndarray
    ci_low: np.ndarray
    ci_high: np.ndarray
    band_low: np.ndarray
    band_high: np.ndarray
    n_block: int


def lag_curves(sums: LagSums) -> list[LagCurve]:
    """Return one curve per city, question and unit, in this order.

    Raises:
        ValueError: A lag that the unit does not have.
    """
    group, rows = number_groups(sums.city, sums.question_id, sums.unit)
    in_order = np.argsort(group, kind="stable")
    parts = np.split(in_order, np.cumsum(np.bincount(group, minlength=len(rows)))[:-1]) if len(rows) else []
    return list(_curves(sums, parts))


def _curves(sums: LagSums, parts: list[np.ndarray]) -> Iterator[LagCurve]:
    for part in parts:
        city, question_id, unit = (str(c[part[0]]) for c in (sums.city, sums.question_id, sums.unit))
        lags = LAGS[unit]
        column = np.searchsorted(lags, sums.lag[part])
        is_unknown = lags[np.minimum(column, len(lags) - 1)] != sums.lag[part]
        if is_unknown.any():
            raise ValueError(
                f"int_lag_blocks, {city}, {question_id}: lag {sums.lag[part][is_unknown][0]} is none of unit "
                f"{unit} (from {lags[0]} to {lags[-1]} without 0): correct the model."
            )
        stratum, strata = number_groups(sums.h3_7[part], sums.month[part])
        cell = np.ravel_multi_index((stratum, column), (len(strata), len(lags)))
        d, r = (
            np.bincount(cell, weights=values[part], minlength=len(strata) * len(lags)).reshape(-1, len(lags))
            for values in (sums.d, sums.r)
        )
        # A daily curve is of the whole city, so that months are what it can be left without.
        block = (sums.h3_7 if unit == "week" else sums.month)[part][strata]
        figures = curve(d, r, block, lags < 0)
        yield LagCurve(city=city, question_id=question_id, unit=unit, lag=lags, **figures)


def curve(d: np.ndarray, r: np.ndarray, block: np.ndarray, is_reference: np.ndarray) -> dict:
    """Return the figures of one curve, see `LagCurve`.

    At each lag, d over its sum in the reference is compared with r over its own. Strata are added up as
    Mantel and Haenszel add rates, with r for the time at risk: a factor common to all r changes nothing. A
    lag of the reference is compared with a sum that holds it, so these ratios have the mean 1. A curve of
    fewer than 50 outcomes or 8 effective degrees of freedom has no ratio, nor has a lag without an outcome,
    or whose outcomes are all of one block.

    Args:
        d: Outcomes in the disc, shape (strata, lags).
        r: Outcomes in the rest of the control area, same shape.
        block: What each stratum is left out with, shape (strata,).
        is_reference: Whether each lag belongs to the reference, shape (lags,).
    """
    num, den = _terms(d, r, is_reference)
    names, of_block = np.unique(block, return_inverse=True)
    num, den = (_added(of_block, terms, len(names)) for terms in (num, den))
    used = (num != 0).any(axis=1) | (den != 0).any(axis=1)
    num, den = num[used], den[used]
    n_block, n_lag = num.shape
    nothing = np.full(n_lag, np.nan)
    figures = dict.fromkeys(("rr", "ci_low", "ci_high", "band_low", "band_high"), nothing)
    figures |= {"d": d.sum(axis=0).astype(int), "n_block": int(n_block)}
    weights = np.abs(num) + np.abs(den)
    if d.sum() < MIN_OUTCOMES or n_block < 2 or _df(weights.sum(axis=1)) < MIN_DF:
        return figures
    without_num, without_den = num.sum(axis=0) - num, den.sum(axis=0) - den
    with np.errstate(invalid="ignore", divide="ignore"):
        log_rr = np.log(num.sum(axis=0) / den.sum(axis=0))
        deviations = np.log(without_num / without_den) - log_rr
        se_log, df = np.sqrt((n_block - 1) / n_block * (deviations**2).sum(axis=0)), _df(weights)
    is_defined = (without_num > 0).all(axis=0) & (without_den > 0).all(axis=0) & (se_log > 0) & (df > 0)
    if not is_defined.any():
        return figures
    log_rr, se_log, df = (np.where(is_defined, values, np.nan) for values in (log_rr, se_log, df))
    # The tail beyond the largest of normal lags, then as a t quantile: each lag has an error of its own.
    tail = stats.norm.sf(_largest_of_all(deviations[:, is_defined]))
    figures["rr"] = np.exp(log_rr)
    for name, beyond in (("ci", 0.025), ("band", tail)):
        margin = np.minimum(stats.t.isf(beyond, df) * se_log, MAX_LOG_MARGIN)
        figures[f"{name}_low"], figures[f"{name}_high"] = np.exp(log_rr - margin), np.exp(log_rr + margin)
    return figures


def _terms(d: np.ndarray, r: np.ndarray, is_reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return numerator and denominator of each stratum and lag."""
    reference_d, reference_r = (x[:, is_reference].sum(axis=1, keepdims=True) for x in (d, r))
    n = reference_r + np.where(is_reference, 0, r)
    with np.errstate(invalid="ignore"):
        num, den = d * reference_r / n, reference_d * r / n
    return np.nan_to_num(num), np.nan_to_num(den)


def _added(of_block: np.ndarray, terms: np.ndarray, n_block: int) -> np.ndarray:
    sums = np.zeros((n_block, terms.shape[1]))
    np.add.at(sums, of_block, terms)
    return sums


def _df(weights: np.ndarray) -> np.ndarray:
    """Return the effective degrees of freedom of the blocks along the first axis."""
    with np.errstate(invalid="ignore"):
        return weights.sum(axis=0) ** 2 / (weights**2).sum(axis=0) - 1


def _largest_of_all(deviations: np.ndarray) -> float:
    """Return the 95 % quantile of the largest of all lags in standard errors, were they normal.

    Lags are dependent as the jackknife's deviations are: each draw gives every block a random weight.

    Args:
        deviations: What leaving out each block does to the log ratio, shape (blocks, lags).
    """
    directions = deviations / np.sqrt((deviations**2).sum(axis=0))
    draws = np.random.default_rng(SEED).standard_normal((N_DRAWS, len(directions)))
    largest = np.quantile(np.abs(draws @ directions).max(axis=1), 0.95)
    # Rounded, because the last bits of a matrix product may depend on the number of threads.
    return max(float(np.round(largest, 9)), stats.norm.isf(0.025))
