"""From block sums to rate ratios, intervals and verdicts; numbers only: no files, no SQL, no orchestrator.

The sums come from dbt (`mart_correlation_blocks`): the place of each signal compared with itself,
differenced against the surrounding area. The sentences about the results are in `wording`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
from scipy import stats

Verdict = Literal["insufficient", "not_supported", "reversed_or_confounded", "immaterial", "supported"]

MIN_OUTCOMES = 50
MIN_DF = 8
MAX_ADJUSTED_P = 0.05
MAX_PLACEBO_P = 0.01
#: Below this lower bound an effect is too small to matter; with millions of events most are significant.
MATERIAL_RATIO = 1.05
#: Above this mean contamination the correction is not exact; episodes without an earlier neighbour are used.
MAX_MEAN_EXPOSURE = 0.15
#: Measured variance of the log ratio over that of two Poisson counts, for planning where no interval exists.
DESIGN_EFFECT = 1.5
#: Standard errors between no effect and one found with 80 % power at the 5 % level, two-sided.
POWER_DISTANCE = 2.8


@dataclass(frozen=True)
class Ratio:
    """A rate ratio with its delete-one-cell jackknife interval; all NaN where it is not defined."""

    rr: float
    ci_low: float
    ci_high: float
    p_value: float
    se_log: float
    df: float


UNDEFINED = Ratio(*[float("nan")] * 6)


@dataclass(frozen=True)
class BlockSums:
    """Columns of `mart_correlation_blocks`, one element per block."""

    city: np.ndarray
    question_id: np.ndarray
    band: np.ndarray
    variant: np.ndarray
    control_level: np.ndarray
    h3_7: np.ndarray
    month: np.ndarray
    n_anchor: np.ndarray
    d0: np.ndarray
    d1: np.ndarray
    num: np.ndarray
    den: np.ndarray
    c0_sum: np.ndarray
    naive_expected: np.ndarray

    def where(self, keep: np.ndarray) -> Self:
        """Return the blocks for which the boolean array is true."""
        return replace(self, **{name: getattr(self, name)[keep] for name in self.__dataclass_fields__})

    def __len__(self) -> int:
        return len(self.city)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What is known about one question in one city and ring; None where a ratio is not published.

    `n_anchor`, `d0`, `d1`, `df` and the halves belong to the estimator that is reported; `mean_c0`,
    `naive_ratio` and `raw_after_before_ratio` to all episodes.
    """

    city: str
    question_id: str
    band: int
    estimator: Literal["all_episodes", "isolated_episodes"]
    control_level: str
    n_anchor: int
    n_block: int
    d0: int
    d1: int
    mean_c0: float
    rr: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    p_adjusted: float | None
    n_tests: int
    df: float | None
    placebo_rr: float | None
    placebo_p: float | None
    guarded_rr: float | None
    guarded_ci_low: float | None
    guarded_ci_high: float | None
    isolated_rr: float | None
    first_half_rr: float | None
    second_half_rr: float | None
    case_crossover_rr: float | None
    naive_ratio: float | None
    raw_after_before_ratio: float | None
    extra_per_100_signals: float | None
    minimal_detectable_rr: float | None
    verdict: Verdict


#: Fields that an insufficient estimate leaves empty. The naive ratio too: it is a contrast to the estimate,
#: and without one it would be the only ratio in the row.
RATIO_FIELDS = (
    "rr",
    "ci_low",
    "ci_high",
    "p_value",
    "p_adjusted",
    "placebo_rr",
    "placebo_p",
    "guarded_rr",
    "guarded_ci_low",
    "guarded_ci_high",
    "isolated_rr",
    "first_half_rr",
    "second_half_rr",
    "case_crossover_rr",
    "naive_ratio",
    "raw_after_before_ratio",
    "extra_per_100_signals",
)


