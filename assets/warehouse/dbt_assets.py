"""The dbt project as Dagster assets in two passes; SQL is `dbt_project`, running it is `dbt_build.py`.

Pass one builds everything but models tagged `verdict`; inference then reads its block sums, and pass two
shows the verdicts. dbt tests are asset checks; a failed test of error severity fails the step, and then
nothing is published.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, dbt_assets

from assets.ingest.clock import Clock
from assets.ingest.feed import City
from assets.ingest.lake import Lake
from assets.warehouse.build_state import is_built_with, project_state
from assets.warehouse.dbt_build import DbtBuild, NodeOutcome, RowCounter, release_warehouse
from assets.warehouse.generation import Generation, generation_of
from assets.warehouse.test_results import TestResult, write_test_results

#: Steps that open the build file. Its limit of one slot is set in dagster.yaml.
WRITE_POOL = "duckdb_write"
VERDICT = "tag:verdict"
#: Names of the steps of the two passes.
PASSES = ("warehouse", "verdicts")
DECLARED_KEY = dg.AssetKey(["lake", "declared"])
ESTIMATES_KEY = dg.AssetKey(["correlation", "estimates"])
SITE_EXCESS_KEY = dg.AssetKey(["correlation", "site_excess"])
OUTLOOKS_KEY = dg.AssetKey(["correlation", "outlooks"])
UNIQUE_ID = "dagster_dbt/unique_id"
#: Which kind of feed each places table comes from.
PLACES_KIND = {
    "areas": "boundary",
    "area_cover": "boundary",
    "area_edges": "boundary",
    "assets": "asset",
    "asset_cover": "asset",
}


class BuildConfig(dg.Config):
    """How a run builds the warehouse."""

    full_refresh: bool = False


class CityTranslator(DagsterDbtTranslator):
    """Names dbt nodes by schema, and leads each source back to the feeds whose files it reads."""

    def __init__(self, cities: Mapping[str, City]) -> None:
        super().__init__()
        self._feeds = [feed for city in cities.values() for feed in city.feeds.values()]

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """Return [schema, name], or [source, table]."""
        if dbt_resource_props["resource_type"] == "source":
            return dg.AssetKey([dbt_resource_props["source_name"], dbt_resource_props["name"]])
        return dg.AssetKey([dbt_resource_props["schema"], dbt_resource_props["name"]])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """Return the model's folder; seeds are one group."""
        if dbt_resource_props["resource_type"] == "seed":
            return "seeds"
        return dbt_resource_props["fqn"][1]

    def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """Return the prose of the YAML; the SQL has its own tab."""
        return dbt_resource_props.get("description") or ""

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> Sequence[str]:
        """Return the declared owners, by default the team that keeps the warehouse."""
        return super().get_owners(dbt_resource_props) or ["team:warehouse"]

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: Any) -> dg.AssetSpec:
        """Return the spec with every source replaced by the assets that write its files."""
        spec = super().get_asset_spec(manifest, unique_id, project)
        sources = {
            self.get_asset_key(node): node
            for name in manifest["parent_map"].get(unique_id, [])
            if (node := manifest["sources"].get(name))
        }
        if not sources:
            return spec
        kept = [dep.asset_key for dep in spec.deps if dep.asset_key not in sources]
        writers = [
            key for node in sources.values() for key in self.writers(node["source_name"], node["name"])
        ]
        return spec.replace_attributes(deps=list(dict.fromkeys([*kept, *writers])))

    def get_asset_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: Any
    ) -> dg.AssetCheckSpec | None:
        """Return the check of a test on the model it is about, None for other models it mentions."""
        test = manifest["nodes"][unique_id]
        about = tested_node(manifest, test)
        if about is None or self.get_asset_key(manifest["nodes"][about]) != asset_spec.key:
            return None
        return dg.AssetCheckSpec(
            name=test["name"],
            asset=asset_spec.key,
            description=test.get("description") or None,
            metadata={UNIQUE_ID: unique_id},
            blocking=is_blocking(test),
        )

    def writers(self, source: str, table: str) -> list[dg.AssetKey]:
        """Return the assets that write the files of a source table.

        `lake/declared` is always among them: it writes the empty files of sources without feeds.
        """
        if source in ("raw", "quarantine", "absences"):
            kind = table.removeprefix("quarantined_").removeprefix("absent_")
            keys = [dg.AssetKey(["raw", feed.city, feed.id]) for feed in self._feeds if feed.kind == kind]
        elif source == "places":
            kind = PLACES_KIND.get(table)
            keys = [dg.AssetKey(["places", feed.city, feed.id]) for feed in self._feeds if feed.kind == kind]
        elif source == "correlations":
            return [ESTIMATES_KEY]
        elif source == "after_hours":
            return [SITE_EXCESS_KEY]
        elif source == "outlooks":
            return [OUTLOOKS_KEY]
        else:
            keys = []
        return [*keys, DECLARED_KEY]


