"""Where the run history lies, and what becomes of runs whose process is gone."""

import os
import socket
import subprocess
import sys

import dagster as dg
import pytest
import yaml

from orchestration.instance import (
    HOST_TAG,
    PID_TAG,
    is_alive,
    prepare_dagster_home,
    release_dead_runs,
    runs_in_progress,
)
from orchestration.settings import REPOSITORY


@dg.job
def something():
    pass


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    return process.pid


def started(instance: dg.DagsterInstance, pid: int, host: str | None = None) -> dg.DagsterRun:
    tags = {PID_TAG: str(pid), HOST_TAG: host or socket.gethostname()}
    return instance.create_run_for_job(something, tags=tags, status=dg.DagsterRunStatus.STARTED)


@pytest.fixture
def home(settings, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", "")
    return prepare_dagster_home(settings)


def test_home_gets_a_config_with_absolute_folders_and_no_telemetry(settings, home):
    config = yaml.safe_load((home / "dagster.yaml").read_text())
    assert home == settings.home / "dagster"
    assert os.environ["DAGSTER_HOME"] == str(home)
    assert config["storage"]["sqlite"]["base_dir"] == str(home)
    assert config["telemetry"] == {"enabled": False}
    assert config["nux"] == {"enabled": False}
    assert config["concurrency"]["pools"] == {"default_limit": 1, "granularity": "op"}


def test_default_home_is_the_history_that_dagster_dev_finds_without_any_variable():
    config = yaml.safe_load((REPOSITORY / "dagster.yaml").read_text())
    folders = {
        config["storage"]["sqlite"]["base_dir"],
        config["local_artifact_storage"]["config"]["base_dir"],
    }
    assert folders == {"var/dagster"}


def test_instance_of_the_home_keeps_runs_in_it(home):
    with dg.DagsterInstance.get() as instance:
        run = instance.create_run_for_job(something)
    with dg.DagsterInstance.get() as again:
        assert again.get_run_by_id(run.run_id) is not None
    assert (home / "history" / "runs.db").exists()


def test_run_of_a_dead_process_is_failed_and_its_slot_freed(home):
    with dg.DagsterInstance.get() as instance:
        run = started(instance, dead_pid())
        storage = instance.event_log_storage
        storage.initialize_concurrency_limit_to_default("duckdb_write")
        assert storage.claim_concurrency_slot("duckdb_write", run.run_id, "warehouse").is_claimed
        other = started(instance, os.getpid())
        assert not storage.claim_concurrency_slot("duckdb_write", other.run_id, "warehouse").is_claimed

        assert release_dead_runs(instance, holds_run_lock=False) == [run.run_id]

        assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE
        assert storage.claim_concurrency_slot("duckdb_write", other.run_id, "warehouse").is_claimed


def test_run_of_a_living_process_is_left_alone(instance):
    run = started(instance, os.getpid())
    assert release_dead_runs(instance, holds_run_lock=False) == []
    assert [one.run_id for one in runs_in_progress(instance)] == [run.run_id]


def test_holder_of_the_lock_knows_that_a_reused_pid_is_not_the_run(instance):
    run = started(instance, os.getpid())
    assert release_dead_runs(instance, holds_run_lock=True) == [run.run_id]


def test_run_of_another_machine_is_not_judged_by_this_ones_processes(instance):
    started(instance, dead_pid(), host="another-machine")
    assert release_dead_runs(instance, holds_run_lock=False) == []


def test_run_that_the_ui_launched_is_judged_by_the_process_it_noted(instance):
    run = instance.create_run_for_job(something, status=dg.DagsterRunStatus.STARTED)
    assert release_dead_runs(instance, holds_run_lock=True) == []
    event = dg._core.events.EngineEventData.in_process(dead_pid())
    instance.report_engine_event("Started process for run.", run, event)
    assert release_dead_runs(instance, holds_run_lock=True) == [run.run_id]


def test_alive():
    assert is_alive(os.getpid())
    assert not is_alive(dead_pid())
