"""One row more in the catalogue, nothing else touched: estimate, lag curve, card, check and extract row."""

import csv
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import duckdb
import numpy as np
import pandas as pd
import pytest
import yaml
from h3ronpy.vector import coordinates_to_cells

from assets.correlate.cards import cards_folder
from assets.correlate.catalogue import CATALOGUE, read_catalogue
from assets.correlate.correlation_marts import build_method_cards
from assets.correlate.estimates import write_estimates, write_no_estimates
from assets.ingest.lake import Lake
from assets.publish.extract import publish_release
from tests.correlation_evidence import PROJECT, build_evidence, events, run_dbt

pytestmark = pytest.mark.slow

GENERATION = "20260102T060000Z-0123abcd"
SIDE_M, DAYS, START = 15_000, 540, 19_000
ADDED = {
    "question_id": "abandoned_vehicle_theft_added",
    "title": "Abandoned vehicle and theft",
    "signal_type": "abandoned_vehicle",
    "outcome_type": "theft",
}
#: Reads the answers, one row per city.
VIEWS = ("correlations", "lag_curves", "correlation_splits", "correlation_scan", "open_correlation_questions")


def town() -> pd.DataFrame:
    """A city of 15 km in which thefts near abandoned vehicles double in two weeks after the first report."""
    rng = np.random.default_rng(7)
    vehicles = np.column_stack([rng.uniform(0, SIDE_M, (4_000, 2)), rng.integers(0, DAYS, 4_000)])
    thefts = np.column_stack([rng.uniform(0, SIDE_M, (40_000, 2)), rng.integers(0, DAYS, 40_000)])
    # 40,000 thefts on 225 km2 and 540 days leave 0.145 in a disc in two weeks; as many again make it two.
    near = vehicles[rng.random(4_000) < 0.145].copy()
    angle, distance = rng.uniform(0, 2 * np.pi, len(near)), 100 * np.sqrt(rng.random(len(near)))
    near[:, 0] += distance * np.cos(angle)
    near[:, 1] += distance * np.sin(angle)
    near[:, 2] += rng.integers(1, 15, len(near))
    rows = pd.concat(
        [
            events(
                city="springtown",
                event_type=kind,
                x_m=at[:, 0],
                y_m=at[:, 1],
                day=START + at[:, 2].astype(int),
            )
            for kind, at in (("abandoned_vehicle", vehicles), ("theft", np.vstack([thefts, near])))
        ],
        ignore_index=True,
    )
    lat = 41.8 + rows["y_m"].to_numpy() / 111_320
    lon = -87.8 + rows["x_m"].to_numpy() / 111_320 / np.cos(np.radians(41.87))
    for resolution in (7, 10):
        cells = coordinates_to_cells(lat, lon, resolution)
        rows[f"h3_{resolution}"] = np.asarray(cells.to_pylist(), dtype="int64")
    return rows


def with_one_row_more() -> list[dict[str, str]]:
    """Return the catalogue and one row that it does not have."""
    with CATALOGUE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    pairs = {(row["signal_type"], row["outcome_type"]) for row in rows}
    assert (ADDED["signal_type"], ADDED["outcome_type"]) not in pairs
    asked = next(row for row in rows if row["outcome_type"] == "theft" and not row["signal_subtype"])
    return [*rows, {**asked, **ADDED}]