def mantel_haenszel(num: np.ndarray, den: np.ndarray) -> Ratio:
    """Return sum(num) / sum(den) with a 95 % delete-one-cell jackknife interval on the log scale.

    Cells are dependent inside and a few hot ones dominate, so the t quantile uses an effective number of
    cells; cluster-robust errors with G - 1 degrees of freedom had twice the nominal rate of p < .005.

    Args:
        num: Numerator sum of each H3-7 cell, shape (cells,).
        den: Denominator sum of each cell, same shape.
    """
    used = (num != 0) | (den != 0)
    num, den = num[used], den[used]
    total_num, total_den, cells = num.sum(), den.sum(), len(num)
    without_num, without_den = total_num - num, total_den - den
    if cells < 2 or min(total_num, total_den) <= 0 or min(without_num.min(), without_den.min()) <= 0:
        return UNDEFINED
    log_rr = np.log(total_num / total_den)
    deviations = np.log(without_num / without_den) - log_rr
    se_log = np.sqrt((cells - 1) / cells * np.sum(deviations**2))
    weights = np.abs(num) + np.abs(den)
    df = weights.sum() ** 2 / np.sum(weights**2) - 1
    if se_log == 0 or df <= 0:
        return UNDEFINED
    # Two or three cells can make the quantile, and so the interval, larger than a float.
    margin = min(stats.t.ppf(0.975, df) * se_log, 500.0)
    return Ratio(
        rr=float(np.exp(log_rr)),
        ci_low=float(np.exp(log_rr - margin)),
        ci_high=float(np.exp(log_rr + margin)),
        p_value=float(2 * stats.t.sf(abs(log_rr) / se_log, df)),
        se_log=float(se_log),
        df=float(df),
    )


def estimate(blocks: BlockSums) -> list[Estimate]:
    """Return one estimate per city, question and ring, with p values adjusted over all of them.

    Args:
        blocks: All blocks of all cities; what is left out is not counted among the tests.
    """
    tests = _by_test(blocks)
    unadjusted = [_unadjusted(test) for test in tests]
    # What has too little data was tried all the same: it counts as a test that found nothing.
    p_values = np.array([1.0 if e.verdict == "insufficient" else e.p_value for e in unadjusted])
    adjusted = stats.false_discovery_control(p_values, method="by") if len(p_values) else p_values
    return [_judged(e, float(p), n_tests=len(unadjusted)) for e, p in zip(unadjusted, adjusted, strict=True)]


def verdict(e: Estimate) -> Verdict:
    """Return what may be said about an estimate with enough data; the first gate that fails decides.

    A ratio that does not repeat in both halves of the period and in the cross-check is not supported, nor is
    one whose cross-check or placebo could not be made.
    """
    if e.p_adjusted is None or e.p_adjusted > MAX_ADJUSTED_P:
        return "not_supported"
    if e.placebo_rr is not None and e.placebo_rr > 1 and e.placebo_p < MAX_PLACEBO_P:
        return "reversed_or_confounded"
    if e.ci_low < MATERIAL_RATIO:
        return "immaterial"
    same_sign = all(
        ratio is not None and ratio > 1 for ratio in (e.first_half_rr, e.second_half_rr, e.case_crossover_rr)
    )
    return "supported" if same_sign and e.placebo_rr is not None else "not_supported"


def _by_test(blocks: BlockSums) -> list[BlockSums]:
    """Split the blocks by city, question and ring; a test needs blocks of the primary variant."""
    keys = np.array([blocks.city, blocks.question_id, blocks.band]).T.astype(str)
    _, of_key = np.unique(keys, axis=0, return_inverse=True) if len(blocks) else (keys, np.zeros(0, int))
    of_key = of_key.reshape(-1)
    parts = [blocks.where(of_key == key) for key in range(of_key.max() + 1 if len(of_key) else 0)]
    return [part for part in parts if (part.variant == "primary").any()]


