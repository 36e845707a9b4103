"""The Dagster asset of inference: block sums in, estimates out; the statistics belong in `inference.py`."""

import base64

import dagster as dg

from assets.ingest.lake import Lake
from assets.warehouse.dbt_assets import ESTIMATES_KEY, WRITE_POOL

BLOCKS_KEY = dg.AssetKey(["correlation", "mart_correlation_blocks"])


def build_correlation_assets() -> list[dg.AssetsDefinition]:
    """Return the asset of the estimates."""

    @dg.asset(
        key=ESTIMATES_KEY,
        deps=[BLOCKS_KEY],
        description="One row per city, question, distance band and window: estimate, interval and verdict.",
        group_name="correlation",
        kinds={"python", "parquet"},
        owners=["team:warehouse"],
        pool=WRITE_POOL,
    )
    def estimates(lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult:
        from assets.correlate.estimates import estimates_path, write_estimates
        from assets.correlate.forest_plot import forest_plot

        verdicts = write_estimates(lake)
        picture = base64.b64encode(forest_plot(estimates_path(lake))).decode()
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": sum(verdicts.values()),
                **{f"verdict_{verdict}": count for verdict, count in sorted(verdicts.items())},
                "forest_plot": dg.MetadataValue.md(f"![forest plot](data:image/png;base64,{picture})"),
            }
        )

    return [estimates]
