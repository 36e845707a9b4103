"""Feeds are fetched by the clock of their city, one schedule per cadence, while the city is in use."""

from datetime import datetime
from typing import get_args
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from assets.ingest.feed import Feed, load_cities
from orchestration.schedules import RHYTHM, build_schedules, minute_of


@pytest.fixture
def built(declare, settings):
    """Return the schedules of what was declared so far, by name."""

    def build(folder) -> dict[str, dg.ScheduleDefinition]:
        return {one.name: one for one in build_schedules(load_cities([folder], {}), settings.lake)}

    return build


@pytest.fixture
def schedules(declare, built):
    declare("tinyville", zone="America/Chicago", cadence="daily")
    declare("tinyville", feed="calls", cadence="hourly")
    declare("portlet", zone="America/Chicago", cadence="daily")
    declare("easton", zone="America/New_York", cadence="weekly")
    return built(declare("oldtown", zone="America/New_York", cadence="once"))


def tick(schedule: dg.ScheduleDefinition, instance: dg.DagsterInstance):
    return schedule.evaluate_tick(dg.build_schedule_context(instance=instance))


def test_one_schedule_per_city_and_cadence_none_for_once(schedules):
    assert set(schedules) == {"daily_tinyville", "hourly_tinyville", "daily_portlet", "weekly_easton"}
    assert schedules["hourly_tinyville"].description == "Tinyville, hourly: calls"


def test_schedule_ticks_at_the_citys_wall_clock_summer_and_winter(schedules):
    schedule = schedules["daily_tinyville"]
    assert schedule.execution_timezone == "America/Chicago"
    zone = ZoneInfo("America/Chicago")
    for day in (datetime(2026, 1, 10, tzinfo=zone), datetime(2026, 7, 10, tzinfo=zone)):
        moment = next(ticks(schedule, day)).astimezone(zone)
        assert (moment.hour, moment.minute) == (5, minute_of("tinyville", "daily"))


def ticks(schedule: dg.ScheduleDefinition, start: datetime):
    from dagster._utils.schedules import schedule_execution_time_iterator

    return schedule_execution_time_iterator(
        start.timestamp(), schedule.cron_schedule, schedule.execution_timezone
    )


def test_schedules_do_not_begin_together(schedules):
    minutes = {minute_of(f"city{number}", cadence) for number in range(10) for cadence in RHYTHM}
    assert len(minutes) > 30, "sixty schedules use most of the hour"
    assert minute_of("chicago", "daily") == minute_of("chicago", "daily")
    assert len({schedule.cron_schedule.split()[0] for schedule in schedules.values()}) == len(schedules)


def test_a_tick_launches_for_a_city_in_use_and_for_no_other(schedules, use, instance):
    use("tinyville")
    assert len(tick(schedules["daily_tinyville"], instance).run_requests) == 1
    skipped = tick(schedules["daily_portlet"], instance)
    assert skipped.run_requests == []
    assert skipped.skip_message == (
        "Tinyville is not in use; `citysignal run --city portlet` begins with it."
    )


def test_a_city_comes_into_use_while_its_schedule_runs(schedules, use, instance):
    schedule = schedules["daily_portlet"]
    assert tick(schedule, instance).run_requests == []
    use("portlet")
    assert len(tick(schedule, instance).run_requests) == 1


def test_schedules_of_real_cities_run_and_of_simulated_ones_do_not(schedules, declare, built):
    assert schedules["daily_tinyville"].default_status == dg.DefaultScheduleStatus.RUNNING
    stopped = built(declare("tinyville", is_simulated=True))["daily_tinyville"]
    assert stopped.default_status == dg.DefaultScheduleStatus.STOPPED


def test_every_cadence_but_once_has_a_rhythm():
    assert {*RHYTHM, "once"} == set(get_args(Feed.model_fields["cadence"].annotation))
