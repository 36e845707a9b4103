from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from assets.warehouse import reader
from assets.warehouse.summary import CheckCount, feed_status, summarise

TABLES = """
create schema quality; create schema correlation;
create table quality.generation as
select 'g1' as generation, 'run' as run_id, timestamp '2026-01-02' as built_at;
create table quality.reconciliation as
select * from (values
    ('springfield', 'requests', 'service_request', 12, 1, 2, 9, 2, 1, 6, 5, 5, true),
    ('shelbyville', 'permits', 'permit', 4, 0, 0, 4, 0, 0, 4, 4, 4, false)
) as t (
    city, feed, kind, rows_in_file, rows_quarantined_by_ingest, rows_unchanged, rows_raw,
    rows_quarantined_by_staging, exact_repeats, versions, distinct_keys, events, is_reconciled
);
create table quality.quarantine_summary as
select * from (values
    ('springfield', 'requests', 'staging', 'p1', 'no_time', 2::bigint),
    ('springfield', 'requests', 'ingest', 'p1', 'no_key', 1::bigint),
    ('springfield', 'requests', 'ingest', 'p2', 'no_key', 4::bigint)
) as t (city, feed, stage, part, reason, n_rows);
create table quality.check_results as
select * from (values
    ('springfield', 'requests', 'p', 'f1', 'rows', 'gx', false, true, '0', '1', '', date '2026-01-01'),
    ('springfield', 'requests', 'p', 'f2', 'rows', 'gx', true, true, '5', '1', 'm', date '2026-01-02'),
    ('springfield', 'requests', 'p', 'f2', 'nulls', 'gx', false, false, '.5', '.1', '', date '2026-01-02'),
    ('shelbyville', 'permits', 'p', 'f3', 'key', 'gx', false, true, '1', '0', 'twice', date '2026-01-02'),
    (null, null, null, null, 'unique_key', 'dbt', true, true, '0', '0', null, date '2026-01-02')
) as t (
    city, feed, part, fetch_id, check_name, tool, is_passed, is_blocking, observed, expected, message,
    checked_at
);
create table correlation.mart_correlations as
select 'springfield' as city, 'Springfield' as city_name, question as question_id, 'T' as title, 0 as from_m,
    100 as to_m, 28 as window_days, verdict, 'why' as reason, rr, rr * .9 as ci_low, rr * 1.1 as ci_high,
    400 as n_anchor, 50 as d0, 60 as d1, 1.7 as naive_ratio, false as is_negative_control
from (values
    ('weak', 'supported', 1.2), ('zero', 'not_supported', 0.0), ('none', 'insufficient', null),
    ('down', 'supported', .5), ('perhaps', 'not_supported', 3.0)
) as t (question, verdict, rr);
create table quality.feed_freshness as
select city, feed, kind, 'daily' as cadence, timestamp '2026-01-02' as last_attempt_at,
    null::timestamp as last_success_at, timestamp '2025-12-30' as failing_since_at,
    'Unauthorised' as last_error_type, 'refused' as last_error_message, 'renew the token' as advice,
    timestamp '2026-01-01' as newest_event_at, timestamp '2026-01-01' as newest_record_at, rows_raw,
    rows_quarantined_by_ingest as rows_quarantined, 3 as rows_missing, events, true as is_stale,
    'failing' as verdict
from quality.reconciliation;
"""


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    path = tmp_path / "warehouse.duckdb"
    connection = duckdb.connect(str(path))
    connection.execute(TABLES)
    connection.close()
    return path


def test_everything_is_told_of_every_city(warehouse):
    summary = summarise(warehouse)
    assert (summary.generation.generation, summary.generation.run_id) == ("g1", "run")
    assert [(feed.feed, feed.events, feed.is_reconciled) for feed in summary.feeds] == [
        ("permits", 4, False),
        ("requests", 5, True),
    ]
    assert [(row.stage, row.reason, row.n_rows) for row in summary.quarantine] == [
        ("ingest", "no_key", 5),
        ("staging", "no_time", 2),
    ]
    assert [status.verdict for status in summary.status] == ["failing", "failing"]


def test_only_the_latest_result_of_a_check_counts(warehouse):
    summary = summarise(warehouse)
    assert summary.checks == (CheckCount("dbt", 1, 0, 0), CheckCount("gx", 1, 1, 1))
    assert [(check.check_name, check.is_blocking) for check in summary.failed_checks] == [
        ("key", True),
        ("nulls", False),
    ]


def test_findings_come_strongest_first_and_the_unsayable_last(warehouse):
    findings = summarise(warehouse).findings
    assert [finding.question_id for finding in findings] == ["down", "weak", "perhaps", "zero", "none"]
    assert findings[-1].rr is None


def test_cities_narrow_all_but_the_checks_of_tables(warehouse):
    summary = summarise(warehouse, ["springfield"])
    assert {
        row.city for row in (*summary.feeds, *summary.quarantine, *summary.findings, *summary.status)
    } == {"springfield"}
    assert summary.checks == (CheckCount("dbt", 1, 0, 0), CheckCount("gx", 1, 1, 0))
    assert summarise(warehouse, []).feeds == ()


def test_status_alone(warehouse):
    (status,) = feed_status(warehouse, ["springfield"])
    assert (status.feed, status.last_success_at) == ("requests", None)
    assert (status.last_error_type, status.advice) == ("Unauthorised", "renew the token")
    assert (status.rows_missing, status.is_stale) == (3, True)
    assert status.newest_event_at == datetime(2026, 1, 1)  # noqa: DTZ001 — warehouse times are naive UTC


@pytest.mark.parametrize("ask", [summarise, feed_status])
def test_an_unfinished_warehouse_is_explained(tmp_path, ask):
    path = tmp_path / "warehouse.duckdb"
    duckdb.connect(str(path)).close()
    with pytest.raises(reader.WarehouseError, match="not the warehouse of a finished run"):
        ask(path)
