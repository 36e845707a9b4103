"""Asset checks on what leaves the warehouse; deliveries are checked by the gate, tables by dbt tests."""

from pathlib import Path

import dagster as dg

from assets.ingest.lake import Lake
from assets.publish.open_data_extracts import SNAPSHOT_KEY
from assets.warehouse.dbt_assets import WRITE_POOL
from assets.warehouse.reader import connect, read_generation

COMPARED = ("core.fct_events", "core.fct_event_versions", "correlation.mart_correlations")


def build_checks() -> list[dg.AssetChecksDefinition]:
    """Return the checks on the published warehouse."""

    @dg.asset_check(
        asset=SNAPSHOT_KEY,
        name="same_as_build",
        blocking=True,
        pool=WRITE_POOL,
        description="The published file has the generation and the rows of the build.",
    )
    def same_as_build(lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
        built, published = contents(lake.build_warehouse), contents(lake.published_warehouse)
        return dg.AssetCheckResult(
            passed=built == published,
            metadata={name: f"{value} built, {published[name]} published" for name, value in built.items()},
        )

    return [same_as_build]


def contents(warehouse: Path) -> dict[str, str]:
    """Return a warehouse file's generation and the rows of the tables that are compared."""
    connection = connect(warehouse)
    try:
        rows = {
            table: str(connection.execute(f"select count(*) from {table}").fetchall()[0][0])  # noqa: S608
            for table in COMPARED
        }
    finally:
        connection.close()
    return {"generation": str(read_generation(warehouse)), **rows}
