"""Outlooks without a warehouse: regression, what may be learned when, figures by brute force, the gate."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.optimize import minimize

from assets.correlate.outlook_backtest import METHODS, PICKS, backtest, is_passed, method_scores
from assets.correlate.outlook_model import expected_by_count, fit_poisson, train
from assets.correlate.outlook_panel import LookAheadError, Panel, refuse_look_ahead, season_level
from assets.correlate.outlook_tables import SCHEMAS, Outcome, backtests_table, calibration_table, ranks_table
from assets.correlate.outlooks import look_out, outlooks_path, write_no_outlooks, write_outlooks
from assets.ingest.lake import Lake

HORIZON = 28
FIRST_DAY = 10_000


def town(seed, *, n=1500, m=18, rate=0.02, by_feature=0.0, by_place=0.5, changes=None):
    """A panel of n units: failures by a lasting rate of each place and, by so much, a known feature.

    Counts of past failures are of the periods before, as far as they lie in the panel.
    """
    rng = np.random.default_rng(seed)
    age = rng.normal(size=n)
    place = np.exp(rng.normal(size=n) * by_place - by_place**2 / 2)
    # A feature that is worth nothing until now: who counts failures cannot see it.
    fresh = rng.normal(size=(m + 13, n))
    failed = rng.poisson(rate * place * np.exp(by_feature * fresh - by_feature**2 / 2))
    year = np.array([failed[t : t + 13].sum(axis=0) for t in range(m)]).astype(float)
    origin_day = FIRST_DAY + HORIZON * np.arange(m)
    of, unit = np.nonzero(failed[13 : 13 + m - 1])
    panel = Panel(
        city="town",
        outlook="o",
        horizon_days=HORIZON,
        crew_units=30,
        origin_day=origin_day,
        latest_day=origin_day,
        is_in=np.ones((m, n), bool),
        expected_total=np.full(m, rate * n),
        n_year=year,
        n_earlier=np.zeros((m, n)),
        years_observed=np.ones(m),
        values=np.stack([year, np.broadcast_to(age, (m, n)), fresh[13:]], axis=2),
        feature_names=("failure_365d", "age_years", "age_fresh"),
        outcome_origin=of,
        outcome_unit=unit,
        outcome_known_day=origin_day[of] + HORIZON,
        outcome_count=failed[13:][of, unit],
        size=np.ones(n),
        stratum=np.where(np.arange(n) < n // 3, "slow", ""),
    )
    return replace(panel, **(changes or {}))


@pytest.fixture(scope="module")
def plain():
    return town(1)


@pytest.fixture(scope="module")
def told():
    """A town in which a feature tells much that past failures do not."""
    return town(2, by_feature=1.0)


def test_the_regression_is_the_minimum_of_its_penalised_loss():
    rng = np.random.default_rng(3)
    design = np.column_stack([np.ones(4000), rng.normal(size=(4000, 3))])
    offset = rng.normal(size=4000) * 0.3 - 2
    count = rng.poisson(np.exp(offset + design @ [0.2, 0.5, -0.4, 0.0]))

    def loss(beta):
        linear = offset + design @ beta
        return np.exp(linear).sum() - count @ linear + 5 * (beta[1:] ** 2).sum() / 2

    found = fit_poisson(design, offset, count, ridge=5)
    assert found == pytest.approx(minimize(loss, np.zeros(4), method="BFGS").x, abs=2e-4)
    assert found == pytest.approx([0.2, 0.5, -0.4, 0.0], abs=0.15)
    held = fit_poisson(design, offset, count, ridge=1e9)
    assert np.abs(held[1:]).max() < 1e-5 < abs(held[0])


def test_what_follows_a_forecast_time_changes_nothing_at_it(told):
    """Training stops where a horizon is not over; with failures that are told earlier it learns of them."""
    at = 9
    model = train(told, at)
    after = told.outcome_origin >= at
    changed = replace(told, outcome_unit=np.where(after, 0, told.outcome_unit), values=told.values.copy())
    changed.values[at + 1 :] = 7.0
    again = train(changed, at)
    assert (again.coefficient == model.coefficient).all()
    # The horizon of the forecast time before ended on this very day, so it may be learned from.
    assert told.before(at).tolist() == list(range(9))
    longer = replace(told, horizon_days=HORIZON + 1)
    assert longer.before(at).tolist() == list(range(8))
    assert (train(longer, at).coefficient != model.coefficient).any()


def test_a_failure_is_learned_from_when_it_was_heard_of(told):
    at = 9
    late = told.outcome_origin == 5
    unheard = replace(told, outcome_known_day=np.where(late, told.origin_day[at] + 1, told.outcome_known_day))
    heard = replace(told, outcome_known_day=np.where(late, told.origin_day[at], told.outcome_known_day))
    gone = replace(told, outcome_count=np.where(late, 0, told.outcome_count))
    assert (train(unheard, at).coefficient == train(gone, at).coefficient).all()
    assert (train(heard, at).coefficient == train(told, at).coefficient).all()
    assert (train(unheard, at).coefficient != train(told, at).coefficient).any()


def test_a_feature_later_than_its_forecast_time_is_refused_and_would_multiply_precision(told):
    """The twin with the guard off: the same town, in which the count of recent failures looks ahead."""
    horizon = told.failures()
    looking = replace(
        told,
        values=np.concatenate([told.values, horizon[:, :, None]], axis=2),
        feature_names=(*told.feature_names, "failure_recent"),
        latest_day=told.latest_day + np.where(np.arange(len(told.latest_day)) == 11, 3, 0),
    )
    refuse_look_ahead(told)
    with pytest.raises(LookAheadError, match=r"town, o: .* 1998-03-23 holds a record of 3 days later"):
        look_out(looking, np.array([]))
    honest, leaking = (pooled(backtest(panel))["model", "share"].precision.value for panel in (told, looking))
    assert leaking > 2 * honest


def pooled(result, part="all"):
    looks = [look for look in result.looks if look.origin_day is None and look.part == part]
    return {(look.method, look.picked): look for look in looks}


def by_hand(panel, origins, scores, n_pick):
    """Figures of the picks by plain loops over forecast times and units."""
    hits = picks = caught = failures = units = failing = best = 0
    for t in origins:
        failed = [0] * panel.is_in.shape[1]
        of_origin = zip(panel.outcome_origin, panel.outcome_unit, panel.outcome_count, strict=True)
        for origin, unit, count in of_origin:
            if origin == t:
                failures += count
                if unit >= 0 and panel.is_in[t, unit]:
                    failed[unit] += count
        there = [u for u in range(len(failed)) if panel.is_in[t, u]]
        ranked = sorted(there, key=lambda u: (*(-score[u] for score in scores[t].rank_by), u))
        chosen = ranked[: n_pick(len(there))]
        hits += sum(failed[u] > 0 for u in chosen)
        caught += sum(failed[u] for u in chosen)
        best += sum(sorted(failed, reverse=True)[: len(chosen)])
        picks += len(chosen)
        units += len(there)
        failing += sum(failed[u] > 0 for u in there)
    return {
        "precision": hits / picks,
        "recall": caught / failures,
        "base_rate": failing / units,
        "lift": hits / picks / (failing / units),
        "pai": caught / failures / (picks / units),
        "pei": caught / best,
    }


def test_figures_are_those_counted_by_hand(told):
    """Some units are not there at first, and some failures lie in no unit."""
    is_in = told.is_in.copy()
    is_in[:12, :500] = False
    unit = np.where(np.arange(len(told.outcome_unit)) % 9 == 0, -1, told.outcome_unit)
    panel = replace(told, is_in=is_in, outcome_unit=unit)
    result = backtest(panel)
    origins = [
        int(np.searchsorted(panel.origin_day, look.origin_day))
        for look in result.looks
        if look.origin_day is not None and (look.method, look.picked) == ("model", "share")
    ]
    assert origins == list(range(origins[0], len(panel.origin_day) - 1))
    assert 4 <= origins[0] <= 6
    scores = {t: method_scores(panel, t, train(panel, t)) for t in origins}
    n_pick = {"share": lambda n: round(n / 100), "crew": lambda n: 30}
    for (method, picked), look in pooled(result).items():
        hand = by_hand(panel, origins, {t: each[method] for t, each in scores.items()}, n_pick[picked])
        mine = {name: getattr(look, name) for name in hand}
        shown = {name: getattr(value, "value", value) for name, value in mine.items()}
        assert shown == pytest.approx(hand, rel=1e-6)
        assert look.precision.low < look.precision.value < look.precision.high
        assert look.n_failure > look.n_failure_in_units > look.n_caught
    assert {(look.method, look.picked) for look in result.looks} == {(m, p) for m in METHODS for p in PICKS}
    slow = pooled(result, "slow")["model", "crew"]
    assert 0 < slow.n_unit < 500
    assert slow.n_failure == slow.n_failure_in_units


def test_deciles_hold_every_unit_and_the_model_expects_what_comes(told):
    result = backtest(told)
    for method in METHODS:
        deciles = [one for one in result.deciles if one.method == method]
        look = pooled(result)[method, "share"]
        assert [one.decile for one in deciles] == list(range(1, 11))
        assert sum(one.n_unit for one in deciles) == look.n_unit * look.n_origin
        assert sum(one.observed for one in deciles) == look.n_failure_in_units
        assert sum(one.expected for one in deciles) == pytest.approx(look.expected_failures)
        assert look.calibration_ratio == pytest.approx(1, abs=0.15)
    top = next(one for one in result.deciles if one.method == "model")
    assert top.expected == pytest.approx(top.observed, rel=0.2)
    assert top.observed > 2 * top.n_unit * 0.02


def test_a_count_expects_less_than_it_says(plain):
    """Most that failed twice in a year by chance do not go on so: the naive rate is far too high."""
    at = plain.newest
    expected = expected_by_count(plain, at, plain.n_year)
    often = plain.n_year[at] >= 2
    assert expected.sum() == pytest.approx(plain.expected_total[at], rel=0.15)
    assert expected[often].mean() < 0.6 * (plain.n_year[at][often] * HORIZON / 365).mean()
    assert expected[often].min() > expected[plain.n_year[at] == 0].max()


def test_the_gate_lets_a_better_model_pass_and_chance_not(told):
    result = backtest(told)
    gain = pooled(result)["model", "share"].gain_over_heuristic
    assert result.is_passed
    assert gain.low > 0
    worse = [
        replace(look, gain_over_heuristic=replace(look.gain_over_heuristic, low=-0.001))
        if look.picked == "crew" and look.part == "all" and look.method == "model"
        else look
        for look in result.looks
    ]
    assert not is_passed(worse)
    assert not is_passed([])
    few = [replace(look, n_failure=19) for look in result.looks]
    assert not is_passed(few)


def test_without_the_gate_chance_would_ship_a_model():
    """Units that are all alike: nothing can be ranked, and half of the models look better than the count."""
    results = [backtest(town(seed, n=600, by_place=0.0)) for seed in range(100, 108)]
    looks_better = sum(pooled(each)["model", "share"].gain_over_heuristic.value > 0 for each in results)
    assert looks_better >= 2
    assert sum(each.is_passed for each in results) <= 1


def test_too_little_to_learn_from_leaves_the_heuristic(plain):
    short = look_out(first_origins(plain, 4), np.arange(1500).astype(str))
    assert short.model is None
    assert short.backtest.looks == []
    table = ranks_table([short])
    assert set(table["method"].to_pylist()) == {"heuristic"}
    assert table["model_expected_failures"].null_count == len(table) == 1500
    assert "too few past periods" in table["reason"][0].as_py()


def first_origins(panel, m):
    kept = panel.outcome_origin < m - 1
    by_origin = ("origin_day", "latest_day", "is_in", "expected_total", "n_year", "n_earlier", "values")
    of_outcome = ("outcome_origin", "outcome_unit", "outcome_known_day", "outcome_count")
    return replace(
        panel,
        years_observed=panel.years_observed[:m],
        **{name: getattr(panel, name)[:m] for name in by_origin},
        **{name: getattr(panel, name)[kept] for name in of_outcome},
    )


@pytest.mark.parametrize("method", ["model", "heuristic"])
def test_the_list_says_what_ranks_and_why(told, plain, method):
    panel = told if method == "model" else plain
    keys = np.array([f"u{n:04d}" for n in range(1500)], object)
    outcome = look_out(panel, keys)
    assert outcome.method == method
    table = ranks_table([outcome])
    assert table.schema.equals(SCHEMAS["ranks"])
    rows = table.to_pylist()
    assert [row["rank"] for row in rows] == list(range(1, 1501))
    assert sorted(row["unit_key"] for row in rows) == keys.tolist()
    scores = [row["score"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert {row["method"] for row in rows} == {method}
    assert rows[0]["reason"].startswith(f"The {method} ranks: over 1")
    first = rows[0]
    unit = int(first["unit_key"][1:])
    assert first["failures_365d"] == panel.n_year[panel.newest, unit]
    if method == "model":
        assert first["score"] == first["expected_failures"] == first["model_expected_failures"]
        assert "age_fresh=" in first["contributing_features"]
    else:
        assert first["score"] == first["failures_365d"]
        assert first["contributing_features"] == f"failure_365d={first['score']:.1f}"
        assert rows[-1]["contributing_features"] == ""
    shipped = {row["method"] for row in backtests_table([outcome]).to_pylist() if row["is_shipped"]}
    assert shipped == {method}
    assert len(calibration_table([outcome])) == 30


def test_a_second_look_tells_the_same(plain):
    short = first_origins(plain, 9)
    once, again = (look_out(short, np.arange(1500).astype(str)) for _ in range(2))
    assert len(once.backtest.looks) > 6
    assert backtests_table([once]).equals(backtests_table([again]))
    assert ranks_table([once]).equals(ranks_table([again]))


def test_ties_follow_no_place_and_units_not_there_are_not_ranked(plain):
    is_in = plain.is_in.copy()
    is_in[:, ::2] = False
    outcome = look_out(replace(plain, is_in=is_in), np.arange(1500).astype(str))
    units = [int(key) for key in ranks_table([outcome])["unit_key"].to_pylist()]
    assert sorted(units) == list(range(1, 1500, 2))
    never = [u for u in units if plain.n_year[plain.newest, u] == 0]
    assert never == sorted(never)


def test_a_season_needs_more_than_a_few_failures():
    assert season_level(np.array([0, 20, 60]), np.array([0, 261, 391]), 28) == pytest.approx(
        [1.0, 30 / (20.02 + 10), 70 / (29.99 + 10)], rel=1e-3
    )


def test_no_units_no_rows(plain):
    nobody = replace(
        plain,
        is_in=plain.is_in[:, :0],
        n_year=plain.n_year[:, :0],
        n_earlier=plain.n_earlier[:, :0],
        values=plain.values[:, :0],
        outcome_unit=np.full_like(plain.outcome_unit, -1),
        size=plain.size[:0],
        stratum=plain.stratum[:0],
    )
    outcome = look_out(nobody, np.array([], object))
    assert isinstance(outcome, Outcome)
    assert len(ranks_table([outcome])) == len(backtests_table([outcome])) == 0


def test_empty_files_are_written_once_and_replace_nothing(tmp_path):
    lake = Lake(tmp_path)
    write_no_outlooks(lake)
    assert {path.stem for path in outlooks_path(lake, "ranks").parent.iterdir()} == set(SCHEMAS)
    for name, schema in SCHEMAS.items():
        assert pq.read_table(outlooks_path(lake, name)).schema.equals(schema)
    marked = outlooks_path(lake, "ranks")
    marked.write_bytes(b"kept")
    write_no_outlooks(lake)
    assert marked.read_bytes() == b"kept"


def test_without_a_warehouse_it_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="build the warehouse first"):
        write_outlooks(Lake(tmp_path))
