"""Runs a Dagster job in the calling process, with progress, so that it appears in the UI like any other run.

With `history.py` the one module that uses private names of Dagster (1.13): the public `execute_in_process`
leaves a run without its code location, so the UI could not re-execute it.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.events import RunFailureReason
from dagster._core.execution.api import execute_run_iterator
from dagster._core.execution.plan.objects import ErrorSource
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from filelock import FileLock, Timeout

from orchestration.fast_lane import FAST_LANE
from orchestration.instance import (
    HOST_TAG,
    PID_TAG,
    prepare_dagster_home,
    release_dead_runs,
    runs_in_progress,
)
from orchestration.settings import REPOSITORY, Settings, make_home

#: As in workspace.yaml.
LOCATION = "citysignal"
#: How long a run of the fast lane is waited for.
FAST_RUN_SECONDS = 120.0


class BusyError(Exception):
    """Another run is at work on the same home; the message names it."""


@dataclass(frozen=True)
class FailedCheck:
    """One asset check that did not pass."""

    asset: tuple[str, ...]
    check: str
    is_error: bool
    message: str


@dataclass
class RunReport:
    """What a run did.

    Attributes:
        run_id: Dagster's id.
        succeeded: Whether every step went through.
        was_interrupted: Whether a Ctrl-C ended it.
        failures: Step key and message of each failed step.
        failed_checks: Checks that did not pass.
        checks: Number of checks evaluated.
        seconds: Wall time of the job.
    """

    run_id: str
    succeeded: bool = False
    was_interrupted: bool = False
    failures: list[tuple[str, str]] = field(default_factory=list)
    failed_checks: list[FailedCheck] = field(default_factory=list)
    checks: int = 0
    seconds: float = 0.0


def settle(settings: Settings, instance: dg.DagsterInstance) -> list[str]:
    """Make way for a run of the process that holds the home; a killed run stands in nobody's way.

    A run of the fast lane is over in seconds and is waited for.

    Returns:
        The ids of earlier runs that were found dead and marked failed.

    Raises:
        BusyError: A run that the UI or a schedule started is at work.
    """
    released = release_dead_runs(instance, holds_run_lock=True)
    deadline = time.monotonic() + FAST_RUN_SECONDS
    while others := runs_in_progress(instance):
        if time.monotonic() < deadline and all(run.job_name == FAST_LANE for run in others):
            time.sleep(0.5)
            continue
        ids = ", ".join(run.run_id for run in others)
        raise BusyError(
            f"run {ids}, started from the UI or by a schedule, is at work on {settings.home}; "
            "wait for it to end or terminate it in the UI"
        )
    return released


@contextmanager
def held(settings: Settings) -> Iterator[None]:
    """Hold the lock of a home; the system frees it when the process ends, however it ends.

    Raises:
        BusyError: Another process holds it.
        SettingsError: Nothing can be written in the home.
    """
    make_home(settings)
    folder = settings.home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / "run.holder.json"
    lock = FileLock(str(folder / "run.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BusyError(f"{said_by(holder)} is at work on {settings.home}; wait for it to end") from None
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        holder.write_text(json.dumps({"pid": os.getpid(), "since": since}), encoding="utf-8")
        yield
    finally:
        lock.release()


@contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Hold a home for something that lands without being a run: no run of anybody is at work beside it.

    Raises:
        BusyError: Another process is at work on the home.
        SettingsError: Nothing can be written in the home.
    """
    prepare_dagster_home(settings)
    with held(settings):
        with dg.DagsterInstance.get() as instance:
            settle(settings, instance)
        yield


def said_by(holder: Any) -> str:
    """Return who holds the lock, as the holder itself noted it."""
    try:
        noted = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {noted['pid']} (since {noted['since']})"
    except (OSError, ValueError, KeyError):
        return "another process"


def run_job(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    job_name: str,
    keys: Collection[dg.AssetKey],
    *,
    run_config: dict[str, Any] | None = None,
    log_level: str = "CRITICAL",
    on_event: Callable[[dg.DagsterEvent], None] = lambda event: None,
) -> RunReport:
    """Run some assets of a job and report on it.

    Args:
        definitions: What is declared.
        instance: The run history.
        job_name: The job that the assets belong to.
        keys: The assets to run, with all their checks.
        run_config: Dagster's configuration of the run.
        log_level: What Dagster prints on the console.
        on_event: Called with each event, as it happens.
    """
    job = definitions.resolve_job_def(job_name).get_subset(asset_selection=set(keys))
    config = {
        **(run_config or {}),
        "loggers": {"console": {"config": {"log_level": log_level}}},
    }
    run = instance.create_run_for_job(
        job,
        run_config=config,
        asset_selection=set(keys),
        remote_job_origin=job_origin(job_name),
        # A run that Ctrl-C ended must not be started again by the daemon.
        tags={PID_TAG: str(os.getpid()), HOST_TAG: socket.gethostname(), "dagster/max_retries": "0"},
    )
    report = RunReport(run.run_id)
    started = time.monotonic()
    for event in execute_run_iterator(InMemoryJob(job), run, instance):
        note(report, event)
        on_event(event)
    report.seconds = time.monotonic() - started
    return report


def note(report: RunReport, event: dg.DagsterEvent) -> None:
    """Add to the report what an event says."""
    if event.event_type == dg.DagsterEventType.RUN_SUCCESS:
        report.succeeded = True
    elif event.event_type == dg.DagsterEventType.STEP_FAILURE:
        report.failures.append((event.step_key or "", failure_message(event)))
        report.was_interrupted |= event.step_failure_data.error_source == ErrorSource.INTERRUPT
    elif event.event_type == dg.DagsterEventType.RUN_FAILURE and not report.failures:
        report.failures.append((report.run_id, event.message or ""))
        reason = event.job_failure_data.failure_reason
        report.was_interrupted |= reason == RunFailureReason.UNEXPECTED_TERMINATION
    elif event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        report.checks += 1
        check = event.asset_check_evaluation_data
        if not check.passed:
            report.failed_checks.append(
                FailedCheck(
                    tuple(check.asset_key.path),
                    check.check_name,
                    check.severity == dg.AssetCheckSeverity.ERROR,
                    check.description or "",
                )
            )


def failure_message(event: dg.DagsterEvent) -> str:
    """Return what a failed step said: its dagster.Failure, else the error at the bottom of the chain."""
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return data.user_failure_data.description
    error = data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message.strip() if error is not None else ""


def job_origin(job_name: str) -> RemoteJobOrigin:
    """Return the origin that ties a run to the code location of workspace.yaml."""
    target = LoadableTargetOrigin(
        executable_path=sys.executable,
        module_name="orchestration.definitions",
        working_directory=str(REPOSITORY),
    )
    location = ManagedGrpcPythonEnvCodeLocationOrigin(target, LOCATION)
    return RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), job_name)
