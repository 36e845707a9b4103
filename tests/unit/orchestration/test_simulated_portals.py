"""The simulated portals live as long as the command that needs them, however it ends."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from rich.console import Console

from assets.ingest.feed import load_cities
from assets.simulate.city import simulate
from orchestration import simulated_portals
from orchestration.portal_server import move_clock
from orchestration.portals_command import example
from orchestration.settings import NO_PORTAL, PORTAL_VARIABLE, REPOSITORY, Settings, load_settings
from orchestration.simulated_portals import PortalError, located, portals_for, start, stop

CONSOLE = Console(quiet=True)


@pytest.fixture(scope="session")
def generated(tmp_path_factory) -> Path:
    """A home with a small simulated city."""
    home = tmp_path_factory.mktemp("simulated_home")
    simulate(home / "simulated", scale=0.05)
    return home


@pytest.fixture
def served_settings(generated) -> Settings:
    return load_settings({"CITYSIGNAL_HOME": str(generated)})


@pytest.fixture
def cities(declare):
    """A simulated city behind portals, and a real one."""
    declare("made_up", portal="socrata", source=f"{NO_PORTAL}/socrata/resource/sr25-city", is_simulated=True)
    return load_cities([declare("tinyville")], {})


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/files/wards.geojson", timeout=5) as response:
            return response.status == 200
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def wait_for(condition, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def test_portals_answer_while_a_command_is_at_work_and_not_after(served_settings, cities, monkeypatch):
    monkeypatch.delenv(PORTAL_VARIABLE, raising=False)
    with portals_for([cities["made_up"]], served_settings, CONSOLE) as address:
        assert address.startswith("http://127.0.0.1:")
        assert answers(address)
        assert os.environ[PORTAL_VARIABLE] == address, "for what this process starts"
    assert not answers(address)
    assert PORTAL_VARIABLE not in os.environ


def test_portals_end_with_a_command_that_fails(served_settings, cities):
    with (
        pytest.raises(RuntimeError),
        portals_for([cities["made_up"]], served_settings, CONSOLE) as address,
    ):
        raise RuntimeError("a step failed")
    assert not answers(address)


def test_no_portals_for_real_cities_nor_beside_those_that_run(served_settings, cities, monkeypatch):
    monkeypatch.setattr(simulated_portals, "start", lambda settings: pytest.fail("a server was started"))
    with portals_for([cities["tinyville"]], served_settings, CONSOLE) as address:
        assert address is None
    running = served_settings.with_portal("http://127.0.0.1:8311")
    with portals_for([cities["made_up"]], running, CONSOLE) as address:
        assert address == "http://127.0.0.1:8311"


def test_a_city_that_was_never_generated_is_generated_first(served_settings, cities, monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr(
        simulated_portals, "ensure_generated", lambda settings, console: made.append(settings)
    )
    monkeypatch.setattr(
        simulated_portals, "start", lambda settings: pytest.fail("too early") if not made else None
    )
    with pytest.raises(TypeError), portals_for([cities["made_up"]], served_settings, CONSOLE):
        pass
    assert made == [served_settings]


def test_sources_get_the_address_and_nothing_else_changes(cities):
    there = located(cities, "http://127.0.0.1:8311")
    [part] = there["made_up"].feeds["requests"].parts
    assert part.source == "http://127.0.0.1:8311/socrata/resource/sr25-city"
    assert there["tinyville"] is cities["tinyville"]
    before, after = cities["made_up"].feeds["requests"], there["made_up"].feeds["requests"]
    assert before.fingerprint(before.parts[0]) == after.fingerprint(part), "another port reads nothing anew"
    assert located(cities, None) == cities


def test_a_server_that_cannot_start_is_told_in_one_line(served_settings, tmp_path):
    with pytest.raises(PortalError, match="the simulated portals do not start: ") as told:
        start(replace(served_settings, home=tmp_path / "nothing"))
    assert len(str(told.value).splitlines()) == 1


def test_the_ctrl_c_of_a_terminal_does_not_reach_the_server(served_settings):
    process, _ = start(served_settings)
    try:
        assert os.getsid(process.pid) != os.getsid(0)
    finally:
        stop(process)


STARTER = """
import subprocess, sys
from orchestration import simulated_portals
from orchestration.settings import load_settings
if sys.argv[2] == "inherits the pipe of the test":
    original = subprocess.Popen
    simulated_portals.subprocess.Popen = lambda command, **said: original(command, **{**said, "stdin": None})
process, address = simulated_portals.start(load_settings({"CITYSIGNAL_HOME": sys.argv[1]}))
print(process.pid, address, flush=True)
import time
time.sleep(600)
"""


@contextmanager
def killed_starter(home: Path, how: str, number: int):
    """Start the portals from a process, kill it, and yield the server's process id and address."""
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(home), how],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    pid, address = starter.stdout.readline().split()
    try:
        assert answers(address)
        starter.send_signal(number)
        starter.wait(20)
        yield int(pid), address
    finally:
        starter.kill()
        starter.stdin.close()
        starter.stdout.close()
        wait_for(lambda: not answers(address))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_server_outlives_a_command_that_is_killed(generated, number):
    with killed_starter(generated, "as it is", number) as (_, address):
        wait_for(lambda: not answers(address))


def test_without_a_pipe_of_its_own_it_would(generated):
    with killed_starter(generated, "inherits the pipe of the test", signal.SIGKILL) as (_, address):
        time.sleep(2)
        assert answers(address)


class FakeStore:
    now = datetime(2025, 6, 1)  # noqa: DTZ001  as the store keeps it

    def advance(self, by) -> None:
        self.now += by


def test_each_line_moves_the_clock():
    store, said = FakeStore(), []
    move_clock(store, ["\n", "7\n", "a week\n", "0.5\n", "nan\n", "1e99\n"], said.append)
    assert said == [
        "it is 2025-06-02 00:00 UTC at the portals",
        "it is 2025-06-09 00:00 UTC at the portals",
        "'a week' is no number of days",
        "it is 2025-06-09 12:00 UTC at the portals",
        "'nan' is no number of days",
        "'1e99' is no number of days",
    ]


@pytest.mark.parametrize(
    ("protocol", "source", "address"),
    [
        ("socrata", "/socrata/resource/ab-1", "/socrata/resource/ab-1.json?$limit=3"),
        (
            "ckan",
            "/ckan/dataset/x/resource/u-1",
            "/ckan/api/3/action/datastore_search?resource_id=u-1&limit=3",
        ),
        ("carto", "/carto/tables/permits", "/carto/api/v2/sql?q=select * from permits limit 3"),
        ("files", "/files/wards.geojson", "/files/wards.geojson"),
    ],
)
def test_an_example_address_shows_a_few_records(protocol, source, address):
    assert example(protocol, f"http://127.0.0.1:8311{source}") == f"http://127.0.0.1:8311{address}"


def test_portals_serve_in_the_foreground_until_ctrl_c(generated):
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestration.cli", "portals", "--port", "0", "--now", "2025-06-01"],
        cwd=REPOSITORY,
        env={**os.environ, "CITYSIGNAL_HOME": str(generated), "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = []
        while not lines or PORTAL_VARIABLE not in lines[-1]:
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr.read()
        address = lines[-1].split("=")[1].split()[0]
        assert answers(address)
        assert any("it is 2025-06-01 00:00 UTC at the portals" in line for line in lines)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert not answers(address)
    finally:
        process.kill()
        process.communicate()
