"""The Dagster assets of publishing: the warehouse for BI tools, then the release of extracts.

The work itself is in `snapshot.py` and `extract.py`.
"""

from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from assets.correlate.catalogue import CATALOGUE, read_catalogue
from assets.correlate.correlation_marts import card_key
from assets.ingest.clock import Clock
from assets.ingest.lake import Lake
from assets.warehouse.dbt_assets import WRITE_POOL
from assets.warehouse.generation import generation_of

SNAPSHOT_KEY = dg.AssetKey(["publish", "bi_snapshot"])
RELEASE_KEY = dg.AssetKey(["open_data", "release"])


def build_publish_assets(
    built: Sequence[dg.AssetKey], manifest_path: Path, catalogue: Path = CATALOGUE
) -> list[dg.AssetsDefinition]:
    """Return the assets that publish a finished generation.

    Args:
        built: Everything dbt builds; while any of it is broken nothing is published.
        manifest_path: The parsed dbt project, which says what is an extract and what its columns mean.
        catalogue: The seed of questions, whose method cards are part of a release.
    """

    @dg.asset(
        key=SNAPSHOT_KEY,
        deps=list(built),
        description="The warehouse file that BI tools open, replaced whole by rename.",
        group_name="publish",
        kinds={"duckdb"},
        owners=["team:warehouse"],
        pool=WRITE_POOL,
    )
    def bi_snapshot(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], clock: dg.ResourceParam[Clock]
    ) -> dg.MaterializeResult:
        from assets.publish.snapshot import publish_snapshot

        summary = publish_snapshot(lake, generation_of(context, clock))
        return dg.MaterializeResult(
            metadata={
                "generation": summary.generation,
                "path": dg.MetadataValue.path(str(summary.path)),
                "bytes": summary.bytes,
                "free_share": summary.free_share,
                "kept_generations": "\n".join(summary.kept),
                "seconds": summary.seconds,
            }
        )

    @dg.asset(
        key=RELEASE_KEY,
        deps=[SNAPSHOT_KEY, *(card_key(question.question_id) for question in read_catalogue(catalogue))],
        description="An immutable folder of extracts and method cards with their dictionary and checksums.",
        group_name="publish",
        kinds={"csv", "parquet"},
        owners=["team:open-data"],
        pool=WRITE_POOL,
    )
    def release(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], clock: dg.ResourceParam[Clock]
    ) -> dg.MaterializeResult:
        from assets.correlate.cards import cards_folder
        from assets.publish.extract import publish_release

        generation = generation_of(context, clock)
        summary = publish_release(
            lake,
            manifest_path,
            generation,
            now=clock.now(),
            cards=cards_folder(lake, generation),
            progress=context.log.info,
        )
        lines = ["| dataset | rows | bytes | simulated |", "|---|--:|--:|---|"]
        lines += [
            f"| {one.dataset} | {one.rows:,} | {one.bytes:,} | {'yes' if one.is_simulated else 'no'} |"
            for one in summary.datasets
        ]
        return dg.MaterializeResult(
            metadata={
                "generation": summary.generation,
                "path": dg.MetadataValue.path(str(summary.folder)),
                "dagster/row_count": sum(one.rows for one in summary.datasets),
                "bytes": sum(one.bytes for one in summary.datasets),
                "datasets": dg.MetadataValue.md("\n".join(lines)),
                "method_cards": summary.n_cards,
            }
        )

    return [bi_snapshot, release]
