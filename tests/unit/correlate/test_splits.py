"""Parts of a disc against the whole and against sums made by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.correlate.inference import BlockSums, measure
from assets.correlate.ratios import mantel_haenszel
from assets.correlate.splits import PARTS, ReportingStrata, split_discs
from assets.correlate.wording import Question, split_reason

CELLS = 30
MONTHS = np.arange("2023-01", "2023-09", dtype="datetime64[M]")
QUESTION = Question("q", "street_light", None, "theft", 100.0, 14, is_negative_control=False)
NO_STRATA = ReportingStrata(*(np.array([], dtype) for dtype in (object, int, object)))
STRATA = ReportingStrata(
    city=np.full(CELLS, "town", object),
    h3_7=np.arange(CELLS),
    stratum=np.repeat(np.array(["slow", "middle", "fast"], object), 10),
)


def blocks(variant, ratio=1.0, *, band=1, d=2, c0=0.0, seed=0, city="town", question_id="q"):
    """One block per cell and month; the ratio may be an array of (cells, months)."""
    n = CELLS * len(MONTHS)
    rng = np.random.default_rng(seed)
    den = rng.uniform(1, 2, (CELLS, len(MONTHS)))
    num = den * ratio * rng.lognormal(0, 0.05, den.shape)

    def full(value, dtype):
        return np.full(n, value, dtype)

    return BlockSums(
        city=full(city, object),
        question_id=full(question_id, object),
        band=full(band, np.int32),
        variant=full(variant, object),
        control_level=full("h3_7", object),
        h3_7=np.repeat(np.arange(CELLS), len(MONTHS)),
        month=np.tile(MONTHS, CELLS),
        n_anchor=full(3, np.int64),
        d0=full(d, np.int64),
        d1=full(d, np.int64),
        num=num.ravel(),
        den=den.ravel(),
        c0_sum=full(3 * c0, float),
        naive_expected=full(1.0, float),
    )


def stack(*parts):
    return BlockSums(
        **{f: np.concatenate([getattr(p, f) for p in parts]) for f in BlockSums.__dataclass_fields__}
    )


def split(evidence, strata=STRATA):
    return {(p.split, p.part): p for p in split_discs(evidence, measure(evidence), strata)}


def test_each_part_is_the_ratio_of_its_own_blocks():
    ratio = np.ones((CELLS, len(MONTHS)))
    ratio[:, 4:] = 1.5
    ratio[20:] *= 2
    evidence = stack(
        blocks("primary", ratio), blocks("night", 1.8, d=1, seed=1), blocks("day", 0.9, d=1, seed=2)
    )
    found = split(evidence)
    assert list(found) == [(name, part) for name, parts in PARTS.items() for part in parts]
    primary = evidence.where(evidence.variant == "primary")
    kept = {
        ("period", "first"): (primary, primary.month < np.datetime64("2023-05")),
        ("period", "second"): (primary, primary.month >= np.datetime64("2023-05")),
        ("time_of_day", "night"): (evidence, evidence.variant == "night"),
        ("time_of_day", "day"): (evidence, evidence.variant == "day"),
        ("reporting_speed", "slow"): (primary, primary.h3_7 < 10),
        ("reporting_speed", "middle"): (primary, (primary.h3_7 >= 10) & (primary.h3_7 < 20)),
        ("reporting_speed", "fast"): (primary, primary.h3_7 >= 20),
    }
    for name, (source, keep) in kept.items():
        part = source.where(keep)
        cells = np.unique(part.h3_7)
        num, den = (np.array([x[part.h3_7 == c].sum() for c in cells]) for x in (part.num, part.den))
        expected = mantel_haenszel(num, den)
        assert found[name].rr == pytest.approx(expected.rr)
        assert (found[name].ci_low, found[name].ci_high) == pytest.approx((expected.ci_low, expected.ci_high))
        assert found[name].p_value == pytest.approx(expected.p_value)
        assert (found[name].n_anchor, found[name].d0) == (part.n_anchor.sum(), part.d0.sum())
    assert found["period", "second"].rr == pytest.approx(1.5 * found["period", "first"].rr, rel=0.05)
    assert found["reporting_speed", "fast"].rr == pytest.approx(
        2 * found["reporting_speed", "slow"].rr, rel=0.05
    )


def test_halves_are_those_of_the_estimate():
    evidence = blocks("primary", np.linspace(0.7, 1.6, CELLS * len(MONTHS)).reshape(CELLS, -1))
    (whole,) = measure(evidence)
    found = split(evidence)
    assert found["period", "first"].rr == pytest.approx(whole.first_half_rr)
    assert found["period", "second"].rr == pytest.approx(whole.second_half_rr)


@given(st.integers(0, 7), st.integers(0, 2**30))
@settings(deadline=None)
def test_parts_add_up_to_the_whole(first_d, seed):
    evidence = blocks("primary", d=3, seed=seed % 97)
    counts = np.random.default_rng(seed).poisson(first_d, len(evidence))
    evidence = replace(evidence, d0=counts)
    (whole,) = measure(evidence)
    parts = split_discs(evidence, [whole], STRATA)
    for name in ("period", "reporting_speed"):
        mine = [p for p in parts if p.split == name]
        assert sum(p.n_anchor for p in mine) == whole.n_anchor
        assert (sum(p.d0 for p in mine), sum(p.d1 for p in mine)) == (whole.d0, whole.d1)


def test_where_lone_episodes_are_reported_the_parts_are_of_them():
    evidence = stack(
        blocks("primary", 1.1, c0=0.2), blocks("isolated", 1.6, d=1), blocks("night", 1.2), blocks("day", 1.0)
    )
    found = split(evidence)
    assert (
        found["period", "first"].estimator
        == found["reporting_speed", "fast"].estimator
        == "isolated_episodes"
    )
    assert found["period", "first"].rr == pytest.approx(1.6, rel=0.05)
    assert found["period", "first"].d0 == CELLS * 4
    assert found["time_of_day", "night"].estimator == "all_episodes"
    assert "without an earlier one near" in split_reason(found["period", "first"], [], QUESTION)
    assert "without an earlier one near" not in split_reason(found["time_of_day", "day"], [], QUESTION)


@pytest.mark.parametrize(("outcomes", "is_enough"), [(49, False), (50, True)])
def test_a_part_of_few_outcomes_publishes_no_ratio(outcomes, is_enough):
    evidence = blocks("primary", 1.2)
    is_early = evidence.month < np.datetime64("2023-05")
    d0 = np.where(is_early, 0, evidence.d0)
    d0[np.flatnonzero(is_early)[0]] = outcomes
    found = split(replace(evidence, d0=d0, d1=np.where(is_early, 0, evidence.d1)))
    assert (found["period", "first"].d0, found["period", "first"].d1) == (outcomes, 0)
    for name in ("rr", "ci_low", "ci_high", "p_value"):
        assert (getattr(found["period", "first"], name) is not None) is is_enough
        assert getattr(found["period", "second"], name) is not None


def test_a_part_of_few_cells_publishes_no_ratio():
    few = ReportingStrata(STRATA.city, STRATA.h3_7, np.where(STRATA.h3_7 < 8, "slow", "fast").astype(object))
    found = split(blocks("primary", 1.2), few)
    assert found["reporting_speed", "slow"].rr is None
    assert found["reporting_speed", "slow"].d0 > 50
    assert "too few areas" in split_reason(found["reporting_speed", "slow"], [], QUESTION)
    assert found["reporting_speed", "fast"].rr is not None


def test_no_part_of_an_insufficient_whole_is_published():
    """One hot cell makes the whole insufficient; without it the rest would look well measured."""
    evidence = blocks("primary", 1.2)
    hot = np.where(evidence.h3_7 == 0, 500.0, 1.0)
    evidence = replace(evidence, num=evidence.num * hot, den=evidence.den * hot)
    assert measure(evidence)[0].verdict == "insufficient"
    assert {p.rr for p in split(evidence).values()} == {None}


def test_cells_without_a_stratum_and_rings_are_in_no_part():
    half = ReportingStrata(*(column[:10] for column in (STRATA.city, STRATA.h3_7, STRATA.stratum)))
    elsewhere = replace(STRATA, city=np.full(CELLS, "elsewhere", object))
    ring = stack(blocks("primary", 1.2), blocks("primary", 1.9, band=2))
    assert [key for key in split(ring, half) if key[0] == "reporting_speed"] == [("reporting_speed", "slow")]
    assert {key[0] for key in split(ring, elsewhere)} == {"period"}
    assert split(ring)["period", "first"].rr == pytest.approx(1.2, rel=0.05)


def test_cities_and_questions_are_kept_apart():
    evidence = stack(
        *[
            blocks("primary", ratio, city=city, question_id=question)
            for ratio, city, question in ((1.2, "b", "y"), (1.5, "a", "y"), (1.8, "b", "x"))
        ]
    )
    parts = split_discs(evidence, measure(evidence), NO_STRATA)
    assert [(p.city, p.question_id, p.part) for p in parts] == [
        (city, question, part)
        for city, question in (("a", "y"), ("b", "x"), ("b", "y"))
        for part in PARTS["period"]
    ]
    assert [p.rr for p in parts] == [pytest.approx(r, rel=0.05) for r in (1.5, 1.5, 1.8, 1.8, 1.2, 1.2)]


def test_no_evidence_no_parts():
    nothing = blocks("primary").where(np.zeros(CELLS * len(MONTHS), bool))
    assert split_discs(nothing, [], STRATA) == []


def test_sentences_tell_the_part_and_whether_intervals_meet():
    apart = split(stack(blocks("primary", 1.2), blocks("night", 1.8, seed=1), blocks("day", 0.9, seed=2)))
    night, day = apart["time_of_day", "night"], apart["time_of_day", "day"]
    told = split_reason(night, [day, night], QUESTION)
    assert told.startswith(
        "By night, within 100 m and 14 days after a first report of street light, theft ran 1.8"
    )
    assert told.endswith("Intervals that do not overlap: day and night.")
    assert split_reason(night, [night], QUESTION).endswith(
        "No other part has data enough to compare it with."
    )
    same = split(blocks("primary", 1.2))
    halves = [same["period", part] for part in PARTS["period"]]
    assert "overlap: no difference between them is shown" in split_reason(halves[0], halves, QUESTION)
    assert len({split_reason(p, [], QUESTION) for p in same.values()}) == len(same)
    thin = replace(halves[0], rr=None, d0=3, d1=4)
    assert "only 7 cases of theft" in split_reason(thin, halves, QUESTION)
