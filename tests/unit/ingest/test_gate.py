import subprocess
import sys
from datetime import date
from pathlib import Path

import duckdb
import pytest

from assets.ingest import aggregates, gate
from tests.judged_delivery import LATEST, failed, judge


@pytest.mark.parametrize(("mapped_by_the_part", "warned"), [("two", {}), ("one", {"schema": False})])
def test_a_column_that_only_another_part_maps_may_be_empty(tmp_path, mapped_by_the_part, warned):
    parts = [{"id": name, "source": f"{name}.csv"} for name in ("one", "two")]
    for part in parts:
        if part["id"] == mapped_by_the_part:
            part["columns"] = {"address": "where"}
    checks = judge(tmp_path, parts=parts)
    assert failed(checks) == warned


@pytest.mark.parametrize(
    ("declared", "warned"), [(0.0, {"time_range": False}), (0.01, {}), (0.009, {"time_range": False})]
)
def test_times_outside_warn_beyond_the_declared_share(tmp_path, declared, warned):
    columns = {"requested_at": "case when i = 0 then '2115-01-01' else '2026-01-02' end"}
    checks = judge(tmp_path, columns=columns, expect={"max_outside_time_share": declared})
    assert failed(checks) == warned


def test_a_plausible_delivery_passes(tmp_path):
    expect = {
        "min_rows": 50,
        "max_null_share": {"quantity": 0.1},
        "value_ranges": {"quantity": [0, 99]},
        "earliest": "2026-01-01",
        "min_location_share": 0.9,
    }
    checks = judge(tmp_path, expect=expect, rows_known_before=100, rows_in_file=100)
    assert failed(checks) == {}
    assert "rows of the part: 100" in checks["volume"].observed
    assert "rows of the part >= 50" in checks["volume"].expected


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ({"leave_out": ["agency"]}, {"schema": True}),
        ({"columns": {"quantity": "null"}}, {"schema": False}),
        ({"columns": {"source_id": "case when i = 0 then '' else i::varchar end"}}, {"key": True}),
        ({"rows": 0}, {"volume": True}),
        ({"rows_known_before": 201}, {"volume": True}),
        ({"rows_in_file": 101}, {"volume": True}),
        ({"quarantined": 2, "rows_in_file": 102}, {"null_share": True}),
        (
            {
                "columns": {"quantity": "case when i > 10 then i end"},
                "expect": {"max_null_share": {"quantity": 0.1}},
            },
            {"null_share": False},
        ),
        ({"expect": {"value_ranges": {"quantity": [1, 50]}}}, {"value_range": False}),
        (
            {"columns": {"location_quality": "'missing'"}, "expect": {"min_location_share": 0.5}},
            {"value_range": False},
        ),
        (
            {"columns": {"requested_at": "case when i = 0 then '2115-03-11' else '2026-01-02' end"}},
            {"time_range": False},
        ),
        (
            {"columns": {"requested_at": "case when i < 6 then '2115-03-11' else '2026-01-02' end"}},
            {"time_range": True},
        ),
        ({"expect": {"earliest": "2026-01-03"}}, {"time_range": True}),
        ({"columns": {"requested_at": "'Tuesday'"}}, {"time_range": True}),
    ],
)
def test_what_fails_and_what_blocks(tmp_path, case, expected):
    checks = judge(tmp_path, **case)
    assert failed(checks) == expected
    (name,) = expected
    assert checks[name].message.count("expected") >= 1
    assert ";" in checks[name].message


@pytest.mark.parametrize(
    "case",
    [
        {"rows_known_before": 200},
        {"quarantined": 1, "rows_in_file": 101},
        {"columns": {"source_id": "nullif(i, 0)"}, "expect": {"max_key_null_share": 0.01}},
        {"rows_known_before": 10_000, "expect": {"min_volume_ratio": 0.01}},
        {
            "columns": {"requested_at": "'2115-03-11'"},
            "expect": {"latest": "2115-03-11"},
            "latest": LATEST.replace(year=2115, day=12),
        },
    ],
)
def test_at_the_declared_bound_it_passes(tmp_path, case):
    assert failed(judge(tmp_path, **case)) == {}


def test_every_failure_is_told(tmp_path):
    checks = judge(tmp_path, rows=4, expect={"min_rows": 10}, rows_known_before=100, rows_in_file=5)
    assert checks["volume"].message.count("expected") == 3


@pytest.mark.parametrize(
    "text",
    [
        "2018-08-09",
        "2018-08-09T04:30:00.000",
        "2018/08/09 04:30:00+00",
        "2018-08-09T04:30:00-05:00",
        "08/09/2018 04:30:00 AM",
        "8/9/2018",
        "9-Aug-18",
    ],
)
def test_times_as_portals_write_them_are_read(text):
    found = duckdb.execute(f"select {aggregates.read_time('t')}::date from (select '{text}' as t)").fetchone()
    assert found == (date(2018, 8, 9),)


@pytest.mark.parametrize("text", ["", "infinity", "soon", "20180", "13/45/2018"])
def test_what_is_no_time_is_not_read(text):
    assert duckdb.execute(f"select {aggregates.read_time('t')} from (select '{text}' as t)").fetchone() == (
        None,
    )


def test_great_expectations_is_not_imported_before_it_is_needed():
    code = "import assets.ingest.gate, sys; sys.exit('great_expectations' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(gate.__file__).parents[2]).returncode == 0


def test_the_verdict_is_great_expectations_own(tmp_path, monkeypatch):
    monkeypatch.setattr(gate, "_judge", lambda observed, expectations: [True] * len(expectations))
    assert failed(judge(tmp_path, rows=0)) == {}
