"""Block sums from the build warehouse to the estimates that dbt shows; the statistics are in `inference`."""

import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from assets.correlate.inference import BlockSums, Estimate, estimate
from assets.correlate.wording import Question, reason
from assets.ingest.lake import Lake

#: Columns of lake/derived/correlations/estimates.parquet, in this order.
SCHEMA = pa.schema(
    [
        ("city", pa.string()),
        ("question_id", pa.string()),
        ("band", pa.int32()),
        ("radius_m", pa.float64()),
        ("window_days", pa.int32()),
        ("estimator", pa.string()),
        ("control_level", pa.string()),
        ("n_anchor", pa.int64()),
        ("n_block", pa.int32()),
        ("d0", pa.int64()),
        ("d1", pa.int64()),
        ("mean_c0", pa.float64()),
        ("rr", pa.float64()),
        ("ci_low", pa.float64()),
        ("ci_high", pa.float64()),
        ("p_value", pa.float64()),
        ("p_adjusted", pa.float64()),
        ("n_tests", pa.int32()),
        ("df", pa.float64()),
        ("placebo_rr", pa.float64()),
        ("placebo_p", pa.float64()),
        ("guarded_rr", pa.float64()),
        ("guarded_ci_low", pa.float64()),
        ("guarded_ci_high", pa.float64()),
        ("isolated_rr", pa.float64()),
        ("first_half_rr", pa.float64()),
        ("second_half_rr", pa.float64()),
        ("case_crossover_rr", pa.float64()),
        ("naive_ratio", pa.float64()),
        ("raw_after_before_ratio", pa.float64()),
        ("extra_per_100_signals", pa.float64()),
        ("minimal_detectable_rr", pa.float64()),
        ("verdict", pa.string()),
        ("reason", pa.string()),
    ]
)


def estimates_path(lake: Lake) -> Path:
    """Return where the estimates lie."""
    return lake.derived / "correlations" / "estimates.parquet"


def write_estimates(lake: Lake) -> dict[str, int]:
    """Estimate every question in every city from the build warehouse and replace the estimates.

    Returns:
        Number of estimates by verdict.

    Raises:
        FileNotFoundError: The warehouse has not been built.
    """
    if not lake.build_warehouse.exists():
        raise FileNotFoundError(f"{lake.build_warehouse} does not exist: build the warehouse first.")
    with duckdb.connect(str(lake.build_warehouse), read_only=True) as con:
        blocks, questions = read_blocks(con), read_questions(con)
    estimates = estimate(blocks)
    write_table(estimates_path(lake), estimates_table(estimates, questions))
    return dict(Counter(e.verdict for e in estimates))


def write_no_estimates(lake: Lake) -> None:
    """Write a table without rows where none exists, so that dbt can read it before the first inference."""
    if not estimates_path(lake).exists():
        write_table(estimates_path(lake), SCHEMA.empty_table())


def read_blocks(con: duckdb.DuckDBPyConnection) -> BlockSums:
    """Return the block sums in a fixed order, because a sum of floats depends on it."""
    columns = list(BlockSums.__dataclass_fields__)
    rows = con.execute(
        f"select {', '.join(columns)} from correlation.mart_correlation_blocks "  # noqa: S608
        "order by city, question_id, band, variant, h3_7, month"
    ).fetchnumpy()
    return BlockSums(
        **{
            name: np.ma.filled(rows[name], np.nan) if name == "naive_expected" else np.asarray(rows[name])
            for name in columns
        }
    )


def read_questions(con: duckdb.DuckDBPyConnection) -> dict[str, Question]:
    """Return the questions by id."""
    columns = list(Question.__dataclass_fields__)
    rows = con.execute(f"select {', '.join(columns)} from intermediate.int_correlation_questions").fetchall()  # noqa: S608
    return {row[0]: Question(*row) for row in rows}


def estimates_table(estimates: list[Estimate], questions: dict[str, Question]) -> pa.Table:
    """Return the estimates with their sentence, one row per city, question and ring."""
    rows = [
        asdict(e)
        | {
            "radius_m": questions[e.question_id].radius_m,
            "window_days": questions[e.question_id].window_days,
            "reason": reason(e, questions[e.question_id]),
        }
        for e in estimates
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file under a temporary name, then rename it: readers see the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(table, unfinished, compression="zstd")
    unfinished.replace(path)
