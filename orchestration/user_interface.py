"""Starts Dagster's web server and daemon over a home, and the simulated portals, and ends all of them."""

import os
import signal
import subprocess
import sys
import time

from assets.ingest.feed import City
from orchestration.console import make_console
from orchestration.declared_cities import load_declared
from orchestration.instance import prepare_dagster_home, release_dead_runs
from orchestration.settings import REPOSITORY, Settings
from orchestration.simulated_portals import portals_for

GRACE_SECONDS = 10


def serve(settings: Settings, host: str, port: int) -> int:
    """Run `dagster dev` in its own process group until it ends or this process is told to stop.

    Its children outlive a SIGTERM to the parent alone (observed on 1.13.27), so the whole group is ended.

    Returns:
        0 when it was told to stop, else what `dagster dev` returned.
    """
    prepare_dagster_home(settings)
    free_what_the_dead_hold()
    signal.signal(signal.SIGTERM, stop)
    try:
        # What Dagster starts inherits the address of the portals through the environment.
        with portals_for(portals_wanted(settings), settings, make_console()):
            return run_dagster(settings, host, port)
    except KeyboardInterrupt:
        return 0


def portals_wanted(settings: Settings) -> list[City]:
    """Return the simulated city where it is in use, or nothing is; real cities do not need it."""
    cities = load_declared(settings).cities.values()
    used = [city for city in cities if settings.lake.is_in_use(city.id)]
    return [city for city in used or cities if city.is_simulated]


def run_dagster(settings: Settings, host: str, port: int) -> int:
    """Run `dagster dev` until it ends or a KeyboardInterrupt ends it and all it started."""
    os.environ["CITYSIGNAL_HOME"] = str(settings.home)
    command = [
        sys.executable, "-W", "ignore", "-m", "dagster", "dev",
        "--workspace", str(REPOSITORY / "workspace.yaml"),
        "--host", host, "--port", str(port), "--log-level", "warning",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=REPOSITORY, start_new_session=True)  # noqa: S603
    try:
        return process.wait()
    finally:
        end_group(process)


def stop(number: int, frame: object) -> None:
    """Take a SIGTERM as a Ctrl-C."""
    raise KeyboardInterrupt


def free_what_the_dead_hold() -> None:
    """Mark killed runs failed before the daemon waits for them."""
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        release_dead_runs(instance, holds_run_lock=False)


def end_group(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all it started: first asking, then not."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        if group_ended(process):
            break
    process.wait()


def group_ended(process: "subprocess.Popen[bytes]") -> bool:
    """Return whether the group is empty within the time of grace."""
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline:
        process.poll()
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.2)
    return False
