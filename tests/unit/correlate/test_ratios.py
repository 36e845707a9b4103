"""The arithmetic of ratios: groups are what they are alone, and numbering is what sorting gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.correlate.ratios import group_ratios, is_sufficient, mantel_haenszel, number_groups

letters = st.sampled_from("abc")
blocks = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 9), st.floats(0, 50), st.floats(0.1, 50)), max_size=60
)


def test_two_anchors_by_hand():
    """First place d0 2, d1 3, r0 4, r1 5; second d0 1, d1 2, r0 3, r1 6: the sums of the evidence test."""
    num, den = np.array([3 * 4 / 14, 2 * 3 / 12]), np.array([2 * 5 / 14, 1 * 6 / 12])
    found = mantel_haenszel(num, den)
    assert found.rr == pytest.approx(19 / 17)
    # Left with the second place only the ratio is 1; with the first, 6/5.
    deviations = np.log([1, 1.2]) - np.log(19 / 17)
    assert found.se_log == pytest.approx(np.sqrt(np.sum(deviations**2) / 2))
    first, second = num + den
    assert found.df == pytest.approx((first + second) ** 2 / (first**2 + second**2) - 1)


@given(blocks)
@settings(deadline=None)
def test_a_group_has_the_ratio_it_has_alone(rows):
    group, cell, num, den = (np.array([row[i] for row in rows]) for i in range(4))
    together = group_ratios(group.astype(int), cell, num, den, n_groups=4)
    for number in range(4):
        mine = group == number
        cells = sorted(set(cell[mine]))
        sums = [np.array([x[mine & (cell == c)].sum() for c in cells]) for x in (num, den)]
        alone = mantel_haenszel(*sums)
        for name in ("rr", "ci_low", "ci_high", "p_value", "se_log", "df"):
            assert getattr(together[number], name) == pytest.approx(
                getattr(alone, name), rel=1e-6, abs=1e-12, nan_ok=True
            )


@given(st.lists(st.tuples(letters, st.integers(-2, 2), letters), max_size=40))
def test_numbering_is_that_of_sorted_combinations(rows):
    columns = [np.array([row[i] for row in rows], dtype) for i, dtype in enumerate((object, int, object))]
    group, first = number_groups(*columns)
    combinations = sorted(set(rows))
    assert [combinations[i] for i in group] == rows
    assert [rows[i] for i in first] == combinations


def test_no_block_no_group():
    group, first = number_groups(np.array([], object), np.array([], int))
    assert len(group) == len(first) == 0
    assert np.isnan(group_ratios(group, group, group, group, n_groups=1)[0].rr)


def test_cells_without_terms_change_nothing():
    num, den = np.array([3.0, 4, 5, 6]), np.array([2.0, 5, 4, 4])
    padded = mantel_haenszel(np.append(num, [0, 0]), np.append(den, [0, 0]))
    assert padded == mantel_haenszel(num, den)


def test_enough_is_fifty_outcomes_and_eight_degrees_of_freedom():
    rng = np.random.default_rng(1)
    nine, eight = (mantel_haenszel(*rng.uniform(5, 6, (2, cells))) for cells in (10, 8))
    assert nine.df > 8 > eight.df
    assert is_sufficient(20, 30, nine)
    assert not is_sufficient(20, 29, nine)
    assert not is_sufficient(20, 30, eight)
    assert not is_sufficient(20, 30, mantel_haenszel(np.array([1.0]), np.array([1.0])))
