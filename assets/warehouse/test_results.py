"""What dbt tests found, as Parquet that dbt reads back; checks of deliveries are written by landing."""

import os
from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime

from assets.ingest.lake import Lake


@dataclass(frozen=True)
class TestResult:
    """One dbt test that ran; `observed` is the number of rows it found fault with."""

    #: Keeps pytest from taking it for a test.
    __test__ = False

    check_name: str
    passed: bool
    blocking: bool
    observed: str
    message: str
    checked_at: datetime


def write_test_results(lake: Lake, results: Sequence[TestResult], declared: Set[str]) -> None:
    """Renew `lake/derived/check_results/dbt.parquet`.

    Args:
        lake: Where it lies.
        results: What ran now.
        declared: Names of all tests of the project; earlier results of these stay unless renewed.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from assets.ingest.receipts import CHECK_RESULTS

    rows = [
        {
            "check_name": result.check_name,
            "tool": "dbt",
            "passed": result.passed,
            "blocking": result.blocking,
            "observed": result.observed,
            "expected": "0",
            "message": result.message,
            "checked_at": result.checked_at.astimezone(UTC).replace(tzinfo=None),
        }
        for result in results
    ]
    path = lake.derived / "check_results" / "dbt.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        kept = declared - {result.check_name for result in results}
        rows = [row for row in pq.read_table(path).to_pylist() if row["check_name"] in kept] + rows
    temporary = path.with_name(f".dbt.{os.getpid()}.tmp")
    pq.write_table(
        pa.Table.from_pylist(sorted(rows, key=lambda row: row["check_name"]), schema=CHECK_RESULTS), temporary
    )
    temporary.replace(path)
