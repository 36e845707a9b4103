import string

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.publish.privacy import PATTERNS, PersonalDataError, refuse_personal_data, suspect_condition

PERSONAL = [
    "ask ann.example+311@mail.example.org today",
    "312-555-0100",
    "(312) 555-0100",
    "call (312)555-0100.",
    "tel:312.555.0100,",
    "+1 312 555 0100",
    "1-312-555-0100",
    "+442079460958",
    "+44 20 7946 0958",
    "a@b.co 312-555-0100",
]
HARMLESS = [
    "14-28-200-001-0000",
    "SR20-01234567",
    "3125550100",
    "123 N STATE ST, APT 45",
    "2026-01-02 03:04:05.123",
    "41.8781-87.6298",
    "@ corner of 5th and Main",
    "0123-456-7890",
    "60602-1234",
    "",
    None,
]


def scan(folder, values):
    path = folder / "data.parquet"
    connection = duckdb.connect()
    connection.execute("create table data (clean varchar, value varchar)")
    connection.executemany("insert into data values ('clean', ?)", [[value] for value in values])
    connection.execute(f"copy data to '{path}'")
    refuse_personal_data(connection, path, ["clean", "value"])


@pytest.mark.parametrize("value", PERSONAL)
def test_personal_data_block_with_file_column_and_row(tmp_path, value):
    with pytest.raises(PersonalDataError, match=r"^data\.parquet, column value: what looks like") as caught:
        scan(tmp_path, [*HARMLESS, value])
    assert f"in row {len(HARMLESS) + 1} (1 such rows)" in str(caught.value)
    assert value not in str(caught.value), "the message must not repeat what it keeps from publication"


def test_harmless_text_passes(tmp_path):
    scan(tmp_path, HARMLESS)


def test_no_text_columns_is_nothing_to_scan(tmp_path):
    refuse_personal_data(duckdb.connect(), tmp_path / "absent.parquet", [])


ALPHABET = string.digits + "-. ()+@ax"


@given(st.lists(st.text(alphabet=ALPHABET, min_size=8, max_size=24), min_size=1, max_size=50))
@settings(max_examples=50, deadline=None)
def test_cheap_tests_before_the_patterns_lose_nothing(values):
    either = "|".join(f"({pattern})" for pattern in PATTERNS.values())
    different = duckdb.execute(
        "from (select unnest(?::varchar[]) as value) "
        f"where ({suspect_condition('value')}) <> regexp_matches(value, ?)",
        [[*values, *(value for value in PERSONAL + HARMLESS if value)], either],
    ).fetchall()
    assert different == []