def show_extracts(folder: Path) -> None:
    """Add the extracts about correlations to a project of evidence models, as the product declares them."""
    models = folder / "models" / "open_data"
    models.mkdir()
    shutil.copytree(PROJECT / "tests" / "generic", folder / "tests" / "generic", dirs_exist_ok=True)
    for view in VIEWS:
        for kind in ("sql", "yml"):
            shutil.copy(PROJECT / "models" / "open_data" / f"{view}.{kind}", models)
    declared = yaml.safe_load((PROJECT / "models/open_data/exposures.yml").read_text(encoding="utf-8"))
    shown = {f"ref('{view}')" for view in VIEWS}
    kept = [one for one in declared["exposures"] if shown.issuperset(one["depends_on"])]
    assert len(kept) == len(VIEWS)
    (models / "exposures.yml").write_text(yaml.safe_dump({"exposures": kept}), encoding="utf-8")
    project = yaml.safe_load((folder / "dbt_project.yml").read_text(encoding="utf-8"))
    of_product = yaml.safe_load((PROJECT / "dbt_project.yml").read_text(encoding="utf-8"))
    project["models"]["evidence"]["open_data"] = of_product["models"]["citysignal"]["open_data"]
    (folder / "dbt_project.yml").write_text(yaml.safe_dump(project), encoding="utf-8")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake in which everything ran over the catalogue with one row more."""
    lake = Lake(tmp_path_factory.mktemp("added"))
    built = build_evidence(lake.home, town(), with_one_row_more())
    lake.build_warehouse.parent.mkdir(parents=True)
    # Views name the file by its stem, so that it may be reached by another path.
    lake.build_warehouse.symlink_to(built)
    with duckdb.connect(str(built)) as con:
        con.execute("create schema quality")
        con.execute(f"create table quality.generation as select '{GENERATION}' as generation")
        con.execute(
            "create table if not exists correlation.mart_reporting_speed (city varchar, h3_7 bigint, "
            "stratum varchar)"
        )
    write_no_estimates(lake)
    write_estimates(lake)
    cities = pd.DataFrame({"city": ["springtown"], "city_name": ["Springtown"], "is_simulated": [True]})
    cities.to_parquet(lake.home / "dim_city.parquet")
    # A table, because cards are made from a warehouse that may read no other file.
    (lake.home / "models/core/dim_city.sql").write_text(
        "{{ config(materialized='table') }} " + f"select * from read_parquet('{lake.home}/dim_city.parquet')"
    )
    show_extracts(lake.home)
    run_dbt(lake.home, "build", "--select", "dim_city", "tag:verdict")
    return lake


@pytest.fixture(scope="module")
def cards(lake: Lake) -> dg.ExecuteInProcessResult:
    """The run of the cards' assets and checks."""
    asset = build_method_cards(read_catalogue(lake.home / "seeds" / "correlation_questions.csv"))
    return dg.materialize([asset], resources={"lake": lake}, raise_on_error=False)


@pytest.fixture(scope="module")
def release(lake: Lake, cards: dg.ExecuteInProcessResult) -> Path:
    """The folder of the release."""
    assert cards.success
    now = datetime(2026, 1, 2, tzinfo=UTC)
    manifest = lake.home / "target" / "manifest.json"
    return publish_release(lake, manifest, GENERATION, now=now, cards=cards_folder(lake, GENERATION)).folder


def rows(lake: Lake, sql: str) -> list[tuple]:
    with duckdb.connect(str(lake.build_warehouse), read_only=True) as con:
        return con.execute(sql).fetchall()


def test_the_added_row_has_an_estimate_that_finds_what_is_there(lake):
    [(verdict, low, high)] = rows(
        lake,
        f"""select verdict, ci_low, ci_high from correlation.mart_correlations
            where question_id = '{ADDED["question_id"]}' and band = 1""",
    )
    assert verdict == "supported"
    assert low < 2 < high


def test_it_has_a_lag_curve_that_rises_in_the_two_weeks_after(lake):
    found = dict(
        rows(
            lake,
            f"""select lag, band_low from correlation.mart_lag_curves
                where question_id = '{ADDED["question_id"]}' and unit = 'week'""",
        )
    )
    assert len(found) == 16
    assert min(found[1], found[2]) > 1
    assert max(found[lag] for lag in found if lag not in (1, 2)) < 1.2


