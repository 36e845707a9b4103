"""What the gate makes of a delivery that is not the whole part: a delta, a tail, a snapshot."""

import pytest

from assets.ingest import gate
from tests.judged_delivery import failed, judge

UNREADABLE = {"columns": {"requested_at": "'Tuesday'"}}
OUTSIDE = {"columns": {"requested_at": "'2115-03-11'"}}
CHANGED = {"mode": "incremental", "rows_known_before": 5_000, "expect": {"min_rows": 1_000}}


@pytest.mark.parametrize("mode", ["incremental", "tail"])
def test_a_delta_is_small_and_the_part_it_leads_to_is_judged(tmp_path, mode):
    assert failed(judge(tmp_path, rows=3, new_rows=1, **CHANGED | {"mode": mode})) == {}


def test_the_same_rows_as_a_whole_part_are_blocked(tmp_path):
    checks = judge(tmp_path, rows=3, new_rows=1, **CHANGED | {"mode": "full"})
    assert failed(checks) == {"volume": True}
    assert checks["volume"].message.count("expected") == 2


@pytest.mark.parametrize("mode", ["incremental", "tail"])
def test_nothing_new_since_the_last_time_is_no_failure(tmp_path, mode):
    expect = {"min_rows": 1_000, "min_location_share": 0.9, "max_null_share": {"quantity": 0.1}}
    case = CHANGED | {"mode": mode, "expect": expect}
    assert failed(judge(tmp_path, rows=0, new_rows=0, rows_in_file=0, **case)) == {}


def test_a_part_that_stays_too_small_is_told_of_a_delta_too(tmp_path):
    case = CHANGED | {"rows_known_before": 998}
    assert failed(judge(tmp_path, rows=3, new_rows=1, **case)) == {"volume": True}
    assert failed(judge(tmp_path, rows=3, new_rows=2, **case)) == {}


@pytest.mark.parametrize(("said", "expected"), [({}, {}), ({"min_rows": 1}, {"volume": True})])
def test_an_empty_snapshot_is_an_answer_unless_the_declaration_says_otherwise(tmp_path, said, expected):
    checks = judge(tmp_path, rows=0, mode="snapshot", rows_known_before=40, expect=said)
    assert failed(checks) == expected


def test_a_snapshot_of_one_outage_after_forty_is_no_lost_volume(tmp_path):
    assert failed(judge(tmp_path, rows=1, mode="snapshot", rows_known_before=40)) == {}
    assert failed(judge(tmp_path, rows=1, mode="full", rows_known_before=40)) == {"volume": True}


def test_every_record_of_a_delta_is_accounted_for(tmp_path):
    assert failed(judge(tmp_path, rows=3, rows_in_file=4, **CHANGED)) == {"volume": True}


@pytest.mark.parametrize(
    ("case", "check"),
    [(UNREADABLE, "time_range"), (OUTSIDE, "time_range"), ({"quarantined": 9}, "null_share")],
)
@pytest.mark.parametrize("mode", ["incremental", "tail", "snapshot"])
def test_a_share_of_few_rows_warns_and_of_many_blocks(tmp_path, case, check, mode):
    received = gate.FEW_ROWS - case.get("quarantined", 0)
    settings = {"mode": mode, "rows_known_before": 5_000} | case
    assert failed(judge(tmp_path, rows=received - 1, **settings)) == {check: False}
    assert failed(judge(tmp_path, rows=received, **settings)) == {check: True}


@pytest.mark.parametrize("case", [UNREADABLE, OUTSIDE])
def test_a_whole_part_of_few_rows_blocks(tmp_path, case):
    assert failed(judge(tmp_path, rows=gate.FEW_ROWS - 1, mode="full", **case)) == {"time_range": True}


def test_without_the_line_between_few_and_many_a_single_poison_date_stops_a_feed(tmp_path, monkeypatch):
    case = CHANGED | {"columns": {"requested_at": "case when i = 0 then '2115-03-11' else '2026-01-02' end"}}
    assert failed(judge(tmp_path, rows=3, **case)) == {"time_range": False}
    monkeypatch.setattr(gate, "FEW_ROWS", 0)
    assert failed(judge(tmp_path, rows=3, **case)) == {"time_range": True}


def test_a_rarely_filled_column_is_not_told_of_a_handful_of_rows(tmp_path):
    empty = {"columns": {"quantity": "null"}}
    assert failed(judge(tmp_path, rows=3, **CHANGED, **empty)) == {}
    checks = judge(tmp_path, rows=gate.FEW_ROWS, **CHANGED, **empty)
    assert failed(checks) == {"schema": False}
    assert "quantity" in checks["schema"].message


@pytest.mark.parametrize(("declared", "blocks"), [(0.0, True), (0.01, False)])
def test_one_row_without_an_id_among_few_blocks_only_where_none_is_allowed(tmp_path, declared, blocks):
    case = CHANGED | {"expect": {"max_key_null_share": declared}}
    checks = judge(tmp_path, rows=10, columns={"source_id": "nullif(i, 0)"}, **case)
    assert failed(checks) == {"key": blocks}
