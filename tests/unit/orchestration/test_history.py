"""The history is written through files held open, and nothing of it is lost by that."""

import dagster as dg
import pytest

from orchestration.history import kept_open
from orchestration.instance import prepare_dagster_home


@dg.job
def something():
    pass


@pytest.fixture
def home(settings, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", "")
    return prepare_dagster_home(settings)


def write_events(count: int) -> str:
    with dg.DagsterInstance.get() as instance:
        run = instance.create_run_for_job(something)
        for number in range(count):
            instance.report_engine_event(f"event {number}", run)
    return run.run_id


def logs_left(home) -> list[str]:
    return [path.name for path in home.rglob("*.db-wal") if path.stat().st_size]


def test_files_stay_open_to_the_end_of_the_block_and_all_is_there_after(home):
    with kept_open():
        run_id = write_events(5)
        assert f"{run_id}.db-wal" in logs_left(home)
    assert logs_left(home) == []
    with dg.DagsterInstance.get() as instance:
        messages = [entry.message for entry in instance.all_logs(run_id)]
    assert messages[-5:] == [f"event {number}" for number in range(5)]


def test_without_it_and_after_it_the_log_is_folded_in_after_every_event(home):
    write_events(5)
    assert logs_left(home) == []
    with kept_open():
        pass
    write_events(5)
    assert logs_left(home) == []