def _unadjusted(test: BlockSums) -> Estimate:
    """Estimate one test; its verdict is `insufficient` or, until p values are adjusted, `not_supported`."""
    primary = test.where(test.variant == "primary")
    isolated = test.where(test.variant == "isolated")
    mean_c0 = primary.c0_sum.sum() / primary.n_anchor.sum()
    reported = isolated if mean_c0 > MAX_MEAN_EXPOSURE else primary
    ratio = _ratio(reported)
    d0, d1 = int(reported.d0.sum()), int(reported.d1.sum())
    is_sufficient = d0 + d1 >= MIN_OUTCOMES and ratio.df >= MIN_DF
    guarded = _ratio(test.where(test.variant == "guarded"))
    placebo = _ratio(test.where(test.variant == "placebo"))
    first, second = _halves(reported)
    n_anchor = int(reported.n_anchor.sum())
    found = Estimate(
        city=str(primary.city[0]),
        question_id=str(primary.question_id[0]),
        band=int(primary.band[0]),
        estimator="isolated_episodes" if reported is isolated else "all_episodes",
        control_level=str(primary.control_level[0]),
        n_anchor=n_anchor,
        n_block=len(np.unique(reported.h3_7)),
        d0=d0,
        d1=d1,
        mean_c0=float(mean_c0),
        rr=_known(ratio.rr),
        ci_low=_known(ratio.ci_low),
        ci_high=_known(ratio.ci_high),
        p_value=_known(ratio.p_value),
        p_adjusted=None,
        n_tests=0,
        df=_known(ratio.df),
        placebo_rr=_known(placebo.rr),
        placebo_p=_known(placebo.p_value),
        guarded_rr=_known(guarded.rr),
        guarded_ci_low=_known(guarded.ci_low),
        guarded_ci_high=_known(guarded.ci_high),
        isolated_rr=_quotient(isolated.num.sum(), isolated.den.sum()),
        first_half_rr=first,
        second_half_rr=second,
        case_crossover_rr=_pooled(test.where(test.variant == "case_crossover")),
        naive_ratio=_quotient(primary.d1.sum(), primary.naive_expected.sum()),
        raw_after_before_ratio=_quotient(primary.d1.sum(), primary.d0.sum()),
        extra_per_100_signals=100 * d1 / n_anchor * (1 - 1 / ratio.rr) if is_sufficient else None,
        minimal_detectable_rr=_minimal_detectable(ratio.se_log if is_sufficient else _planned_se(d0)),
        verdict="not_supported" if is_sufficient else "insufficient",
    )
    return found if is_sufficient else replace(found, **dict.fromkeys(RATIO_FIELDS))


def _judged(e: Estimate, p_adjusted: float, *, n_tests: int) -> Estimate:
    if e.verdict == "insufficient":
        return replace(e, n_tests=n_tests)
    tested = replace(e, p_adjusted=p_adjusted, n_tests=n_tests)
    return replace(tested, verdict=verdict(tested))


def _ratio(blocks: BlockSums) -> Ratio:
    cells, of_cell = np.unique(blocks.h3_7, return_inverse=True)
    sums = [np.bincount(of_cell, weights=values, minlength=len(cells)) for values in (blocks.num, blocks.den)]
    return mantel_haenszel(*sums)


def _halves(blocks: BlockSums) -> Sequence[float | None]:
    """Return the ratios of the earlier and the later half of the months."""
    months, of_month = np.unique(blocks.month, return_inverse=True)
    is_first = of_month < (len(months) + 1) // 2
    return [_pooled(blocks.where(half)) for half in (is_first, ~is_first)]


def _pooled(blocks: BlockSums) -> float | None:
    return _quotient(blocks.num.sum(), blocks.den.sum())


def _quotient(over: float, under: float) -> float | None:
    return float(over / under) if over > 0 and under > 0 else None


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _planned_se(d0: int) -> float:
    return np.sqrt(2 * DESIGN_EFFECT / d0) if d0 else float("nan")


def _minimal_detectable(se_log: float) -> float | None:
    """Return the ratio that would be found with 80 % power."""
    return _known(float(np.exp(POWER_DISTANCE * se_log)))
