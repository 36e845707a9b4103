"""How fast each place reports again, in a city where some do so up to three times as fast as others."""

from collections.abc import Callable

import duckdb
import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from assets.simulate.catalogue import SERVICES

pytestmark = pytest.mark.slow

#: Draws of the counts that chance would give; of them one in a hundred lies below the demand.
DRAWS, UNLUCKY = 1_000, 0.01


@pytest.fixture(scope="module")
def planted(city) -> pd.Series:
    """Mean planted speed of the incidents of each cell."""
    rows = city.rows(f"""
        select events.h3_7, avg(requests.speed) as speed
        from core.fct_events as events
        inner join read_parquet('{city.truth}/requests.parquet') as requests using (source_id)
        where events.feed = 'service_requests' and events.is_canonical and events.h3_7 is not null
        group by 1""")
    return pd.DataFrame(rows).set_index("h3_7").speed


@pytest.fixture(scope="module")
def cells(city, planted) -> pd.DataFrame:
    """The mart with the planted speed beside the estimated one."""
    rows = city.rows("select * from correlation.mart_reporting_speed where city = 'simulated'")
    return pd.DataFrame(rows).set_index("h3_7").join(planted.rename("planted"))


@pytest.fixture(scope="module")
def speeds(city) -> Callable[[str], pd.DataFrame]:
    """Return what runs the mart's own SQL over another table of incidents, given as a query."""
    [path] = (city.home / "dbt").glob("*/compiled/*/models/correlation/mart_reporting_speed.sql")
    sql, named = path.read_text(encoding="utf-8"), '"warehouse"."intermediate"."int_repeat_exposure"'
    assert sql.count(named) == 1

    def run(incidents: str) -> pd.DataFrame:
        with duckdb.connect() as con:
            file = city.home / "warehouse" / "build" / "warehouse.duckdb"
            con.execute(f"attach '{file}' as warehouse (read_only)")
            con.execute(f"create table incidents as {incidents.format(exposure=named)}")
            return con.sql(sql.replace(named, "incidents")).df().set_index("h3_7")

    return run


def dispersion(cells: pd.DataFrame) -> float:
    """Return how much more than a Poisson count one varies at most: its mean is itself exponential."""
    return 1 + max(service.repeats for service in SERVICES) * cells.planted.max()


def relative_speed(cells: pd.DataFrame) -> pd.Series:
    """Return the planted speed by the measure of the mart, which is 1 over all that is expected."""
    return cells.planted / np.average(cells.planted, weights=cells.expected_repeat)


def drawn_correlations(cells: pd.DataFrame) -> np.ndarray:
    """Return rank correlations with what was planted when the counts of cells are drawn from it."""
    expected, weight = cells.expected_repeat.to_numpy(), cells.own_weight.to_numpy()
    mean, spread = (relative_speed(cells) * expected).to_numpy(), dispersion(cells)
    counts = np.random.default_rng(7).negative_binomial(mean / (spread - 1), 1 / spread, (DRAWS, mean.size))
    ratios = 1 + weight * (counts / expected - 1)
    return np.array([spearmanr(cells.planted, ratio).statistic for ratio in ratios])


def test_every_cell_has_its_planted_speed_and_the_city_is_its_own_yardstick(cells, planted):
    assert len(cells) > 50
    assert cells.planted.notna().all()
    assert set(planted.index) == set(cells.index)
    assert cells.n_repeat.sum() > 10_000
    assert cells.expected_repeat.sum() == pytest.approx(cells.n_repeat.sum(), rel=1e-9)


def test_fast_cells_are_told_from_slow_ones_as_well_as_chance_lets_anyone(cells):
    # At the rim of the city lie cells of which next to nothing is known; they are near 1 and say so.
    telling = cells[cells.own_weight >= 0.5]
    assert len(telling) > 0.8 * len(cells)
    found = spearmanr(telling.planted, telling.speed_ratio).statistic
    demand = np.quantile(drawn_correlations(telling), UNLUCKY)
    print(f"rank correlation {found:.3f} of {len(telling)} cells, demanded {demand:.3f}")
    assert demand > 0.8
    assert found >= demand


def test_counts_are_in_proportion_to_the_planted_speed(cells):
    """A rank says nothing of how far apart: thirds of the incidents by what was planted, not by what came."""
    in_order = cells.sort_values("planted")
    third = pd.cut(in_order.n_incident.cumsum() / in_order.n_incident.sum(), [0, 1 / 3, 2 / 3, 1])
    parts = in_order.assign(mean=relative_speed(in_order) * in_order.expected_repeat).groupby(
        third, observed=True
    )
    found, mean = parts.n_repeat.sum(), parts["mean"].sum()
    print(pd.DataFrame({"repeats": found, "by plant": mean, "by the city": parts.expected_repeat.sum()}))
    # Three standard errors, and 3 % of the pairs are two things near each other, which know of no speed.
    assert (np.abs(found - mean) < 3 * np.sqrt(dispersion(cells) * mean) + 0.03 * mean).all()
    # That does not pass if all places were alike.
    city = parts.expected_repeat.sum()
    assert np.abs(found - city).max() > 2 * (3 * np.sqrt(dispersion(cells) * city) + 0.03 * city).max()


def test_strata_are_thirds_in_the_planted_order(cells):
    by_stratum = cells.groupby("stratum")
    speed = by_stratum.apply(lambda part: np.average(part.planted, weights=part.n_incident))
    share = by_stratum.n_incident.sum() / cells.n_incident.sum()
    print(pd.DataFrame({"planted": speed, "share of incidents": share}))
    # One cell has a tenth of the incidents at most, and a boundary moves by half a cell.
    assert share.min() > 0.25
    assert speed["slow"] < speed["middle"] < speed["fast"]
    # Thirds of the incidents by what was planted itself differ by so much; chance takes a fifth at most.
    in_order = cells.sort_values("planted")
    so_far = in_order.n_incident.cumsum() / in_order.n_incident.sum()
    slowest, fastest = in_order[so_far <= 1 / 3], in_order[so_far >= 2 / 3]
    widest = np.average(fastest.planted, weights=fastest.n_incident) - np.average(
        slowest.planted, weights=slowest.n_incident
    )
    assert speed["fast"] - speed["slow"] >= 0.8 * widest


def test_speed_vanishes_where_repeats_are_dealt_out_over_cells(cells, speeds):
    """The guard off: the same repeats of the same incidents, each in the cell of another incident."""
    as_built = speeds("select * from {exposure}")
    assert (as_built.speed_ratio.reindex(cells.index) == cells.speed_ratio).all()
    shuffled = speeds("""
        with places as (
            select event_key, any_value(h3_7) as h3_7, row_number() over (order by event_key) as here,
                row_number() over (order by md5(event_key || 'elsewhere')) as there
            from {exposure} group by event_key
        )
        select incidents.* replace (places.h3_7 as h3_7)
        from {exposure} as incidents
        inner join (
            select one.event_key, other.h3_7
            from places as one inner join places as other on one.here = other.there
        ) as places using (event_key)""")
    ratio = (shuffled.n_repeat / shuffled.expected_repeat).reindex(cells.index)
    assert shuffled.n_incident.reindex(cells.index).equals(cells.n_incident)
    # Three standard errors of a rank correlation of that many cells without any.
    assert abs(spearmanr(cells.planted, ratio).statistic) < 3 / np.sqrt(len(cells) - 1)
    assert abs(shuffled.speed_ratio - 1).max() < abs(cells.speed_ratio - 1).max() / 3
