"""Evidence from the build warehouse to the files that dbt shows; statistics are in the modules called."""

import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from assets.correlate.estimate_tables import (
    SCHEMAS,
    estimates_table,
    lag_curves_table,
    scan_table,
    splits_table,
)
from assets.correlate.inference import BlockSums, judge, measure
from assets.correlate.lag_curves import LagSums, lag_curves
from assets.correlate.ratios import number_groups
from assets.correlate.scan import ScanSums, divide_months, judge_pairs, measure_pairs
from assets.correlate.splits import ReportingStrata, split_discs
from assets.correlate.wording import Question
from assets.ingest.lake import Lake

#: The naive expectation spreads a city's outcomes evenly over its built-up area and its days.
BLOCKS = """
    select
        blocks.city, question_id, band, variant, control_level, h3_7, month,
        n_anchor, d0, d1, num, den, c0_sum,
        n_anchor * pi() * radius_m * radius_m * (2 * band - 1) * window_days * n_outcomes
            / (area_m2 * (last_day - first_day + 1)) as naive_expected
    from correlation.mart_correlation_blocks as blocks
    inner join intermediate.int_correlation_questions as questions using (question_id)
    left join intermediate.int_outcome_periods as periods
        on periods.city = blocks.city and periods.outcome_type = questions.outcome_type
    where ($city is null or blocks.city = $city)
        and ($questions is null or list_contains($questions, question_id))
    order by blocks.city, question_id, band, variant, h3_7, month
"""
LAGS = """
    select city, question_id, unit, h3_7, month, lag, d, r
    from intermediate.int_lag_blocks
    semi join intermediate.int_correlation_questions using (question_id)
    where city = $city and list_contains($questions, question_id)
    order by question_id, unit, h3_7, month, lag
"""
STRATA = """
    select city, h3_7, stratum from correlation.mart_reporting_speed
    where city = $city and stratum is not null order by h3_7
"""
SCAN_MONTHS = """
    select distinct city, signal_type, outcome_type, month from intermediate.int_scan_blocks
    where city = $city and variant = 'primary' order by all
"""
# Reals are added as integers of 1e-12: a sum of floats depends on the order in which threads hand rows over.
SCAN = """
    select
        city, signal_type, outcome_type, variant,
        if(month <= first_until, 'found', 'held') as part,
        h3_7, first_until,
        sum(n_anchor)::bigint as n_anchor,
        sum(d0)::bigint as d0,
        sum(d1)::bigint as d1,
        sum(round(num * 1e12)::bigint)::double / 1e12 as num,
        sum(round(den * 1e12)::bigint)::double / 1e12 as den
    from intermediate.int_scan_blocks
    inner join scan_cuts using (city, signal_type, outcome_type)
    where city = $city and (month <= first_until or month >= held_from)
    group by all
    order by all
"""


#: Rows of sums that are looked at together; a million of them take 350 MB.
MOST_ROWS = 2_000_000


def estimates_path(lake: Lake, table: str = "estimates") -> Path:
    """Return where a table of inference lies: estimates, splits, lag_curves or scan."""
    return lake.derived / "correlations" / f"{table}.parquet"


def write_estimates(lake: Lake) -> dict[str, dict[str, int]]:
    """Estimate every question in every city from the build warehouse and replace the tables of inference.

    Cities are read one after the other, and of each some questions at a time: ten million events in five
    years leave fifteen million rows of sums, which took 5 GB when they were read at once.

    Returns:
        Number of rows of each table: estimates by verdict, pairs of the scan by status, parts and lags by
        whether they have a ratio.

    Raises:
        FileNotFoundError: The warehouse has not been built.
    """
    if not lake.build_warehouse.exists():
        raise FileNotFoundError(f"{lake.build_warehouse} does not exist: build the warehouse first.")
    measured, parts, curves, pairs = [], [], [], []
    with duckdb.connect(str(lake.build_warehouse), read_only=True) as con:
        questions = read_questions(con)
        for city in read_cities(con):
            strata = read_strata(con, city)
            for questions_of_group in question_groups(con, "correlation.mart_correlation_blocks", city):
                blocks = read_blocks(con, city, questions_of_group)
                of_group = measure(blocks)
                measured += of_group
                parts += split_discs(blocks, of_group, strata)
            for questions_of_group in question_groups(con, "intermediate.int_lag_blocks", city):
                curves += lag_curves(read_lags(con, city, questions_of_group))
            pairs += measure_pairs(read_scan(con, city))
    negative_controls = {
        question.question_id for question in questions.values() if question.is_negative_control
    }
    tables = {
        "estimates": estimates_table(judge(measured, negative_controls), questions),
        "splits": splits_table(parts, questions),
        "lag_curves": lag_curves_table(curves),
        "scan": scan_table(judge_pairs(pairs)),
    }
    for name, table in tables.items():
        write_table(estimates_path(lake, name), table)
    return {name: _counts(table) for name, table in tables.items()}


