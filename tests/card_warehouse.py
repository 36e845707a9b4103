"""A warehouse of hand-made correlation marts with the columns that contracts promise; no assertions here."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import h3
import yaml

CONTRACTS = Path(__file__).parents[1] / "dbt_project" / "models" / "correlation"
GENERATION = "20260102T060000Z-0123abcd"
#: A disc that passes every gate.
SUPPORTED = {
    "city": "aville",
    "city_name": "Aville",
    "question_id": "lamps_theft",
    "title": "Lamps out and theft",
    "signal_type": "lamp_outage",
    "signal_subtype": None,
    "signal_cluster_size": 1,
    "outcome_type": "theft",
    "is_negative_control": False,
    "hypothesis": "Theft rises where lamps are out.",
    "mechanism": "Darkness hides the approach",
    "source": "Hand-made, 2026",
    "expected_sign": "+",
    "band": 1,
    "from_m": 0.0,
    "to_m": 100.0,
    "radius_m": 100.0,
    "window_days": 14,
    "verdict": "supported",
    "reason": "Within 100 m and 14 days after a first report of lamp outage, theft ran 1.23x [1.19, 1.27].",
    "estimator": "all_episodes",
    "control_level": "h3_7",
    "n_anchor": 12000,
    "n_block": 61,
    "d0": 2100,
    "d1": 2600,
    "mean_c0": 0.031,
    "rr": 1.23,
    "ci_low": 1.19,
    "ci_high": 1.27,
    "p_value": 0.00001,
    "p_adjusted": 0.002,
    "n_tests": 120,
    "df": 40.0,
    "placebo_rr": 1.0,
    "placebo_p": 0.81,
    "guarded_rr": 1.25,
    "guarded_ci_low": 1.2,
    "guarded_ci_high": 1.3,
    "isolated_rr": 1.22,
    "first_half_rr": 1.21,
    "second_half_rr": 1.24,
    "case_crossover_rr": 1.2,
    "naive_ratio": 2.27,
    "raw_after_before_ratio": 1.24,
    "extra_per_100_signals": 4.1,
    "minimal_detectable_rr": 1.05,
    "n_negative_controls": 16,
    "n_negative_controls_positive": 1,
}
#: What an insufficient disc leaves empty.
NO_RATIO = dict.fromkeys(
    (
        "rr", "ci_low", "ci_high", "p_value", "p_adjusted", "df", "placebo_rr", "placebo_p", "guarded_rr",
        "guarded_ci_low", "guarded_ci_high", "isolated_rr", "first_half_rr", "second_half_rr",
        "case_crossover_rr", "naive_ratio", "raw_after_before_ratio", "extra_per_100_signals",
    )
)  # fmt: skip
#: Neighbouring H3-7 cells.
CELLS = [h3.str_to_int(cell) for cell in sorted(h3.grid_disk(h3.latlng_to_cell(41.85, -87.65, 7), 2))]


def rings(**changes: Any) -> list[dict[str, Any]]:
    """Return a disc that passes every gate unless changed, and two rings without an effect."""
    disc = SUPPORTED | changes
    outer = [
        disc | {"band": band, "from_m": (band - 1) * 100.0, "to_m": band * 100.0, "verdict": "not_supported"}
        | {"rr": 1.01, "ci_low": 0.97, "ci_high": 1.05, "p_adjusted": 1.0, "mean_c0": None}
        for band in (2, 3)
    ]  # fmt: skip
    return [disc, *outer]


def parts(city: str = "aville", question_id: str = "lamps_theft") -> list[dict[str, Any]]:
    """Return the halves, day and night, and the strata of a question, all with a ratio."""
    ratios = {
        ("period", "first"): 1.21,
        ("period", "second"): 1.24,
        ("time_of_day", "day"): 1.02,
        ("time_of_day", "night"): 1.41,
        ("reporting_speed", "slow"): 1.2,
        ("reporting_speed", "middle"): 1.22,
        ("reporting_speed", "fast"): 1.25,
    }
    return [
        {
            "city": city, "question_id": question_id, "split": split, "part": part,
            "estimator": "all_episodes", "n_anchor": 6000, "d0": 1000, "d1": 1200, "rr": rr,
            "ci_low": rr - 0.06, "ci_high": rr + 0.06, "p_value": 0.01, "reason": "By hand.",
        }
        for (split, part), rr in ratios.items()
    ]  # fmt: skip


def lags(city: str = "aville", question_id: str = "lamps_theft") -> list[dict[str, Any]]:
    """Return the weekly and the daily curve of a question: the first two weeks are clear of 1."""
    return [
        {
            "city": city, "question_id": question_id, "unit": unit, "lag": lag,
            "d": 1000 if unit == "week" else 140, "rr": rr, "ci_low": rr * 0.95, "ci_high": rr * 1.05,
            "band_low": rr * 0.92, "band_high": rr * 1.08, "n_block": 61,
        }
        for unit, reach in (("week", 8), ("day", 56))
        for lag in [*range(-reach, 0), *range(1, reach + 1)]
        for rr in [1.2 if 0 < lag <= (2 if unit == "week" else 14) else 1.0 + 0.002 * (lag % 3)]
    ]  # fmt: skip


def blocks(city: str = "aville", question_id: str = "lamps_theft") -> list[dict[str, Any]]:
    """Return block sums of the disc: two months in 19 cells, one first report more from cell to cell."""
    return [
        {
            "city": city, "question_id": question_id, "band": 1, "variant": variant,
            "control_level": "h3_7", "h3_7": cell, "month": month, "n_anchor": n, "d0": 50, "d1": 60,
            "r0": 500, "r1": 500, "num": 30.0, "den": 25.0, "c0_sum": 0.0,
        }
        for n, cell in enumerate(CELLS, start=1)
        for month in ("2025-01-01", "2025-02-01")
        for variant in ("primary", "isolated")
    ]  # fmt: skip


def contrast(city: str = "aville", question_id: str = "lamps_theft", **changes: Any) -> dict[str, Any]:
    """Return the contrasts of a question: areas go together, months do not."""
    row = {
        "city": city, "question_id": question_id, "n_signal": 15000, "n_signal_covered": 14000,
        "n_outcome": 60000, "n_cell": 64, "across_cells_r": 0.9, "n_month": 46,
        "across_months_r": 0.07, "month_to_month_r": 0.27,
    }  # fmt: skip
    return row | changes


def marts(answers: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return all marts of some answers, each disc with everything that belongs to it."""
    discs = [(row["city"], row["question_id"]) for row in answers if row["band"] == 1]
    return {
        "mart_correlations": [dict(row) for row in answers],
        "mart_correlation_splits": [row for key in discs for row in parts(*key)],
        "mart_lag_curves": [row for key in discs for row in lags(*key)],
        "mart_correlation_blocks": [row for key in discs for row in blocks(*key)],
        "mart_correlation_contrasts": [contrast(*key) for key in discs],
        "mart_correlation_scan": [],
        "int_lag_blocks": [{"city": city, "question_id": name, "unit": "week"} for city, name in discs],
    }


