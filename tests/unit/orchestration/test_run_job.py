"""A run of the command line is alone on its home, is recorded like any other, and reports what failed."""

import subprocess
import sys
import time

import dagster as dg
import pytest

import orchestration.run_job
from orchestration.run_job import BusyError, held, run_job, settle
from orchestration.settings import REPOSITORY


@dg.asset(check_specs=[dg.AssetCheckSpec("plausible", asset="good")])
def good():
    severity = dg.AssetCheckSeverity.ERROR
    check = dg.AssetCheckResult(
        passed=False, check_name="plausible", severity=severity, description="half is gone"
    )
    return dg.MaterializeResult(check_results=[check])


@dg.asset(deps=[good])
def bad() -> None:
    raise dg.Failure("models/a.sql: a: 3 rows")


@pytest.fixture
def definitions():
    job = dg.define_asset_job("everything", selection=dg.AssetSelection.all())
    return dg.Definitions(assets=[good, bad], jobs=[job], executor=dg.in_process_executor)


def test_run_is_recorded_under_the_code_location(definitions, instance):
    seen = []
    report = run_job(definitions, instance, "everything", [good.key], on_event=seen.append)
    run = instance.get_run_by_id(report.run_id)
    assert report.succeeded
    assert run.status == dg.DagsterRunStatus.SUCCESS
    assert run.job_name == "everything"
    assert run.asset_selection == {good.key}
    assert run.remote_job_origin.location_name == "citysignal"
    assert run.tags["dagster/max_retries"] == "0"
    assert dg.DagsterEventType.ASSET_MATERIALIZATION in {event.event_type for event in seen}


def test_failed_check_is_reported_and_does_not_stop_the_run(definitions, instance):
    report = run_job(definitions, instance, "everything", [good.key])
    [check] = report.failed_checks
    assert (check.asset, check.check, check.is_error, check.message) == (
        ("good",),
        "plausible",
        True,
        "half is gone",
    )
    assert (report.succeeded, report.checks) == (True, 1)


def test_failed_step_is_reported_in_its_own_words(definitions, instance):
    report = run_job(definitions, instance, "everything", [good.key, bad.key])
    assert not report.succeeded
    assert report.failures == [("bad", "models/a.sql: a: 3 rows")]


HOLD = """
import sys
from pathlib import Path
from orchestration.settings import load_settings
from orchestration.run_job import held
with held(load_settings({"CITYSIGNAL_HOME": sys.argv[1]})):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(settings):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(settings.home)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_second_run_is_told_who_holds_the_home(settings, holder):
    with (
        pytest.raises(
            BusyError, match=rf"process {holder.pid} \(since .*UTC\) is at work on {settings.home}"
        ),
        held(settings),
    ):
        pytest.fail("two runs at once")


def test_killed_holder_holds_nothing(settings, holder):
    holder.kill()
    holder.wait()
    with held(settings):
        pass


def test_run_of_the_fast_lane_is_waited_for(settings, definitions, instance, monkeypatch):
    job = definitions.resolve_job_def("everything")
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    monkeypatch.setattr(orchestration.run_job, "FAST_LANE", job.name)
    monkeypatch.setattr(time, "sleep", lambda seconds: instance.report_run_canceled(run))
    assert settle(settings, instance) == []
    assert instance.get_run_by_id(run.run_id).is_finished


def test_run_of_the_fast_lane_that_does_not_end_is_named(settings, definitions, instance, monkeypatch):
    job = definitions.resolve_job_def("everything")
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    monkeypatch.setattr(orchestration.run_job, "FAST_LANE", job.name)
    monkeypatch.setattr(orchestration.run_job, "FAST_RUN_SECONDS", 0.2)
    with pytest.raises(BusyError, match=run.run_id):
        settle(settings, instance)


def test_run_of_the_ui_is_waited_for_by_name(settings, definitions, instance):
    job = definitions.resolve_job_def("everything")
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    with pytest.raises(BusyError, match=f"run {run.run_id}, started from the UI"):
        settle(settings, instance)
    instance.report_run_failed(run)
    assert settle(settings, instance) == []
