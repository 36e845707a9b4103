"""Runs the correlation models by dbt over events that a test makes up; no assertions belong here."""

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from dbt.cli.main import dbtRunner

PROJECT = Path(__file__).parents[1] / "dbt_project"


def question(question_id: str, signal_type: str, outcome_type: str, **changes: object) -> dict[str, object]:
    """Return a row of the question seed with a radius of 100 m and a window of 14 days unless changed."""
    row = {
        "question_id": question_id,
        "title": question_id.replace("_", " "),
        "signal_type": signal_type,
        "signal_subtype": "",
        "signal_cluster_size": "",
        "outcome_type": outcome_type,
        "radius_m": 100,
        "window_days": 14,
        "is_negative_control": False,
        "splits_by_hour": False,
        "expected_sign": "+",
        "hypothesis": "test",
        "mechanism": "test",
        "source": "test",
    }
    return row | changes


def events(
    *,
    city: str,
    event_type: str,
    x_m: Sequence,
    y_m: Sequence,
    day: Sequence,
    hour: Sequence | int = 12,
    prefix: str = "",
) -> pd.DataFrame:
    """Return events as rows of fct_events, with square cells in the place of H3 cells.

    Args:
        city: City of all events.
        event_type: Type of all events.
        x_m: Metres east, one per event.
        y_m: Metres north.
        day: Days since 1970-01-01.
        hour: Hour of the wall clock, 0 to 23, one per event or one for all.
        prefix: Start of the event keys, to tell two calls with the same city and type apart.
    """
    x, y, day = (np.asarray(values) for values in (x_m, y_m, day))
    number = np.arange(len(x))
    return pd.DataFrame(
        {
            "event_key": [f"{city}-{event_type}-{prefix}{i:07d}" for i in number],
            "city": city,
            "event_type": event_type,
            "event_subtype": pd.Series([None] * len(x), dtype="string"),
            "is_canonical": True,
            "is_noise": False,
            "is_excluded": False,
            "event_on": np.asarray(day, dtype="datetime64[D]"),
            "event_local": np.asarray(day, dtype="datetime64[D]").astype("datetime64[us]")
            + np.asarray(hour, dtype="timedelta64[h]")
            + np.timedelta64(1, "m"),
            "time_precision": "second",
            "x_m": x.astype(float),
            "y_m": y.astype(float),
            "h3_7": square_cell(x, y, side_m=2270, resolution=7),
            "h3_10": square_cell(x, y, side_m=122, resolution=10),
            "location_quality": "ok",
        }
    )


def square_cell(x: np.ndarray, y: np.ndarray, *, side_m: float, resolution: int) -> np.ndarray:
    """Return a cell number with the bit layout of H3: resolution from bit 52, unused fine digits all ones."""
    column, row = np.floor(x / side_m).astype("int64"), np.floor(y / side_m).astype("int64")
    unused = 3 * (15 - resolution)
    return (resolution << 52) + (((column + 2000) * 4096 + row + 2000) << unused) + ((1 << unused) - 1)


def build_evidence(
    folder: Path,
    all_events: pd.DataFrame,
    questions: Sequence[Mapping[str, object]],
    *,
    scan_min_events: int | None = None,
    scan_anchors_a_month: int = 250,
    select: Sequence[str] = (),
) -> Path:
    """Build the evidence models over the given events and return the warehouse file.

    Args:
        folder: An empty folder of the test, or one that this function filled: then events and questions are
            replaced and the build goes on from what is there.
        all_events: Rows of fct_events.
        questions: Rows of the question seed.
        scan_min_events: Cases a type must have to enter the scan; None scans nothing.
        scan_anchors_a_month: About how many cases of a signal the scan looks at in a month.
        select: dbt's words for what to build; by default everything of the first pass.
    """
    write_project(folder, all_events, questions)
    variables = {"correlation_scan_anchors_a_month": scan_anchors_a_month}
    if scan_min_events is not None:
        variables["correlation_scan_min_events"] = scan_min_events
    selection = ["--select", *select] if select else []
    run_dbt(folder, "build", *selection, "--exclude", "tag:verdict", "--vars", json.dumps(variables))
    return folder / "warehouse.duckdb"