def contracts() -> dict[str, dict[str, str]]:
    """Return the columns and types that the correlation marts promise, and of what is read besides."""
    return {"int_lag_blocks": dict.fromkeys(("city", "question_id", "unit"), "varchar")} | {
        model["name"]: {column["name"]: column["data_type"] for column in model["columns"]}
        for path in sorted(CONTRACTS.glob("*.yml"))
        for model in yaml.safe_load(path.read_text(encoding="utf-8"))["models"]
    }


def write_warehouse(
    path: Path, tables: Mapping[str, Sequence[Mapping[str, Any]]], *, simulated: Sequence[str] = ()
) -> Path:
    """Write a warehouse file with the given rows, and what else cards are made from.

    Args:
        path: The file; replaced.
        tables: Rows of correlation marts by name; a column that a row lacks is null.
        simulated: Cities that are invented.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    promised = contracts()
    answers = tables["mart_correlations"]
    with duckdb.connect(str(path)) as con:
        for schema in ("core", "correlation", "intermediate", "operations", "quality", "open_data"):
            con.execute(f"create schema {schema}")
        con.execute(f"create table quality.generation as select '{GENERATION}' as generation")
        con.execute("create table core.dim_city (city varchar, city_name varchar, is_simulated boolean)")
        for city, name in sorted({(row["city"], row["city_name"]) for row in answers}):
            con.execute("insert into core.dim_city values (?, ?, ?)", [city, name, city in simulated])
        con.execute("create table intermediate.int_correlation_questions (question_id varchar)")
        for question in sorted({row["question_id"] for row in answers}):
            con.execute("insert into intermediate.int_correlation_questions values (?)", [question])
        for name, rows in tables.items():
            columns = promised[name]
            table = f"{'intermediate' if name.startswith('int_') else 'correlation'}.{name}"
            con.execute(f"create table {table} ({', '.join(f'{n} {t}' for n, t in columns.items())})")
            if unknown := {name for row in rows for name in row} - set(columns):
                raise ValueError(f"{table} has no column {', '.join(sorted(unknown))}")
            if rows:
                places = ", ".join("?" * len(columns))
                con.executemany(
                    f"insert into {table} values ({places})",
                    [[row.get(name) for name in columns] for row in rows],
                )
    return path
