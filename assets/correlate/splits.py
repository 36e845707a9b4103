"""Parts of a question: halves of the period, hours of the outcome, speed of reporting; numbers only.

A part describes where the whole comes from. It is no test of its own: its p value is not adjusted, and
nothing is supported by a part alone. The whole is in `inference`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from assets.correlate.inference import VARIANT_OF, BlockSums, Estimate, Estimator, is_first_half
from assets.correlate.ratios import UNDEFINED, group_ratios, is_sufficient, known, number_groups

#: Parts of each split, in the order in which people read them.
PARTS = {
    "period": ("first", "second"),
    "time_of_day": ("day", "night"),
    "reporting_speed": ("slow", "middle", "fast"),
}


@dataclass(frozen=True)
class ReportingStrata:
    """How fast each H3-7 cell reports: one element per city and cell; `stratum` is slow, middle or fast."""

    city: np.ndarray
    h3_7: np.ndarray
    stratum: np.ndarray


@dataclass(frozen=True, kw_only=True)
class SplitPart:
    """One part of a question's disc in one city; None where the part, or the whole, has too little data."""

    city: str
    question_id: str
    split: str
    part: str
    estimator: Estimator
    n_anchor: int
    d0: int
    d1: int
    rr: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None


def split_discs(blocks: BlockSums, wholes: Iterable[Estimate], strata: ReportingStrata) -> list[SplitPart]:
    """Return the parts of every disc that have a signal in them, in the order of `PARTS`.

    The halves and the strata are made of the blocks that the estimate reports, so that halves add up to the
    whole. Day and night are told apart by the hour of the outcome, over all episodes: what has no hour is in
    neither.

    Args:
        blocks: Blocks of any cities; those of rings are left out.
        wholes: Estimates of the same cities.
        strata: Reporting speed; blocks in a cell without one are in no part of it.
    """
    discs = {(e.city, e.question_id): e for e in wholes if e.band == 1}
    reported = _reported(blocks, discs)
    group, _ = number_groups(reported.city, reported.question_id)
    timed = blocks.where((blocks.band == 1) & np.isin(blocks.variant, PARTS["time_of_day"]))
    stratum = _stratum(reported, strata)
    parts = [
        *_parts(reported, "period", np.where(is_first_half(group, reported.month), "first", "second"), discs),
        *_parts(timed, "time_of_day", timed.variant, discs),
        *_parts(reported.where(stratum != ""), "reporting_speed", stratum[stratum != ""], discs),
    ]
    splits = list(PARTS)
    return sorted(
        parts,
        key=lambda p: (p.city, p.question_id, splits.index(p.split), PARTS[p.split].index(p.part)),
    )


def _reported(blocks: BlockSums, discs: dict[tuple[str, str], Estimate]) -> BlockSums:
    """Return the blocks of the variant that each disc's estimate reports."""
    group, rows = number_groups(blocks.city, blocks.question_id, blocks.band, blocks.variant)
    estimators = [
        discs[blocks.city[row], blocks.question_id[row]].estimator
        if blocks.band[row] == 1 and (blocks.city[row], blocks.question_id[row]) in discs
        else None
        for row in rows
    ]
    is_reported = [
        estimator is not None and VARIANT_OF[estimator] == blocks.variant[row]
        for estimator, row in zip(estimators, rows, strict=True)
    ]
    return blocks.where(np.array(is_reported, bool)[group])


def _stratum(blocks: BlockSums, strata: ReportingStrata) -> np.ndarray:
    """Return the stratum of each block's cell, empty where it has none."""
    of_cell = dict(zip(zip(strata.city, strata.h3_7, strict=True), strata.stratum, strict=True))
    cell, rows = number_groups(blocks.city, blocks.h3_7)
    return np.array([of_cell.get((blocks.city[row], blocks.h3_7[row]), "") for row in rows], object)[cell]


def _parts(
    blocks: BlockSums, split: str, part: np.ndarray, discs: dict[tuple[str, str], Estimate]
) -> Iterator[SplitPart]:
    group, rows = number_groups(blocks.city, blocks.question_id, part)
    ratios = group_ratios(group, blocks.h3_7, blocks.num, blocks.den, n_groups=len(rows))
    sums = [
        np.bincount(group, weights=values, minlength=len(rows)).astype(int)
        for values in (blocks.n_anchor, blocks.d0, blocks.d1)
    ]
    for row, ratio, n_anchor, d0, d1 in zip(rows, ratios, *np.array(sums).tolist(), strict=True):
        whole = discs.get((blocks.city[row], blocks.question_id[row]))
        if whole is None:
            continue
        is_published = whole.verdict != "insufficient" and is_sufficient(d0, d1, ratio)
        shown = ratio if is_published else UNDEFINED
        yield SplitPart(
            city=whole.city,
            question_id=whole.question_id,
            split=split,
            part=str(part[row]),
            estimator="all_episodes" if split == "time_of_day" else whole.estimator,
            n_anchor=n_anchor,
            d0=d0,
            d1=d1,
            rr=known(shown.rr),
            ci_low=known(shown.ci_low),
            ci_high=known(shown.ci_high),
            p_value=known(shown.p_value),
        )
