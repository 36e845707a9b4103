"""The Dagster asset of outlooks; what it does is in `outlooks`."""

import dagster as dg

from assets.ingest.lake import Lake
from assets.warehouse.dbt_assets import OUTLOOKS_KEY, WRITE_POOL

#: What outlooks are made from.
PANEL_KEYS = [
    *(
        dg.AssetKey(["intermediate", f"int_outlook_{name}"])
        for name in ("periods", "origins", "units", "counts", "levels", "outcomes")
    ),
    dg.AssetKey(["correlation", "mart_reporting_speed"]),
]


@dg.asset(
    key=OUTLOOKS_KEY,
    deps=PANEL_KEYS,
    description=(
        "Units of each city ranked by expected failures, one row per unit; beside it how past forecast "
        "times did. The heuristic ranks where the model is not shown to be better."
    ),
    group_name="correlation",
    kinds={"python", "parquet"},
    owners=["team:warehouse"],
    pool=WRITE_POOL,
)
def outlooks(lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult:
    """Rank and look back; dbt shows both."""
    from assets.correlate.outlooks import write_outlooks

    written = write_outlooks(lake)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": sum(written["ranks"].values()),
            **{f"units_ranked_by_{method}": n for method, n in written["ranks"].items()},
            "looks_back": written["backtests"],
        }
    )
