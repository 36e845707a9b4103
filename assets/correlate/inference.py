"""From block sums to verdicts on declared questions; numbers only: no files, no SQL, no orchestrator.

The sums come from dbt (`mart_correlation_blocks`): the place of each signal compared with itself,
differenced against the surrounding area. The arithmetic of one ratio is in `ratios`, the sentences about the
results are in `wording`.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
from scipy import stats

from assets.correlate.ratios import UNDEFINED, Ratio, group_ratios, is_sufficient, known, number_groups

Verdict = Literal["insufficient", "not_supported", "reversed_or_confounded", "immaterial", "supported"]
Estimator = Literal["all_episodes", "isolated_episodes"]

MAX_ADJUSTED_P = 0.05
MAX_PLACEBO_P = 0.01
#: Below this lower bound an effect is too small to matter; with millions of events most are significant.
MATERIAL_RATIO = 1.05
#: A negative control with a p value below this is a false alarm of the single test; 5 in 100 are expected.
FALSE_ALARM_P = 0.05
#: Above this mean contamination the correction is not exact; episodes without an earlier neighbour are used.
MAX_MEAN_EXPOSURE = 0.15
#: Measured variance of the log ratio over that of two Poisson counts, for planning where no interval exists.
DESIGN_EFFECT = 1.5
#: Standard errors between no effect and one found with 80 % power at the 5 % level, two-sided.
POWER_DISTANCE = 2.8
#: The variant of the blocks that an estimator reports.
VARIANT_OF: dict[Estimator, str] = {"all_episodes": "primary", "isolated_episodes": "isolated"}


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
    `naive_ratio` and `raw_after_before_ratio` to all episodes. Rings have no `mean_c0`, `guarded_rr`,
    `isolated_rr` and `case_crossover_rr`: these are measured for the disc only. The negative controls are
    those of the same city and ring.
    """

    city: str
    question_id: str
    band: int
    estimator: Estimator
    control_level: str
    n_anchor: int
    n_block: int
    d0: int
    d1: int
    mean_c0: float | None
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
    n_negative_controls: int = 0
    n_negative_controls_positive: int = 0
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


def estimate(blocks: BlockSums, negative_controls: Collection[str] = ()) -> list[Estimate]:
    """Return one estimate per city, question and ring, with p values adjusted over all of them.

    Args:
        blocks: All blocks of all cities; what is left out is not counted among the tests.
        negative_controls: Questions for which no relation can exist.
    """
    return judge(measure(blocks), negative_controls)


def measure(blocks: BlockSums) -> list[Estimate]:
    """Return one estimate per city, question and ring with blocks of the primary variant, not judged yet.

    Cities may be measured one after the other. The verdict is `insufficient` or, until p values are adjusted,
    `not_supported`.
    """
    tests: dict[tuple[str, str, int], dict[str, VariantSums]] = {}
    for sums in _variant_sums(blocks):
        tests.setdefault((sums.city, sums.question_id, sums.band), {})[sums.variant] = sums
    return [_measured(variants) for variants in tests.values() if "primary" in variants]


def judge(measured: Iterable[Estimate], negative_controls: Collection[str] = ()) -> list[Estimate]:
    """Return the estimates with verdicts; p values are adjusted over all of them.

    Args:
        measured: Estimates of all cities, from `measure`.
        negative_controls: Questions for which no relation can exist.
    """
    measured = list(measured)
    controls = _negative_controls(measured, negative_controls)
    # What has too little data was tried all the same: it counts as a test that found nothing.
    adjusted = adjust([1.0 if e.p_value is None else e.p_value for e in measured])
    judged = []
    for e, p_adjusted in zip(measured, adjusted, strict=True):
        n, n_positive = controls.get((e.city, e.band), (0, 0))
        e = replace(e, n_tests=len(measured), n_negative_controls=n, n_negative_controls_positive=n_positive)
        if e.verdict != "insufficient":
            e = replace(e, p_adjusted=p_adjusted)
            e = replace(e, verdict=verdict(e))
        judged.append(e)
    return judged


