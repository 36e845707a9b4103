"""A range of days is fetched again month by month from the UI, and at once from the command line."""

from datetime import date

import dagster as dg
import pytest
from typer.testing import CliRunner

from assets.ingest import landing
from assets.ingest.clock import Clock
from assets.ingest.feed import load_cities
from assets.ingest.raw_tables import raw_key
from orchestration.backfill import backfill_job, is_backfilled
from orchestration.cli import app

SOURCE = "https://data.example.org/resource/abcd-1234"


@pytest.fixture
def asked(monkeypatch, receipt):
    """What landing was asked for; `outcome` is what becomes of it."""
    calls = []

    def backfill_feed(lake, city, feed, *, since, until, now, progress=None):
        calls.append((feed.id, since, until))
        said = {"rows_in_file": 9, "rows_new": 2, "rows_raw": 2, "rows_unchanged": 7}
        if calls[0] == "failed":
            said = {"error_type": "Unauthorised", "message": "example.org answered HTTP 403; renew the token"}
        return [receipt(len(calls), calls[0] if calls[0] == "failed" else "landed", **said)]

    monkeypatch.setattr(landing, "backfill_feed", backfill_feed, raising=False)
    return calls


@pytest.fixture
def city(declare):
    return load_cities([declare("tinyville", portal="socrata", source=SOURCE)], {})["tinyville"]


def month(city, settings, instance, key: str) -> dg.ExecuteInProcessResult:
    return backfill_job(city, city.feeds["requests"]).execute_in_process(
        instance=instance,
        partition_key=key,
        resources={"lake": settings.lake, "clock": Clock(settings.fixed_now)},
        raise_on_error=False,
    )


def test_a_partition_is_a_month_up_to_the_first_day_after_it(city, settings, instance, asked):
    result = month(city, settings, instance, "2024-02-01")
    assert result.success
    assert asked == [("requests", date(2024, 2, 1), date(2024, 3, 1))]
    record = instance.get_latest_materialization_event(raw_key("tinyville", "requests"))
    metadata = record.asset_materialization.metadata
    assert (metadata["rows_raw"].value, metadata["since"].value) == (2, "2024-02-01")


def test_a_month_that_did_not_arrive_is_a_failed_run_with_the_reason(city, settings, instance, asked):
    asked.append("failed")
    result = month(city, settings, instance, "2024-02-01")
    assert not result.success
    [failure] = [event for event in result.all_events if event.is_step_failure]
    assert failure.step_failure_data.user_failure_data.description == (
        "all failed: example.org answered HTTP 403 -> renew the token"
    )


def test_a_range_of_the_ui_covers_the_months_from_the_first_record_to_now(city):
    feed = city.feeds["requests"]
    keys = backfill_job(city, feed).partitions_def.get_partition_keys()
    assert keys[0] == "2010-01-01"
    assert date.fromisoformat(keys[-1]) >= date.today().replace(day=1)  # noqa: DTZ011
    said = feed.expect.model_copy(update={"earliest": date(2019, 7, 14)})
    later = backfill_job(city, feed.model_copy(update={"expect": said})).partitions_def
    assert later.get_partition_keys()[0] == "2019-07-01"


@pytest.mark.parametrize(
    ("kind", "portal", "is_asked"),
    [
        ("service_request", "socrata", True),
        ("service_request", "open311", True),
        ("service_request", "files", False),
        ("service_request", "outages", False),
        ("asset", "arcgis", False),
    ],
)
def test_only_events_behind_a_portal_that_answers_by_day_are_asked(declare, kind, portal, is_asked):
    feeds = load_cities([declare("tinyville", kind=kind, portal=portal, source=SOURCE)], {})[
        "tinyville"
    ].feeds
    assert is_backfilled(feeds["requests"]) == is_asked


@pytest.fixture
def citysignal(monkeypatch, settings, tmp_path):
    monkeypatch.setenv("CITYSIGNAL_HOME", str(settings.home))
    monkeypatch.setenv("CITYSIGNAL_CITIES", str(tmp_path / "cities"))
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


RANGE = ("--since", "2024-02-03", "--until", "2024-02-10")


def test_the_command_lands_the_days_and_says_what_came(citysignal, city, asked):
    result = citysignal("backfill", "tinyville", "requests", *RANGE)
    assert result.exit_code == 0, result.output
    assert asked == [("requests", date(2024, 2, 3), date(2024, 2, 10))]
    [line] = [line for line in result.stdout.splitlines() if line.startswith("│ all")]
    assert [cell.strip() for cell in line.strip("│").split("│")] == ["all", "landed", "9", "2", "0", "7", "0"]


def test_the_command_tells_why_a_part_did_not_arrive(citysignal, city, asked):
    asked.append("failed")
    result = citysignal("backfill", "tinyville", "requests", *RANGE)
    assert result.exit_code == 1
    assert "all failed: example.org answered HTTP 403 -> renew the token" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("tinyville", "requests", "--since", "2024-02-03", "--until", "2024-02-03"),
            "is not before --until",
        ),
        (("tinyville", "request", *RANGE), "did you mean requests?"),
        (("tinyville", "hydrants", *RANGE), "tinyville/hydrants cannot be asked by day"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(citysignal, declare, city, arguments, said):
    declare("tinyville", feed="hydrants", kind="asset")
    result = citysignal("backfill", *arguments)
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
