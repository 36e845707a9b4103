"""What may be said about results, in sentences a council member can read; no numbers are made here.

The sentences never say that a signal causes or predicts anything: the design compares a place with itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Protocol

from assets.correlate import scan
from assets.correlate.figures import p_text, plain
from assets.correlate.inference import MATERIAL_RATIO, MAX_ADJUSTED_P, Estimate, is_placebo_firing
from assets.correlate.ratios import MIN_OUTCOMES
from assets.correlate.scan import Half, ScanResult
from assets.correlate.splits import SplitPart

#: First reports of a cluster lie within the radius and so many days (cluster_days in dbt's macros).
CLUSTER_DAYS = 28
EXPECTED = {
    "+": "Before the data were looked at, a rise was expected.",
    "-": "Before the data were looked at, a fall was expected.",
    "0": "Before the data were looked at, no change was expected.",
}
RISEN = "the level had already risen before the report"
NO_PLACEBO = "the placebo, whether the level had risen before the report, could not be made"
PART = {
    "first": "In the first half of the months",
    "second": "In the second half of the months",
    "day": "By day",
    "night": "By night",
    "slow": "Where cases are reported slowly",
    "middle": "Where cases are reported at middling speed",
    "fast": "Where cases are reported fast",
}


@dataclass(frozen=True)
class Question:
    """A row of the question seed, as far as words and estimates need it."""

    question_id: str
    signal_type: str
    signal_subtype: str | None
    outcome_type: str
    radius_m: float
    window_days: int
    is_negative_control: bool
    signal_cluster_size: int = 1
    expected_sign: str = "+"


class Measured(Protocol):
    """What every published ratio comes with."""

    d0: int
    d1: int
    rr: float | None
    ci_low: float | None
    ci_high: float | None


def reason(e: Estimate, question: Question) -> str:
    """Return the sentences that go with an estimate."""
    where = _around(question, band=e.band, estimator=e.estimator)
    if e.rr is None:
        said = [_withheld(where, question.outcome_type, e)]
    else:
        told = f"tests={e.n_tests}" + (f", placebo {e.placebo_rr:.2f}" if e.placebo_rr else "")
        said = [
            _ratio(where, question.outcome_type, question.window_days, e, told),
            _judgement(e, question),
        ]
        if not question.is_negative_control:
            said.append(EXPECTED[question.expected_sign])
    if question.is_negative_control:
        said.append("This question is a negative control: no relation is expected.")
    return " ".join(said)


def split_reason(part: SplitPart, parts: Sequence[SplitPart], question: Question) -> str:
    """Return the sentences that go with one part of a split.

    Args:
        part: The part to tell of.
        parts: All parts of the same city, question and split.
        question: Their question.
    """
    around = _around(question, band=1, estimator=part.estimator)
    where = f"{PART[part.part]}, {around[0].lower()}{around[1:]}"
    if part.rr is None:
        return _withheld(where, question.outcome_type, part)
    said = _ratio(where, question.outcome_type, question.window_days, part)
    return f"{said} {_compared([p for p in parts if p.rr is not None])}"


def scan_reason(result: ScanResult) -> str:
    """Return the sentences that go with a pair of the scan."""
    found, held = result.found, result.held
    where = (
        f"Up to {result.first_until.astype('datetime64[M]')}, within {scan.RADIUS_M} m and "
        f"{scan.WINDOW_DAYS} days after a first report of {plain(result.signal_type)}"
    )
    if found.rr is None:
        return _withheld(where, result.outcome_type, found)
    said = _ratio(where, result.outcome_type, scan.WINDOW_DAYS, found, f"pairs tried={result.n_tests}")
    if held is None:
        return f"{said} {_not_found(found)}"
    said += f" {result.status.capitalize()}: found, adjusted {p_text(found.p_adjusted)}"
    later = "in the later months, which were not looked at before"
    if held.rr is None:
        return f"{said}, but not tested {later}: {_too_few(result.outcome_type, held)}."
    again = (
        f"{held.rr:.2f}x [{held.ci_low:.2f}, {held.ci_high:.2f}] {later} (d0={held.d0}, d1={held.d1}, "
        f"adjusted {p_text(held.p_adjusted)}, pairs tried again={result.n_held_tests})"
    )
    if result.status == "supported":
        return f"{said}, and {again}. No mechanism was declared."
    return f"{said}, but {again}: {_why_not_held(held)}."


def _around(question: Question, *, band: int, estimator: str) -> str:
    inner, outer = ((band - 1) * question.radius_m, band * question.radius_m)
    where = f"Within {outer:.0f} m" if band == 1 else f"Between {inner:.0f} and {outer:.0f} m"
    signal = plain(question.signal_type)
    if question.signal_subtype:
        signal += f" ({plain(question.signal_subtype)})"
    size = question.signal_cluster_size
    if size > 1:
        near = f"within {question.radius_m:.0f} m and {CLUSTER_DAYS} days"
        signal = f"the last of {size} first reports of {signal} {near}"
    else:
        signal = f"a first report of {signal}"
    lone = " without an earlier one near" if estimator == "isolated_episodes" else ""
    return f"{where} and {question.window_days} days after {signal}{lone}"


def _ratio(where: str, outcome_type: str, window_days: int, measured: Measured, told: str = "") -> str:
    return (
        f"{where}, {plain(outcome_type)} ran "
        f"{measured.rr:.2f}x [{measured.ci_low:.2f}, {measured.ci_high:.2f}] the level of the "
        f"{window_days} days before, relative to the surrounding area "
        f"(d0={measured.d0}, d1={measured.d1}{', ' if told else ''}{told})."
    )


def _withheld(where: str, outcome_type: str, measured: Measured) -> str:
    return f"{where}: no ratio is published, {_too_few(outcome_type, measured)}."


def _too_few(outcome_type: str, measured: Measured) -> str:
    n = measured.d0 + measured.d1
    if n < MIN_OUTCOMES:
        return f"only {n} cases of {plain(outcome_type)} lie in the windows and {MIN_OUTCOMES} are needed"
    return "the evidence comes from too few areas of the city"


def _judgement(e: Estimate, question: Question) -> str:
    if e.verdict == "reversed_or_confounded":
        return _had_risen(e)
    if e.verdict == "immaterial":
        if e.rr >= 1:
            return f"Too small to matter: the interval reaches below {MATERIAL_RATIO:.2f}x."
        if question.expected_sign == "-" and not question.is_negative_control:
            return "Not a finding: the level fell as expected, but only a rise can pass the gates."
        return "Not a finding: the level fell, and only a rise can pass the gates."
    if e.verdict == "supported":
        checks = "and in the cross-check" if e.band == 1 else "(a ring has no cross-check)"
        return (
            f"Supported: adjusted {p_text(e.p_adjusted)}, the same direction in both halves of the period "
            f"{checks}; {e.extra_per_100_signals:.1f} more cases per 100 first reports than expected."
        )
    if e.p_adjusted > MAX_ADJUSTED_P:
        return f"Not supported: adjusted for all tests tried, {p_text(e.p_adjusted)}."
    if e.placebo_rr is None:
        return f"Not supported: {NO_PLACEBO}."
    if e.band == 1 and e.case_crossover_rr is None:
        return "Not supported: the cross-check by days of one place could not be made."
    if e.band == 1 and e.case_crossover_rr <= 1:
        return "Not supported: the cross-check by days of one place points the other way."
    return "Not supported: the two halves of the period disagree."


def _had_risen(measured: Any) -> str:
    return (
        f"Not a finding: {RISEN} (placebo {measured.placebo_rr:.2f}, "
        f"{p_text(measured.placebo_p)}), so the order is reversed or something else moves both."
    )


def _not_found(found: Half) -> str:
    if found.p_adjusted > MAX_ADJUSTED_P:
        return f"Not found: adjusted for all pairs tried, {p_text(found.p_adjusted)}."
    if found.rr <= 1:
        return "Not found: the level fell, and the scan looks for rises."
    return f"Not found: {NO_PLACEBO}." if found.placebo_rr is None else _had_risen(found)


def _why_not_held(held: Half) -> str:
    if held.p_adjusted > MAX_ADJUSTED_P:
        return "not distinguishable from chance"
    if held.rr <= 1:
        return "the other way"
    if held.placebo_rr is None:
        return NO_PLACEBO
    if is_placebo_firing(held.placebo_rr, held.placebo_p):
        return f"{RISEN} (placebo {held.placebo_rr:.2f}, {p_text(held.placebo_p)})"
    return f"the interval reaches below {MATERIAL_RATIO:.2f}x"


def _compared(published: Sequence[SplitPart]) -> str:
    """Say whether parts differ by whether their intervals meet, which asks for more than a test would."""
    if len(published) < 2:
        return "No other part has data enough to compare it with."
    apart = [
        (one, other)
        for one, other in combinations(published, 2)
        if max(one.ci_low, other.ci_low) > min(one.ci_high, other.ci_high)
    ]
    if not apart:
        return "The intervals of the parts overlap: no difference between them is shown."
    told = "; ".join(f"{one.part} and {other.part}" for one, other in apart)
    return f"Intervals that do not overlap: {told}."
