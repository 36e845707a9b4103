"""Which gate decided a verdict and what would change it, in words; verdicts are `inference`'s.

Figures are plans, not promises: they hold the ratio and the number of outcomes per signal as they are now.
"""

import math
from typing import Literal

from scipy import stats

from assets.correlate.card_rows import Answer
from assets.correlate.figures import amount, number, p_text, ratio_text
from assets.correlate.inference import MATERIAL_RATIO, MAX_ADJUSTED_P, MAX_PLACEBO_P, is_placebo_firing
from assets.correlate.ratios import MIN_DF, MIN_OUTCOMES

Gate = Literal[
    "outcomes",
    "areas",
    "chance",
    "placebo",
    "direction",
    "size",
    "halves",
    "cross_check",
    "no_placebo",
    "none",
]
#: What a reader would want to be told of: a rise by a quarter.
PLANNED_RATIO = 1.25
#: More often than this nothing is counted again; the data will not come.
FAR = 1000


def deciding_gate(a: Answer) -> Gate:
    """Return the gate that decided the verdict of a disc; `none` where all were passed."""
    if a.verdict == "insufficient":
        return "outcomes" if a.d0 + a.d1 < MIN_OUTCOMES else "areas"
    if a.p_adjusted is None or a.p_adjusted > MAX_ADJUSTED_P:
        return "chance"
    if is_placebo_firing(a.placebo_rr, a.placebo_p):
        return "placebo"
    if a.ci_low < MATERIAL_RATIO:
        return "direction" if a.rr < 1 else "size"
    if a.placebo_rr is None:
        return "no_placebo"
    if a.case_crossover_rr is None or a.case_crossover_rr <= 1:
        return "cross_check"
    halves = (a.first_half_rr, a.second_half_rr)
    return "none" if all(half is not None and half > 1 for half in halves) else "halves"


def what_would_change(a: Answer) -> list[str]:
    """Return sentences: the gate that decided, how far away it is, and what these data can show at all."""
    told = _OF_GATE[deciding_gate(a)](a)
    if a.verdict != "supported":
        told += _power(a)
    return told


def _outcomes(a: Answer) -> list[str]:
    n = a.d0 + a.d1
    told = f"A ratio needs {MIN_OUTCOMES} cases in the two windows together, and there are {number(n)}."
    if n == 0:
        return [f"{told} With none there is no rate to plan with."]
    needed = math.ceil(a.n_anchor * MIN_OUTCOMES / n)
    return [
        f"{told} At the present rate that takes {amount(needed)} first reports; {number(a.n_anchor)} are "
        "counted."
    ]


def _areas(a: Answer) -> list[str]:
    df = "not even two" if a.df is None else f"as much as {a.df:.1f} equal ones"
    return [
        f"The interval must rest on more of the city: {MIN_DF} equal areas beyond the first are needed, and "
        f"the {number(a.n_block)} cells with first reports count for {df}, because few of them hold most of "
        "the cases. More reports from the same few cells would not change this."
    ]


def _chance(a: Answer) -> list[str]:
    told = [f"The adjusted {p_text(a.p_adjusted)} must be at most {MAX_ADJUSTED_P}."]
    if a.rr <= 1:
        return [
            *told,
            f"But the ratio is {ratio_text(a.rr)}: the level did not rise. More data of this kind would "
            "only make that surer; what could be supported is a ratio above 1.",
        ]
    # As if nothing else were found: every other finding makes the correction milder.
    strictest = MAX_ADJUSTED_P / (a.n_tests * sum(1 / rank for rank in range(1, a.n_tests + 1)))
    reports = _reports(a, math.log(a.rr) / stats.t.isf(strictest / 2, a.df))
    return [
        *told,
        f"If the ratio stayed at {ratio_text(a.rr)}, {reports} would be enough even under the strictest "
        f"correction for {number(a.n_tests)} tests."
        if reports
        else f"If the ratio stayed at {ratio_text(a.rr)}, more than {number(FAR)} times as many first "
        "reports would be needed: it is too close to 1 to be told from chance here.",
    ]


def _placebo(a: Answer) -> list[str]:
    guarded = (
        " The guarded ratio, whose reference ends eight days before the report, is "
        f"{ratio_text(a.guarded_rr)}."
        if a.guarded_rr is not None
        else ""
    )
    return [
        f"The placebo is {ratio_text(a.placebo_rr)} with {p_text(a.placebo_p)}: the level had risen before "
        f"the report. It would have to be at most 1, or its p at least {MAX_PLACEBO_P}. More data of this "
        "kind would make the rise before the report surer. What could help are reports dated by when the "
        f"condition began instead of when someone told of it.{guarded}"
    ]