def tested_node(manifest: Mapping[str, Any], test: Mapping[str, Any]) -> str | None:
    """Return the node a test is about: the one it is declared on, else the last model that its SQL names.

    A test that names models of both passes runs in the second, so a verdict is preferred.
    """
    if test.get("attached_node"):
        return test["attached_node"] if test["attached_node"] in manifest["nodes"] else None
    named = [name for name in test["depends_on"]["nodes"] if name in manifest["nodes"]]
    verdicts = [name for name in named if "verdict" in manifest["nodes"][name]["tags"]]
    return (verdicts or named or [None])[-1]


def is_blocking(test: Mapping[str, Any]) -> bool:
    """Return whether a failure of the test stops what comes after it."""
    return (test["config"].get("severity") or "error").lower() == "error"


def build_dbt_assets(manifest_path: Path, cities: Mapping[str, City]) -> list[dg.AssetsDefinition]:
    """Return the assets of the two passes over a parsed project."""
    manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
    translator = CityTranslator(cities)

    @dbt_assets(
        manifest=manifest,
        dagster_dbt_translator=translator,
        exclude=VERDICT,
        name=PASSES[0],
        pool=WRITE_POOL,
    )
    def warehouse(
        context: dg.AssetExecutionContext,
        config: BuildConfig,
        lake: dg.ResourceParam[Lake],
        clock: dg.ResourceParam[Clock],
        dbt: dg.ResourceParam[DbtBuild],
    ) -> Iterator[Any]:
        """Everything from typed rows to block sums; the next build goes on from here."""
        yield from build_pass(context, manifest, ["--exclude", VERDICT], config, lake, clock, dbt)
        if is_everything(context):
            dbt.note_loaded(project_state(dbt.project))
            release_warehouse()

    @dbt_assets(
        manifest=manifest,
        dagster_dbt_translator=translator,
        select=VERDICT,
        name=PASSES[1],
        pool=WRITE_POOL,
    )
    def verdicts(
        context: dg.AssetExecutionContext,
        config: BuildConfig,
        lake: dg.ResourceParam[Lake],
        clock: dg.ResourceParam[Clock],
        dbt: dg.ResourceParam[DbtBuild],
    ) -> Iterator[Any]:
        """What shows the verdicts, and what must come last."""
        yield from build_pass(context, manifest, ["--select", VERDICT], config, lake, clock, dbt)

    return [warehouse, verdicts]


