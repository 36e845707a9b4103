"""The volume of a delivery against days like it."""

from datetime import date, datetime, time, timedelta

import pytest

from assets.ingest import gate
from assets.ingest.like_days import Bounds, like_day_expectation, public_holidays
from tests.judged_delivery import failed, judge

#: A Thursday without a holiday around it, and Christmas 2026, a Friday.
THURSDAY, CHRISTMAS = date(2026, 10, 22), date(2026, 12, 25)


def daily(until: date, days: int = 70, working=40, saturday=12, sunday=8):
    """Return one delivery a morning before a day, as many rows as such a day brings."""
    usual = {5: saturday, 6: sunday}
    mornings = [until - timedelta(days=back) for back in range(days, 0, -1)]
    return [(datetime.combine(day, time(6)), usual.get(day.weekday(), working)) for day in mornings]


def judged(tmp_path, day, new_rows, *, hour=12, **case):
    """Judge a delivery of a day, noon UTC unless said otherwise, after ten ordinary weeks."""
    settings = {
        "mode": "incremental",
        "rows_known_before": 5_000,
        "new_rows": new_rows,
        "delivered_at": datetime.combine(day, time(hour)),
        "latest": datetime(2027, 1, 1),  # noqa: DTZ001
        "like_days": daily(day),
    }
    return judge(tmp_path, rows=new_rows or 0, **settings | case)


@pytest.mark.parametrize(
    ("day", "usual"), [(THURSDAY, 40), (date(2026, 10, 24), 12), (date(2026, 10, 25), 8)]
)
def test_a_day_is_compared_with_its_own_class(day, usual):
    assert like_day_expectation(daily(day), day, ()) == Bounds(0.25 * usual, 4 * usual, usual, 8)


def test_with_three_like_days_nothing_is_said():
    saturday = date(2026, 10, 24)
    assert like_day_expectation(daily(saturday, days=27), saturday, ()) == Bounds(days=3)
    assert like_day_expectation(daily(saturday, days=28), saturday, ()) == Bounds(3, 48, 12, 4)


def test_the_newest_eight_count_whatever_the_order():
    history = daily(THURSDAY, days=12, working=100) + daily(THURSDAY - timedelta(days=12), working=1)
    assert like_day_expectation(history[::-1], THURSDAY, ()).usual == 100


def test_one_full_load_does_not_change_what_is_usual():
    history = [*daily(THURSDAY)[:-1], (datetime(2026, 10, 21, 6), 1_000_000)]  # noqa: DTZ001
    assert like_day_expectation(history, THURSDAY, ()).usual == 40


def test_holidays_are_no_like_days():
    week = [THURSDAY - timedelta(days=back) for back in range(1, 15)]
    history = [(at, 0 if at.date() in week else rows) for at, rows in daily(THURSDAY)]
    assert like_day_expectation(history, THURSDAY, week).usual == 40
    assert like_day_expectation(history, THURSDAY, ()).usual == 0


@pytest.mark.parametrize(
    ("new_rows", "warns"), [(0, True), (9, True), (10, False), (40, False), (160, False), (161, True)]
)
def test_far_from_usual_warns_and_never_blocks(tmp_path, new_rows, warns):
    checks = judged(tmp_path, THURSDAY, new_rows)
    assert failed(checks) == ({"volume": False} if warns else {})
    assert not warns or "median 40 of 8 days like it" in checks["volume"].message


@pytest.mark.parametrize("day", [CHRISTMAS, CHRISTMAS + timedelta(days=1), date(2026, 3, 2)])
def test_nothing_new_on_a_public_holiday_or_the_morning_after_is_no_warning(tmp_path, day, monkeypatch):
    """2026-03-02 is Casimir Pulaski Day: a holiday of the state, not of the country."""
    assert failed(judged(tmp_path, day, 0)) == {}
    monkeypatch.setattr(gate, "public_holidays", lambda country, state: frozenset())
    assert failed(judged(tmp_path, day, 0)) == {"volume": False}


def test_too_much_on_a_holiday_warns(tmp_path):
    assert failed(judged(tmp_path, CHRISTMAS, 161)) == {"volume": False}


def test_a_second_run_of_the_same_day_is_no_empty_day(tmp_path):
    morning = (datetime(2026, 10, 22, 11), 38)  # noqa: DTZ001
    assert failed(judged(tmp_path, THURSDAY, 0, like_days=[*daily(THURSDAY), morning])) == {}


def test_the_day_is_the_citys_own(tmp_path):
    """Three in the morning of Sunday UTC is Saturday evening in Chicago: 3 rows are enough for a Saturday."""
    sunday = date(2026, 10, 25)
    case = {"like_days": daily(sunday, working=40, saturday=12, sunday=400)}
    assert failed(judged(tmp_path, sunday, 3, hour=3, **case)) == {}
    assert failed(judged(tmp_path, sunday, 3, hour=12, **case)) == {"volume": False}


@pytest.mark.parametrize(
    "case",
    [
        {"mode": "snapshot"},
        {"mode": "full", "rows_seen": 5_000, "said": {"cadence": "monthly"}},
        {"like_days": []},
        {"said": {"cadence": "hourly"}},
        {"like_days": daily(THURSDAY, working=0)},
    ],
)
def test_what_is_not_compared_with_like_days(tmp_path, case):
    assert failed(judged(tmp_path, THURSDAY, 0, **case)) == {}


def test_new_rows_that_are_not_told_are_not_compared(tmp_path):
    assert failed(judged(tmp_path, THURSDAY, None)) == {}


def test_a_daily_full_delivery_is_compared_by_its_new_rows(tmp_path):
    case = {"mode": "full", "rows_seen": 5_000, "said": {"cadence": "daily"}}
    assert failed(judged(tmp_path, THURSDAY, 0, **case)) == {"volume": False}
    assert failed(judged(tmp_path, THURSDAY, 40, **case)) == {}


def test_an_hourly_feed_is_told_when_it_brings_too_much(tmp_path):
    assert failed(judged(tmp_path, THURSDAY, 161, said={"cadence": "hourly"})) == {"volume": False}


def test_any_row_is_fine_where_most_days_bring_none(tmp_path):
    assert failed(judged(tmp_path, THURSDAY, 7, like_days=daily(THURSDAY, working=0))) == {}


@pytest.mark.parametrize(
    ("country", "state", "is_there"),
    [("US", "IL", True), ("US", "elsewhere", True), ("DE", "BY", True), ("??", "??", False)],
)
def test_a_state_that_is_not_known_has_its_countrys_holidays(country, state, is_there):
    assert (CHRISTMAS in public_holidays(country, state)) is is_there
