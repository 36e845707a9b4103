"""What tests of outlooks share: labels by brute force, a panel that looks ahead, and a table to read."""

from collections.abc import Sequence
from dataclasses import replace

import duckdb
import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from assets.correlate.outlook_backtest import Look
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


def pooled(looks: Sequence[Look]) -> dict[tuple[str, str], Look]:
    """Return the looks over all forecast times and units by method and what decided the number of picks."""
    return {
        (look.method, look.picked): look for look in looks if look.origin_day is None and look.part == "all"
    }


def show(title: str, looks: Sequence[Look]) -> None:
    """Print the pooled looks as a table."""
    print(f"\n{title}")
    print("method      picks  precision [95 %]         recall  lift [95 %]        over count of 365 d [95 %]")
    for (method, _), look in sorted(pooled(looks).items(), key=lambda item: item[0][::-1]):
        over = look.lift_over_heuristic
        print(
            f"{method:<12}{look.k:5.1f}  {look.precision.value:.4f} [{look.precision.low:.4f}, "
            f"{look.precision.high:.4f}]  {look.recall.value:.4f}  {look.lift.value:5.2f} "
            f"[{look.lift.low:5.2f}, {look.lift.high:5.2f}]  {over.value:.2f} [{over.low:.2f}, "
            f"{over.high:.2f}]"
            f"  PAI {look.pai:.2f} PEI {look.pei:.3f} expected/observed {look.calibration_ratio:.2f}"
        )
