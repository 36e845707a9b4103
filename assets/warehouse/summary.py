"""What a person asks of a warehouse after a run, as plain rows; printing them is up to the command line."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import duckdb

from assets.warehouse import reader


@dataclass(frozen=True)
class Generation:
    """Which build a file holds."""

    generation: str
    run_id: str | None
    built_at: datetime | None


@dataclass(frozen=True)
class FeedRows:
    """Where the rows of one feed went, from file to event."""

    city: str
    feed: str
    kind: str
    rows_in_file: int
    rows_quarantined_by_ingest: int
    rows_unchanged: int
    rows_raw: int
    rows_quarantined_by_staging: int
    exact_repeats: int
    versions: int
    distinct_keys: int
    events: int
    is_reconciled: bool


@dataclass(frozen=True)
class QuarantineReason:
    """How many rows of a feed were set aside for one reason, at ingest or in staging."""

    city: str
    feed: str
    stage: str
    reason: str
    n_rows: int


@dataclass(frozen=True)
class CheckCount:
    """How the latest checks of one tool went; warnings are failures that do not block."""

    tool: str
    n_passed: int
    n_warnings: int
    n_failed: int


@dataclass(frozen=True)
class FailedCheck:
    """One check whose latest result is a failure; city, feed and part are empty for checks of tables."""

    tool: str
    check_name: str
    city: str | None
    feed: str | None
    part: str | None
    is_blocking: bool
    observed: str | None
    expected: str | None
    message: str | None
    checked_at: datetime


@dataclass(frozen=True)
class Finding:
    """One correlation and what may be said of it; the ratio is empty where the data are insufficient."""

    city: str
    city_name: str
    question_id: str
    title: str
    from_m: float
    to_m: float
    window_days: int
    verdict: str
    reason: str
    rr: float | None
    ci_low: float | None
    ci_high: float | None
    n_anchor: int
    d0: int
    d1: int
    naive_ratio: float | None
    is_negative_control: bool


@dataclass(frozen=True)
class FeedStatus:
    """The state of one feed; times are UTC.

    Attributes:
        failing_since_at: First of the fetches in a row that did not succeed; empty where the newest did.
        last_error_type: Class of the newest failure, so its message and what to do about it.
        newest_record_at: The newest event or update, by which freshness is judged.
        rows_missing: Cases that the source no longer has.
        is_stale: Whether the newest record is older than the cadence allows, whatever the verdict says.
    """

    city: str
    feed: str
    kind: str
    cadence: str
    last_attempt_at: datetime | None
    last_success_at: datetime | None
    failing_since_at: datetime | None
    last_error_type: str | None
    last_error_message: str | None
    advice: str | None
    newest_event_at: datetime | None
    newest_record_at: datetime | None
    rows_raw: int
    rows_quarantined: int
    rows_missing: int
    events: int
    is_stale: bool
    verdict: str


@dataclass(frozen=True)
class WarehouseSummary:
    """A warehouse in a page: rows per feed, what was set aside, how checks went, what was found."""

    generation: Generation | None
    feeds: tuple[FeedRows, ...]
    quarantine: tuple[QuarantineReason, ...]
    checks: tuple[CheckCount, ...]
    failed_checks: tuple[FailedCheck, ...]
    findings: tuple[Finding, ...]
    status: tuple[FeedStatus, ...]


# A check is renewed with every delivery; only its latest result says how things stand.
LATEST_CHECKS = """
    select * from quality.check_results
    qualify row_number() over (
        partition by tool, check_name, city, feed, part order by checked_at desc, fetch_id desc
    ) = 1
"""
CHECK_COUNTS = f"""
    select
        tool,
        count(*) filter (where is_passed) as n_passed,
        count(*) filter (where not is_passed and not is_blocking) as n_warnings,
        count(*) filter (where not is_passed and is_blocking) as n_failed
    from ({LATEST_CHECKS})
    where city is null or {{cities}}
    group by tool
    order by tool
"""  # noqa: S608
FAILED_CHECKS = f"""
    select {{columns}} from ({LATEST_CHECKS})
    where not is_passed and (city is null or {{cities}})
    order by is_blocking desc, tool, city, feed, part, check_name
"""  # noqa: S608
FEED_ROWS = "select {columns} from quality.reconciliation where {cities} order by city, feed"
QUARANTINE = """
    select city, feed, stage, reason, sum(n_rows)::bigint as n_rows
    from quality.quarantine_summary
    where {cities}
    group by city, feed, stage, reason
    order by city, feed, n_rows desc, stage, reason
"""
# The strongest first, whichever way it points; what may not be said last.
FINDINGS = """
    select {columns} from correlation.mart_correlations
    where {cities}
    order by
        city, verdict <> 'supported', verdict = 'insufficient',
        case when rr > 0 then abs(ln(rr)) end desc nulls last, question_id, from_m, window_days
"""
STATUS = "select {columns} from quality.feed_freshness where {cities} order by city, feed"
GENERATION = f"select {{columns}} from {reader.GENERATION_TABLE}"  # noqa: S608

Row = TypeVar("Row")


def summarise(path: Path, cities: Sequence[str] | None = None) -> WarehouseSummary:
    """Return the summary of a warehouse file.

    Args:
        path: The published file, or the build when nothing writes it.
        cities: Ids of the cities to tell of. None: all.

    Raises:
        WarehouseError: When the file cannot be read or lacks the tables of a finished run.
    """
    connection = reader.connect(path)
    try:
        generations = _rows(connection, Generation, GENERATION, None)
        return WarehouseSummary(
            generation=generations[0] if generations else None,
            feeds=_rows(connection, FeedRows, FEED_ROWS, cities),
            quarantine=_rows(connection, QuarantineReason, QUARANTINE, cities),
            checks=_rows(connection, CheckCount, CHECK_COUNTS, cities),
            failed_checks=_rows(connection, FailedCheck, FAILED_CHECKS, cities),
            findings=_rows(connection, Finding, FINDINGS, cities),
            status=_rows(connection, FeedStatus, STATUS, cities),
        )
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        raise _unfinished(path, error) from error
    finally:
        connection.close()


def feed_status(path: Path, cities: Sequence[str] | None = None) -> tuple[FeedStatus, ...]:
    """Return the state of every feed, by city and feed; arguments and errors as of `summarise`."""
    connection = reader.connect(path)
    try:
        return _rows(connection, FeedStatus, STATUS, cities)
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        raise _unfinished(path, error) from error
    finally:
        connection.close()


def _rows(
    connection: duckdb.DuckDBPyConnection, kind: type[Row], sql: str, cities: Sequence[str] | None
) -> tuple[Row, ...]:
    columns = ", ".join(field.name for field in fields(kind))  # type: ignore[arg-type]
    condition = "true" if cities is None else "list_contains(?, city)"
    parameters = [list(cities)] if cities is not None and "{cities}" in sql else []
    found = connection.execute(sql.format(columns=columns, cities=condition), parameters)
    names = [column[0] for column in found.description]
    return tuple(kind(**dict(zip(names, row, strict=True))) for row in found.fetchall())


def _unfinished(path: Path, error: duckdb.Error) -> reader.WarehouseError:
    return reader.WarehouseError(
        f"{path}: not the warehouse of a finished run; run the pipeline again ({str(error).splitlines()[0]})"
    )