def write_project(folder: Path, all_events: pd.DataFrame, questions: Sequence[Mapping[str, object]]) -> None:
    """Write the dbt project of the evidence, with the given events as core tables and questions as seed."""
    for part in ("models/intermediate/correlation", "models/correlation", "macros", "tests/generic"):
        shutil.copytree(PROJECT / part, folder / part, dirs_exist_ok=True, ignore=_NOT_OF_EVENTS_ALONE)
    (folder / "seeds").mkdir(exist_ok=True)
    with (folder / "seeds/correlation_questions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(questions[0]))
        writer.writeheader()
        writer.writerows(questions)
    shutil.copy(PROJECT / "seeds/_correlation_questions.yml", folder / "seeds")
    (folder / "models/core").mkdir(exist_ok=True)
    for name, rows in {"fct_events": all_events, "dim_city": _cities(all_events)}.items():
        rows.to_parquet(folder / f"{name}.parquet")
        (folder / f"models/core/{name}.sql").write_text(
            f"select * from read_parquet('{folder}/{name}.parquet')"
        )
    (folder / "models/correlation/mart_reporting_speed.sql").write_text(_NO_REPORTING_SPEED)
    (folder / "models/sources.yml").write_text(_SOURCES.format(folder=folder))
    (folder / "dbt_project.yml").write_text(_DBT_PROJECT)
    (folder / "profiles.yml").write_text(_PROFILES.format(folder=folder))


def run_dbt(folder: Path, *arguments: str) -> None:
    """Run dbt on the project in the folder and fail with what dbt says.

    Args:
        folder: A folder that `build_evidence` has filled.
        arguments: dbt's command and options.
    """
    places = ["--project-dir", str(folder), "--profiles-dir", str(folder), "--log-path", str(folder / "logs")]
    outcome = dbtRunner().invoke(["--quiet", *arguments, *places])
    if not outcome.success:
        results = getattr(outcome.result, "results", [])
        raise AssertionError(
            outcome.exception or [r.message for r in results if str(r.status) not in ("success", "pass")]
        )


def _cities(all_events: pd.DataFrame) -> pd.DataFrame:
    names = sorted(all_events["city"].unique())
    return pd.DataFrame({"city": names, "city_name": [name.title() for name in names]})


#: Models of these folders that read more of the warehouse than events.
_NOT_OF_EVENTS_ALONE = shutil.ignore_patterns(
    "*reporting_speed*",
    "*agency_alerts*",
    "*request_story*",
    "*place_dossier*",
    "*maintenance_debt*",
    "*permit_noise*",
    "*sensitive_site_exposure*",
    "*outlook*",
    "*failure_risk*",
)

#: Inference reads it; with no row, no cell has a stratum.
_NO_REPORTING_SPEED = """
{{ config(contract={'enforced': false}) }}
select cast(null as varchar) as city, cast(null as bigint) as h3_7, cast(null as varchar) as stratum
where false
"""

_DBT_PROJECT = """
name: evidence
version: "0.1.0"
config-version: 2
profile: evidence
flags: {send_anonymous_usage_stats: false}
models:
  evidence:
    +materialized: table
    +on_schema_change: fail
    intermediate: {+schema: intermediate}
    core: {+schema: core, +materialized: view}
    correlation: {+schema: correlation, +contract: {enforced: true}}
seeds:
  evidence: {+schema: intermediate}
"""

_PROFILES = """
evidence:
  target: duckdb
  outputs:
    duckdb: {{type: duckdb, path: "{folder}/warehouse.duckdb", keep_open: false, settings: {{threads: 2}}}}
"""

_SOURCES = """
sources:
  - name: correlations
    config:
      meta:
        external_location: "read_parquet('{folder}/lake/derived/correlations/{{identifier}}.parquet')"
    tables: [{{name: estimates}}, {{name: splits}}, {{name: lag_curves}}, {{name: scan}}]
"""
