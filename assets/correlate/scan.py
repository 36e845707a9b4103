"""A scan over all pairs of event types: found in the earlier months, tested in later ones; numbers only.

No mechanism is declared for these pairs, so nothing counts that was seen in one part of the period only.
Declared questions are in `inference`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from assets.correlate.inference import MATERIAL_RATIO, MAX_ADJUSTED_P, adjust, is_placebo_firing
from assets.correlate.ratios import UNDEFINED, Ratio, group_ratios, is_sufficient, known, number_groups

Status = Literal["insufficient", "not_found", "exploratory", "supported"]
Part = Literal["found", "held"]

#: What int_scan_blocks compares, for every pair alike.
RADIUS_M = 100
WINDOW_DAYS = 14
#: Share of a pair's months in which it is looked for; the rest is held out.
DISCOVERY_SHARE = 0.6


@dataclass(frozen=True)
class ScanSums:
    """`int_scan_blocks` added up by part: one element per pair, variant, part and H3-7 cell.

    A pair is a city, signal type and outcome type; the part is found (earlier months) or held (later months);
    `first_until` is the last month of the earlier part, the same for all elements of a pair.
    """

    city: np.ndarray
    signal_type: np.ndarray
    outcome_type: np.ndarray
    variant: np.ndarray
    part: np.ndarray
    h3_7: np.ndarray
    first_until: np.ndarray
    n_anchor: np.ndarray
    d0: np.ndarray
    d1: np.ndarray
    num: np.ndarray
    den: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Half:
    """One pair in one part of its months; the ratio is None where there is too little data."""

    n_anchor: int = 0
    d0: int = 0
    d1: int = 0
    rr: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    placebo_rr: float | None = None
    placebo_p: float | None = None


@dataclass(frozen=True, kw_only=True)
class ScanResult:
    """What the scan says of a pair; `held` is None where the later months were not looked at.

    `n_tests` counts the pairs of all cities that were looked for, `n_held_tests` those that were looked at
    again.
    """

    city: str
    signal_type: str
    outcome_type: str
    n_anchor: int
    first_until: np.datetime64
    found: Half
    held: Half | None
    n_tests: int
    n_held_tests: int
    status: Status


def divide_months(months: Sequence[np.datetime64]) -> tuple[np.datetime64, np.datetime64]:
    """Return the last month in which a pair is looked for and the first of those held out.

    The month between them is left out: windows reach 14 days over its borders, so no outcome is compared in
    both parts.

    Args:
        months: The months in which the pair has first reports, one or more without repeats, in any order.
    """
    months = np.sort(np.asarray(months, "datetime64[M]"))
    first_until = months[max(int(DISCOVERY_SHARE * len(months)), 1) - 1]
    return first_until, first_until + 2


def scan(sums: ScanSums) -> list[ScanResult]:
    """Return one result per pair with blocks of the primary variant, in order of city, signal and outcome.

    Args:
        sums: All pairs of all cities; what is left out is not counted among the tests.
    """
    return judge_pairs(measure_pairs(sums))


def judge_pairs(pairs: Sequence[ScanResult]) -> list[ScanResult]:
    """Return the pairs with their status; p values are adjusted over all of them, then over the candidates.

    Args:
        pairs: Pairs of all cities, from `measure_pairs`.
    """
    adjusted = adjust([1.0 if pair.found.p_value is None else pair.found.p_value for pair in pairs])
    pairs = [
        replace(pair, n_tests=len(pairs), found=_with_adjusted(pair.found, p))
        for pair, p in zip(pairs, adjusted, strict=True)
    ]
    candidates = [i for i, pair in enumerate(pairs) if is_candidate(pair.found)]
    held = [pairs[i].held or Half() for i in candidates]
    # A candidate without data to test it was tested all the same: it counts as one that did not hold.
    adjusted = adjust([1.0 if half.p_value is None else half.p_value for half in held])
    tested = {i: _with_adjusted(half, p) for i, half, p in zip(candidates, held, adjusted, strict=True)}
    return [
        replace(pair, held=tested.get(i), n_held_tests=len(tested), status=_status(pair.found, tested.get(i)))
        for i, pair in enumerate(pairs)
    ]


def is_candidate(found: Half) -> bool:
    """Return whether a pair is looked at again: a rise, with a placebo that shows none before the signal."""
    return (
        found.p_adjusted is not None
        and found.p_adjusted <= MAX_ADJUSTED_P
        and found.rr > 1
        and found.placebo_rr is not None
        and not is_placebo_firing(found.placebo_rr, found.placebo_p)
    )


def does_hold(held: Half) -> bool:
    """Return whether the later months show the rise again, large enough to matter."""
    return is_candidate(held) and held.ci_low >= MATERIAL_RATIO


def _status(found: Half, held: Half | None) -> Status:
    if found.rr is None:
        return "insufficient"
    if held is None:
        return "not_found"
    return "supported" if does_hold(held) else "exploratory"


def _with_adjusted(half: Half, p_adjusted: float) -> Half:
    return half if half.p_value is None else replace(half, p_adjusted=p_adjusted)


def measure_pairs(sums: ScanSums) -> list[ScanResult]:
    """Return the pairs before p values are adjusted; cities may be measured one after the other.

    The later months are estimated for all pairs; `judge_pairs` drops what is not to be looked at.
    """
    keys = (sums.city, sums.signal_type, sums.outcome_type)
    group, rows = number_groups(*keys, sums.part, sums.variant)
    ratios = group_ratios(group, sums.h3_7, sums.num, sums.den, n_groups=len(rows))
    counts = [
        np.bincount(group, weights=values, minlength=len(rows)).astype(int).tolist()
        for values in (sums.n_anchor, sums.d0, sums.d1)
    ]
    pairs: dict[tuple[str, str, str], dict[tuple[str, str], tuple[Ratio, int, int, int]]] = {}
    until = {}
    for row, figures in zip(rows, zip(ratios, *counts, strict=True), strict=True):
        pair = tuple(str(key[row]) for key in keys)
        pairs.setdefault(pair, {})[str(sums.part[row]), str(sums.variant[row])] = figures
        until[pair] = sums.first_until[row]
    results = []
    for pair, figures in pairs.items():
        if not any(variant == "primary" for _, variant in figures):
            continue
        found, held = _half(figures, "found"), _half(figures, "held")
        results.append(
            ScanResult(
                **dict(zip(("city", "signal_type", "outcome_type"), pair, strict=True)),
                n_anchor=found.n_anchor + held.n_anchor,
                first_until=until[pair],
                found=found,
                held=held,
                n_tests=0,
                n_held_tests=0,
                status="insufficient",
            )
        )
    return results


def _half(figures: dict[tuple[str, str], tuple[Ratio, int, int, int]], part: Part) -> Half:
    nothing = (UNDEFINED, 0, 0, 0)
    ratio, n_anchor, d0, d1 = figures.get((part, "primary"), nothing)
    half = Half(n_anchor=n_anchor, d0=d0, d1=d1)
    if not is_sufficient(d0, d1, ratio):
        return half
    placebo = figures.get((part, "placebo"), nothing)[0]
    return replace(
        half,
        rr=known(ratio.rr),
        ci_low=known(ratio.ci_low),
        ci_high=known(ratio.ci_high),
        p_value=known(ratio.p_value),
        placebo_rr=known(placebo.rr),
        placebo_p=known(placebo.p_value),
    )
