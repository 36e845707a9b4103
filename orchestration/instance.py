"""Where Dagster keeps its history for a home, and what becomes of runs whose process died.

Launching a run belongs in `run_job.py`.
"""

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from orchestration.settings import REPOSITORY, Settings, make_home

if TYPE_CHECKING:
    from dagster import DagsterInstance, DagsterRun

#: Tags of a run that the command line executes in its own process.
PID_TAG = "citysignal/pid"
HOST_TAG = "citysignal/host"


def prepare_dagster_home(settings: Settings) -> Path:
    """Write the home's dagster.yaml and point DAGSTER_HOME at it.

    Returns:
        The folder that holds dagster.yaml, the run history and the logs.

    Raises:
        SettingsError: Nothing can be written in the home.
    """
    make_home(settings)
    folder = settings.home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    config = yaml.safe_load((REPOSITORY / "dagster.yaml").read_text(encoding="utf-8"))
    config["storage"]["sqlite"]["base_dir"] = str(folder)
    config["local_artifact_storage"]["config"]["base_dir"] = str(folder)
    config["compute_logs"]["config"]["base_dir"] = str(folder / "compute_logs")
    target = folder / "dagster.yaml"
    text = yaml.safe_dump(config, sort_keys=False)
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        temporary = folder / f"dagster.yaml.{os.getpid()}"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(target)
    os.environ["DAGSTER_HOME"] = str(folder)
    return folder


def runs_in_progress(instance: "DagsterInstance") -> "list[DagsterRun]":
    """Return the runs that hold the pipeline or are about to."""
    from dagster import DagsterRunStatus, RunsFilter

    statuses = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
    return list(instance.get_runs(RunsFilter(statuses=statuses)))


def process_of(instance: "DagsterInstance", run: "DagsterRun") -> int | None:
    """Return the process id of a run on this machine, or None where it is not known to run here."""
    if run.tags.get(HOST_TAG, socket.gethostname()) != socket.gethostname():
        return None
    if PID_TAG in run.tags:
        return int(run.tags[PID_TAG])
    return launched_process(instance, run)


def launched_process(instance: "DagsterInstance", run: "DagsterRun") -> int | None:
    """Return the process id that Dagster's launcher noted in the run's event log."""
    from dagster import DagsterEventType

    for entry in instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT):
        metadata = entry.dagster_event.engine_event_data.metadata if entry.dagster_event else {}
        if "pid" in metadata:
            return int(str(metadata["pid"].value))
    return None


def is_alive(pid: int) -> bool:
    """Return whether a process of this machine exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def release_dead_runs(instance: "DagsterInstance", *, holds_run_lock: bool) -> list[str]:
    """Mark runs failed whose process is gone, and free what they held.

    A run ended by SIGKILL stays STARTED for ever and keeps its pool slot, so the next run would wait without
    a word: measured on Dagster 1.13.27, whose run monitoring frees slots only of runs that ended.

    Args:
        instance: The run history.
        holds_run_lock: Whether the caller holds the lock of `run_job`. Then every run of the command line is
            over, whatever process or machine has its process id now.

    Returns:
        The ids of the runs that were marked failed.
    """
    released = []
    for run in runs_in_progress(instance):
        if not (holds_run_lock and PID_TAG in run.tags):
            pid = process_of(instance, run)
            if pid is None or is_alive(pid):
                continue
        instance.report_run_failed(run, message="The process of this run is gone; it was killed.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        released.append(run.run_id)
    return released