def _direction(a: Answer) -> list[str]:
    return [
        f"The level fell (ratio {ratio_text(a.rr)}). Only a rise can be supported here, so only other data, "
        "with a ratio above 1, would change the verdict."
    ]


def _size(a: Answer) -> list[str]:
    told = f"The interval begins at {ratio_text(a.ci_low)} and must begin at {MATERIAL_RATIO:.2f} or above."
    if a.rr <= MATERIAL_RATIO:
        return [
            f"{told} The ratio itself, {ratio_text(a.rr)}, is smaller than that: more data would not change "
            "it."
        ]
    reports = _reports(a, math.log(a.rr / MATERIAL_RATIO) / stats.t.isf(0.025, a.df))
    return [
        f"{told} If the ratio stayed at {ratio_text(a.rr)}, {reports} would be enough."
        if reports
        else f"{told} The ratio, {ratio_text(a.rr)}, is so close to it that more than {number(FAR)} times "
        "as many first reports would be needed."
    ]


def _halves(a: Answer) -> list[str]:
    first, second = (
        "not known" if half is None else ratio_text(half) for half in (a.first_half_rr, a.second_half_rr)
    )
    return [
        f"Both halves of the period must show a rise; the first is {first}, the second {second}. A longer "
        "period in which both do would change the verdict."
    ]


def _cross_check(a: Answer) -> list[str]:
    known = (
        "could not be made: too few days of a place lie with and without a signal"
        if a.case_crossover_rr is None
        else f"is {ratio_text(a.case_crossover_rr)}"
    )
    return [f"The cross-check by days of one place must be above 1, and it {known}."]


def _no_placebo(a: Answer) -> list[str]:
    return [
        "Whether the level had risen before the report could not be tested. Outcomes recorded from "
        f"{2 * a.window_days} days before the first reports would make that possible."
    ]


def _none(a: Answer) -> list[str]:
    return [
        f"New data would take the verdict back if the interval came to begin below {MATERIAL_RATIO:.2f} "
        f"(now {ratio_text(a.ci_low)}), the adjusted p rose above {MAX_ADJUSTED_P} (now "
        f"{p_text(a.p_adjusted)}), the placebo rose above 1 with p below {MAX_PLACEBO_P} (now "
        f"{ratio_text(a.placebo_rr)}, {p_text(a.placebo_p)}), or a half of the period or the cross-check no "
        f"longer showed a rise (now {ratio_text(a.first_half_rr)}, {ratio_text(a.second_half_rr)} and "
        f"{ratio_text(a.case_crossover_rr)})."
    ]


_OF_GATE = {
    "outcomes": _outcomes,
    "areas": _areas,
    "chance": _chance,
    "placebo": _placebo,
    "direction": _direction,
    "size": _size,
    "halves": _halves,
    "cross_check": _cross_check,
    "no_placebo": _no_placebo,
    "none": _none,
}


def _power(a: Answer) -> list[str]:
    """Tell the smallest effect that the data would show, and what a rise by a quarter would take."""
    if a.minimal_detectable_rr is None:
        return []
    told = (
        f"With these data a ratio of {ratio_text(a.minimal_detectable_rr)} or more would be found four "
        "times out of five, before the correction for many tests."
    )
    if a.minimal_detectable_rr <= PLANNED_RATIO:
        return [told]
    # The standard error falls with the root of the number of signals.
    times = (math.log(a.minimal_detectable_rr) / math.log(PLANNED_RATIO)) ** 2
    needed = math.ceil(a.n_anchor * times)
    return [
        f"{told} To find {PLANNED_RATIO}, a rise by a quarter, as often takes {amount(needed)} first "
        f"reports; {number(a.n_anchor)} are counted."
    ]


def _reports(a: Answer, se_needed: float) -> str | None:
    """Return how many first reports give a standard error of the log ratio; None where it is out of reach."""
    se = math.log(a.ci_high / a.ci_low) / 2 / stats.t.isf(0.025, a.df)
    times = (se / se_needed) ** 2
    if times > FAR:
        return None
    more = "as many as now" if times <= 1 else f"{times:.1f} times as many as now"
    return f"{amount(math.ceil(a.n_anchor * times))} first reports ({more})"
