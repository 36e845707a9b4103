"""From tables of a warehouse to the four files and on to the marts; one small warehouse serves all tests."""

import shutil

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from assets.correlate import estimates
from assets.correlate.estimate_tables import SCHEMAS
from assets.correlate.estimates import (
    estimates_path,
    question_groups,
    read_blocks,
    read_questions,
    read_scan,
    write_estimates,
    write_no_estimates,
)
from assets.ingest.lake import Lake
from tests.correlation_evidence import PROJECT, run_dbt

CELLS = 20
MONTHS = pd.date_range("2022-01-01", periods=10, freq="MS").date
AREA_M2, FIRST_DAY, LAST_DAY, N_OUTCOMES = 5e7, 18_000, 18_364, 7_300
QUESTIONS = pd.DataFrame(
    {
        "question_id": ["lights_theft", "graffiti_break", "potholes_theft"],
        "title": "Does the one follow the other?",
        "signal_type": ["streetlight_outage", "graffiti", "pothole"],
        "signal_subtype": ["all_out", None, None],
        "signal_cluster_size": np.array([1, 1, 3], np.int32),
        "outcome_type": ["theft", "infra_main_break", "theft"],
        "radius_m": [100.0, 100.0, 50.0],
        "window_days": [14, 14, 7],
        "is_negative_control": [False, True, False],
        "splits_by_hour": [True, False, False],
        "expected_sign": ["+", "0", "-"],
        "hypothesis": "A claim",
        "mechanism": "A way",
        "source": "A study",
    }
)
VARIANTS = [
    *[(1, variant) for variant in ("primary", "isolated", "guarded", "placebo", "case_crossover")],
    *[(band, variant) for band in (2, 3) for variant in ("primary", "placebo")],
]


def block_rows(city, question_id, ratio, rng):
    """Blocks of all variants of one question; the disc has the ratio, the rings and the placebo 1."""
    timed = [(1, "night"), (1, "day")] if question_id == "lights_theft" else []
    rows = []
    for band, variant in VARIANTS + timed:
        strata = pd.MultiIndex.from_product([range(CELLS), MONTHS], names=["h3_7", "month"]).to_frame(
            index=False
        )
        n = len(strata)
        den = rng.uniform(1, 2, n)
        level = ratio if band == 1 and variant != "placebo" else 1.0
        rows.append(
            strata.assign(
                city=city, question_id=question_id, band=np.int32(band), variant=variant,
                control_level="h3_7", n_anchor=4, d0=3, d1=4, r0=50, r1=50,
                num=den * level * rng.lognormal(0, 0.1, n), den=den,
                c0_sum=0.2 if band == 1 else 0.0,
            )
        )  # fmt: skip
    return pd.concat(rows)


def lag_rows(city, question_id, rng):
    parts = []
    for unit, lags, cells in (("week", 8, range(CELLS)), ("day", 56, [0])):
        lag = [n for n in range(-lags, lags + 1) if n]
        rows = pd.MultiIndex.from_product([cells, MONTHS, lag], names=["h3_7", "month", "lag"]).to_frame(
            index=False
        )
        d, r = rng.poisson(2.0, len(rows)), rng.poisson(20.0, len(rows))
        parts.append(rows.assign(city=city, question_id=question_id, unit=unit, d=d, r=r))
    rows = pd.concat(parts)
    return rows[(rows.d > 0) | (rows.r > 0)]


def scan_rows(city, signal_type, outcome_type, ratio, rng, months=MONTHS):
    rows = []
    for variant, level in (("primary", ratio), ("placebo", 1.0)):
        strata = pd.MultiIndex.from_product([range(CELLS), months], names=["h3_7", "month"]).to_frame(
            index=False
        )
        den = rng.uniform(1, 2, len(strata))
        rows.append(
            strata.assign(
                city=city, signal_type=signal_type, outcome_type=outcome_type, variant=variant,
                control_level="h3_7", n_anchor=2, d0=1, d1=1, den=den,
                num=den * level * rng.lognormal(0, 0.1, len(strata)),
            )
        )  # fmt: skip
    return pd.concat(rows)


