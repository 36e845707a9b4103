"""Planted effects are found, absent ones are not, and the naive comparison fails: generator to verdict.

By default 12 cities of two scenarios, by `make truth` 40 of each. Seeds are the first numbers, never chosen.
One more seed is the date: it is in the table, and no test looks at it.
"""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from assets.simulate.scenarios import SCENARIOS, SIGNALS, truth
from tests.truth.demands import POOLED_OF_FEW, POOLED_OF_MANY, SCENARIO_OF_MANY, unmet
from tests.truth.figures import Figures, measure, write
from tests.truth.trials import answers, evidence, with_signals_renamed

# 40 cities of every scenario take hours, which pytest counts as the time of the first test.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]

SEEDS = range(1, 1 + int(os.environ.get("CITYSIGNAL_TRUTH_SEEDS", "12")))
NAMES = list(SCENARIOS) if os.environ.get("CITYSIGNAL_TRUTH_SCENARIOS") == "all" else ["S1", "D1"]
TODAY = int(datetime.now(UTC).strftime("%Y%m%d"))
IS_MANY = len(SEEDS) >= 40
WITHOUT_DELAY = [name for name in ("S0", "S1", "S2", "D1", "D2") if name in NAMES]
POOLED = POOLED_OF_MANY if IS_MANY else POOLED_OF_FEW
FOLDER = Path(__file__).parents[2] / "var" / "truth"

needs_40_cities = pytest.mark.skipif(not IS_MANY, reason="40 cities: make truth")


class Outcome(NamedTuple):
    """Answers about the cities of the gated seeds, and those about D1 without the correction."""

    answers: pd.DataFrame
    uncorrected: pd.DataFrame

    def figures(self, *names: str) -> Figures:
        """Return the figures of one scenario, or of several pooled."""
        return measure("+".join(names), self.answers[self.answers.scenario.isin(names)])


@pytest.fixture(scope="module")
def outcome(tmp_path_factory) -> Outcome:
    gated, uncorrected, today = [], [], []
    for name in NAMES:
        for seed, blocks, without in evidence(tmp_path_factory.mktemp(name) / "runs", name, [*SEEDS, TODAY]):
            (today if seed == TODAY else gated).append(answers(name, seed, blocks))
            if name == "D1" and seed != TODAY:
                uncorrected.append(answers(name, seed, without))
    found = Outcome(pd.concat(gated), pd.concat(uncorrected))
    without = measure("D1 without correction", found.uncorrected)
    tables = {
        f"seeds 1 to {len(SEEDS)}": [*map(found.figures, NAMES), found.figures(*WITHOUT_DELAY), without],
        f"seed {TODAY}, not gated": [measure(name, rows) for name, rows in zip(NAMES, today, strict=True)],
    }
    print(write(tables, FOLDER))
    return found


def of_scenario(name: str):
    return pytest.mark.skipif(name not in NAMES, reason=f"scenario {name}: make truth")


@pytest.mark.parametrize("figure", POOLED)
def test_the_scenarios_without_delay_meet_the_demand(outcome, figure):
    assert unmet(outcome.figures(*WITHOUT_DELAY), {figure: POOLED[figure]}) == {}


@needs_40_cities
@pytest.mark.parametrize("name", WITHOUT_DELAY)
def test_each_scenario_without_delay_meets_the_demands(outcome, name):
    assert unmet(outcome.figures(name), SCENARIO_OF_MANY) == {}


@pytest.mark.parametrize("name", NAMES)
def test_the_reverse_pair_is_never_a_finding_and_its_placebo_fires(outcome, name):
    figures = outcome.figures(name)
    assert figures.reverse_supported == 0
    assert figures.reverse_flagged >= 0.95


@pytest.mark.parametrize("name", NAMES)
def test_rings_without_an_effect_are_not_findings(outcome, name):
    figures = outcome.figures(name)
    assert figures.rings_supported <= 0.005 * 71 * figures.cities


@pytest.mark.parametrize("name", [pytest.param(name, marks=of_scenario(name)) for name in ("S3", "D3")])
def test_late_reports_understate_and_the_guarded_estimate_less_so(outcome, name):
    figures = outcome.figures(name)
    for effect in SCENARIOS[name].precursors:
        ratio = f"{effect.disc_ratio:.2f}"
        assert 1 < figures.mean_rr_of[ratio] < effect.disc_ratio
        assert abs(figures.guarded_bias_of[ratio]) < abs(figures.bias_of[ratio])


@of_scenario("step")
def test_a_new_app_in_one_district_makes_no_finding(outcome):
    figures = outcome.figures("step")
    assert figures.null_supported <= 0.005 * 32 * figures.cities
    assert figures.null_fpr <= 0.07 or not IS_MANY


@of_scenario("displacement")
def test_an_effect_next_door_is_seen_next_door(outcome):
    figures = outcome.figures("displacement")
    assert figures.ring_excludes_1 >= 0.90
    assert figures.coverage >= 0.88


def test_without_the_correction_dense_signals_understate_every_effect(outcome):
    with_it, without = outcome.figures("D1"), measure("D1 without correction", outcome.uncorrected)
    assert {"coverage", "bias_of 2.00"} <= unmet(without, POOLED_OF_FEW).keys()
    for ratio, least in {"1.23": 0.02, "1.50": 0.05, "2.00": 0.09}.items():
        assert without.bias_of[ratio] < with_it.bias_of[ratio] - least
        assert without.coverage_of[ratio] < 0.75


@pytest.fixture(scope="module")
def renamed(tmp_path_factory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("renamed") / "runs"
    runs = evidence(folder, "S1", range(1, 3), change=with_signals_renamed)
    return pd.concat([answers("S1", run.seed, run.blocks) for run in runs])


def test_where_nothing_is_planted_any_more_the_demands_are_not_met(renamed):
    out = unmet(measure("renamed", renamed), POOLED_OF_FEW)
    assert {
        "coverage",
        "bias_of 1.23",
        "bias_of 1.50",
        "bias_of 2.00",
        "gate_found",
        "gate_fdr",
    } <= out.keys()


def test_the_effects_are_found_under_the_names_they_were_given(renamed):
    after = dict(zip(SIGNALS, [*SIGNALS[1:], SIGNALS[0]], strict=True))
    expected = {(after[signal], outcome) for signal, outcome in truth("S1").planted}
    found = renamed[renamed.verdict == "supported"]
    assert set(zip(found.signal, found.outcome, strict=True)) <= expected
    assert len(found) >= 2 * renamed.city.nunique()