def test_its_contrasts_are_there_and_signals_are_covered(lake):
    [(n_signal, covered)] = rows(
        lake,
        f"""select n_signal, n_signal_covered from correlation.mart_correlation_contrasts
            where question_id = '{ADDED["question_id"]}'""",
    )
    assert n_signal == 4_000
    assert 2_000 < covered < 4_000


def test_it_has_a_card_and_a_check_that_passes(lake, cards):
    checks = {one.asset_key.path[-1]: one for one in cards.get_asset_check_evaluations()}
    assert len(checks) == len(with_one_row_more())
    assert all(one.passed for one in checks.values())
    assert checks[ADDED["question_id"]].metadata["cities_with_an_answer"].value == 1
    card = cards_folder(lake, GENERATION) / "springtown" / f"{ADDED['question_id']}.html"
    text = card.read_text(encoding="utf-8")
    assert "Abandoned vehicle and theft – Springtown (simulated)" in text
    assert text.count("<svg") == 2


def test_the_check_fails_where_its_answer_is_lost(lake, tmp_path):
    """The twin: the same warehouse without the row."""
    copy = Lake(tmp_path)
    copy.build_warehouse.parent.mkdir(parents=True)
    shutil.copy(lake.build_warehouse, copy.build_warehouse)
    with duckdb.connect(str(copy.build_warehouse)) as con:
        con.execute(f"delete from correlation.mart_correlations where question_id = '{ADDED['question_id']}'")
    asset = build_method_cards(read_catalogue(lake.home / "seeds" / "correlation_questions.csv"))
    result = dg.materialize([asset], resources={"lake": copy})
    failed = [one for one in result.get_asset_check_evaluations() if not one.passed]
    assert [one.asset_key.path[-1] for one in failed] == [ADDED["question_id"]]
    assert failed[0].description == "springtown: no row in mart_correlations"


def test_it_is_in_the_extracts_and_marked_as_simulated(release):
    def told(dataset: str) -> list[dict[str, str]]:
        with (release / dataset / f"{dataset}.csv").open(encoding="utf-8", newline="") as file:
            found = csv.DictReader(file)
            return [row for row in found if row["question_id"] == ADDED["question_id"]]

    assert [row["band"] for row in told("correlations")] == ["1", "2", "3"]
    assert {row["is_simulated"] for row in told("correlations")} == {"true"}
    assert {row["city_name"] for row in told("lag_curves")} == {"Springtown (simulated)"}
    assert {row["split"] for row in told("correlation_splits")} >= {"period"}
    assert [row["title"] for row in told("correlation_questions")] == ["Abandoned vehicle and theft"]
    package = json.loads((release / "correlations" / "datapackage.json").read_text(encoding="utf-8"))
    assert package["simulated"] is True
    assert (release / "method_cards" / "springtown" / f"{ADDED['question_id']}.html").exists()


def test_extracts_say_of_a_column_what_the_mart_says():
    """Two descriptions of one column drift apart; these may not."""

    def told(folder: str, name: str) -> dict[str, str]:
        for path in sorted((PROJECT / "models" / folder).glob("*.yml")):
            for model in yaml.safe_load(path.read_text(encoding="utf-8")).get("models", []):
                if model["name"] == name:
                    return {
                        column["name"]: " ".join(column["description"].split()) for column in model["columns"]
                    }
        raise LookupError(name)

    own = {"city", "city_name", "is_simulated"}
    for view in VIEWS[:4]:
        mart = told("correlation", f"mart_{view}")
        shown = told("open_data", view)
        assert set(shown) - own == set(mart) - own, view
        assert {name: said for name, said in shown.items() if name not in own and said != mart[name]} == {}, (
            view
        )
    seed = yaml.safe_load((PROJECT / "seeds/_correlation_questions.yml").read_text(encoding="utf-8"))[
        "seeds"
    ][0]
    declared = {column["name"]: " ".join(column["description"].split()) for column in seed["columns"]}
    assert told("open_data", "open_correlation_questions") == declared