def build_pass(
    context: dg.AssetExecutionContext,
    manifest: Mapping[str, Any],
    whole_pass: Sequence[str],
    config: BuildConfig,
    lake: Lake,
    clock: Clock,
    dbt: DbtBuild,
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Build one pass and yield what became of each asset and check.

    Raises:
        dagster.Failure: A model or a test of error severity failed; every one is named.
    """
    generation = Generation(generation_of(context, clock), context.run.run_id, clock.now())
    arguments = selection(context, manifest, whole_pass)
    if config.full_refresh or not is_built_with(lake.build_warehouse, project_state(dbt.project)):
        context.log.info("every table is built from nothing: asked for, or no build of this project is whole")
        arguments.append("--full-refresh")
    asset_of = {spec.metadata[UNIQUE_ID]: spec.key for spec in selected_assets(context)}
    check_of = {spec.metadata[UNIQUE_ID]: spec for spec in selected_checks(context)}
    tests, broken, counter = [], [], RowCounter()
    lake.build_warehouse.parent.mkdir(parents=True, exist_ok=True)
    try:
        for outcome in dbt.run(arguments, generation):
            node = manifest["nodes"].get(outcome.unique_id)
            if not outcome.is_good and outcome.status != "skipped":
                broken.append(failure_line(node, outcome))
            if node is None:  # dbt tells of exposures too, which it does not build
                continue
            if node["resource_type"] == "test":
                tests.append(test_result(node, outcome, clock.now()))
                if (spec := check_of.get(outcome.unique_id)) and outcome.status != "skipped":
                    yield check_result(spec, outcome)
            elif outcome.is_good and outcome.unique_id in asset_of:
                yield dg.MaterializeResult(
                    asset_of[outcome.unique_id], metadata=table_metadata(node, outcome, counter)
                )
    finally:
        counter.close()
        release_warehouse()
    declared = {node["name"] for node in manifest["nodes"].values() if node["resource_type"] == "test"}
    write_test_results(lake, [test for test in tests if test is not None], declared)
    if broken:
        raise dg.Failure("dbt stopped:\n" + "\n".join(broken), allow_retries=False)


def selection(
    context: dg.AssetExecutionContext, manifest: Mapping[str, Any], whole_pass: Sequence[str]
) -> list[str]:
    """Return dbt's selection arguments for what Dagster selected."""
    if is_everything(context):
        return list(whole_pass)
    specs = [*selected_assets(context), *selected_checks(context)]
    names = [".".join(manifest["nodes"][spec.metadata[UNIQUE_ID]]["fqn"]) for spec in specs]
    return ["--select", *names, "--indirect-selection", "empty"]


def is_everything(context: dg.AssetExecutionContext) -> bool:
    """Return whether the run selected the whole pass."""
    return context.selected_asset_keys == set(context.assets_def.node_keys_by_output_name.values())


def selected_assets(context: dg.AssetExecutionContext) -> list[dg.AssetSpec]:
    """Return the specs of the assets that the run selected; the definition tells of all."""
    return [spec for spec in context.assets_def.specs if spec.key in context.selected_asset_keys]


def selected_checks(context: dg.AssetExecutionContext) -> list[dg.AssetCheckSpec]:
    """Return the specs of the checks that the run selected."""
    return [spec for spec in context.assets_def.check_specs if spec.key in context.selected_asset_check_keys]


def failure_line(node: Mapping[str, Any] | None, outcome: NodeOutcome) -> str:
    """Return one line that says which node failed, where it is written and why."""
    if node is None:
        return f"{outcome.unique_id}: {' '.join(outcome.message.split())}"
    return f"{node['original_file_path']}: {node['name']}: {' '.join(outcome.message.split())}"


def check_result(spec: dg.AssetCheckSpec, outcome: NodeOutcome) -> dg.AssetCheckResult:
    """Return a dbt test's outcome as its asset check's."""
    is_error = outcome.status in ("fail", "error")
    return dg.AssetCheckResult(
        passed=outcome.status == "pass",
        asset_key=spec.asset_key,
        check_name=spec.name,
        severity=dg.AssetCheckSeverity.ERROR if is_error else dg.AssetCheckSeverity.WARN,
        description=outcome.message or None,
        metadata={"failures": outcome.failures or 0, "seconds": outcome.seconds},
    )


def test_result(node: Mapping[str, Any], outcome: NodeOutcome, now: datetime) -> TestResult | None:
    """Return what the warehouse keeps of a test, or None where it did not run."""
    if outcome.status == "skipped":
        return None
    return TestResult(
        check_name=node["name"],
        passed=outcome.status == "pass",
        blocking=is_blocking(node),
        observed=str(outcome.failures or 0),
        message=outcome.message,
        checked_at=now,
    )


def table_metadata(node: Mapping[str, Any], outcome: NodeOutcome, counter: RowCounter) -> dict[str, Any]:
    """Return seconds, and for what is stored also its rows."""
    metadata: dict[str, Any] = {"seconds": outcome.seconds}
    if node["config"].get("materialized") in ("table", "incremental", "seed", "snapshot"):
        metadata["dagster/row_count"] = counter.rows(node["relation_name"])
    return metadata
