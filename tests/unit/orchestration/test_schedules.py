"""Feeds are fetched by the clock of their city."""

from datetime import datetime
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from assets.ingest.feed import load_cities
from orchestration.schedules import CRON, build_schedules


@pytest.fixture
def schedules(declare):
    declare("tinyville", zone="America/Chicago", cadence="daily")
    declare("portlet", zone="America/Chicago", cadence="daily")
    declare("easton", zone="America/New_York", cadence="weekly")
    folder = declare("oldtown", zone="America/New_York", cadence="once")
    return {schedule.name: schedule for schedule in build_schedules(load_cities([folder], {}))}


def test_one_schedule_per_cadence_and_time_zone_none_for_once(schedules):
    assert set(schedules) == {"daily_america_chicago", "weekly_america_new_york"}
    assert "portlet, tinyville" in schedules["daily_america_chicago"].description


def test_schedule_ticks_at_the_citys_wall_clock_summer_and_winter(schedules):
    schedule = schedules["daily_america_chicago"]
    assert schedule.execution_timezone == "America/Chicago"
    zone = ZoneInfo("America/Chicago")
    for day in (datetime(2026, 1, 10, tzinfo=zone), datetime(2026, 7, 10, tzinfo=zone)):
        tick = next(ticks(schedule, day))
        assert (tick.astimezone(zone).hour, tick.astimezone(zone).minute) == (5, 37)


def ticks(schedule: dg.ScheduleDefinition, start: datetime):
    from dagster._utils.schedules import schedule_execution_time_iterator

    return schedule_execution_time_iterator(
        start.timestamp(), schedule.cron_schedule, schedule.execution_timezone
    )


def test_schedules_of_real_cities_run_and_of_simulated_ones_do_not(schedules, declare):
    assert schedules["daily_america_chicago"].default_status == dg.DefaultScheduleStatus.RUNNING
    folder = declare("tinyville")
    city = folder / "tinyville" / "_city.yaml"
    city.write_text(city.read_text() + "is_simulated: true\n")
    built = {schedule.name: schedule for schedule in build_schedules(load_cities([folder], {}))}
    assert built["daily_america_chicago_simulated"].default_status == dg.DefaultScheduleStatus.STOPPED


def test_every_cadence_but_once_has_a_rhythm():
    from typing import get_args

    from assets.ingest.feed import Feed

    assert {*CRON, "once"} == set(get_args(Feed.model_fields["cadence"].annotation))