def write_no_estimates(lake: Lake) -> None:
    """Write tables without rows where none exist, so that dbt can read them before the first inference."""
    for name, schema in SCHEMAS.items():
        if not estimates_path(lake, name).exists():
            write_table(estimates_path(lake, name), schema.empty_table())


def read_cities(con: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the cities that have evidence."""
    rows = con.execute(
        "select city from correlation.mart_correlation_blocks "
        "union select city from intermediate.int_scan_blocks order by city"
    ).fetchall()
    return [city for (city,) in rows]


def question_groups(con: duckdb.DuckDBPyConnection, table: str, city: str) -> list[list[str]]:
    """Return the questions of a city in groups whose rows are looked at together.

    Args:
        con: The build warehouse.
        table: A table of sums with city and question_id.
        city: Whose questions.
    """
    counted = con.execute(
        f"select question_id, count(*) from {table} where city = $city group by all order by all",  # noqa: S608
        {"city": city},
    ).fetchall()
    groups: list[list[str]] = []
    n_rows = 0
    for question_id, n in counted:
        n_rows += n
        if not groups or n_rows > MOST_ROWS:
            groups.append([])
            n_rows = n
        groups[-1].append(question_id)
    return groups


def read_blocks(
    con: duckdb.DuckDBPyConnection, city: str | None = None, questions: Collection[str] | None = None
) -> BlockSums:
    """Return the block sums in a fixed order, because a sum of floats depends on it.

    Args:
        con: The build warehouse.
        city: Whose sums. None: those of all cities.
        questions: Of which questions. None: of all.
    """
    asked = None if questions is None else list(questions)
    return BlockSums(**columns_of(con, BLOCKS, city=city, questions=asked))


def read_lags(con: duckdb.DuckDBPyConnection, city: str, questions: Collection[str]) -> LagSums:
    """Return the outcomes of a city by lag, of some questions."""
    return LagSums(**columns_of(con, LAGS, city=city, questions=list(questions)))


def read_strata(con: duckdb.DuckDBPyConnection, city: str) -> ReportingStrata:
    """Return how fast the cells of a city report."""
    return ReportingStrata(**columns_of(con, STRATA, city=city))


def read_scan(con: duckdb.DuckDBPyConnection, city: str) -> ScanSums:
    """Return the sums of a city's pairs, each pair's months divided into two parts."""
    months = columns_of(con, SCAN_MONTHS, city=city)
    group, rows = number_groups(months["city"], months["signal_type"], months["outcome_type"])
    in_order = months["month"][np.argsort(group, kind="stable")]
    of_pair = np.split(in_order, np.cumsum(np.bincount(group, minlength=len(rows)))[:-1]) if len(rows) else []
    cuts = [[day.astype("datetime64[D]") for day in divide_months(each)] for each in of_pair]
    names = {
        name: pa.array(months[name][rows], pa.string()) for name in ("city", "signal_type", "outcome_type")
    }
    ends = {
        name: pa.array(np.array([cut[i] for cut in cuts], "datetime64[D]"), pa.date32())
        for i, name in enumerate(("first_until", "held_from"))
    }
    con.register("scan_cuts", pa.table(names | ends))
    try:
        return ScanSums(**columns_of(con, SCAN, city=city))
    finally:
        con.unregister("scan_cuts")


def read_questions(con: duckdb.DuckDBPyConnection) -> dict[str, Question]:
    """Return the questions by id."""
    columns = list(Question.__dataclass_fields__)
    rows = con.execute(f"select {', '.join(columns)} from intermediate.int_correlation_questions").fetchall()  # noqa: S608
    return {row[0]: Question(*row) for row in rows}


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file under a temporary name, then rename it: readers see the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(table, unfinished, compression="zstd")
    unfinished.replace(path)


def columns_of(con: duckdb.DuckDBPyConnection, query: str, **given: Any) -> dict[str, np.ndarray]:
    """Return the columns of a query as arrays; rows with one text share it, copies would fill the memory."""
    table = con.execute(query, given).to_arrow_table()
    return {name: _array(table.column(name).combine_chunks()) for name in table.column_names}


def _array(column: pa.Array) -> np.ndarray:
    if not pa.types.is_string(column.type):
        return column.to_numpy(zero_copy_only=False)
    encoded = column.dictionary_encode()
    return np.array(encoded.dictionary.to_pylist(), object)[encoded.indices.to_numpy()]


def _counts(table: pa.Table) -> dict[str, int]:
    """Return how many rows say what."""
    for judged in ("verdict", "status"):
        if judged in table.column_names:
            return dict(sorted(Counter(table.column(judged).to_pylist()).items()))
    published = len(table) - table.column("rr").null_count
    return {"published": published, "withheld": len(table) - published}
