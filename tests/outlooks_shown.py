"""What tests of outlooks share: labels by brute force, a panel that looks ahead, and a table to read."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from assets.correlate.outlook_panel import Panel

#: As the design says (statistics.md section 6): the same job lies within 20 m and 7 days.
JOB_M = 20
JOB_DAYS = 7


def jobs(con: duckdb.DuckDBPyConnection, event_type: str) -> pd.DataFrame:
    """Return located cases of a type with their day, those left out that repeat an earlier one's job."""
    cases = con.execute(
        """
        select event_key, event_on - date '1970-01-01' as day, x_m, y_m, h3_10 from core.fct_events
        where event_type = $1 and is_canonical and not is_noise and not is_excluded and x_m is not null
        order by day, event_key
        """,
        [event_type],
    ).df()
    pairs = cKDTree(cases[["x_m", "y_m"]].to_numpy()).query_pairs(JOB_M, output_type="ndarray")
    earlier, later = np.sort(pairs, axis=1).T
    day = cases["day"].to_numpy()
    return cases.drop(index=np.unique(later[day[later] - day[earlier] <= JOB_DAYS]))


def looking_ahead(panel: Panel) -> Panel:
    """Return the panel with the failures of the horizon among the features, and no word of it."""
    values = np.concatenate([panel.values, panel.failures()[:, :, None].astype(np.float32)], axis=2)
    return replace(panel, values=values, feature_names=(*panel.feature_names, "failure_soon"))


def pooled(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Return rows of mart_outlook_backtests over all forecast times and units, by method and picks."""
    return {
        (row["method"], row["picked"]): row
        for row in rows
        if row["origin"] == "pooled" and row["part"] == "all"
    }


def show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the pooled rows of mart_outlook_backtests as a table."""
    print(f"\n{title}")
    print(
        "method      picks  precision [95 %]         recall  lift [95 %]           over count of 365 d [95 %]"
    )
    for _, row in sorted(pooled(rows).items(), key=lambda item: item[0][::-1]):
        print(
            f"{row['method']:<12}{row['k']:5.1f}  {_interval(row, 'precision', 4)}  {row['recall']:.4f}  "
            f"{_interval(row, 'lift', 2):<20}  {_interval(row, 'lift_over_heuristic', 2)}"
            f"  PAI {row['pai']:.2f}, PEI {row['pei']:.3f}, expected/observed {row['calibration_ratio']:.2f}"
        )


def _interval(row: Mapping[str, Any], name: str, digits: int) -> str:
    value, low, high = (f"{row[name + end]:.{digits}f}" for end in ("", "_ci_low", "_ci_high"))
    return f"{value} [{low}, {high}]"