def write_warehouse(lake, seed=None):
    """Write the tables that inference reads, their rows in the order that the seed makes."""
    rng = np.random.default_rng(1)
    ratios = {"lights_theft": 1.5, "graffiti_break": 1.0, "potholes_theft": 0.7}
    blocks = pd.concat(
        [block_rows(city, name, ratio, rng) for city in ("beta", "alpha") for name, ratio in ratios.items()]
    )
    tables = {
        "correlation.mart_correlation_blocks": pd.concat([blocks, block_rows("alpha", "dropped", 1.5, rng)]),
        "correlation.mart_reporting_speed": pd.DataFrame(
            {
                "city": "alpha",
                "h3_7": range(CELLS),
                "stratum": ["slow"] * 10 + ["fast"] * 10,
                "speed_ratio": 1.0,
            }
        ),
        "intermediate.int_correlation_questions": QUESTIONS,
        "intermediate.int_outcome_periods": pd.DataFrame(
            [
                (city, outcome, N_OUTCOMES, FIRST_DAY, LAST_DAY, AREA_M2)
                for city in ("alpha", "beta")
                for outcome in ("theft", "infra_main_break")
            ],
            columns=["city", "outcome_type", "n_outcomes", "first_day", "last_day", "area_m2"],
        ),
        "intermediate.int_lag_blocks": pd.concat(
            [lag_rows("alpha", name, rng) for name in ("lights_theft", "dropped")]
        ),
        "intermediate.int_scan_blocks": pd.concat(
            [
                scan_rows("alpha", "lamp", "theft", 1.5, rng),
                scan_rows("alpha", "lamp", "noise", 1.0, rng, months=MONTHS[5:]),
                scan_rows("beta", "lamp", "rodent", 1.0, rng, months=MONTHS[:1]),
            ]
        ),
    }
    lake.build_warehouse.parent.mkdir(parents=True)
    with duckdb.connect(str(lake.build_warehouse)) as con:
        for schema in ("correlation", "intermediate"):
            con.execute(f"create schema {schema}")
        for name, rows in tables.items():
            con.register("rows", rows if seed is None else rows.sample(frac=1, random_state=seed))
            con.execute(f"create table {name} as select * from rows")
        for name in ("mart_correlation_blocks", "int_lag_blocks", "int_scan_blocks"):
            schema = "correlation" if name.startswith("mart") else "intermediate"
            con.execute(f"alter table {schema}.{name} alter month type date")
    return tables


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    lake = Lake(tmp_path_factory.mktemp("estimates"))
    evidence = write_warehouse(lake)
    return lake, evidence, write_estimates(lake)


def rows_of(lake, table):
    return pq.read_table(estimates_path(lake, table)).to_pylist()


def test_four_files_and_nothing_else_with_the_columns_that_dbt_reads(written):
    lake, _, counts = written
    folder = estimates_path(lake).parent
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.parquet" for name in SCHEMAS)
    for name, schema in SCHEMAS.items():
        table = pq.read_table(estimates_path(lake, name))
        assert table.schema.equals(schema)
        assert len(table) == sum(counts[name].values()) > 0


def test_what_is_counted_is_what_is_written(written):
    lake, _, counts = written
    assert counts["estimates"]["supported"] == 2
    assert counts["scan"] == {"insufficient": 1, "not_found": 1, "supported": 1}
    published = [row for row in rows_of(lake, "splits") if row["rr"] is not None]
    assert counts["splits"]["published"] == len(published)


def test_estimates_carry_question_controls_and_sentence(written):
    lake, _, _ = written
    rows = {(r["city"], r["question_id"], r["band"]): r for r in rows_of(lake, "estimates")}
    assert len(rows) == 2 * 3 * 3
    found = rows["alpha", "lights_theft", 1]
    assert found["verdict"] == "supported"
    assert (found["radius_m"], found["window_days"]) == (100.0, 14)
    assert found["reason"].startswith(
        "Within 100 m and 14 days after a first report of streetlight outage (all out)"
    )
    assert {r["n_negative_controls"] for r in rows.values()} == {1}
    assert "the last of 3 first reports of pothole within 50 m" in rows["beta", "potholes_theft", 1]["reason"]
    assert "the level fell as expected" in rows["beta", "potholes_theft", 1]["reason"]
    assert "negative control" in rows["alpha", "graffiti_break", 2]["reason"]
    assert rows["alpha", "lights_theft", 2]["mean_c0"] is None
    assert {r["n_tests"] for r in rows.values()} == {18}


def test_naive_ratio_spreads_the_outcomes_evenly(written):
    lake, _, _ = written
    rows = {(r["question_id"], r["band"]): r for r in rows_of(lake, "estimates") if r["city"] == "beta"}
    per_m2_and_day = N_OUTCOMES / (AREA_M2 * 365)
    blocks = CELLS * len(MONTHS)
    for question_id, radius, days in (("lights_theft", 100, 14), ("potholes_theft", 50, 7)):
        for band, rings in ((1, 1), (2, 3), (3, 5)):
            expected = 4 * blocks * np.pi * radius**2 * rings * days * per_m2_and_day
            assert rows[question_id, band]["naive_ratio"] == pytest.approx(4 * blocks / expected)


