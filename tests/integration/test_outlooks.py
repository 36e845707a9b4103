"""The outlooks of the simulated city: labels and picks by brute force, and what a look ahead would do."""

import hashlib

import duckdb
import numpy as np
import pytest

from assets.correlate.outlook_backtest import PICKS, backtest
from assets.correlate.outlook_tables import Outcome, backtests_table
from assets.correlate.outlooks import read_panel
from tests.outlooks_shown import jobs, looking_ahead, pooled, show
from tests.simulated_city import City

pytestmark = pytest.mark.slow

OUTLOOKS = {"main_failure_risk": "infra_main_break", "rodent_outlook": "rodent"}
MARTS = {"main_failure_risk": "mart_main_failure_risk", "rodent_outlook": "mart_rodent_outlook"}


@pytest.fixture(scope="module")
def con(city: City):
    path = city.home / "warehouse" / "build" / "warehouse.duckdb"
    with duckdb.connect(str(path), read_only=True) as con:
        yield con


@pytest.fixture(scope="module")
def told(city: City) -> dict[str, list[dict]]:
    """The rows of mart_outlook_backtests by outlook."""
    rows = city.rows("select * from correlation.mart_outlook_backtests")
    return {outlook: [row for row in rows if row["outlook"] == outlook] for outlook in OUTLOOKS}


@pytest.mark.parametrize("outlook", OUTLOOKS)
def test_the_mart_ranks_every_unit_and_says_by_what(city, outlook, told):
    rows = city.rows(f"select * from correlation.{MARTS[outlook]} order by rank")
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) > 5000
    [method] = {row["method"] for row in rows}
    show(f"{outlook}, ranked by the {method}", told[outlook])
    gains = [pooled(told[outlook])["model", picked]["gain_over_heuristic_ci_low"] for picked in PICKS]
    assert method == ("model" if min(gains) > 0 else "heuristic")
    assert {row["unit_type"] for row in rows} == {"asset" if outlook == "main_failure_risk" else "cell"}
    assert {row["part"] for row in told[outlook]} == {"all", "slow", "middle", "fast"}


@pytest.mark.parametrize("outlook", OUTLOOKS)
def test_failures_of_each_period_are_those_found_by_brute_force(con, outlook, told):
    found = jobs(con, OUTLOOKS[outlook])["day"].to_numpy()
    periods = [row for row in told[outlook] if row["origin"] != "pooled"]
    assert len({row["origin"] for row in periods}) >= 8
    for row in periods:
        ahead = found - day_number(row["origin"])
        assert ((ahead > 0) & (ahead <= row["horizon_days"])).sum() == row["n_failure"]


def test_picks_of_the_heuristic_are_those_counted_by_brute_force(con, told):
    """Cells by their reports of 365 days, ties by all before, from events alone."""
    reports = jobs(con, "rodent")
    seen = con.execute(
        """select h3_10, min(event_on) - date '1970-01-01' as day from core.fct_events
           where x_m is not null and not is_excluded group by h3_10"""
    ).fetchall()
    day, cell = reports["day"].to_numpy(), reports["h3_10"].to_numpy()
    hits = picks = 0
    for row in told["rodent_outlook"]:
        if row["origin"] == "pooled" or (row["method"], row["picked"]) != ("heuristic", "share"):
            continue
        origin_day = day_number(row["origin"])
        known = day <= origin_day
        year = np.unique(cell[known & (day > origin_day - 365)], return_counts=True)
        past = np.unique(cell[known], return_counts=True)
        of_year, of_past = (dict(zip(*counts, strict=True)) for counts in (year, past))
        there = [found for found, first in seen if first <= origin_day]
        ranked = sorted(
            there,
            key=lambda one: (
                -of_year.get(one, 0),
                -of_past.get(one, 0),
                hashlib.md5(str(one).encode()).hexdigest(),
            ),
        )
        chosen = ranked[: round(len(there) / 100)]
        soon = set(cell[(day > origin_day) & (day <= origin_day + row["horizon_days"])])
        assert row["k"] == len(chosen)
        # Which reports of a place are one job is judged among all reports before, here among cases: a pick or
        # two may differ.
        assert abs(sum(one in soon for one in chosen) - row["precision"] * row["k"]) <= 3
        hits += sum(one in soon for one in chosen)
        picks += len(chosen)
    precision = pooled(told["rodent_outlook"])["heuristic", "share"]["precision"]
    assert precision == pytest.approx(hits / picks, rel=0.03)


@pytest.mark.parametrize("outlook", OUTLOOKS)
def test_no_feature_is_later_than_its_forecast_time_and_one_that_is_multiplies_precision(con, told, outlook):
    later = "select count(*) from intermediate.int_outlook_counts where latest_day > origin_day"
    assert con.execute(later).fetchone() == (0,)
    panel, _ = read_panel(con, "simulated", outlook)
    assert (panel.latest_day <= panel.origin_day).all()
    twin = backtest(looking_ahead(panel), since_day=int(panel.origin_day[-3]))
    rows = backtests_table([Outcome(panel, np.array([]), twin, {}, None)]).to_pylist()
    honest, leaking = (pooled(each)["model", "share"]["precision"] for each in (told[outlook], rows))
    print(f"\n{outlook}: precision at 1 % {honest:.3f}, with a feature of the horizon {leaking:.3f}")
    assert leaking > 3 * honest


@pytest.mark.parametrize("outlook", OUTLOOKS)
def test_expected_failures_are_about_those_that_came(told, outlook):
    for row in pooled(told[outlook]).values():
        assert 0.75 < row["calibration_ratio"] < 1.25
        assert row["lift_ci_low"] > 2


def day_number(origin: str) -> int:
    return int(np.datetime64(origin, "D").astype(int))
