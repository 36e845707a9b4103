"""What may be said about an estimate, in one sentence a council member can read; no numbers are made here.

The sentences never say that a signal causes or predicts anything: the design compares a place with itself.
"""

from dataclasses import dataclass

from assets.correlate.inference import MATERIAL_RATIO, MAX_ADJUSTED_P, MIN_OUTCOMES, Estimate


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


def reason(e: Estimate, question: Question) -> str:
    """Return the sentence that goes with an estimate."""
    body = _without_ratio(e, question) if e.rr is None else f"{_with_ratio(e, question)} {_judgement(e)}"
    control = (
        " This question is a negative control: no relation is expected."
        if question.is_negative_control
        else ""
    )
    return body + control


def _place(e: Estimate, question: Question) -> str:
    inner, outer = ((e.band - 1) * question.radius_m, e.band * question.radius_m)
    where = f"Within {outer:.0f} m" if e.band == 1 else f"Between {inner:.0f} and {outer:.0f} m"
    signal = _plain(question.signal_type)
    if question.signal_subtype:
        signal += f" ({_plain(question.signal_subtype)})"
    lone = " without an earlier one near" if e.estimator == "isolated_episodes" else ""
    return f"{where} and {question.window_days} days after a first report of {signal}{lone}"


def _with_ratio(e: Estimate, question: Question) -> str:
    placebo = f", placebo {e.placebo_rr:.2f}" if e.placebo_rr else ""
    return (
        f"{_place(e, question)}, {_plain(question.outcome_type)} ran "
        f"{e.rr:.2f}x [{e.ci_low:.2f}, {e.ci_high:.2f}] the level of the {question.window_days} days before, "
        f"relative to the surrounding area "
        f"(d0={e.d0}, d1={e.d1}, tests={e.n_tests}{placebo})."
    )


def _without_ratio(e: Estimate, question: Question) -> str:
    few = e.d0 + e.d1 < MIN_OUTCOMES
    why = (
        f"only {e.d0 + e.d1} cases of {_plain(question.outcome_type)} lie in the windows and "
        f"{MIN_OUTCOMES} are needed"
        if few
        else "the evidence comes from too few areas of the city"
    )
    return f"{_place(e, question)}: no ratio is published, {why}."


def _judgement(e: Estimate) -> str:
    if e.verdict == "reversed_or_confounded":
        return (
            f"Not a finding: the level had already risen before the report (placebo {e.placebo_rr:.2f}, "
            f"{_p(e.placebo_p)}), so the order is reversed or something else moves both."
        )
    if e.verdict == "immaterial":
        if e.rr < 1:
            return "Not a finding: the level fell, and the question asks about a rise."
        return f"Too small to matter: the interval reaches below {MATERIAL_RATIO:.2f}x."
    if e.verdict == "supported":
        return (
            f"Supported: adjusted {_p(e.p_adjusted)}, the same direction in both halves of the period and "
            f"in the cross-check; {e.extra_per_100_signals:.1f} more cases per 100 first reports than "
            "expected."
        )
    if e.p_adjusted > MAX_ADJUSTED_P:
        return f"Not supported: adjusted for all tests tried, {_p(e.p_adjusted)}."
    if e.placebo_rr is None:
        return "Not supported: the placebo, whether the level had risen before the report, could not be made."
    if e.case_crossover_rr is None:
        return "Not supported: the cross-check by days of one place could not be made."
    if e.case_crossover_rr <= 1:
        return "Not supported: the cross-check by days of one place points the other way."
    return "Not supported: the two halves of the period disagree."


def _p(value: float) -> str:
    """Return a p value so that rounding does not move it over a gate."""
    if value < 0.001:
        return "p<0.001"
    return f"p={value:.3f}" if value < 0.1 else f"p={value:.2f}"


def _plain(name: str) -> str:
    return name.replace("_", " ")