def test_a_question_that_is_asked_no_more_is_in_no_file(written):
    lake, evidence, _ = written
    assert "dropped" in set(evidence["correlation.mart_correlation_blocks"].question_id)
    for name in ("estimates", "splits", "lag_curves"):
        assert "dropped" not in {row["question_id"] for row in rows_of(lake, name)}


def test_parts_are_of_cities_whose_speed_is_known_and_questions_that_ask_the_hour(written):
    lake, _, _ = written
    parts = {(r["city"], r["question_id"], r["split"], r["part"]): r for r in rows_of(lake, "splits")}
    assert {(city, part) for city, _, split, part in parts if split == "reporting_speed"} == {
        ("alpha", "slow"),
        ("alpha", "fast"),
    }
    assert {(question, part) for _, question, split, part in parts if split == "time_of_day"} == {
        ("lights_theft", "day"),
        ("lights_theft", "night"),
    }
    assert sum(split == "period" for _, _, split, _ in parts) == 2 * 2 * 3
    assert parts["alpha", "lights_theft", "period", "first"]["rr"] == pytest.approx(1.5, rel=0.05)
    assert all(row["reason"] for row in parts.values())


def test_curves_have_every_lag_with_nulls_for_what_is_withheld(written):
    lake, _, counts = written
    rows = rows_of(lake, "lag_curves")
    weekly = [row for row in rows if row["unit"] == "week"]
    assert [row["lag"] for row in weekly] == [*range(-8, 0), *range(1, 9)]
    assert {row["n_block"] for row in weekly} == {CELLS}
    assert all(
        row["band_low"] <= row["ci_low"] <= row["rr"] <= row["ci_high"] <= row["band_high"] for row in weekly
    )
    assert len(rows) == 16 + 112 == sum(counts["lag_curves"].values())
    table = pq.read_table(estimates_path(lake, "lag_curves"))
    assert not np.isnan(table.column("rr").drop_null().to_numpy()).any()


def test_each_pair_is_divided_by_its_own_months(written):
    lake, evidence, _ = written
    rows = {r["outcome_type"]: r for r in rows_of(lake, "scan")}
    assert [str(rows[name]["first_until"]) for name in ("theft", "noise", "rodent")] == [
        "2022-06-01",
        "2022-08-01",
        "2022-01-01",
    ]
    assert rows["theft"]["n_anchor"] == 2 * CELLS * 9
    assert rows["theft"]["held_d0"] == CELLS * 3
    assert rows["noise"]["held_d0"] is None
    assert rows["rodent"]["status"] == "insufficient"
    blocks = evidence["intermediate.int_scan_blocks"]
    late = blocks[
        (blocks.outcome_type == "theft") & (blocks.variant == "primary") & (blocks.month >= MONTHS[7])
    ]
    assert rows["theft"]["held_rr"] == pytest.approx(late.num.sum() / late.den.sum())


def test_files_are_the_same_to_the_last_bit_in_any_order_of_rows(written, tmp_path):
    lake, _, counts = written
    other = Lake(tmp_path)
    write_warehouse(other, seed=5)
    assert write_estimates(other) == counts
    for name in SCHEMAS:
        assert estimates_path(other, name).read_bytes() == estimates_path(lake, name).read_bytes()


def test_all_cities_at_once_are_the_cities_one_by_one(written):
    lake, _, _ = written
    with duckdb.connect(str(lake.build_warehouse), read_only=True) as con:
        whole, one = read_blocks(con), read_blocks(con, "alpha")
        assert set(read_questions(con)) == set(QUESTIONS.question_id)
        assert len(read_scan(con, "alpha").city) == 2 * CELLS * (2 + 2)
        assert set(read_scan(con, "beta").part) == {"found"}
    assert 2 * len(one) == len(whole)
    mine = whole.city == "alpha"
    assert (whole.num[mine] == one.num).all()


def test_all_questions_at_once_are_the_questions_one_by_one(written, tmp_path, monkeypatch):
    """What is read at a time decides the memory and nothing else."""
    lake, _, counts = written
    other = Lake(tmp_path)
    write_warehouse(other)
    monkeypatch.setattr(estimates, "MOST_ROWS", 1)
    with duckdb.connect(str(other.build_warehouse), read_only=True) as con:
        groups = question_groups(con, "correlation.mart_correlation_blocks", "alpha")
    assert [len(group) for group in groups] == [1] * len(groups)
    assert len(groups) > 1
    assert write_estimates(other) == counts
    for name in SCHEMAS:
        assert estimates_path(other, name).read_bytes() == estimates_path(lake, name).read_bytes()


