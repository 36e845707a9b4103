"""The metric book against an independent implementation on random cohorts; its metrics against the book."""

import csv
import random
import shutil
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from orchestration.dbt_docs import write_catalogue
from orchestration.settings import load_settings

moment = datetime.fromisoformat
TAKEN = moment("2024-07-01 12:00")
MONTHS = [f"2024-0{month}-01" for month in range(1, 7)]
TARGET_DAYS = 7
PROJECT = Path(__file__).parents[3] / "dbt_project"
#: Status of a closed case -> the ending it stands for; the last one tells none.
ENDINGS = {
    "closed": "done",
    "closed_no_action": "no_action",
    "closed_transferred": "transferred",
    "cancelled": "cancelled",
    "unknown": "untold",
}


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


def status_of(number: int, closed: datetime | None) -> str:
    """Return the status of a case of FINE or COARSE: endings unlike in number, and in no order of time."""
    if closed is None:
        return "open"
    return random.Random(number).choices(list(ENDINGS), weights=[8, 3, 2, 2, 1])[0]


def rows_of(cases, shape: str) -> list[dict]:
    return [
        {
            "source_id": str(number),
            "requested_at": opened.strftime(shape),
            "closed_at": closed and closed.strftime(shape),
            "status": status_of(number, closed),
        }
        for number, (opened, closed) in enumerate(cases)
    ]


@pytest.fixture(scope="module")
def home(tiny_lake, dbt):
    lake = tiny_lake("metric_book")
    lake.city("zulu", "UTC")
    shapes = {"fine": (FINE, "%Y-%m-%dT%H:%M:%S", "pothole"), "coarse": (COARSE, "%Y-%m-%d", "graffiti")}
    for feed, (cases, shape, event_type) in shapes.items():
        lake.feed("zulu", feed, "service_request", event_type=event_type, target_days=float(TARGET_DAYS))
        lake.status("zulu", feed, "open", "open")
        for status in (*ENDINGS, "closed_duplicate"):
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
    models = ("+mart_metric_book", "+dim_event_type")
    told = dbt(lake.home, "build", "--select", *models, "--resource-type", "model", "seed")
    assert {name: said for name, said in told.items() if said not in ("success", "no-op")} == {}
    return lake.home


