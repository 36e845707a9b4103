"""Outlooks from the build warehouse to the files that dbt shows; statistics are in the modules called."""

from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from assets.correlate.estimates import columns_of, write_table
from assets.correlate.outlook_backtest import backtest, method_scores
from assets.correlate.outlook_model import train
from assets.correlate.outlook_panel import YEAR_DAYS, Panel, refuse_look_ahead, season_level
from assets.correlate.outlook_tables import (
    SCHEMAS,
    Outcome,
    backtests_table,
    calibration_table,
    ranks_table,
)
from assets.ingest.lake import Lake
from assets.ingest.locate import h3_cells

#: A material that fewer units have is not told apart.
MIN_MATERIAL_SHARE = 0.01

PERIODS = """
    select city, outlook, outcome_type, horizon_days, crew_units, first_day
    from intermediate.int_outlook_periods order by city, outlook
"""
UNITS = """
    select
        unit_number, unit_key, coalesce(h3_7, 0) as h3_7, coalesce(neighbourhood, -1) as neighbourhood,
        first_day, last_day, length_m, installed_day,
        lower(coalesce(material, '')) as material, lon, lat
    from intermediate.int_outlook_units where city = $city and outlook = $outlook order by unit_number
"""
LEVELS = """
    select
        origin_day, coalesce(n_year, 0) as n_year, coalesce(n_in_years, 0) as n_in_years,
        coalesce(n_like, 0) as n_like
    from intermediate.int_outlook_origins
    left join intermediate.int_outlook_levels using (city, outlook, origin_day)
    where city = $city and outlook = $outlook order by origin_day
"""
COUNTS = """
    select
        origin_day, coalesce(unit_number, -1) as unit_number, coalesce(neighbourhood, 0) as neighbourhood,
        event_type, n_recent, n_year, n_earlier, latest_day
    from intermediate.int_outlook_counts where city = $city and outlook = $outlook
    order by event_type, origin_day, unit_number, neighbourhood
"""
OUTCOMES = """
    select origin_day, coalesce(unit_number, -1) as unit_number, known_day, n_failure
    from intermediate.int_outlook_outcomes where city = $city and outlook = $outlook
    order by origin_day, unit_number, known_day
"""
STRATA = """
    select h3_7, stratum from correlation.mart_reporting_speed where city = $city order by h3_7
"""


def outlooks_path(lake: Lake, table: str) -> Path:
    """Return where a table of outlooks lies: ranks, backtests or calibration."""
    return lake.derived / "outlooks" / f"{table}.parquet"


def write_outlooks(lake: Lake) -> dict[str, Any]:
    """Rank the units of every outlook, look back on it and replace the tables of outlooks.

    Returns:
        Number of rows: ranks by the method that ranks, and backtests.

    Raises:
        FileNotFoundError: The warehouse has not been built.
        LookAheadError: A feature is later than its forecast time.
    """
    if not lake.build_warehouse.exists():
        raise FileNotFoundError(f"{lake.build_warehouse} does not exist: build the warehouse first.")
    with duckdb.connect(str(lake.build_warehouse), read_only=True) as con:
        outcomes = [look_out(*read_panel(con, *key)) for key in read_outlooks(con)]
    tables = {
        "ranks": ranks_table(outcomes),
        "backtests": backtests_table(outcomes),
        "calibration": calibration_table(outcomes),
    }
    for name, table in tables.items():
        write_table(outlooks_path(lake, name), table)
    ranked = Counter(tables["ranks"].column("method").to_pylist())
    return {"ranks": dict(sorted(ranked.items())), "backtests": len(tables["backtests"])}


def write_no_outlooks(lake: Lake) -> None:
    """Write tables without rows where none exist, so that dbt can read them before the first outlook."""
    for name, schema in SCHEMAS.items():
        if not outlooks_path(lake, name).exists():
            write_table(outlooks_path(lake, name), schema.empty_table())


def look_out(panel: Panel, unit_key: np.ndarray) -> Outcome:
    """Look back on a panel, then say what each method makes of its newest forecast time.

    Raises:
        LookAheadError: A feature is later than its forecast time.
    """
    refuse_look_ahead(panel)
    model = train(panel, panel.newest)
    return Outcome(panel, unit_key, backtest(panel), method_scores(panel, panel.newest, model), model)


