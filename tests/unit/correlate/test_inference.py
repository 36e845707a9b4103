"""The statistics on block sums that are known by hand or by construction."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from assets.correlate import inference
from assets.correlate.inference import BlockSums, Estimate, estimate, is_first_half, judge, measure, verdict
from assets.correlate.ratios import mantel_haenszel
from assets.correlate.wording import Question, reason

QUESTION = Question("q", "streetlight_outage", "all_out", "theft", 100.0, 14, is_negative_control=False)


def blocks(
    variant, num, den, *, d0=20, d1=20, c0=0.0, question_id="q", band=1, months=("2024-01", "2024-02")
):
    """One block per cell and month; num and den are given per cell and split evenly over the months."""
    num, den = np.asarray(num, float), np.asarray(den, float)
    cells, n_months = len(num), len(months)
    n = cells * n_months

    def full(value, dtype):
        return np.full(n, value, dtype=dtype)

    return BlockSums(
        city=full("town", object),
        question_id=full(question_id, object),
        band=full(band, np.int32),
        variant=full(variant, object),
        control_level=full("h3_7", object),
        h3_7=np.repeat(np.arange(cells), n_months),
        month=np.tile(np.array(months, dtype="datetime64[M]"), cells),
        n_anchor=full(10, np.int64),
        d0=full(d0, np.int64),
        d1=full(d1, np.int64),
        num=np.repeat(num / n_months, n_months),
        den=np.repeat(den / n_months, n_months),
        c0_sum=full(10 * c0, float),
        naive_expected=full(5.0, float),
    )


def stack(*parts):
    return BlockSums(
        **{f: np.concatenate([getattr(p, f) for p in parts]) for f in BlockSums.__dataclass_fields__}
    )


def steady(ratio, cells=40, noise=0.02, seed=0):
    """Cell sums whose ratio is about `ratio`, with a little noise for the jackknife to see."""
    rng = np.random.default_rng(seed)
    den = rng.uniform(5, 10, cells)
    return den * ratio * rng.lognormal(0, noise, cells), den


def everything(ratio, **changes):
    """All variants of one test with the same ratio, the placebo without an effect."""
    given_ratio = {
        "primary": ratio,
        "isolated": ratio,
        "guarded": ratio,
        "placebo": 1.0,
        "case_crossover": ratio,
    }
    given_ratio |= changes
    return stack(*[blocks(name, *steady(r, seed=i)) for i, (name, r) in enumerate(given_ratio.items())])


def loop_jackknife(num, den):
    """The textbook delete-one jackknife, one cell at a time."""
    cells = [i for i in range(len(num)) if num[i] or den[i]]
    whole = np.log(sum(num[i] for i in cells) / sum(den[i] for i in cells))
    total = 0.0
    for left_out in cells:
        kept = [i for i in cells if i != left_out]
        total += (np.log(sum(num[i] for i in kept) / sum(den[i] for i in kept)) - whole) ** 2
    variance = (len(cells) - 1) / len(cells) * total
    weights = [abs(num[i]) + abs(den[i]) for i in cells]
    return whole, variance**0.5, sum(weights) ** 2 / sum(w * w for w in weights) - 1


@given(
    st.lists(st.tuples(st.floats(0.1, 50), st.floats(0.1, 50)), min_size=3, max_size=30), st.integers(0, 3)
)
@settings(deadline=None)
def test_jackknife_equals_a_loop(sums, empty_cells):
    num, den = np.array([*sums, *[(0.0, 0.0)] * empty_cells]).T
    log_rr, se, df = loop_jackknife(num, den)
    found = mantel_haenszel(num, den)
    if se < 1e-12 or np.isnan(found.rr):
        assert se == pytest.approx(0, abs=1e-12) or df <= 1e-12
        return
    assert np.log(found.rr) == pytest.approx(log_rr, abs=1e-9)
    assert found.se_log == pytest.approx(se, rel=1e-6)
    assert found.df == pytest.approx(df)
    margin = min(stats.t.ppf(0.975, df) * se, 500)
    assert np.log(found.ci_high) == pytest.approx(log_rr + margin, rel=1e-6, abs=1e-9)
    assert np.log(found.ci_low) == pytest.approx(log_rr - margin, rel=1e-6, abs=1e-9)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(log_rr) / se, df), rel=1e-5, abs=1e-12)


def test_a_ratio_carried_by_one_cell_is_undefined():
    assert np.isnan(mantel_haenszel(np.array([5.0, 0.0]), np.array([4.0, 1.0])).rr)
    assert np.isnan(mantel_haenszel(np.array([1.0, 1.0]), np.array([-3.0, 1.0])).rr)


def test_a_clear_effect_is_supported():
    (found,) = estimate(everything(1.5))
    assert found.verdict == "supported"
    assert found.rr == pytest.approx(1.5, rel=0.03)
    assert found.ci_low < found.rr < found.ci_high
    assert found.extra_per_100_signals == pytest.approx(100 * found.d1 / found.n_anchor * (1 - 1 / found.rr))
    assert found.naive_ratio == pytest.approx(20 / 5)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"primary": 1.0}, "not_supported"),
        ({"placebo": 1.3}, "reversed_or_confounded"),
        ({"placebo": 0.7}, "supported"),
        ({"primary": 1.03}, "immaterial"),
        ({"primary": 0.6}, "immaterial"),
        ({"case_crossover": 0.9}, "not_supported"),
    ],
)
def test_gates(changes, expected):
    (found,) = estimate(everything(1.5, **changes))
    assert found.verdict == expected


def test_without_a_cross_check_nothing_is_supported():
    whole = everything(1.5)
    (found,) = estimate(whole.where(whole.variant != "case_crossover"))
    assert (found.verdict, found.case_crossover_rr) == ("not_supported", None)


def ring(ratio, band=2, **changes):
    """The variants that a ring has."""
    whole = everything(ratio, **changes)
    parts = whole.where(np.isin(whole.variant, ["primary", "placebo"]))
    return replace(parts, band=np.full(len(parts), band, np.int32))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "supported"),
        ({"primary": 1.0}, "not_supported"),
        ({"placebo": 1.3}, "reversed_or_confounded"),
        ({"primary": 1.03}, "immaterial"),
    ],
)
def test_a_ring_is_judged_without_a_cross_check(changes, expected):
    (found,) = estimate(ring(1.5, **changes))
    assert found.verdict == expected
    assert (found.case_crossover_rr, found.guarded_rr, found.isolated_rr) == (None, None, None)


def test_a_ring_needs_both_halves_and_a_placebo():
    whole = ring(1.5)
    (alone,) = estimate(whole.where(whole.variant == "primary"))
    late = np.where(whole.month == np.datetime64("2024-01"), 0.6, 1.4)
    (once,) = estimate(replace(whole, num=whole.num * np.where(whole.variant == "primary", late, 1)))
    assert alone.verdict == once.verdict == "not_supported"
    assert max(alone.p_adjusted, once.p_adjusted) < 0.05


def test_contamination_is_told_of_discs_only():
    """Rings carry no correction: a crowded one is reported by all its episodes and claims no exposure."""
    disc = everything(1.5)
    crowded = replace(disc, c0_sum=np.full(len(disc), 10 * 0.16))
    outer = ring(1.5)
    both = estimate(stack(crowded, replace(outer, c0_sum=np.full(len(outer), 10 * 0.16))))
    assert [(e.band, e.estimator, e.mean_c0) for e in both] == [
        (1, "isolated_episodes", pytest.approx(0.16)),
        (2, "all_episodes", None),
    ]


def test_night_and_day_are_no_tests_of_their_own():
    whole = everything(1.5)
    timed = everything(1.5, night=2.0, day=0.5)
    assert estimate(timed) == estimate(whole)


def test_without_a_placebo_nothing_is_supported():
    """A short period has no window before the reference: nothing tells whether the order is reversed."""
    whole = everything(1.5)
    (found,) = estimate(whole.where(whole.variant != "placebo"))
    assert (found.verdict, found.placebo_rr) == ("not_supported", None)
    assert "placebo" in reason(found, QUESTION)
    assert found.p_adjusted < 0.05


def test_both_halves_must_agree():
    whole = everything(1.5)
    is_early = whole.month == np.datetime64("2024-01")
    is_primary = whole.variant == "primary"
    shift = np.where(is_primary, np.where(is_early, 0.6, 1.4), 1.0)
    (found,) = estimate(replace(whole, num=whole.num * shift))
    assert found.first_half_rr < 1 < found.second_half_rr
    assert found.p_adjusted < 0.05
    assert found.verdict == "not_supported"


@pytest.mark.parametrize(("outcomes", "is_enough"), [(49, False), (50, True)])
def test_fewer_than_fifty_outcomes_publish_no_ratio(outcomes, is_enough):
    whole = everything(1.5)
    d0, d1 = np.zeros(len(whole), int), np.zeros(len(whole), int)
    first = np.flatnonzero(whole.variant == "primary")[0]
    d0[first], d1[first] = 20, outcomes - 20
    (found,) = estimate(replace(whole, d0=d0, d1=d1))
    assert (found.verdict != "insufficient") is is_enough
    published = [name for name in inference.RATIO_FIELDS if getattr(found, name) is not None]
    assert bool(published) is is_enough
    # Standing alone, a ratio of co-location would be read as the finding.
    assert (found.naive_ratio is not None) is is_enough
    assert found.minimal_detectable_rr > 1


def test_few_effective_cells_are_insufficient():
    num, den = steady(1.5, cells=40)
    num[0], den[0] = 500 * num[0], 500 * den[0]
    (found,) = estimate(
        stack(everything(1.5).where(everything(1.5).variant != "primary"), blocks("primary", num, den))
    )
    assert found.verdict == "insufficient"


def test_crowded_signals_are_reported_by_their_isolated_episodes():
    crowded = stack(
        everything(1.2).where(everything(1.2).variant != "isolated"),
        blocks("isolated", *steady(1.6, seed=9), d1=7),
    )
    (below,) = estimate(replace(crowded, c0_sum=np.full(len(crowded), 10 * 0.14)))
    (above,) = estimate(replace(crowded, c0_sum=np.full(len(crowded), 10 * 0.16)))
    assert (below.estimator, above.estimator) == ("all_episodes", "isolated_episodes")
    assert above.rr == pytest.approx(1.6, rel=0.03) == above.isolated_rr
    assert above.d1 == 7 * 80
    assert below.rr == pytest.approx(1.2, rel=0.03)


def test_p_values_are_adjusted_over_every_test_also_the_insufficient():
    tests = [blocks("primary", *steady(1.02, seed=i), question_id=f"q{i}") for i in range(4)]
    thin = blocks("primary", *steady(1.0), d0=0, d1=0, question_id="thin")
    found = {e.question_id: e for e in estimate(stack(*tests, thin))}
    p = [found[f"q{i}"].p_value for i in range(4)] + [1.0]
    expected = stats.false_discovery_control(p, method="by")
    assert [found[f"q{i}"].p_adjusted for i in range(4)] == pytest.approx(list(expected[:4]))
    assert {e.n_tests for e in found.values()} == {5}
    assert found["thin"].p_adjusted is None


def test_negative_controls_of_the_same_city_and_ring_are_counted():
    def named(parts, question_id, city="town"):
        return replace(
            parts,
            question_id=np.full(len(parts), question_id, object),
            city=np.full(len(parts), city, object),
        )

    evidence = stack(
        named(everything(1.5), "asked"),
        named(everything(1.0), "control_quiet"),
        named(everything(1.4), "control_alarm"),
        named(everything(0.7), "control_falls"),
        named(replace(everything(1.4), d0=np.zeros(400, int), d1=np.zeros(400, int)), "control_thin"),
        named(everything(1.4), "control_alarm", "elsewhere"),
        named(ring(1.0), "control_quiet"),
    )
    controls = {"control_quiet", "control_alarm", "control_falls", "control_thin"}
    found = {
        (e.city, e.question_id, e.band): (e.n_negative_controls, e.n_negative_controls_positive)
        for e in estimate(evidence, controls)
    }
    # The thin one has no ratio; a fall is as false an alarm as a rise.
    assert {n for (city, _, band), n in found.items() if (city, band) == ("town", 1)} == {(3, 2)}
    assert found["elsewhere", "control_alarm", 1] == (1, 1)
    assert found["town", "control_quiet", 2] == (1, 0)
    assert {(e.n_negative_controls, e.n_negative_controls_positive) for e in estimate(evidence)} == {(0, 0)}


def test_cities_may_be_measured_one_after_the_other():
    cities = [
        replace(everything(ratio), city=np.full(len(everything(ratio)), name, object))
        for name, ratio in (("a", 1.0), ("b", 1.5), ("c", 1.2))
    ]
    apart = judge([e for city in cities for e in measure(city)])
    assert apart == estimate(stack(*cities))
    assert {e.n_tests for e in apart} == {3}


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_order_of_the_blocks_does_not_matter(seed):
    whole = everything(1.5)
    (one,) = estimate(whole)
    (other,) = estimate(whole.where(np.random.default_rng(seed).permutation(len(whole))))
    # In another order a sum of floats may differ in its last bits, and nothing more.
    for name in Estimate.__dataclass_fields__:
        value = getattr(one, name)
        expected = pytest.approx(value, rel=1e-6) if isinstance(value, float) else value
        assert getattr(other, name) == expected


def test_halves_are_of_each_group_and_the_first_is_the_longer():
    group = np.array([0, 0, 0, 1, 1, 1, 1])
    month = np.array(
        ["2024-03", "2024-01", "2024-02", *["2023-05"] * 2, "2025-01", "2023-06"], "datetime64[M]"
    )
    assert is_first_half(group, month).tolist() == [False, True, True, True, True, False, True]


def test_many_blocks_take_little_time():
    """A city of 45 questions, three rings, 50 cells and 24 months: some 600,000 blocks."""
    months = np.arange("2022-01", "2024-01", dtype="datetime64[M]")
    one = stack(
        *[
            blocks(v, *steady(1.1, cells=50, seed=i), months=months, band=band)
            for i, (v, band) in enumerate(
                [
                    *[(v, 1) for v in ("primary", "isolated", "guarded", "placebo", "case_crossover")],
                    *[(v, band) for band in (2, 3) for v in ("primary", "placebo")],
                ]
            )
        ]
    )
    n = len(one)
    city = BlockSums(
        **{name: np.tile(getattr(one, name), 45) for name in BlockSums.__dataclass_fields__}
        | {"question_id": np.repeat(np.array([f"q{i:02d}" for i in range(45)], object), n)}
    )
    began = time.process_time()
    found = estimate(city)
    assert time.process_time() - began < 5
    assert len(found) == 45 * 3
    assert len(city) > 400_000


def test_no_blocks_no_estimates():
    nothing = everything(1.0).where(np.zeros(len(everything(1.0)), bool))
    assert estimate(nothing) == []


def test_false_positives_stay_at_the_nominal_rate():
    rng = np.random.default_rng(5)
    den = rng.gamma(2, 4, (400, 30))
    p = [mantel_haenszel(row * rng.lognormal(0, 0.3, 30), row).p_value for row in den]
    assert np.mean(np.array(p) < 0.05) < 0.1
    assert np.mean(np.array(p) < 0.5) > 0.35


def test_sentence_of_a_finding_says_what_was_measured():
    (found,) = estimate(everything(1.5))
    sentence = reason(found, QUESTION)
    assert sentence.startswith(
        "Within 100 m and 14 days after a first report of streetlight outage (all out), theft ran 1.5"
    )
    assert "relative to the surrounding area" in sentence
    assert f"d1={found.d1}" in sentence
    assert "placebo 1.0" in sentence


def test_sentence_says_when_only_lone_reports_are_compared():
    (lone,) = estimate(
        stack(
            everything(1.5).where(everything(1.5).variant != "primary"),
            blocks("primary", *steady(1.5), c0=0.3),
        )
    )
    (all_of_them,) = estimate(everything(1.5))
    assert lone.estimator == "isolated_episodes"
    assert "without an earlier one near" in reason(lone, QUESTION)
    assert "without an earlier one near" not in reason(all_of_them, QUESTION)


@pytest.mark.parametrize(
    ("p", "told"), [(1.0, "p=1.00"), (0.052, "p=0.052"), (0.0004, "p<0.001"), (0.3, "p=0.30")]
)
def test_p_values_are_rounded_to_no_other_side_of_a_gate(p, told):
    (found,) = estimate(everything(1.5))
    gate = "not_supported" if p > 0.05 else "supported"
    assert told in reason(replace(found, verdict=gate, p_adjusted=p), QUESTION)
    reversed_order = replace(found, verdict="reversed_or_confounded", placebo_rr=1.5, placebo_p=1e-9)
    assert "p<0.001" in reason(reversed_order, QUESTION)


def test_every_verdict_has_a_sentence_that_claims_no_more():
    (found,) = estimate(everything(1.5))
    cases = [
        found,
        replace(found, verdict="not_supported", p_adjusted=0.4),
        replace(found, verdict="not_supported", case_crossover_rr=None),
        replace(found, verdict="not_supported", case_crossover_rr=0.9),
        replace(found, verdict="not_supported", first_half_rr=0.9),
        replace(found, verdict="not_supported", placebo_rr=None, placebo_p=None),
        replace(found, verdict="immaterial"),
        replace(found, verdict="immaterial", rr=0.8),
        replace(found, verdict="reversed_or_confounded", band=2),
        replace(found, verdict="insufficient", rr=None, d0=3, d1=4),
        replace(found, verdict="insufficient", rr=None),
        replace(found, verdict="not_supported", band=2, case_crossover_rr=None, second_half_rr=0.9),
        replace(found, band=3, case_crossover_rr=None),
    ]
    sentences = [reason(case, QUESTION) for case in cases]
    assert len(set(sentences)) == len(sentences)
    assert not [s for s in sentences if "cause" in s.lower() or "predict" in s.lower()]
    assert "Between 100 and 200 m" in sentences[8]
    assert "no ratio is published" in sentences[9]
    assert "halves" in sentences[11]
    assert "a ring has no cross-check" in sentences[12]
    assert not [s for s in (sentences[8], sentences[11]) if "cross-check" in s]
    assert "negative control" in reason(found, replace(QUESTION, is_negative_control=True))


@pytest.mark.parametrize(("sign", "said"), [("+", "a rise"), ("-", "a fall"), ("0", "no change")])
def test_what_was_expected_is_said(sign, said):
    (found,) = estimate(everything(1.5))
    asked = replace(QUESTION, expected_sign=sign)
    assert reason(found, asked).endswith(f"Before the data were looked at, {said} was expected.")
    assert "expected" not in reason(replace(found, rr=None), asked)
    control = reason(found, replace(asked, is_negative_control=True))
    assert control.endswith("This question is a negative control: no relation is expected.")
    assert "was expected" not in control


def test_a_fall_that_was_expected_is_told_as_such():
    (found,) = estimate(everything(0.6))
    assert "the level fell as expected" in reason(found, replace(QUESTION, expected_sign="-"))
    assert "fell as expected" not in reason(found, QUESTION)


def test_a_cluster_is_the_last_of_its_reports():
    (found,) = estimate(everything(1.5))
    sentence = reason(found, replace(QUESTION, signal_cluster_size=3))
    assert sentence.startswith(
        "Within 100 m and 14 days after the last of 3 first reports of streetlight outage (all out) "
        "within 100 m and 28 days, theft ran 1.5"
    )


def test_an_adjusted_p_value_decides_before_the_other_gates():
    (found,) = estimate(everything(1.5, placebo=1.3))
    assert verdict(replace(found, p_adjusted=0.2)) == "not_supported"