def adjust(p_values: Collection[float]) -> list[float]:
    """Return the p values adjusted for their number, valid under any dependence (Benjamini-Yekutieli)."""
    return stats.false_discovery_control(list(p_values), method="by").tolist() if p_values else []


def verdict(e: Estimate) -> Verdict:
    """Return what may be said about an estimate with enough data; the first gate that fails decides.

    A ratio that does not repeat in both halves of the period is not supported, nor is one whose placebo
    could not be made. In the disc the cross-check must exist and point the same way, too. A ring has none:
    its gates are the adjusted p value, the placebo, the size and the halves.
    """
    if e.p_adjusted is None or e.p_adjusted > MAX_ADJUSTED_P:
        return "not_supported"
    if is_placebo_firing(e.placebo_rr, e.placebo_p):
        return "reversed_or_confounded"
    if e.ci_low < MATERIAL_RATIO:
        return "immaterial"
    repeated = [e.first_half_rr, e.second_half_rr]
    if e.band == 1:
        repeated.append(e.case_crossover_rr)
    same_sign = all(ratio is not None and ratio > 1 for ratio in repeated)
    return "supported" if same_sign and e.placebo_rr is not None else "not_supported"


def is_placebo_firing(placebo_rr: float | None, placebo_p: float | None) -> bool:
    """Return whether the level had risen before the signal already."""
    return placebo_rr is not None and placebo_rr > 1 and placebo_p < MAX_PLACEBO_P


