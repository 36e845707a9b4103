"""What a person sees of the command line: examples, one-line errors, exit codes."""

import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from orchestration.cli import app
from orchestration.settings import REPOSITORY

COMMANDS = ("run", "status", "cities", "feeds", "check", "replay", "alerts", "backfill", "portals", "ui")


@pytest.fixture
def citysignal(monkeypatch, tmp_path):
    """Run the command line in this process, on a home and a folder of cities of its own."""
    (tmp_path / "cities").mkdir(exist_ok=True)
    monkeypatch.setenv("CITYSIGNAL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CITYSIGNAL_CITIES", str(tmp_path / "cities"))
    monkeypatch.setenv("COLUMNS", "200")
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, list(arguments))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(citysignal, command):
    result = citysignal(command, "--help")
    assert result.exit_code == 0
    assert f"citysignal {command}" in result.stdout.split("Example")[1]


def test_help_loads_neither_dagster_nor_dbt():
    code = (
        "import sys; from orchestration.cli import app; from typer.testing import CliRunner; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0; "
        "print([name for name in ('dagster', 'dbt', 'duckdb', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_cities_tells_where_each_comes_from(citysignal, declare):
    folder = declare("tinyville")
    result = citysignal("cities")
    assert result.exit_code == 0
    lines = {line.split("│")[1].strip(): line for line in result.stdout.splitlines() if line.startswith("│")}
    assert str(folder / "tinyville") in lines["tinyville"]
    assert "built in" in lines["simulated"]


def test_feeds_tells_publisher_and_licence(citysignal, declare):
    declare("tinyville")
    result = citysignal("feeds", "--city", "tinyville")
    assert result.exit_code == 0
    assert all(
        word in result.stdout for word in ("tinyville/requests", "tinyville Clerk", "CC0-1.0", "daily")
    )
    assert "simulated" not in result.stdout


def test_feeds_tells_portal_and_whether_it_was_verified(citysignal, declare):
    folder = declare("tinyville", portal="socrata", source="https://data.example.org/resource/abcd-1234")
    declare("tinyville", feed="calls")
    guess = folder / "tinyville" / "requests.yaml"
    guess.write_text(guess.read_text() + "verified: false\n")
    rows = {
        line.split("│")[1].strip(): [cell.strip() for cell in line.strip("│").split("│")][-2:]
        for line in citysignal("feeds", "--city", "tinyville").stdout.splitlines()
        if line.startswith("│")
    }
    assert rows == {"tinyville/requests": ["socrata", "no"], "tinyville/calls": ["files", "yes"]}
    unverified = citysignal("feeds", "--city", "tinyville", "--unverified").stdout
    assert "tinyville/requests" in unverified
    assert "tinyville/calls" not in unverified
    guess.write_text(guess.read_text().replace("verified: false\n", ""))
    assert "every declared feed was verified" in citysignal("feeds", "-c", "tinyville", "--unverified").stdout


def test_status_of_a_feed_that_was_never_tried(citysignal, declare):
    declare("tinyville")
    result = citysignal("status", "-c", "tinyville")
    assert result.exit_code == 0
    assert "never tried" in result.stdout
    assert "tinyville/requests was never tried -> `citysignal run --city tinyville`" in result.stdout


def test_status_is_of_the_cities_in_use_and_with_all_of_every_city(citysignal, declare, use):
    declare("tinyville")
    declare("portlet")
    result = citysignal("status")
    assert result.exit_code == 0
    assert result.stdout.startswith("no city is in use; `citysignal run --city simulated` begins with one")
    use("portlet")
    used, every = citysignal("status").stdout, citysignal("status", "--all").stdout
    assert "portlet/requests" in used
    assert "tinyville" not in used
    assert all(name in every for name in ("portlet/requests", "tinyville/requests", "simulated/crimes"))


def test_status_tells_since_when_why_and_what_to_do(citysignal, declare, receipt):
    declare("tinyville")
    receipt(1, rows_known=1234)
    receipt(3, "failed", error_type="Unauthorised", message="example.org answered HTTP 403; renew the token")
    result = citysignal("status")
    assert result.exit_code == 0, result.output
    [row] = [line for line in result.stdout.splitlines() if line.startswith("│ tinyville/requests")]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == [
        "tinyville/requests", "failing", "2025-12-03 06:00", "2025-12-01 06:00", "", "1,234", "0", "0"
    ]  # fmt: skip
    assert result.stdout.splitlines()[-1] == (
        "tinyville/requests failing since 2025-12-03 (Unauthorised): example.org answered HTTP 403 "
        "-> renew the token"
    )


def test_run_without_a_city_is_of_the_real_cities_in_use(citysignal, declare, use, settings):
    from orchestration.declared_cities import load_declared
    from orchestration.run_command import choose
    from orchestration.settings import load_settings
    from orchestration.usage import UsageError

    declare("tinyville")
    declare("portlet")
    refused = citysignal("run")
    assert refused.exit_code == 2
    [line] = refused.stderr.splitlines()
    assert line.startswith("citysignal: no real city is in use; begin with one, like `citysignal run --city ")
    assert "portlet" in line
    assert "tinyville" in line
    for city in ("portlet", "simulated"):
        use(city)
    declared = load_declared(load_settings())
    assert [city.id for city in choose([], declared, settings.lake)] == ["portlet"]
    assert [city.id for city in choose(["simulated"], declared, settings.lake)] == ["simulated"]
    settings.lake.landing("portlet", "any").parent.joinpath("requests").rmdir()
    settings.lake.landing("portlet", "any").parent.rmdir()
    with pytest.raises(UsageError, match="no real city is in use"):
        choose([], declared, settings.lake)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "no real city is in use"),
        (["run", "--city", "simulatd"], "no city 'simulatd' is declared; did you mean simulated?"),
        (["feeds", "--city", "zzz"], "no city 'zzz' is declared; declared: "),
        (["replay", "simulated", "crime"], "no feed of simulated 'crime' is declared; did you mean crimes?"),
        (["replay", "simulated", "crimes"], "simulated/crimes has never been fetched"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(citysignal, arguments, said):
    result = citysignal(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("citysignal: ")


def test_unknown_option_is_exit_code_2(citysignal):
    assert citysignal("run", "--sinse", "2020").exit_code == 2


def test_wrong_declaration_is_named_by_file_and_key(citysignal, declare):
    folder = declare("tinyville")
    feed = folder / "tinyville" / "requests.yaml"
    feed.write_text(feed.read_text() + "cadense: daily\n")
    for command in (["check"], ["feeds", "-c", "tinyville"], ["run", "-c", "tinyville"], ["run"]):
        result = citysignal(*command)
        assert result.exit_code == 1, command
        assert "requests.yaml: cadense" in result.output
        assert "Traceback" not in result.output


def test_a_wrong_city_is_left_out_and_the_others_are_served(citysignal, declare):
    folder = declare("tinyville")
    declare("portlet")
    (folder / "tinyville" / "requests.yaml").write_text("title: 1\ncadense: daily\n")
    for command in (["cities"], ["feeds"], ["status", "--all"], ["feeds", "-c", "portlet"]):
        result = citysignal(*command)
        assert result.exit_code == 0, result.output
        assert "portlet" in result.stdout
        assert "tinyville" not in result.stdout
        [line] = result.stderr.splitlines()
        assert line.startswith("citysignal: warning: city tinyville is left out: ")
        assert "requests.yaml: title: 1 is not text" in line
        assert line.endswith("more); `citysignal check` names every problem")
    assert citysignal("replay", "portlet", "requests").exit_code == 2  # declared, never fetched


def test_a_city_named_in_place_of_the_folder_of_cities_is_told_so(citysignal, declare, monkeypatch):
    monkeypatch.setenv("CITYSIGNAL_CITIES", str(declare("tinyville") / "tinyville"))
    for command in (["check"], ["run", "-c", "tinyville"]):
        result = citysignal(*command)
        assert result.exit_code == 1
        assert "name the folder above it in CITYSIGNAL_CITIES" in " ".join(result.output.split())


@pytest.mark.parametrize("command", [["run", "-c", "simulated"], ["ui", "--port", "3999"]])
def test_a_home_that_cannot_be_written_is_one_line(citysignal, monkeypatch, tmp_path, command):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CITYSIGNAL_HOME", str(tmp_path / "file" / "home"))
    result = citysignal(*command)
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert line.startswith(
        f"citysignal: CITYSIGNAL_HOME: {tmp_path}/file/home cannot be written to (Not a dir"
    )


@pytest.mark.parametrize("columns", ["80", "120"])
def test_what_a_line_is_about_is_told_at_any_width(citysignal, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    for command in (["status", "--all"], ["feeds"]):
        result = citysignal(*command)
        assert "simulated/senior_facilities" in result.stdout
        table = [line for line in result.stdout.splitlines() if "was never tried" not in line]
        assert [line for line in table if len(line) > int(columns)] == []


def test_a_ctrl_c_that_a_library_turned_into_an_error_is_one_line(citysignal, monkeypatch):
    from orchestration import interruption, listings

    def interrupted() -> None:
        interruption.note()
        raise ValueError("dbt does not parse:\n  KeyboardInterrupt")

    monkeypatch.setitem(interruption._seen, "stop", False)
    monkeypatch.setattr(listings, "show_cities", interrupted)
    result = citysignal("cities")
    assert result.exit_code == 1
    assert result.stderr == "citysignal: stopped; run the command again to go on\n"


def test_check_passes_on_what_is_built_in_before_anything_was_simulated(citysignal):
    result = citysignal("check")
    assert (result.exit_code, result.output.split()[-4:]) == (0, ["declared", "without", "a", "problem"]), (
        result.output
    )


def test_check_names_a_file_that_is_missing(citysignal, declare):
    declare("tinyville")
    result = citysignal("check")
    assert result.exit_code == 1
    assert "requests.yaml" in result.output
    assert "tinyville.csv" in result.output


def test_wrong_variable_is_one_line(citysignal, monkeypatch):
    monkeypatch.setenv("CITYSIGNAL_CLOCK", "noon")
    result = citysignal("cities")
    assert result.exit_code == 1
    assert result.stderr.startswith("citysignal: CITYSIGNAL_CLOCK: 'noon' is no ISO time")


def test_debug_shows_the_traceback(citysignal, monkeypatch):
    monkeypatch.setenv("CITYSIGNAL_CLOCK", "noon")
    result = citysignal("--debug", "cities")
    assert type(result.exception).__name__ == "SettingsError"


@pytest.mark.parametrize("selection", ["key:nothing/at/all", "group:((("])
def test_selection_of_nothing_is_wrong_usage(citysignal, declare, lend_project, tmp_path, selection):
    declare("tinyville")
    lend_project(tmp_path / "home")
    result = citysignal("run", "--city", "tinyville", "--select", selection)
    assert result.exit_code == 2, result.output
    assert "--select" in result.stderr


def test_ctrl_c_ends_the_ui_and_all_it_started(tmp_path, lend_project):
    import os
    import signal
    import socket

    from assets.simulate.city import simulate

    # What it would make before it starts anything: a parsed project, and a city for the portals to serve.
    lend_project(tmp_path / "home")
    simulate(tmp_path / "home" / "simulated", scale=0.05)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "CITYSIGNAL_HOME": str(tmp_path / "home"), "MARK": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestration.cli", "ui", "--port", str(port)],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: answers(port), 120)
        assert marked(tmp_path), "the server and its children carry the mark"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=45) == 0
        wait_for(lambda: not marked(tmp_path), 5)
    finally:
        process.kill()


def answers(port: int) -> bool:
    import socket

    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


def marked(folder) -> list[int]:
    """Return the processes whose environment carries the mark."""
    from pathlib import Path

    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"MARK={folder}".encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def wait_for(condition, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.5)
