"""Ranges that the publisher's steward says not to use are kept and are not judged."""

import pytest

from tests.judged_delivery import failed, judge

#: Half the rows lie in a range that the steward has given up: no quantity, no place, impossible values.
HALF = "i < 50"
BROKEN = {
    "requested_at": f"case when {HALF} then '2020-05-01' else '2026-01-02' end",
    "quantity": f"case when i < 25 then null when {HALF} then -1 else i end",
    "location_quality": f"case when {HALF} then 'missing' else 'ok' end",
}
EXPECT = {
    "earliest": "2025-01-01",
    "max_null_share": {"quantity": 0.1},
    "value_ranges": {"quantity": [0, 99]},
    "min_location_share": 0.9,
}
FAILS = {"null_share": False, "value_range": False, "time_range": True}


def excluding(*ranges):
    return {"exclude": [{"reason": "The old system lost its sensor.", **each} for each in ranges]}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, FAILS),
        (excluding({"since": "2020-01-01", "until": "2021-01-01"}), {}),
        (excluding({"until": "2020-05-02"}), {}),
        (excluding({"since": "2020-05-01", "until": "2020-05-01"}), FAILS),
        (excluding({"until": "2020-05-01"}), FAILS),
        (excluding({"since": "2020-05-02", "until": "2025-01-01"}), FAILS),
        (excluding({"since": "2030-01-01"}, {"since": "2020-05-01", "until": "2020-05-02"}), {}),
        (excluding({}), {}),
    ],
)
def test_rows_in_an_excluded_range_are_not_judged(tmp_path, said, expected):
    assert failed(judge(tmp_path, columns=BROKEN, expect=EXPECT, said=said)) == expected


def test_they_still_count_as_rows_and_need_an_id(tmp_path):
    said = excluding({"until": "2021-01-01"})
    columns = BROKEN | {"source_id": "nullif(i, 0)"}
    checks = judge(tmp_path, columns=columns, expect=EXPECT | {"min_rows": 101}, said=said)
    assert failed(checks) == {"key": True, "volume": True}


def test_a_row_whose_time_cannot_be_read_lies_in_no_range(tmp_path):
    said = excluding({"until": "2021-01-01"})
    columns = {"requested_at": "case when i < 60 then 'Tuesday' else '2026-01-02' end"}
    assert failed(judge(tmp_path, columns=columns, said=said)) == {"time_range": True}
