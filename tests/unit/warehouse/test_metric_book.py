"""The metric book's durations and shares against an independent implementation on random cohorts."""

import random
from collections import defaultdict
from datetime import datetime, timedelta

import pytest
from scipy import stats

moment = datetime.fromisoformat
TAKEN = moment("2024-07-01 12:00")
MONTHS = [f"2024-0{month}-01" for month in range(1, 7)]
TARGET_DAYS = 7


def random_cases(seed: int, n: int) -> list[tuple[datetime, datetime | None]]:
    """Return openings and closings, UTC, never at midnight, with ties and with young cases still open."""
    chosen = random.Random(seed)
    cases = []
    for _ in range(n):
        opened = moment("2024-01-01 00:30") + timedelta(hours=chosen.randrange(181 * 24))
        closed = opened + timedelta(hours=int(chosen.expovariate(1 / 400)))
        cases.append((opened, closed if closed < TAKEN else None))
    return cases


#: Told as days, with a target of seven; clocks change on 10 March and 3 November 2024.
WESTERN = [
    {"source_id": f"{number}", "requested_at": opened, "closed_at": closed, "status": "closed"}
    for number, (opened, closed) in enumerate(
        [
            ("2024-03-08", "2024-03-15"),
            ("2024-03-08", "2024-03-16"),
            ("2024-10-30", "2024-11-06T23:30:00"),
            ("2024-10-30", "2024-11-07"),
        ]
    )
] + [{"source_id": "last", "requested_at": "2024-12-31", "status": "open"}]

FINE = random_cases(1, 600)
COARSE = random_cases(2, 400)


def rows_of(cases, shape: str) -> list[dict]:
    return [
        {
            "source_id": str(number),
            "requested_at": opened.strftime(shape),
            "closed_at": closed and closed.strftime(shape),
            "status": "closed" if closed else "open",
        }
        for number, (opened, closed) in enumerate(cases)
    ]


@pytest.fixture(scope="module")
def book(tiny_lake, dbt, rows):
    lake = tiny_lake("metric_book")
    lake.city("zulu", "UTC")
    shapes = {"fine": (FINE, "%Y-%m-%dT%H:%M:%S", "pothole"), "coarse": (COARSE, "%Y-%m-%d", "graffiti")}
    for feed, (cases, shape, event_type) in shapes.items():
        lake.feed("zulu", feed, "service_request", event_type=event_type, target_days=float(TARGET_DAYS))
        lake.status("zulu", feed, "open", "open")
        for status in ("closed", "closed_duplicate"):
            lake.status("zulu", feed, status, status)
        lake.land("zulu", feed, "service_request", TAKEN, rows_of(cases, shape))
    lake.feed("zulu", "odd", "service_request", event_type="rodent")
    lake.status("zulu", "odd", "closed", "closed")
    lake.status("zulu", "odd", "open", "open")
    lake.status("zulu", "odd", "dup", "closed_duplicate")
    said = {"requested_at": "2024-02-10T00:00:01", "status": "closed"}
    odd = [
        said | {"source_id": "timed", "closed_at": "2024-03-02T00:00:01"},
        said | {"source_id": "undated"},
        said | {"source_id": "reversed", "closed_at": "2024-01-05T00:00:01"},
        said | {"source_id": "duplicate", "status": "dup", "closed_at": "2024-02-11T00:00:01"},
        said | {"source_id": "reopened", "status": "open", "closed_at": "2024-02-11T00:00:01"},
        said | {"source_id": "not_yet", "requested_at": "2024-08-01T00:00:01", "status": "open"},
    ]
    lake.land("zulu", "odd", "service_request", TAKEN, odd)
    lake.feed("zulu", "ahead", "service_request", event_type="flooding", target_days=400.0)
    lake.status("zulu", "ahead", "closed", "closed")
    ahead = {"requested_at": "2024-06-20T00:00:01", "status": "closed"}
    lake.land(
        "zulu",
        "ahead",
        "service_request",
        TAKEN,
        [
            ahead | {"source_id": "done", "closed_at": "2024-06-21T00:00:01"},
            ahead | {"source_id": "misdated", "closed_at": "2025-03-01T00:00:00"},
        ],
    )
    # Midnight UTC of the first of January is still December in the city.
    lake.city("western", "America/Chicago")
    lake.feed("western", "days", "service_request", event_type="pothole", target_days=7.0)
    lake.status("western", "days", "open", "open")
    lake.status("western", "days", "closed", "closed")
    lake.land("western", "days", "service_request", moment("2025-01-01 00:00"), WESTERN)
    lake.feed("western", "summer", "service_request", event_type="graffiti")
    lake.status("western", "summer", "open", "open")
    lake.status("western", "summer", "closed", "closed")
    waiting = {"source_id": "waiting", "requested_at": "2024-03-01", "status": "open"}
    done = {"source_id": "done", "requested_at": "2024-03-01", "closed_at": "2024-03-21", "status": "closed"}
    # Midnight in the city, in summer; the requests are of a winter day.
    lake.land("western", "summer", "service_request", moment("2024-03-21 05:00"), [waiting, done])
    lake.write()
    dbt(lake.home, "build", "--select", "+mart_metric_book", "--resource-type", "model", "seed")
    found = defaultdict(dict)
    for row in rows(lake.home, "select * from operations.mart_metric_book"):
        name = row["event_type"] if row["city"] == "zulu" else f"{row['city']} {row['event_type']}"
        found[name][row["month_on"].isoformat()] = row
    found["waiting"] = rows(
        lake.home,
        """select due_at from core.fct_events
           where city = 'western' and feed = 'days' order by source_id""",
    )
    return found