@pytest.fixture(scope="module")
def book(home, rows):
    found = defaultdict(dict)
    for row in rows(home, "select * from operations.mart_metric_book"):
        name = row["event_type"] if row["city"] == "zulu" else f"{row['city']} {row['event_type']}"
        found[name][row["month_on"].isoformat()] = row
    found["waiting"] = rows(
        home,
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


def cohort(event_type: str, month: str) -> tuple[list[float], list[str]]:
    """Return the days and the endings of a month's cases, open ones up to the delivery."""
    is_day = event_type == "graffiti"
    durations, endings = [], []
    for number, (opened, closed) in enumerate(COARSE if is_day else FINE):
        if f"{opened:%Y-%m}" != month[:7]:
            continue
        if is_day:
            days = ((closed or TAKEN).date() - opened.date()).days
        else:
            days = ((closed or TAKEN) - opened).total_seconds() / 86400
        durations.append(days)
        endings.append(ENDINGS.get(status_of(number, closed), "open"))
    return durations, endings


@pytest.mark.parametrize("month", MONTHS)
@pytest.mark.parametrize("event_type", ["pothole", "graffiti"])
def test_durations_are_kaplan_meier(book, month, event_type):
    durations, endings = cohort(event_type, month)
    is_closed = [ending != "open" for ending in endings]
    survival = survival_of(durations, is_closed)
    row = book[event_type][month]
    assert (row["n_timed_closings"], row["n_censored"]) == (sum(is_closed), len(is_closed) - sum(is_closed))
    for column, share in (("km_median_days_to_close", 0.5), ("km_p90_days_to_close", 0.9)):
        assert row[column] == pytest.approx(quantile(survival, share), abs=1e-6), (month, column)
    closed = [days for days, ended in zip(durations, is_closed, strict=True) if ended]
    for column, share in (("closed_only_median_days_to_close", 0.5), ("closed_only_p90_days_to_close", 0.9)):
        assert row[column] == pytest.approx(np.quantile(closed, share, method="inverted_cdf"), abs=1e-6)
    assert row["closed_only_mean_days_to_close"] == pytest.approx(np.mean(closed))


def incidences(durations, endings, horizon: float) -> dict[str, float]:
    """Return Aalen-Johansen's shares ended by the horizon, moment by moment, closings before censorings."""
    share_open, told = 1.0, dict.fromkeys(ENDINGS.values(), 0.0)
    for moment_ in sorted({days for days in durations if days <= horizon}):
        n_at_risk = sum(days >= moment_ for days in durations)
        now = [ending for days, ending in zip(durations, endings, strict=True) if days == moment_]
        for ending in told:
            told[ending] += share_open * now.count(ending) / n_at_risk
        share_open *= 1 - sum(ending != "open" for ending in now) / n_at_risk
    return told | {"open": share_open}


@pytest.mark.parametrize("month", MONTHS)
@pytest.mark.parametrize("event_type", ["pothole", "graffiti"])
def test_endings_that_compete_are_aalen_johansen(book, month, event_type):
    durations, endings = cohort(event_type, month)
    row = book[event_type][month]
    expected = incidences(durations, endings, 30)
    if max(durations) < 30 and "open" in endings:
        assert row["km_open_after_30_days_share"] is None
        assert row["done_within_30_days_share"] is None
        return
    assert row["km_open_after_30_days_share"] == pytest.approx(expected["open"], abs=1e-8)
    for ending in ENDINGS.values():
        assert row[f"{ending}_within_30_days_share"] == pytest.approx(expected[ending], abs=1e-8), ending


def test_censoring_the_other_endings_would_say_more(book):
    """The guard off: one minus Kaplan-Meier of one ending takes cancelled cases for ones yet to be done."""
    durations, endings = cohort("pothole", MONTHS[0])
    survival = survival_of(durations, [ending == "done" for ending in endings])
    naive = 1 - float(survival.evaluate(30))
    assert naive > book["pothole"][MONTHS[0]]["done_within_30_days_share"] + 0.02


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
def test_shares_on_time_count_one_cohort_four_ways_and_the_closings_of_a_month(book, month):
    opened_then = [(opened, closed) for opened, closed in FINE if f"{opened:%Y-%m}" == month[:7]]
    target = timedelta(days=TARGET_DAYS)
    in_time = sum(closed is not None and closed <= opened + target for opened, closed in opened_then)
    n_closed = sum(closed is not None for _, closed in opened_then)
    overdue = sum(closed is None and opened + target < TAKEN for opened, closed in opened_then)
    passed = [(opened, closed) for opened, closed in opened_then if opened + target < TAKEN]
    kept = sum(closed is not None and closed <= opened + target for opened, closed in passed)
    closed_then = [(opened, closed) for opened, closed in FINE if closed and f"{closed:%Y-%m}" == month[:7]]
    row = book["pothole"][month]
    assert (row["n_closed_by_target"], row["n_open_past_target"]) == (in_time, overdue)
    assert row["on_time_closed_only_share"] == pytest.approx(in_time / n_closed)
    assert row["on_time_overdue_open_share"] == pytest.approx(in_time / (n_closed + overdue))
    assert row["on_time_due_share"] == pytest.approx(kept / len(passed))
    assert row["on_time_all_opened_share"] == pytest.approx(in_time / len(opened_then))
    assert row["on_time_closed_in_month_share"] == pytest.approx(
        sum(closed <= opened + target for opened, closed in closed_then) / len(closed_then)
    )


@pytest.mark.parametrize("month", MONTHS)
def test_overdue_cases_are_counted_at_each_end_of_month(book, month):
    end = min(moment(MONTHS[MONTHS.index(month) + 1]) if month != MONTHS[-1] else moment("2024-07-01"), TAKEN)
    target = timedelta(days=TARGET_DAYS)
    overdue = sum(opened + target < end and (closed is None or closed >= end) for opened, closed in FINE)
    assert book["pothole"][month]["overdue_at_end"] == overdue


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


def test_the_catalogue_is_one_page_with_the_descriptions(book, home, monkeypatch):
    # Before the semantic layer opens the warehouse; both variables are set by what runs, and taken back here.
    for name, folder in (("CITYSIGNAL_HOME", home), ("DAGSTER_HOME", home / "dagster")):
        monkeypatch.setenv(name, str(folder))
    # What the build has parsed need not be parsed again.
    (home / "dbt" / "docs").mkdir()
    shutil.copy(home / "dbt" / "partial_parse.msgpack", home / "dbt" / "docs")
    page = write_catalogue(load_settings({"CITYSIGNAL_HOME": str(home)}))
    assert page == home / "docs" / "index.html"
    told = page.read_text(encoding="utf-8")
    assert "near 1 in every young month" in told
    # From the warehouse itself: the relation was found there, with the type of the column.
    assert '"on_time_due_share": {"type": "DOUBLE"' in told


@pytest.fixture(scope="module")
def query(home, tmp_path_factory):
    """Return `mf query`: its own command, without its group, which looks for a newer version on the web."""
    from click.testing import CliRunner
    from dbt_metricflow.cli import main as mf
    from dbt_metricflow.cli.cli_configuration import CLIConfiguration

    from assets.warehouse.dbt_build import release_warehouse

    project = tmp_path_factory.mktemp("metrics")
    (project / "target").mkdir()
    shutil.copy(PROJECT / "dbt_project.yml", project)
    shutil.copy(home / "dbt" / "semantic_manifest.json", project / "target")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CITYSIGNAL_HOME", str(home))
        environment.setenv("DO_NOT_TRACK", "1")
        settings = CLIConfiguration()
        settings.setup(PROJECT, project, configure_file_logging=False)

        def ask(*metrics: str, by: str = "", where: str = "") -> list[dict[str, str]]:
            answer = project / "answer.csv"
            arguments = ["--metrics", ",".join(metrics), "--csv", str(answer), "--quiet"]
            arguments += ["--group-by", by] if by else []
            arguments += ["--where", where] if where else []
            outcome = CliRunner().invoke(mf.query, arguments, obj=settings, catch_exceptions=False)
            assert outcome.exit_code == 0, outcome.output
            with answer.open(encoding="utf-8", newline="") as file:
                return list(csv.DictReader(file))

        try:
            yield ask
        finally:
            release_warehouse()


SHARES = (
    "on_time_closed_only_share",
    "on_time_overdue_open_share",
    "on_time_due_share",
    "on_time_all_opened_share",
    "on_time_closed_in_month_share",
    "closed_only_mean_days_to_close",
)
STOCKS = ("open_at_end", "overdue_at_end")


def numbers(row: dict[str, str], names: tuple[str, ...]) -> list[float | None]:
    return [float(row[name]) if row[name] else None for name in names]


def test_metrics_are_the_marts_own_numbers(book, query):
    """Each figure of each row, asked of the semantic layer by the grain of the mart."""
    names = (*SHARES, *STOCKS, "opened", "closed")
    told = query(*names, by="metric_time__month,city,event_type")
    found = {
        (row["city"], row["event_type"], row["metric_time__month"][:10]): numbers(row, names) for row in told
    }
    expected = {}
    for name, months in book.items():
        if name != "waiting":
            for month, row in months.items():
                values = [None if row[each] is None else float(row[each]) for each in names]
                expected[row["city"], row["event_type"], month] = pytest.approx(values)
    assert found == expected
    assert len(found) > 20


def test_metrics_divide_after_adding_up(book, query):
    """Of a whole city: quotients of sums; a stock is that of each type's last month."""
    rows_ = {name: months for name, months in book.items() if name != "waiting" and " " not in name}
    shares = [
        row["on_time_closed_only_share"]
        for months in rows_.values()
        for row in months.values()
        if row["on_time_closed_only_share"] is not None
    ]
    kept, closed = (
        sum(row[count] for months in rows_.values() for row in months.values())
        for count in ("n_closed_by_target", "n_closed_with_target")
    )
    [told] = query("on_time_closed_only_share", *STOCKS, where="{{ Entity('city') }} = 'zulu'")
    assert float(told["on_time_closed_only_share"]) == pytest.approx(kept / closed)
    for stock in STOCKS:
        assert int(told[stock]) == sum(months[max(months)][stock] or 0 for months in rows_.values())
    # The guard off: the mean of the rows' shares is another number.
    assert abs(sum(shares) / len(shares) - kept / closed) > 0.05


def test_metrics_can_be_grouped_by_what_the_mart_does_not_hold(book, query):
    told = query("opened", by="event_type__event_group", where="{{ Entity('city') }} = 'zulu'")
    found = {row["event_type__event_group"]: int(row["opened"]) for row in told}
    assert found["street"] == sum(row["opened"] for row in book["pothole"].values())
    assert sum(found.values()) == sum(
        row["opened"]
        for name, months in book.items()
        if name != "waiting" and " " not in name
        for row in months.values()
    )