def is_first_half(group: np.ndarray, month: np.ndarray) -> np.ndarray:
    """Return whether each block lies in the earlier half of the months of its group.

    Args:
        group: Number of the group of each block, from 0 upwards without a gap.
        month: Month of each block.
    """
    of_month, rows = number_groups(group, month)
    months = np.bincount(group[rows])
    rank = np.arange(len(rows)) - np.repeat(np.cumsum(months) - months, months)
    return (rank < (months[group[rows]] + 1) // 2)[of_month]


@dataclass(frozen=True, kw_only=True)
class VariantSums:
    """Sums, ratio and halves of one variant of a test; `n_block` counts its H3-7 cells."""

    city: str = ""
    question_id: str = ""
    band: int = 0
    variant: str = ""
    control_level: str = ""
    n_block: int = 0
    n_anchor: int = 0
    d0: int = 0
    d1: int = 0
    num: float = 0.0
    den: float = 0.0
    c0_sum: float = 0.0
    naive_expected: float = 0.0
    ratio: Ratio = UNDEFINED
    first_half_rr: float | None = None
    second_half_rr: float | None = None


def _variant_sums(blocks: BlockSums) -> list[VariantSums]:
    """Add up the blocks of each city, question, ring and variant, in this order."""
    group, rows = number_groups(blocks.city, blocks.question_id, blocks.band, blocks.variant)
    n_groups = len(rows)
    _, cells = number_groups(group, blocks.h3_7)
    n_block = np.bincount(group[cells], minlength=n_groups)
    sums = {
        name: np.bincount(group, weights=getattr(blocks, name), minlength=n_groups)
        for name in ("n_anchor", "d0", "d1", "num", "den", "c0_sum", "naive_expected")
    }
    ratios = group_ratios(group, blocks.h3_7, blocks.num, blocks.den, n_groups=n_groups)
    half = 2 * group + ~is_first_half(group, blocks.month)
    num, den = (np.bincount(half, weights=v, minlength=2 * n_groups) for v in (blocks.num, blocks.den))
    return [
        VariantSums(
            city=str(blocks.city[row]),
            question_id=str(blocks.question_id[row]),
            band=int(blocks.band[row]),
            variant=str(blocks.variant[row]),
            control_level=str(blocks.control_level[row]),
            n_block=int(n_block[i]),
            **{name: int(sums[name][i]) for name in ("n_anchor", "d0", "d1")},
            **{name: float(sums[name][i]) for name in ("num", "den", "c0_sum", "naive_expected")},
            ratio=ratios[i],
            first_half_rr=_quotient(num[2 * i], den[2 * i]),
            second_half_rr=_quotient(num[2 * i + 1], den[2 * i + 1]),
        )
        for i, row in enumerate(rows)
    ]


def _measured(variants: dict[str, VariantSums]) -> Estimate:
    primary = variants["primary"]
    isolated, guarded, placebo, crossover = (
        variants.get(name, VariantSums()) for name in ("isolated", "guarded", "placebo", "case_crossover")
    )
    mean_c0 = primary.c0_sum / primary.n_anchor if primary.band == 1 else None
    estimator: Estimator = (
        "isolated_episodes" if mean_c0 is not None and mean_c0 > MAX_MEAN_EXPOSURE else "all_episodes"
    )
    reported = isolated if estimator == "isolated_episodes" else primary
    ratio, d0, d1 = reported.ratio, reported.d0, reported.d1
    is_enough = is_sufficient(d0, d1, ratio)
    measured = Estimate(
        city=primary.city,
        question_id=primary.question_id,
        band=primary.band,
        estimator=estimator,
        control_level=primary.control_level,
        n_anchor=reported.n_anchor,
        n_block=reported.n_block,
        d0=d0,
        d1=d1,
        mean_c0=mean_c0,
        rr=known(ratio.rr),
        ci_low=known(ratio.ci_low),
        ci_high=known(ratio.ci_high),
        p_value=known(ratio.p_value),
        p_adjusted=None,
        n_tests=0,
        df=known(ratio.df),
        placebo_rr=known(placebo.ratio.rr),
        placebo_p=known(placebo.ratio.p_value),
        guarded_rr=known(guarded.ratio.rr),
        guarded_ci_low=known(guarded.ratio.ci_low),
        guarded_ci_high=known(guarded.ratio.ci_high),
        isolated_rr=_quotient(isolated.num, isolated.den),
        first_half_rr=reported.first_half_rr,
        second_half_rr=reported.second_half_rr,
        case_crossover_rr=_quotient(crossover.num, crossover.den),
        naive_ratio=_quotient(primary.d1, primary.naive_expected),
        raw_after_before_ratio=_quotient(primary.d1, primary.d0),
        extra_per_100_signals=100 * d1 / reported.n_anchor * (1 - 1 / ratio.rr) if is_enough else None,
        minimal_detectable_rr=_minimal_detectable(ratio.se_log if is_enough else _planned_se(d0)),
        verdict="not_supported" if is_enough else "insufficient",
    )
    return measured if is_enough else replace(measured, **dict.fromkeys(RATIO_FIELDS))


def _negative_controls(
    measured: Iterable[Estimate], negative_controls: Collection[str]
) -> dict[tuple[str, int], tuple[int, int]]:
    """Return by city and ring how many negative controls have a ratio, and how many are false alarms."""
    counts: dict[tuple[str, int], tuple[int, int]] = {}
    for e in measured:
        if e.question_id in negative_controls and e.p_value is not None:
            n, n_positive = counts.get((e.city, e.band), (0, 0))
            counts[e.city, e.band] = (n + 1, n_positive + (e.p_value < FALSE_ALARM_P))
    return counts


def _quotient(over: float, under: float) -> float | None:
    return float(over / under) if over > 0 and under > 0 else None


def _planned_se(d0: int) -> float:
    return np.sqrt(2 * DESIGN_EFFECT / d0) if d0 else float("nan")


def _minimal_detectable(se_log: float) -> float | None:
    """Return the ratio that would be found with 80 % power."""
    return known(np.exp(POWER_DISTANCE * se_log))