def quantile(survival, share: float) -> float | None:
    reached = survival.quantiles[survival.probabilities <= 1 - share + 1e-12]
    return float(reached.min()) if len(reached) else None


def survival_of(durations, is_closed):
    closed = [days for days, ended in zip(durations, is_closed, strict=True) if ended]
    still_open = [days for days, ended in zip(durations, is_closed, strict=True) if not ended]
    return stats.ecdf(stats.CensoredData(uncensored=closed, right=still_open)).sf


@pytest.mark.parametrize("month", MONTHS)
@pytest.mark.parametrize("event_type", ["pothole", "graffiti"])
def test_durations_are_kaplan_meier(book, month, event_type):
    is_day = event_type == "graffiti"
    durations, is_closed = [], []
    for opened, closed in COARSE if is_day else FINE:
        if f"{opened:%Y-%m}" != month[:7]:
            continue
        if is_day:
            days = ((closed or TAKEN).date() - opened.date()).days
        else:
            days = ((closed or TAKEN) - opened).total_seconds() / 86400
        durations.append(days)
        is_closed.append(closed is not None)
    survival = survival_of(durations, is_closed)
    row = book[event_type][month]
    assert (row["n_timed_closings"], row["n_censored"]) == (sum(is_closed), len(is_closed) - sum(is_closed))
    for column, share in (("km_median_days_to_close", 0.5), ("km_p90_days_to_close", 0.9)):
        assert row[column] == pytest.approx(quantile(survival, share), abs=1e-6), (month, column)


def test_a_quantile_that_was_not_reached_is_null(book):
    values = [row["km_p90_days_to_close"] for row in book["pothole"].values()]
    assert None in values
    assert any(value is not None for value in values)


