"""The figures are those one counts by hand, and every demand can fail."""

import json

import numpy as np
import pandas as pd
import pytest

from tests.truth.demands import ALWAYS, POOLED_OF_FEW, unmet
from tests.truth.figures import as_text, measure, write

PERFECT = {
    "scenario": "S1",
    "signal": "s",
    "outcome": "o",
    "role": "null",
    "true_rr": np.nan,
    "verdict": "not_supported",
    "rr": 1.0,
    "ci_low": 0.9,
    "ci_high": 1.1,
    "p_value": 0.5,
    "p_bh": 0.9,
    "placebo_rr": 1.0,
    "placebo_p": 0.5,
    "guarded_rr": 1.0,
    "naive_ratio": 2.0,
    "naive_p": 0.0,
    "ring_true_rr": np.nan,
    "ring_ci_low": 0.9,
    "ring_ci_high": 1.1,
    "rings_supported": 0,
}
NAIVE_MISSES = {"null_fpr": 0.1, "naive_null_fpr": 0.9}
FOUND = {"role": "planted", "verdict": "supported", "p_value": 1e-9, "p_bh": 1e-8}


def planted(ratio: float, **changes) -> dict:
    """Return the answer about a planted pair that is found at its true ratio, unless changed."""
    ends = {"ci_low": ratio / 1.1, "ci_high": ratio * 1.1}
    return (
        PERFECT
        | FOUND
        | {"true_rr": ratio, "rr": ratio, "guarded_rr": ratio, "naive_ratio": 2 * ratio}
        | ends
        | changes
    )


def perfect_city(name: str) -> list[dict]:
    """Return the answers of a method without fault: 3 planted pairs, a reverse one, 20 null."""
    reverse = PERFECT | {"role": "reverse", "rr": 0.7, "p_bh": 1e-6, "placebo_rr": 1.4, "placebo_p": 1e-6}
    pairs = [
        *(planted(ratio) for ratio in (1.23, 1.5, 2.0)),
        reverse,
        *[PERFECT] * 19,
        PERFECT | {"p_value": 0.04},
    ]
    return [pair | {"city": name} for pair in pairs]


def figures_of(*cities: list[dict]):
    return measure("made up", pd.DataFrame([pair for city in cities for pair in city]))


def test_a_method_without_fault_meets_every_demand():
    figures = figures_of(perfect_city("a"), perfect_city("b"))
    assert unmet(figures, POOLED_OF_FEW) == {}
    assert (figures.cities, figures.null_fpr, figures.bh_found, figures.gate_found) == (2, 0.05, 3, 3)
    assert figures.naive_bias_of == pytest.approx({"1.23": 1.0, "1.50": 1.0, "2.00": 1.0})


def with_pair(row: int, **changes) -> list[dict]:
    """Return the answers of a city in which one pair came out otherwise."""
    city = perfect_city("a")
    city[row] |= changes
    return city


@pytest.mark.parametrize(
    ("city", "figures"),
    [
        (with_pair(0, ci_low=1.24), {"coverage": 2 / 3}),
        (with_pair(0, ci_low=np.nan, ci_high=np.nan), {"coverage": 2 / 3}),
        (with_pair(1, rr=1.65), {"bias_of 1.50": 0.1}),
        (with_pair(1, p_bh=0.06), {"bh_found": 2}),
        # Significant with the wrong sign is neither found nor right.
        (with_pair(1, rr=0.8), {"bias_of 1.50": 0.8 / 1.5 - 1, "bh_found": 2, "gate_found": 2}),
        (with_pair(1, verdict="immaterial"), {"gate_found": 2}),
        (with_pair(3, verdict="supported", rr=1.3, p_bh=1), {"reverse_supported": 1, "gate_fdr": 0.25}),
        (with_pair(3, rr=1.3), {"bh_fdr": 0.25}),
        (with_pair(3, placebo_p=0.02), {"reverse_flagged": 0}),
        (with_pair(4, p_value=0.001, p_bh=0.04), {"null_fpr": 0.1, "bh_fdr": 0.25}),
        (with_pair(4, p_value=0.001, verdict="supported"), {"null_fpr": 0.1, "gate_fdr": 0.25}),
        (with_pair(23, p_value=0.06), {"null_fpr": 0.0}),
        (with_pair(2, naive_ratio=2.5), {"naive_bias_of 2.00": 0.25}),
        (
            [*perfect_city("a")[:-2], *[PERFECT | {"city": "a", "p_value": 0.04, "naive_p": 0.9}] * 2],
            NAIVE_MISSES,
        ),
    ],
)
def test_each_demand_can_fail(city, figures):
    assert unmet(figures_of(city), POOLED_OF_FEW) == pytest.approx(figures)


def test_false_discoveries_are_a_mean_of_the_shares_of_the_cities():
    wrong = with_pair(4, p_bh=0.04)
    assert figures_of(wrong, perfect_city("b"), perfect_city("c")).bh_fdr == pytest.approx(0.25 / 3)


def test_a_ring_counts_on_the_right_side_of_one_only():
    planted_ring = [
        planted(0.8, city=city, ring_true_rr=1.2, ring_ci_low=low, ring_ci_high=low + 0.2)
        for city, low in (("a", 1.01), ("b", 0.99), ("c", 0.7), ("d", np.nan))
    ]
    assert figures_of(planted_ring).ring_excludes_1 == 0.25


def test_what_nothing_was_there_to_count_is_unmet_and_null_in_json(tmp_path):
    figures = figures_of([PERFECT | {"city": "a"}])
    assert {"coverage", "bias_of", "reverse_flagged"} <= unmet(figures, ALWAYS).keys()
    text = write({"seeds 1 to 1": [figures]}, tmp_path)
    (told,) = json.loads((tmp_path / "truth.json").read_text())["seeds 1 to 1"]
    assert told["coverage"] is None
    assert told["null_fpr"] == 0
    assert (tmp_path / "truth.txt").read_text() == text
    assert text.startswith("seeds 1 to 1\n")
    assert as_text([figures]) in text