def test_empty_files_are_written_once_and_replace_nothing(written, tmp_path):
    empty = Lake(tmp_path)
    write_no_estimates(empty)
    for name, schema in SCHEMAS.items():
        table = pq.read_table(estimates_path(empty, name))
        assert table.schema.equals(schema)
        assert len(table) == 0
    lake, _, _ = written
    before = estimates_path(lake, "scan").read_bytes()
    write_no_estimates(lake)
    assert estimates_path(lake, "scan").read_bytes() == before


def test_without_a_warehouse_it_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="build the warehouse first"):
        write_estimates(Lake(tmp_path))


def test_a_warehouse_without_evidence_gives_empty_files(tmp_path):
    lake = Lake(tmp_path)
    write_warehouse(lake)
    with duckdb.connect(str(lake.build_warehouse)) as con:
        for table in ("correlation.mart_correlation_blocks", "intermediate.int_scan_blocks"):
            con.execute(f"delete from {table}")
    counts = write_estimates(lake)
    assert {name: sum(of_table.values()) for name, of_table in counts.items()} == dict.fromkeys(SCHEMAS, 0)


#: The mart that shows each file.
MARTS = {
    "estimates": "mart_correlations",
    "splits": "mart_correlation_splits",
    "lag_curves": "mart_lag_curves",
    "scan": "mart_correlation_scan",
}
DBT_FILES = {
    "dbt_project.yml": """
name: verdicts
version: "0.1.0"
config-version: 2
profile: verdicts
flags: {{send_anonymous_usage_stats: false}}
models:
  verdicts:
    +materialized: table
    stubs: {{+schema: stubs}}
    correlation: {{+schema: correlation, +contract: {{enforced: true}}}}
""",
    "profiles.yml": """
verdicts:
  target: duckdb
  outputs: {{duckdb: {{type: duckdb, path: "{folder}/warehouse.duckdb", keep_open: false, threads: 2}}}}
""",
    "models/sources.yml": """
sources:
  - name: correlations
    config:
      meta: {{external_location: "read_parquet('{folder}/lake/derived/correlations/{{identifier}}.parquet')"}}
    tables: [{{name: estimates}}, {{name: splits}}, {{name: lag_curves}}, {{name: scan}}]
""",
    "models/stubs/int_correlation_questions.sql": "select * from read_parquet('{folder}/questions.parquet')",
    "models/stubs/dim_city.sql": "select unnest(['alpha', 'beta']) as city, 'A city' as city_name",
}


@pytest.fixture(scope="module")
def marts(written, tmp_path_factory):
    """A dbt project of the models that show verdicts, built over the files."""
    lake, _, _ = written
    folder = tmp_path_factory.mktemp("verdicts")
    for name, text in DBT_FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.format(folder=folder, identifier="{identifier}"))
    (folder / "models/correlation").mkdir()
    declared = (
        "_correlations.yml",
        *(f"{mart}.yml" for mart in MARTS.values() if mart != "mart_correlations"),
    )
    for part in (*declared, *(f"{mart}.sql" for mart in MARTS.values())):
        shutil.copy(PROJECT / "models/correlation" / part, folder / "models/correlation")
    for part in ("macros", "tests/generic"):
        shutil.copytree(PROJECT / part, folder / part)
    shutil.copytree(lake.derived, folder / "lake/derived")
    QUESTIONS.to_parquet(folder / "questions.parquet")
    run_dbt(folder, "build")
    with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as con:
        yield con


@pytest.mark.parametrize("table", SCHEMAS)
def test_marts_show_every_row_as_it_was_written(written, marts, table):
    lake, _, _ = written
    shown = f"select {', '.join(SCHEMAS[table].names)} from correlation.{MARTS[table]}"
    file = f"select * from read_parquet('{estimates_path(lake, table)}')"
    assert (
        marts.execute(f"({shown} except all {file}) union all ({file} except all {shown})").fetchall() == []
    )
    (n,) = marts.execute(f"select count(*) from ({shown})").fetchone()
    assert n > 0


def test_mart_of_estimates_carries_what_was_declared(marts):
    rows = marts.execute("""
        select distinct question_id, signal_cluster_size, expected_sign, hypothesis, source
        from correlation.mart_correlations order by question_id""").fetchall()
    assert rows == [
        ("graffiti_break", 1, "0", "A claim", "A study"),
        ("lights_theft", 1, "+", "A claim", "A study"),
        ("potholes_theft", 3, "-", "A claim", "A study"),
    ]