def test_closed_only_numbers_would_be_shorter(book):
    """The guard off: leaving the open cases out shortens the youngest months, which is why they are in."""
    month = MONTHS[-2]
    closed = sorted(
        (closed - opened).total_seconds() / 86400
        for opened, closed in FINE
        if closed and f"{opened:%Y-%m}" == month[:7]
    )
    assert closed[len(closed) // 2] < book["pothole"][month]["km_median_days_to_close"]


@pytest.mark.parametrize("month", MONTHS)
def test_shares_on_time_count_one_cohort_two_ways(book, month):
    cohort = [(opened, closed) for opened, closed in FINE if f"{opened:%Y-%m}" == month[:7]]
    target = timedelta(days=TARGET_DAYS)
    in_time = sum(closed is not None and closed <= opened + target for opened, closed in cohort)
    n_closed = sum(closed is not None for _, closed in cohort)
    overdue = sum(closed is None and opened + target < TAKEN for opened, closed in cohort)
    row = book["pothole"][month]
    assert (row["n_closed_by_target"], row["n_open_past_target"]) == (in_time, overdue)
    assert row["on_time_closed_only_share"] == pytest.approx(in_time / n_closed)
    assert row["on_time_overdue_open_share"] == pytest.approx(in_time / (n_closed + overdue))


def test_a_day_told_without_its_time_is_in_time_until_its_end(book):
    in_time = sum(
        closed is not None and (closed.date() - opened.date()).days <= TARGET_DAYS
        for opened, closed in COARSE
    )
    assert sum(row["n_closed_by_target"] for row in book["graffiti"].values()) == in_time


@pytest.mark.parametrize("month", MONTHS)
def test_stocks_and_flows_are_counted_by_calendar_month(book, month):
    after = moment(MONTHS[MONTHS.index(month) + 1]) if month != MONTHS[-1] else moment("2024-07-01")
    row = book["pothole"][month]
    assert row["opened"] == sum(f"{opened:%Y-%m}" == month[:7] for opened, _ in FINE)
    assert row["closed"] == sum(closed is not None and f"{closed:%Y-%m}" == month[:7] for _, closed in FINE)
    assert row["open_at_end"] == sum(
        opened < after and (closed is None or closed >= after) for opened, closed in FINE
    )


def test_odd_cases_are_counted_apart_and_shorten_nothing(book):
    february = book["rodent"]["2024-02-01"]
    assert february["opened"] == 4
    assert february["n_timed_closings"] == 1
    assert february["n_closed_without_date"] == 1
    assert february["n_closed_before_opened"] == 1
    # A closing date on a case that the source calls open does not count.
    assert february["n_censored"] == 1
    assert february["km_median_days_to_close"] == pytest.approx(21)
    assert february["on_time_closed_only_share"] is None
    assert {month: (row["closed"], row["open_at_end"]) for month, row in book["rodent"].items()} == {
        "2024-02-01": (0, 2),
        "2024-03-01": (1, 1),
        **dict.fromkeys(("2024-04-01", "2024-05-01", "2024-06-01", "2024-07-01"), (0, 1)),
    }


@pytest.mark.parametrize("month", ["2024-03-01", "2024-10-01"])
def test_a_target_in_days_ends_with_a_day_of_the_city_also_when_clocks_change(book, month):
    """An hour more calls a closing on the eighth day timely, an hour less one on the seventh evening late."""
    row = book["western pothole"][month]
    assert (row["n_closed_with_target"], row["n_closed_by_target"]) == (2, 1)
    due = [row["due_at"] for row in book["waiting"]][:4]
    assert due == [moment("2024-03-16 04:59:59")] * 2 + [moment("2024-11-07 05:59:59")] * 2


def test_a_month_that_has_not_begun_in_the_city_is_not_in_the_book(book):
    assert max(book["western pothole"]) == "2024-12-01"
    assert book["western pothole"]["2024-12-01"]["open_at_end"] == 1


def test_waiting_is_counted_in_days_of_the_city(book):
    """Twenty days, an hour shorter by the clock change: both cases are at risk on day 20, one is closed."""
    row = book["western graffiti"]["2024-03-01"]
    assert (row["n_timed_closings"], row["n_censored"]) == (1, 1)
    assert row["km_median_days_to_close"] == pytest.approx(20)
    # Censored at 19, the open case would not be at risk, and the cohort would look finished.
    assert row["km_p90_days_to_close"] is None


def test_a_closing_after_the_delivery_is_no_closing_date(book):
    june = book["flooding"]["2024-06-01"]
    assert (june["opened"], june["closed"]) == (2, 1)
    assert (june["n_timed_closings"], june["n_closed_without_date"]) == (1, 1)
    assert (june["n_closed_with_target"], june["n_closed_by_target"]) == (1, 1)
    assert june["km_p90_days_to_close"] == pytest.approx(1)
    assert {month: row["open_at_end"] for month, row in book["flooding"].items()} == {
        "2024-06-01": 0,
        "2024-07-01": 0,
    }
