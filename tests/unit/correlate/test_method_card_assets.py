"""One asset and one check per question over hand-made marts, and what the check finds missing."""

import csv

import dagster as dg
import duckdb
import pytest

from assets.correlate.cards import cards_folder
from assets.correlate.catalogue import read_catalogue
from assets.correlate.correlation_marts import ANSWER_CHECK, build_method_cards, card_key
from assets.ingest.lake import Lake
from tests.card_warehouse import GENERATION, NO_RATIO, marts, rings, write_warehouse

QUESTIONS = ("lamps_theft", "quiet", "clustered", "nowhere")


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path)


@pytest.fixture
def method_cards(tmp_path):
    path = tmp_path / "questions.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["question_id", "title", "signal_cluster_size"])
        writer.writerows([name, name.title(), "3" if name == "clustered" else ""] for name in QUESTIONS)
    return build_method_cards(read_catalogue(path))


def tables():
    """Two questions with answers, one about clusters that has none, one that no city can ask."""
    answers = [
        *rings(),
        *rings(city="bville", city_name="Bville"),
        *rings(question_id="quiet", is_negative_control=True, verdict="not_supported", p_adjusted=0.4),
        *rings(question_id="clustered", verdict="not_supported", p_adjusted=0.4),
    ]
    found = marts(answers)
    for name, rows in found.items():
        found[name] = [
            row for row in rows if row["question_id"] != "clustered" or name == "mart_correlation_contrasts"
        ]
    return found


def run(method_cards, lake, rows, selection=None, *, known=QUESTIONS):
    write_warehouse(lake.build_warehouse, rows)
    with duckdb.connect(str(lake.build_warehouse)) as con:
        con.execute("delete from intermediate.int_correlation_questions")
        con.executemany(
            "insert into intermediate.int_correlation_questions values (?)", [[name] for name in known]
        )
    return dg.materialize([method_cards], resources={"lake": lake}, selection=selection)


def outcomes(result):
    return {
        one.asset_key.path[-1]: (one.passed, one.severity.value, one.description)
        for one in result.get_asset_check_evaluations()
    }


def test_each_question_shows_its_card_and_passes(method_cards, lake):
    result = run(method_cards, lake, tables())
    shown = {
        one.asset_key.path[-1]: one.step_materialization_data.materialization.metadata
        for one in result.get_asset_materialization_events()
    }
    assert shown.keys() == set(QUESTIONS)
    assert shown["lamps_theft"]["cities"].value == 2
    assert shown["lamps_theft"]["verdict_supported"].value == 2
    assert "## Lamps out and theft – Aville" in shown["lamps_theft"]["card"].value
    assert shown["nowhere"]["cities"].value == 0
    assert all(len(metadata["card"].value) < 150_000 for metadata in shown.values())
    assert outcomes(result) == dict.fromkeys(QUESTIONS, (True, "WARN", None))
    folder = cards_folder(lake, GENERATION)
    assert (folder / "bville" / "lamps_theft.html").exists()
    assert (folder / "index.html").exists()


TWINS = {
    "verdict": ("mart_correlations", "aville: no row in mart_correlations"),
    "curve": ("mart_lag_curves", "aville: no lag curve in mart_lag_curves"),
}


@pytest.mark.parametrize("twin", TWINS)
def test_a_lost_row_fails_its_question_and_no_other(method_cards, lake, twin):
    table, said = TWINS[twin]
    rows = tables()
    rows[table] = [
        row for row in rows[table] if (row["city"], row["question_id"]) != ("aville", "lamps_theft")
    ]
    found = outcomes(run(method_cards, lake, rows))
    assert found.pop("lamps_theft") == (False, "ERROR", said)
    assert all(passed for passed, _, _ in found.values())


def test_lost_evidence_fails_too_but_not_of_a_question_about_clusters(method_cards, lake):
    rows = tables()
    for name in ("mart_correlations", "mart_correlation_blocks", "mart_lag_curves", "int_lag_blocks"):
        rows[name] = [row for row in rows[name] if row["city"] != "bville"]
    found = outcomes(run(method_cards, lake, rows))
    assert found["lamps_theft"] == (False, "ERROR", "bville: no row in mart_correlations")
    assert found["clustered"][0]


def test_uncovered_signals_need_no_answer(method_cards, lake):
    rows = tables()
    for name in ("mart_correlations", "mart_correlation_blocks", "mart_lag_curves", "int_lag_blocks"):
        rows[name] = [row for row in rows[name] if row["city"] != "bville"]
    for row in rows["mart_correlation_contrasts"]:
        row["n_signal_covered"] = 0
    assert outcomes(run(method_cards, lake, rows))["lamps_theft"][0]


def test_a_curve_that_inference_lost_fails_whatever_was_promised(method_cards, lake):
    rows = tables()
    for row in rows["mart_correlation_contrasts"]:
        row["n_signal_covered"] = 0
    rows["mart_lag_curves"] = []
    assert outcomes(run(method_cards, lake, rows))["lamps_theft"][:2] == (False, "ERROR")
    rows["int_lag_blocks"] = []
    assert outcomes(run(method_cards, lake, rows))["lamps_theft"][0]


def test_an_insufficient_answer_needs_no_curve(method_cards, lake):
    rows = tables()
    rows["mart_lag_curves"] = []
    rows["mart_correlations"] = [
        row | NO_RATIO | {"verdict": "insufficient"} for row in rows["mart_correlations"]
    ]
    assert all(passed for passed, _, _ in outcomes(run(method_cards, lake, rows)).values())


def test_a_supported_negative_control_warns_of_a_false_alarm(method_cards, lake):
    rows = tables()
    for row in rows["mart_correlations"]:
        if row["question_id"] == "quiet" and row["band"] == 2:
            row["verdict"] = "supported"
    found = outcomes(run(method_cards, lake, rows))
    said = "false alarm: aville: supported between 100 and 200 m, although no relation can exist"
    assert found["quiet"] == (False, "WARN", said)
    rows["mart_lag_curves"] = [row for row in rows["mart_lag_curves"] if row["question_id"] != "quiet"]
    passed, severity, said = outcomes(run(method_cards, lake, rows))["quiet"]
    assert (passed, severity) == (False, "ERROR")
    assert "no lag curve" in said
    assert "false alarm" in said


def test_a_question_that_was_never_built_is_not_answered(method_cards, lake):
    found = outcomes(run(method_cards, lake, tables(), known=("lamps_theft", "quiet", "clustered")))
    assert found["nowhere"] == (False, "ERROR", "the warehouse does not know the question: build it")


def test_one_question_can_be_asked_alone(method_cards, lake):
    result = run(method_cards, lake, tables(), selection=[card_key("quiet")])
    assert outcomes(result).keys() == {"quiet"}
    folder = cards_folder(lake, GENERATION)
    assert {path.stem for path in folder.rglob("*.html")} == {"quiet", "index"}


def test_checks_block_nothing(method_cards):
    assert {spec.name for spec in method_cards.check_specs} == {ANSWER_CHECK}
    assert not any(spec.blocking for spec in method_cards.check_specs)
