"""Cursors of portals as text: what is moved or capped is written as the portal wrote it."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.ingest.moments import capped, instant, shifted

CHICAGO = "America/Chicago"


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-02-27T03:03:14.000Z", "2026-02-27T03:03:14"),
        ("2026-02-27T03:03:14.000", "2026-02-27T09:03:14"),
        ("2026-02-27 03:03:14", "2026-02-27T09:03:14"),
        ("2026-02-27", "2026-02-27T06:00:00"),
        ("2026-07-01T00:00:00-05:00", "2026-07-01T05:00:00"),
        ("1772161394000", "2026-02-27T03:03:14"),
        ("1772161394", "2026-02-27T03:03:14"),
    ],
)
def test_what_portals_write_is_an_instant(at, expected):
    assert instant(at, CHICAGO) == datetime.fromisoformat(expected)


@pytest.mark.parametrize("at", ["", "yesterday", "20260227", "02/27/2026", "2026-02-27T03:03:14.000Z; drop"])
def test_what_is_no_time_is_none_and_is_never_moved(at):
    assert instant(at, CHICAGO) is None
    assert shifted(at, timedelta(days=-1)) == at
    assert capped(at, datetime.fromisoformat("2020-01-01"), CHICAGO) == at


@pytest.mark.parametrize(
    ("at", "moved"),
    [
        ("2026-02-27T00:05:00.000Z", "2026-02-26T23:55:00.000Z"),
        ("2026-02-27T00:05:00.1234", "2026-02-26T23:55:00.1234"),
        ("2026-02-27 00:05", "2026-02-26 23:55"),
        ("2026-02-27T00:05:00-05:00", "2026-02-26T23:55:00-05:00"),
        ("1772161394000", "1772160794000"),
        ("1772161394", "1772160794"),
    ],
)
def test_a_moved_cursor_is_written_as_it_was(at, moved):
    assert shifted(at, -timedelta(minutes=10)) == moved


@given(st.datetimes(datetime.fromisoformat("1990-01-01"), datetime.fromisoformat("2100-01-01")))
def test_a_cursor_is_never_capped_to_later_than_it_was_nor_than_the_bound(at):
    until = datetime.fromisoformat("2026-03-01T12:00:00")
    for text in (f"{at:%Y-%m-%dT%H:%M:%S}.000Z", f"{at:%Y-%m-%d %H:%M:%S}", f"{at:%Y-%m-%d}"):
        bound = instant(capped(text, until, CHICAGO), CHICAGO)
        assert bound <= until
        assert bound <= instant(text, CHICAGO)
        if instant(text, CHICAGO) <= until:
            assert capped(text, until, CHICAGO) == text


def test_a_poison_date_in_milliseconds_is_capped():
    until = datetime.fromisoformat("2026-03-01T12:00:00")
    assert capped("4575744000000", until, CHICAGO) == "1772366400000"
