"""The statistics on block sums that are known by hand or by construction."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from assets.correlate import inference
from assets.correlate.inference import BlockSums, estimate, mantel_haenszel, verdict
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
    ]
    sentences = [reason(case, QUESTION) for case in cases]
    assert len(set(sentences)) == len(sentences)
    assert not [s for s in sentences if "cause" in s.lower() or "predict" in s.lower()]
    assert "Between 100 and 200 m" in sentences[8]
    assert "no ratio is published" in sentences[9]
    assert "negative control" in reason(found, replace(QUESTION, is_negative_control=True))


def test_an_adjusted_p_value_decides_before_the_other_gates():
    (found,) = estimate(everything(1.5, placebo=1.3))
    assert verdict(replace(found, p_adjusted=0.2)) == "not_supported"
