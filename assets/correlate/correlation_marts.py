"""The Dagster assets of inference: block sums in, estimates and method cards out, a check on each question.

The statistics belong in `inference.py`, what cards say in `card_text.py`.
"""

import base64
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from assets.correlate.catalogue import CATALOGUE, CatalogueRow, read_catalogue
from assets.ingest.lake import Lake
from assets.warehouse.dbt_assets import ESTIMATES_KEY, SITE_EXCESS_KEY, WRITE_POOL

#: What inference reads; the rest of its evidence is built in the same pass.
EVIDENCE_KEYS = [
    dg.AssetKey(["correlation", "mart_correlation_blocks"]),
    dg.AssetKey(["correlation", "mart_reporting_speed"]),
    dg.AssetKey(["intermediate", "int_lag_blocks"]),
    dg.AssetKey(["intermediate", "int_scan_blocks"]),
]
#: What cards are written from.
MART_KEYS = [
    dg.AssetKey(["correlation", name])
    for name in (
        "mart_correlations",
        "mart_correlation_splits",
        "mart_lag_curves",
        "mart_correlation_blocks",
        "mart_correlation_contrasts",
    )
]
ANSWER_CHECK = "question_is_answered"


def build_correlation_assets(catalogue: Path = CATALOGUE) -> list[dg.AssetsDefinition]:
    """Return the assets of the estimates and of sites of work, and one per question, its method card.

    Args:
        catalogue: The seed of questions, read at once.

    Raises:
        CatalogueError: A question is named wrongly.
    """

    @dg.asset(
        key=ESTIMATES_KEY,
        deps=EVIDENCE_KEYS,
        description=(
            "One row per city, question and distance band: estimate, interval and verdict. Beside it the "
            "parts of each disc, its lag curves and the scan over all pairs."
        ),
        group_name="correlation",
        kinds={"python", "parquet"},
        owners=["team:warehouse"],
        pool=WRITE_POOL,
    )
    def estimates(lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult:
        from assets.correlate.estimates import estimates_path, write_estimates
        from assets.correlate.forest_plot import forest_plot

        written = write_estimates(lake)
        picture = base64.b64encode(forest_plot(estimates_path(lake))).decode()
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": sum(written["estimates"].values()),
                **{f"verdict_{verdict}": count for verdict, count in written["estimates"].items()},
                **{
                    f"{table}_{said}": count
                    for table, counts in written.items()
                    if table != "estimates"
                    for said, count in counts.items()
                },
                "forest_plot": dg.MetadataValue.md(f"![forest plot](data:image/png;base64,{picture})"),
            }
        )

    return [estimates, build_site_excess(), build_method_cards(read_catalogue(catalogue))]


def build_site_excess() -> dg.AssetsDefinition:
    """Return the asset of what is expected of each site of work, and of how rare its own count is."""

    @dg.asset(
        key=SITE_EXCESS_KEY,
        deps=[dg.AssetKey(["intermediate", "int_work_site_counts"])],
        description="One row per site of work: complaints expected after hours, and how rare its count is.",
        group_name="correlation",
        kinds={"python", "parquet"},
        owners=["team:warehouse"],
        pool=WRITE_POOL,
    )
    def site_excess(lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult:
        from assets.correlate.permit_noise import write_site_excess

        return dg.MaterializeResult(metadata=write_site_excess(lake))

    return site_excess


def card_key(question_id: str) -> dg.AssetKey:
    """Return the asset of a question's method card."""
    return dg.AssetKey(["correlation", "method_card", question_id])


def build_method_cards(questions: Sequence[CatalogueRow]) -> dg.AssetsDefinition:
    """Return the method cards of all questions: one asset each, written in one step."""
    specs = [
        dg.AssetSpec(
            card_key(question.question_id),
            deps=MART_KEYS,
            description=f"{question.title}: one page per city, verdict first.",
            group_name="correlation",
            kinds={"html", "markdown"},
            owners=["team:warehouse"],
        )
        for question in questions
    ]
    checks = [
        dg.AssetCheckSpec(
            ANSWER_CHECK,
            asset=spec.key,
            description="Every city with records of signal and outcome has a verdict and, where the data "
            "suffice, a lag curve; a negative control is not supported.",
        )
        for spec in specs
    ]

    @dg.multi_asset(name="method_cards", specs=specs, check_specs=checks, can_subset=True, pool=WRITE_POOL)
    def method_cards(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> Iterator[Any]:
        """One card per question and city, verdict first, as HTML and Markdown."""
        from assets.correlate.answers import answer_states
        from assets.correlate.cards import shown_card, write_cards
        from assets.warehouse.reader import connect

        selected = [one for one in questions if card_key(one.question_id) in context.selected_asset_keys]
        names = [one.question_id for one in selected]
        connection = connect(lake.build_warehouse)
        try:
            written = write_cards(connection, lake, names if len(selected) < len(questions) else None)
            clusters = [one.question_id for one in selected if one.is_cluster]
            states = answer_states(connection, names, clusters)
        finally:
            connection.close()
        context.log.info(f"{len(written.dossiers)} cards, {written.bytes:,} bytes, in {written.folder}")
        for name in names:
            dossiers = [one for one in written.dossiers if one.disc.question_id == name]
            verdicts = Counter(one.disc.verdict for one in dossiers)
            yield dg.MaterializeResult(
                card_key(name),
                metadata={
                    "card": dg.MetadataValue.md(shown_card(dossiers)),
                    "cities": len(dossiers),
                    **{f"verdict_{verdict}": count for verdict, count in sorted(verdicts.items())},
                    "folder": dg.MetadataValue.path(str(written.folder)),
                },
            )
        wanted = {key.asset_key for key in context.selected_asset_check_keys}
        for name in names:
            if card_key(name) in wanted:
                yield answer_result(name, states[name])

    return method_cards


def answer_result(question_id: str, state: Any) -> dg.AssetCheckResult:
    """Return a question's `AnswerState` as the result of its check.

    A false alarm is a warning: five in a hundred tests are expected, but somebody should know.
    """
    said = [*state.missing, *(f"false alarm: {line}" for line in state.false_alarms)]
    return dg.AssetCheckResult(
        passed=not said,
        asset_key=card_key(question_id),
        check_name=ANSWER_CHECK,
        severity=dg.AssetCheckSeverity.ERROR if state.missing else dg.AssetCheckSeverity.WARN,
        description="; ".join(said) or None,
        metadata={"cities_with_an_answer": state.n_cities, "false_alarms": len(state.false_alarms)},
    )
