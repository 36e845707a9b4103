"""Which gate decided, and the plans for another verdict, against inference and figures made by hand."""

import math
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from assets.correlate.card_rows import Answer
from assets.correlate.inference import Estimate, verdict
from assets.correlate.verdict_gates import deciding_gate, what_would_change
from tests.card_warehouse import NO_RATIO, SUPPORTED

ANSWER = Answer(**{field.name: SUPPORTED[field.name] for field in fields(Answer)})
VERDICT_OF = {
    "chance": "not_supported",
    "placebo": "reversed_or_confounded",
    "direction": "immaterial",
    "size": "immaterial",
    "halves": "not_supported",
    "cross_check": "not_supported",
    "no_placebo": "not_supported",
    "none": "supported",
}


def answer(**changes):
    return replace(ANSWER, **changes)


RATIOS = st.one_of(st.none(), st.floats(0.5, 2.0), st.just(1.0))


@settings(max_examples=400, deadline=None)
@given(
    rr=st.floats(0.5, 2.0),
    width=st.floats(0.001, 0.5),
    p_adjusted=st.floats(0, 1),
    placebo=st.one_of(st.none(), st.tuples(st.floats(0.5, 2.0), st.floats(0, 1))),
    first=RATIOS,
    second=RATIOS,
    crossover=RATIOS,
)
def test_the_gate_is_the_one_that_inference_stopped_at(
    rr, width, p_adjusted, placebo, first, second, crossover
):
    changes = {
        "rr": rr,
        "ci_low": rr * math.exp(-width),
        "ci_high": rr * math.exp(width),
        "p_adjusted": p_adjusted,
        "placebo_rr": placebo and placebo[0],
        "placebo_p": placebo and placebo[1],
        "first_half_rr": first,
        "second_half_rr": second,
        "case_crossover_rr": crossover,
    }
    known = {**vars(ANSWER), **changes}
    found = verdict(Estimate(**{field.name: known[field.name] for field in fields(Estimate)}))
    told = answer(**changes, verdict=found)
    assert VERDICT_OF[deciding_gate(told)] == found
    assert all(sentence.strip().endswith(".") for sentence in what_would_change(told))


def test_too_few_cases_say_how_many_signals_are_needed():
    few = answer(**NO_RATIO, verdict="insufficient", d0=10, d1=12, n_anchor=300, minimal_detectable_rr=math.e)
    assert deciding_gate(few) == "outcomes"
    cases, power = what_would_change(few)
    # 22 cases from 300 signals: 50 take 300 * 50 / 22 = 681.8.
    assert cases == (
        "A ratio needs 50 cases in the two windows together, and there are 22. At the present rate that "
        "takes about 690 first reports; 300 are counted."
    )
    # ln e = 1 and ln 1.25 = .22314: 1 over its square is 20.08, times 300 is 6,025.
    assert "To find 1.25, a rise by a quarter, as often takes about 6,100 first reports; 300 are" in power


def test_no_case_at_all_is_nothing_to_plan_with():
    none = answer(**NO_RATIO, verdict="insufficient", d0=0, d1=0, minimal_detectable_rr=None)
    assert what_would_change(none) == [
        "A ratio needs 50 cases in the two windows together, and there are 0. With none there is no rate to "
        "plan with."
    ]


def test_too_few_areas_are_told_apart_from_too_few_cases():
    few = answer(**{**NO_RATIO, "df": 3.2}, verdict="insufficient")
    assert deciding_gate(few) == "areas"
    assert "the 61 cells with first reports count for as much as 3.2 equal ones" in what_would_change(few)[0]


def test_chance_plans_with_the_strictest_correction():
    # One test only: no correction. Standard error .02, ratio e^.02: t = 1, and t(.975, 1e9) = 1.96 is needed.
    half = stats.norm.isf(0.025) * 0.02
    a = answer(
        verdict="not_supported", n_tests=1, df=1e9, n_anchor=1000, rr=math.exp(0.02), p_adjusted=0.32,
        ci_low=math.exp(0.02 - half), ci_high=math.exp(0.02 + half), minimal_detectable_rr=1.058,
    )  # fmt: skip
    told = " ".join(what_would_change(a))
    # 1.96 squared is 3.84: 3,842 signals.
    assert "The adjusted p=0.32 must be at most 0.05." in told
    assert "If the ratio stayed at 1.02, about 3,900 first reports (3.8 times as many as now) would" in told
    stricter = " ".join(what_would_change(replace(a, n_tests=100)))
    # p of .05 / (100 * 5.187) asks for t = 3.90, 15.2 times as many.
    assert "about 16,000 first reports (15.2 times as many as now)" in stricter


def test_a_ratio_that_did_not_rise_is_not_promised_to_be_found_with_more_data():
    told = " ".join(
        what_would_change(answer(verdict="not_supported", rr=0.98, ci_low=0.9, ci_high=1.07, p_adjusted=1.0))
    )
    assert "the level did not rise" in told
    assert "would be enough" not in told
    near = " ".join(
        what_would_change(answer(verdict="not_supported", rr=1.0001, ci_low=0.9, ci_high=1.1, p_adjusted=1.0))
    )
    assert "more than 1,000 times as many first reports" in near


def test_size_says_how_far_the_interval_must_shrink_or_that_it_cannot_help():
    # ln(1.10 / 1.05) = .0465; the half width is now ln(1.10 / 1.00) = .0953: (.0953 / .0465) squared is 4.2.
    a = answer(verdict="immaterial", rr=1.1, ci_low=1.0, ci_high=1.21, p_adjusted=0.04, n_anchor=1000)
    assert "about 4,200 first reports (4.2 times as many as now) would be enough" in what_would_change(a)[0]
    small = answer(verdict="immaterial", rr=1.03, ci_low=1.01, ci_high=1.05, p_adjusted=0.01)
    assert "more data would not change it" in what_would_change(small)[0]


@pytest.mark.parametrize(
    ("changes", "gate", "said"),
    [
        ({"placebo_rr": 1.3, "placebo_p": 0.001}, "placebo", "The placebo is 1.30 with p=0.001"),
        ({"ci_low": 0.8, "rr": 0.9, "ci_high": 0.97}, "direction", "The level fell (ratio 0.90)"),
        ({"first_half_rr": 0.97}, "halves", "the first is 0.97, the second 1.24"),
        ({"second_half_rr": None}, "halves", "the first is 1.21, the second not known"),
        ({"case_crossover_rr": 0.9}, "cross_check", "must be above 1, and it is 0.90"),
        ({"case_crossover_rr": None}, "cross_check", "could not be made"),
        ({"placebo_rr": None, "placebo_p": None}, "no_placebo", "from 28 days before the first reports"),
        ({}, "none", "came to begin below 1.05 (now 1.19)"),
    ],
)
def test_each_gate_says_what_it_asks_for(changes, gate, said):
    told = answer(**changes, verdict=VERDICT_OF[gate])
    assert deciding_gate(told) == gate
    assert said in " ".join(what_would_change(told))