def read_outlooks(con: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    """Return cities and outlooks whose outcome was observed."""
    found = columns_of(con, PERIODS)
    return list(zip(found["city"], found["outlook"], strict=True))


def read_panel(con: duckdb.DuckDBPyConnection, city: str, outlook: str) -> tuple[Panel, np.ndarray]:
    """Return one city's outlook as a panel, and the keys of its units."""
    asked = {"city": city, "outlook": outlook}
    periods = columns_of(con, PERIODS)
    [row] = np.flatnonzero((periods["city"] == city) & (periods["outlook"] == outlook))
    units, levels = columns_of(con, UNITS, **asked), columns_of(con, LEVELS, **asked)
    outcomes, counts = columns_of(con, OUTCOMES, **asked), columns_of(con, COUNTS, **asked)
    origin_day = levels["origin_day"].astype(int)
    horizon_days = int(periods["horizon_days"][row])
    first, last = (np.nan_to_num(units[name].astype(float), nan=open_) for name, open_ in _OPEN_ENDS)
    values, names, latest = _features(units, counts, origin_day, periods["outcome_type"][row])
    years_observed = (origin_day - int(periods["first_day"][row]) + 1) / YEAR_DAYS
    n_earlier = values[:, :, names.index("failure_earlier")].copy()
    values[:, :, names.index("failure_earlier")] /= np.maximum(years_observed - 1, 1.0)[:, None]
    names[names.index("failure_earlier")] = "failure_earlier_per_year"
    panel = Panel(
        city=city,
        outlook=outlook,
        horizon_days=horizon_days,
        crew_units=int(periods["crew_units"][row]),
        origin_day=origin_day,
        latest_day=latest,
        is_in=(first <= origin_day[:, None]) & (last >= origin_day[:, None]),
        expected_total=levels["n_year"]
        * (horizon_days / YEAR_DAYS)
        * season_level(levels["n_like"], levels["n_in_years"], horizon_days),
        n_year=values[:, :, names.index("failure_365d")].copy(),
        n_earlier=n_earlier,
        years_observed=years_observed,
        values=values,
        feature_names=tuple(names),
        outcome_origin=np.searchsorted(origin_day, outcomes["origin_day"]),
        outcome_unit=outcomes["unit_number"].astype(int),
        outcome_known_day=outcomes["known_day"],
        outcome_count=outcomes["n_failure"],
        size=_size(units),
        stratum=_stratum(con, city, units),
    )
    return panel, units["unit_key"]


#: What stands for an open end of the days on which a unit is there.
_OPEN_ENDS = (("first_day", -np.inf), ("last_day", np.inf))


def _features(
    units: dict[str, np.ndarray],
    counts: dict[str, np.ndarray],
    origin_day: np.ndarray,
    outcome_type: str,
) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Return features (m, n, f) with their names, and the newest day of a record in them by forecast time."""
    n = len(units["unit_number"])
    near, neighbourhood = np.unique(units["neighbourhood"], return_inverse=True)
    at = np.searchsorted(origin_day, counts["origin_day"])
    latest = np.full(len(origin_day), np.iinfo(np.int64).min)
    np.maximum.at(latest, at, counts["latest_day"])
    layers: dict[str, np.ndarray] = {}
    is_unit = counts["unit_number"] >= 0
    place = np.searchsorted(near, counts["neighbourhood"]).clip(0, max(len(near) - 1, 0))
    is_near = ~is_unit & (near[place] == counts["neighbourhood"]) if n else np.zeros(len(at), bool)
    for event_type in [outcome_type, *sorted(set(counts["event_type"]) - {outcome_type})]:
        of_type = counts["event_type"] == event_type
        name = "failure" if event_type == outcome_type else event_type
        for window, column in _WINDOWS.items():
            if column == "n_earlier" and name != "failure":
                continue
            rows = of_type & is_unit
            layer = np.zeros((len(origin_day), n), np.float32)
            layer[at[rows], counts["unit_number"][rows]] = counts[column][rows]
            layers[f"{name}_{window}"] = layer
            if column == "n_earlier":
                continue
            rows = of_type & is_near
            layer = np.zeros((len(origin_day), len(near)), np.float32)
            layer[at[rows], place[rows]] = counts[column][rows]
            layers[f"near_{name}_{window}"] = layer[:, neighbourhood]
    for name, of_unit in _lasting(units, origin_day).items():
        layers[name] = np.broadcast_to(of_unit, (len(origin_day), n))
    return np.stack(list(layers.values()), axis=2).astype(np.float32), list(layers), latest


#: Names of the windows and the columns that count in them.
_WINDOWS = {"recent": "n_recent", "365d": "n_year", "earlier": "n_earlier"}


def _lasting(units: dict[str, np.ndarray], origin_day: np.ndarray) -> dict[str, np.ndarray]:
    """Return what is known of items themselves: length, age and material; nothing of cells."""
    layers: dict[str, np.ndarray] = {}
    length, installed = (units[name].astype(float) for name in ("length_m", "installed_day"))
    if np.isfinite(length).any():
        layers["length_m"] = length
    if np.isfinite(installed).any():
        layers["age_years"] = (origin_day[:, None] - installed) / YEAR_DAYS
    material = units["material"]
    for value, n in sorted(Counter(material).items()):
        if value and n >= MIN_MATERIAL_SHARE * len(material):
            layers[f"material {value}"] = (material == value).astype(np.float32)
    return layers


def _size(units: dict[str, np.ndarray]) -> np.ndarray:
    """Return the length of each item; 1 where none has one, the middle length where one has none."""
    length = units["length_m"].astype(float)
    if not np.isfinite(length).any():
        return np.ones(len(length))
    return np.where(np.isfinite(length), length, np.nanmedian(length))


def _stratum(con: duckdb.DuckDBPyConnection, city: str, units: dict[str, np.ndarray]) -> np.ndarray:
    """Return the reporting stratum of the H3-7 cell that each unit lies in, empty where it has none."""
    told = columns_of(con, STRATA, city=city)
    cell = units["h3_7"].astype(np.int64)
    placed = (cell == 0) & np.isfinite(units["lon"].astype(float))
    if placed.any():
        cell[placed] = h3_cells(units["lon"][placed].astype(float), units["lat"][placed].astype(float), 7)
    if not len(told["h3_7"]):
        return np.full(len(cell), "", object)
    at = np.searchsorted(told["h3_7"], cell).clip(0, len(told["h3_7"]) - 1)
    return np.where(told["h3_7"][at] == cell, told["stratum"][at], "")
