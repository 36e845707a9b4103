"""Two passes over a small dbt project as Dagster sees them: assets, checks, a stop at a broken promise."""

from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

from assets.ingest.clock import Clock
from assets.ingest.lake import Lake
from assets.warehouse.dbt_assets import build_dbt_assets
from assets.warehouse.dbt_build import DbtBuild

PROJECT = {
    "dbt_project.yml": """\
name: tiny
version: "1.0.0"
profile: tiny
models: {tiny: {+materialized: table}}
flags: {send_anonymous_usage_stats: false}
""",
    "models/core/numbers.sql": "select 1 as n union all select -1",
    "models/core/doubled.sql": "select n * 2 as n from {{ ref('numbers') }}",
    "models/core/verdicts.sql": "{{ config(tags=['verdict']) }} select 1 as n from {{ ref('doubled') }}",
    "models/core/_models.yml": """\
models:
  - name: numbers
    description: One row per number.
    columns:
      - name: n
        data_tests:
          - not_null
          - unique: {config: {severity: warn}}
""",
}
#: What a build that is through leaves behind, here without the batches.
NOTE = """\
{% macro mark_loaded(project) %}
    {% set table = "intermediate.loaded_project" %}
    {% do run_query("create schema if not exists intermediate") %}
    {% do run_query("create or replace table " ~ table ~ " as select '" ~ project ~ "' as project") %}
{% endmacro %}
"""
NEGATIVE = "select n from {{ ref('numbers') }} where n < 0"
LATER = "select d.n from {{ ref('doubled') }} as d inner join {{ ref('verdicts') }} as v on v.n < 0"


class Deployment:
    """A dbt project in a folder of its own, and the assets over it."""

    def __init__(self, folder: Path, tests: dict[str, str]) -> None:
        self.lake = Lake(folder / "home")
        self.project = folder / "project"
        warehouse = f"{{type: duckdb, path: '{self.lake.build_warehouse}', threads: 1}}"
        profiles = f"tiny: {{target: dev, outputs: {{dev: {warehouse}}}}}"
        files = {**PROJECT, "macros/mark_loaded.sql": NOTE, "profiles.yml": profiles, **tests}
        for name, text in files.items():
            path = self.project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        self.announced: list[str] = []
        self.dbt = DbtBuild(
            self.project,
            folder / "target",
            folder / "logs",
            lambda generation: self.announced.append(generation.name),
        )
        self.assets = build_dbt_assets(self.parse(folder / "target"), {})

    def parse(self, target: Path) -> Path:
        from dbt.cli.main import dbtRunner

        folders = ["--project-dir", str(self.project), "--profiles-dir", str(self.project)]
        self.lake.build_warehouse.parent.mkdir(parents=True)
        assert (
            dbtRunner()
            .invoke(["parse", *folders, "--target-path", str(target), "--log-level", "none"])
            .success
        )
        return target / "manifest.json"

    def run(self, selection: dg.AssetSelection | None = None) -> dg.ExecuteInProcessResult:
        resources = {"lake": self.lake, "clock": Clock(), "dbt": self.dbt}
        return dg.materialize(self.assets, resources=resources, selection=selection, raise_on_error=False)


def keys(result: dg.ExecuteInProcessResult) -> set[str]:
    return {event.asset_key.path[-1] for event in result.get_asset_materialization_events()}


def checks(result: dg.ExecuteInProcessResult) -> dict[str, tuple[bool, str]]:
    return {one.check_name: (one.passed, one.severity.value) for one in result.get_asset_check_evaluations()}


def test_both_passes_give_assets_with_rows_and_checks(tmp_path):
    deployment = Deployment(
        tmp_path, {"tests/no_giants.sql": "select n from {{ ref('numbers') }} where n > 9"}
    )
    result = deployment.run()
    assert result.success
    assert keys(result) == {"numbers", "doubled", "verdicts"}
    [numbers] = [
        one for one in result.get_asset_materialization_events() if one.asset_key.path[-1] == "numbers"
    ]
    assert numbers.materialization.metadata["dagster/row_count"].value == 2
    assert checks(result) == {
        "not_null_numbers_n": (True, "WARN"),
        "unique_numbers_n": (True, "WARN"),
        "no_giants": (True, "WARN"),
    }
    assert len(set(deployment.announced)) == 1, "both passes are of one generation"
    kept = pq.read_table(deployment.lake.derived / "check_results" / "dbt.parquet").to_pylist()
    assert [(row["check_name"], row["passed"], row["blocking"], row["tool"]) for row in kept] == [
        ("no_giants", True, True, "dbt"),
        ("not_null_numbers_n", True, True, "dbt"),
        ("unique_numbers_n", True, False, "dbt"),
    ]


@pytest.mark.parametrize("severity", ["error", "warn"])
def test_broken_promise_stops_what_comes_after_unless_it_only_warns(tmp_path, severity):
    test = f"{{{{ config(severity='{severity}') }}}} {NEGATIVE}"
    result = Deployment(tmp_path, {"tests/no_negatives.sql": test}).run()
    assert checks(result)["no_negatives"] == (False, severity.upper())
    assert result.success == (severity == "warn")
    assert ("verdicts" in keys(result)) == (severity == "warn")
    if severity == "error":
        [failure] = [event for event in result.all_node_events if event.is_step_failure]
        said = failure.step_failure_data.user_failure_data.description
        assert "tests/no_negatives.sql: no_negatives: Got 1 result" in said


def test_test_over_both_passes_is_a_check_of_the_second(tmp_path):
    result = Deployment(tmp_path, {"tests/later.sql": LATER}).run()
    [later] = [one for one in result.get_asset_check_evaluations() if one.check_name == "later"]
    assert later.asset_key.path[-1] == "verdicts"
    assert result.success


def test_one_selected_model_is_built_alone(tmp_path):
    deployment = Deployment(tmp_path, {})
    assert deployment.run().success
    doubled = next(key for asset in deployment.assets for key in asset.keys if key.path[-1] == "doubled")
    result = deployment.run(dg.AssetSelection.assets(doubled))
    assert result.success
    assert keys(result) == {"doubled"}
    assert checks(result) == {}
    kept = pq.read_table(deployment.lake.derived / "check_results" / "dbt.parquet").to_pylist()
    assert len(kept) == 2, "results of tests that did not run stay"


def test_model_that_does_not_run_is_named_with_its_file(tmp_path):
    deployment = Deployment(tmp_path, {})
    (deployment.project / "models/core/doubled.sql").write_text("select m from {{ ref('numbers') }}")
    result = deployment.run()
    assert not result.success
    [failure] = [event for event in result.all_node_events if event.is_step_failure]
    said = failure.step_failure_data.user_failure_data.description
    assert "models/core/doubled.sql: doubled: Runtime Error" in said
    assert "verdicts" not in keys(result)
