"""Files that changed start a run; failed runs and refused deliveries leave an alert."""

import json
import os
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import dagster as dg
import pytest

from assets.ingest.feed import load_cities
from orchestration.alerts import send_alert
from orchestration.sensors import (
    changed_files_sensor,
    refused_delivery_alert,
    run_failure_alert,
    settled_changes,
)

SHARED = frozenset({dg.AssetKey(["core", "fct_events"])})
REQUESTS = dg.AssetKey(["raw", "tinyville", "requests"])


class Watch:
    """The sensor over one file, ticked by hand."""

    def __init__(self, declare, tmp_path, lake):
        self.sensor = changed_files_sensor(load_cities([declare("tinyville")], {}), SHARED, lake)
        self.file = tmp_path / "files" / "tinyville.csv"
        self.file.parent.mkdir()
        self.cursor = None

    def write(self, text: str, mtime: int) -> None:
        self.file.write_text(text)
        os.utime(self.file, (mtime, mtime))

    def tick(self) -> list[dg.RunRequest]:
        context = dg.build_sensor_context(cursor=self.cursor)
        result = self.sensor(context)
        self.cursor = context.cursor
        return list(result.run_requests) if isinstance(result, dg.SensorResult) else []


@pytest.fixture
def watch(declare, tmp_path, settings, use):
    use("tinyville")
    return Watch(declare, tmp_path, settings.lake)


def test_what_is_there_at_first_is_only_noted(watch):
    watch.write("a", mtime=100)
    assert watch.tick() == []
    assert watch.tick() == []
    assert json.loads(watch.cursor)["known"] == {"tinyville/requests/all": [100 * 10**9, 1]}


def test_changed_file_starts_one_run_of_its_feed_and_what_is_built_from_it(watch):
    watch.write("a", mtime=100)
    watch.tick()
    watch.write("ab", mtime=200)
    assert watch.tick() == [], "it may still be written"
    [request] = watch.tick()
    assert set(request.asset_selection) == {REQUESTS, *SHARED}
    assert request.tags["citysignal/changed"] == "tinyville/requests"
    assert watch.tick() == []


def test_file_that_keeps_growing_waits(watch):
    watch.tick()
    for size in range(1, 5):
        watch.write("a" * size, mtime=100 + size)
        assert watch.tick() == []
    assert len(watch.tick()) == 1


def test_new_file_counts_as_changed_and_a_missing_one_does_not(watch):
    watch.tick()
    watch.write("a", mtime=100)
    watch.tick()
    assert len(watch.tick()) == 1
    watch.file.unlink()
    assert watch.tick() == []
    assert watch.tick() == []


def test_same_size_with_another_time_is_a_change():
    before, after = {"p": [1, 5]}, {"p": [2, 5]}
    assert settled_changes(before, after, after) == after
    assert settled_changes(after, after, after) == {}


def test_files_of_a_city_that_is_not_in_use_start_nothing_and_neither_does_its_first_run(
    declare, tmp_path, settings, use
):
    watch = Watch(declare, tmp_path, settings.lake)
    watch.write("a", mtime=100)
    assert [watch.tick() for _ in range(3)] == [[], [], []]
    watch.write("ab", mtime=200)
    assert [watch.tick() for _ in range(3)] == [[], [], []]
    use("tinyville")
    assert [watch.tick() for _ in range(3)] == [[], [], []], "the run that began its use has read the file"
    watch.write("abc", mtime=300)
    assert [len(watch.tick()) for _ in range(3)] == [0, 1, 0]


def test_files_of_a_simulated_city_start_nothing(declare, tmp_path, settings):
    folder = declare("tinyville", is_simulated=True)
    sensor = changed_files_sensor(load_cities([folder], {}), SHARED, settings.lake)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "tinyville.csv").write_text("a")
    context = dg.build_sensor_context()
    sensor(context)
    assert json.loads(context.cursor)["known"] == {}


@dg.op
def break_down():
    try:
        raise ValueError("the warehouse is on fire")
    except ValueError as error:
        raise RuntimeError("step") from error


@dg.job
def doomed():
    break_down()


@dg.asset(
    check_specs=[dg.AssetCheckSpec("delivery", asset="thing"), dg.AssetCheckSpec("volume", asset="thing")]
)
def thing(config: dict):
    error, warn = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
    delivery = dg.AssetCheckResult(
        passed=config["passed"],
        check_name="delivery",
        severity=error,
        description="all blocked: too few rows",
    )
    volume = dg.AssetCheckResult(passed=False, check_name="volume", severity=warn)
    return dg.MaterializeResult(check_results=[delivery, volume])


def alerts(settings) -> list[dict]:
    files = sorted((settings.home / "alerts").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_failed_run_is_written_with_its_step_and_its_cause(settings, instance):
    result = doomed.execute_in_process(instance=instance, raise_on_error=False)
    context = dg.build_run_status_sensor_context(
        sensor_name="run_failure_alert",
        dagster_event=result.get_run_failure_event(),
        dagster_instance=instance,
        dagster_run=result.dagster_run,
    ).for_run_failure()
    run_failure_alert(settings)(context)
    [alert] = alerts(settings)
    assert (alert["alert"], alert["job"], alert["run_id"]) == ("run_failed", "doomed", result.run_id)
    assert alert["at"] == "2026-01-02T06:00:00+00:00"
    [step] = alert["steps"]
    assert step["step"] == "break_down"
    assert "the warehouse is on fire" in step["error"]


@pytest.mark.parametrize("passed", [False, True])
def test_refused_delivery_of_a_run_that_went_through_is_written(settings, instance, passed):
    config = {"ops": {"thing": {"config": {"passed": passed}}}}
    result = dg.materialize([thing], instance=instance, run_config=config)
    context = dg.build_run_status_sensor_context(
        sensor_name="refused_delivery_alert",
        dagster_event=result.get_run_success_event(),
        dagster_instance=instance,
        dagster_run=result.dagster_run,
    )
    refused_delivery_alert(settings)(context)
    expected = {"asset": "thing", "check": "delivery", "message": "all blocked: too few rows"}
    assert [alert["checks"] for alert in alerts(settings)] == ([] if passed else [[expected]])


class Received(BaseHTTPRequestHandler):
    bodies: ClassVar[list[dict]] = []
    status = 200

    def do_POST(self):
        self.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def webhook():
    handler = type("Handler", (Received,), {"bodies": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield handler, f"http://127.0.0.1:{server.server_port}/hook"
    server.shutdown()
    server.server_close()


def test_webhook_gets_what_the_file_gets(settings, webhook):
    handler, url = webhook
    warnings = []
    send_alert(replace(settings, webhook=url), {"alert": "run_failed"}, warnings.append)
    assert handler.bodies == alerts(settings)
    assert warnings == []


@pytest.mark.parametrize("broken", ["status", "refused", "address"])
def test_webhook_that_fails_is_a_warning_and_the_file_has_the_alert(settings, webhook, broken):
    handler, url = webhook
    handler.status = 500
    url = {"status": url, "refused": "http://127.0.0.1:9/hook", "address": "no address"}[broken]
    warnings = []
    send_alert(replace(settings, webhook=url), {"alert": "run_failed"}, warnings.append)
    assert [alert["alert"] for alert in alerts(settings)] == ["run_failed"]
    assert len(warnings) == 1
