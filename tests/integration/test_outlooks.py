"""The outlooks of the simulated city: labels and picks by brute force, and what a look ahead would do."""

import hashlib

import duckdb
import numpy as np
import pytest

from assets.correlate.outlook_backtest import backtest
from assets.correlate.outlooks import read_panel
from tests.outlooks_shown import jobs, looking_ahead, pooled, show
from tests.simulated_city import City

pytestmark = pytest.mark.slow

OUTLOOKS = {"main_failure_risk": "infra_main_break", "rodent_outlook": "rodent"}
MARTS = {"main_failure_risk": "mart_main_failure_risk", "rodent_outlook": "mart_rodent_outlook"}


@pytest.fixture(scope="module")
def con(city: City):
    path = city.home / "warehouse" / "published" / "warehouse.duckdb"
    with duckdb.connect(str(path), read_only=True) as con:
        yield con


@pytest.fixture(scope="module")
def panels(con):
    return {outlook: read_panel(con, "simulated", outlook)[0] for outlook in OUTLOOKS}


@pytest.fixture(scope="module")
def results(panels):
    return {outlook: backtest(panel) for outlook, panel in panels.items()}


@pytest.mark.parametrize("outlook", OUTLOOKS)
def test_the_mart_ranks_every_unit_and_says_by_what(city, outlook, results):
    rows = city.rows(f"select * from correlation.{MARTS[outlook]} order by rank")
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) > 5000
    [method] = {row["method"] for row in rows}
    assert method == ("model" if results[outlook].is_passed else "heuristic")
    assert {row["unit_type"] for row in rows} == {"asset" if outlook == "main_failure_risk" else "cell"}
    told = city.rows(f"""select * from correlation.mart_outlook_backtests where outlook = '{outlook}'""")
    show(f"{outlook}, ranked by the {method}", results[outlook].looks)
    looks = pooled(results[outlook].looks)
    for row in told:
        if row["origin"] == "pooled" and row["part"] == "all":
            look = looks[row["method"], row["picked"]]
            assert row["precision"] == look.precision.value
            assert row["gain_over_heuristic_ci_low"] == look.gain_over_heuristic.low
    assert {row["part"] for row in told} == {"all", "slow", "middle", "fast"}


@pytest.mark.parametrize("outlook", OUTLOOKS)
def test_failures_of_each_period_are_those_found_by_brute_force(city, con, outlook):
    found = jobs(con, OUTLOOKS[outlook])["day"].to_numpy()
    periods = city.rows(
        f"""select distinct origin::date - date '1970-01-01' as day, horizon_days, n_failure
            from correlation.mart_outlook_backtests where outlook = '{outlook}' and origin <> 'pooled'"""
    )
    assert len(periods) >= 8
    for period in periods:
        ahead = found - period["day"]
        assert ((ahead > 0) & (ahead <= period["horizon_days"])).sum() == period["n_failure"]


def test_picks_of_the_heuristic_are_those_counted_by_brute_force(con, panels, results):
    """Cells by their reports of 365 days, ties by all before, from events alone."""
    panel = panels["rodent_outlook"]
    reports = jobs(con, "rodent")
    seen = con.execute(
        """select h3_10, min(event_on) - date '1970-01-01' as day from core.fct_events
           where x_m is not null and not is_excluded group by h3_10"""
    ).fetchall()
    day, cell = reports["day"].to_numpy(), reports["h3_10"].to_numpy()
    hits = picks = 0
    for look in results["rodent_outlook"].looks:
        if look.origin_day is None or (look.method, look.picked) != ("heuristic", "share"):
            continue
        known = day <= look.origin_day
        year = np.unique(cell[known & (day > look.origin_day - 365)], return_counts=True)
        past = np.unique(cell[known], return_counts=True)
        of_year, of_past = (dict(zip(*counts, strict=True)) for counts in (year, past))
        there = [found for found, first in seen if first <= look.origin_day]
        ranked = sorted(
            there,
            key=lambda one: (
                -of_year.get(one, 0),
                -of_past.get(one, 0),
                hashlib.md5(str(one).encode()).hexdigest(),
            ),
        )
        chosen = ranked[: round(len(there) / 100)]
        soon = set(cell[(day > look.origin_day) & (day <= look.origin_day + panel.horizon_days)])
        assert look.k == len(chosen)
        # Which reports of a place are one job is judged among all reports before, here among cases: a pick or
        # two may differ.
        assert abs(sum(one in soon for one in chosen) - look.precision.value * look.k) <= 3
        hits += sum(one in soon for one in chosen)
        picks += len(chosen)
    assert pooled(results["rodent_outlook"].looks)["heuristic", "share"].precision.value == pytest.approx(
        hits / picks, rel=0.03
    )


@pytest.mark.parametrize("outlook", OUTLOOKS)
def test_no_feature_is_later_than_its_forecast_time_and_one_that_is_multiplies_precision(
    con, panels, results, outlook
):
    panel = panels[outlook]
    assert (panel.latest_day <= panel.origin_day).all()
    assert con.execute(
        "select count(*) from intermediate.int_outlook_counts where latest_day > origin_day"
    ).fetchone() == (0,)
    twin = backtest(looking_ahead(panel), since_day=int(panel.origin_day[-4]))
    honest = pooled(results[outlook].looks)["model", "share"].precision.value
    leaking = pooled(twin.looks)["model", "share"].precision.value
    print(f"\n{outlook}: precision at 1 % {honest:.3f}, with features of the horizon {leaking:.3f}")
    assert leaking > 3 * honest


@pytest.mark.parametrize("outlook", OUTLOOKS)
def test_expected_failures_are_about_those_that_came(results, outlook):
    for look in pooled(results[outlook].looks).values():
        assert 0.75 < look.calibration_ratio < 1.25
        assert look.lift.low > 2
