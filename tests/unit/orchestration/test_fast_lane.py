"""The fast lane looks often, runs only for news, and leaves a busy run and a sick portal alone."""

import json
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import dagster as dg
import pytest

from assets.ingest.feed import load_cities
from assets.ingest.portals.page import Cursor, Page
from assets.ingest.raw_tables import raw_key
from assets.ingest.receipts import DeliveryError
from orchestration import fast_lane
from orchestration.fast_lane import (
    FAST_LANE,
    fast_feeds,
    fast_lane_jobs,
    fast_lane_sensor,
    fast_lane_sensors,
    forget_old_runs,
    hashes,
    last_cursor,
    records_after,
)
from orchestration.run_job import job_origin

SOURCE = "https://data.example.org/open311/v2"
RAW = raw_key("tinyville", "requests")


class Lane:
    """The sensor over one feed, ticked by hand; `records` is what the portal has after the cursor."""

    def __init__(self, declare, settings, instance):
        cities = load_cities([declare("tinyville", cadence="hourly", portal="open311", source=SOURCE)], {})
        self.records: set[str] | Exception = set()
        self.asked: list[Cursor] = []
        self.instance = instance
        self.sensor = fast_lane_sensor(
            fast_feeds(cities, is_simulated=False), settings.lake, settings.clock, look=self.look
        )
        self.cursor = None

    def look(self, lake, feed, part, cursor, now):
        self.asked.append(cursor)
        if isinstance(self.records, Exception):
            raise self.records
        return frozenset(self.records)

    def tick(self) -> dg.SensorResult | dg.SkipReason:
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
        result = self.sensor(context)
        self.cursor = context.cursor
        return result

    def launched(self) -> int:
        result = self.tick()
        return len(result.run_requests) if isinstance(result, dg.SensorResult) else 0


@pytest.fixture
def lane(declare, settings, instance):
    return Lane(declare, settings, instance)


@pytest.fixture
def landed(receipt):
    receipt(1, cursor_to={"at": "2025-12-01T06:00:00Z", "id": ""}, rows_known=1)


def test_nothing_new_launches_nothing_however_often_it_looks(lane, landed):
    lane.records = {"a"}
    assert lane.launched() == 1, "the first look cannot know what landed"
    assert [lane.launched() for _ in range(20)] == [0] * 20
    assert len(lane.asked) == 21


def test_a_new_or_changed_record_launches_its_feed_and_nothing_that_is_built_from_it(lane, landed):
    lane.launched()
    lane.records = {"a"}
    [request] = lane.tick().run_requests
    assert request.asset_selection == [RAW]
    assert request.tags["citysignal/news"] == "tinyville/requests"
    assert request.job_name in (None, FAST_LANE)


def test_what_falls_behind_the_cursor_after_a_landing_is_no_news(lane, landed, receipt):
    lane.records = {"a", "b", "c"}
    lane.launched()
    receipt(2, cursor_to={"at": "2025-12-02T06:00:00Z", "id": ""})
    lane.records = {"c"}
    assert lane.launched() == 0
    assert lane.asked[-1] == Cursor("2025-12-02T06:00:00Z", "")
    lane.records = {"c", "d"}
    assert lane.launched() == 1


@pytest.mark.parametrize("status", ["QUEUED", "STARTED"])
def test_runs_do_not_pile_up_and_news_is_not_forgotten(lane, landed, instance, status):
    lane.launched()
    run = tiny_run(instance, dg.DagsterRunStatus[status])
    lane.records = {"a"}
    looks = len(lane.asked)
    assert [lane.launched() for _ in range(3)] == [0, 0, 0]
    assert len(lane.asked) == looks, "the portal is not asked either"
    instance.delete_run(run.run_id)
    assert lane.launched() == 1


def test_without_the_guard_they_would(lane, landed, instance, monkeypatch):
    lane.launched()
    tiny_run(instance, dg.DagsterRunStatus.QUEUED)
    monkeypatch.setattr(fast_lane, "is_running", lambda instance: False)
    launched = 0
    for number in range(3):
        lane.records = {f"record {number}"}
        launched += lane.launched()
    assert launched == 3


def tiny_job() -> dg.JobDefinition:
    @dg.op
    def nothing():
        pass

    @dg.job(name=FAST_LANE)
    def tiny():
        nothing()

    return tiny


def tiny_run(instance: dg.DagsterInstance, status: dg.DagsterRunStatus) -> dg.DagsterRun:
    return instance.create_run_for_job(tiny_job(), status=status, remote_job_origin=job_origin(FAST_LANE))


def test_a_feed_that_never_landed_and_a_city_out_of_use_are_not_looked_at(lane):
    lane.records = {"a"}
    assert lane.launched() == 0
    assert lane.asked == []


def test_a_portal_that_refuses_is_left_alone_longer_and_longer_and_named(lane, landed):
    lane.launched()
    lane.records = DeliveryError("Http429", "data.example.org answered HTTP 429; wait")
    reasons = [lane.tick().skip_message for _ in range(30)]
    assert reasons[0] == "tinyville/requests/all: data.example.org answered HTTP 429; wait"
    assert reasons[1] == "tinyville/requests/all is left alone after 1 failed looks."
    looked = [number for number, reason in enumerate(reasons) if "HTTP 429" in reason]
    assert looked == [0, 3, 8, 17]
    lane.records = {"a"}
    ticks = next(number for number in range(1, 70) if lane.launched())
    assert ticks <= fast_lane.LONGEST_REST
    assert json.loads(lane.cursor)["tinyville/requests/all"]["failures"] == 0


def test_only_the_newest_runs_are_kept(instance, monkeypatch):
    monkeypatch.setattr(fast_lane, "RUNS_KEPT", 3)
    runs = [tiny_job().execute_in_process(instance=instance) for _ in range(5)]
    failed = tiny_run(instance, dg.DagsterRunStatus.FAILURE)
    forget_old_runs(instance)
    kept = {run.run_id for run in instance.get_runs()}
    assert kept == {*(run.run_id for run in runs[2:]), failed.run_id}


def test_the_cursor_is_that_of_the_newest_receipt_that_tells_one(settings, declare, receipt):
    [(feed, part)] = fast_feeds(
        load_cities([declare("tinyville", cadence="hourly", portal="open311", source=SOURCE)], {}),
        is_simulated=False,
    )
    assert last_cursor(settings.lake, feed, part) is None
    receipt(3, cursor_to={"at": "b", "id": "2"})
    receipt(1, cursor_to={"at": "a", "id": "1"})
    receipt(4, outcome="failed")
    assert last_cursor(settings.lake, feed, part) == Cursor("b", "2")


def test_a_look_reads_no_more_receipts_than_it_needs(settings, declare, receipt, monkeypatch):
    [(feed, part)] = fast_feeds(
        load_cities([declare("tinyville", cadence="hourly", portal="open311", source=SOURCE)], {}),
        is_simulated=False,
    )
    for day in range(1, 20):
        receipt(day, cursor_to={"at": str(day), "id": ""})
    read, original = [], fast_lane.read_receipt
    monkeypatch.setattr(fast_lane, "read_receipt", lambda path: read.append(path) or original(path))
    assert last_cursor(settings.lake, feed, part) == Cursor("19", "")
    assert len(read) == 1


def test_only_hourly_open311_feeds_take_the_fast_lane(declare, settings):
    declare("tinyville", cadence="hourly", portal="open311", source=SOURCE)
    declare("tinyville", feed="slow", cadence="daily", portal="open311", source=SOURCE)
    declare("tinyville", feed="bulk", cadence="hourly")
    folder = declare("made_up", cadence="hourly", portal="open311", source=SOURCE, is_simulated=True)
    cities = load_cities([folder], {})
    real, simulated = fast_lane_sensors(cities, settings.lake, settings.clock)
    assert (real.name, simulated.name) == ("fast_lane", "fast_lane_simulated")
    assert real.minimum_interval_seconds == 15
    assert real.default_status == dg.DefaultSensorStatus.RUNNING
    assert simulated.default_status == dg.DefaultSensorStatus.STOPPED
    assert [feed.id for feed, _ in fast_feeds(cities, is_simulated=False)] == ["requests"]
    assert [job.name for job in fast_lane_jobs(cities)] == [FAST_LANE]
    without = load_cities([declare("tinyville")], {})
    assert fast_lane_jobs({"tinyville": without["tinyville"].model_copy(update={"feeds": {}})}) == []


def test_records_are_told_apart_whatever_they_are_written_in():
    one = Page(b'[{"id": 1, "status": "open"}, {"id": 2}]', 2, None)
    other = Page(b'[{"id": 2}, {"status": "open", "id": 1}]', 2, None)
    closed = Page(b'[{"id": 1, "status": "closed"}, {"id": 2}]', 2, None)
    assert set(hashes(one)) == set(hashes(other))
    assert len(set(hashes(one)) & set(hashes(closed))) == 1
    body = (
        b"<service_requests><request><id>1</id></request>\n<request><id>2</id></request></service_requests>"
    )
    assert len(set(hashes(Page(body, 2, None, records="request", content="xml")))) == 2


class Open311(BaseHTTPRequestHandler):
    paths: ClassVar[list[str]] = []
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.paths.append(self.path)
        rows = [{"service_request_id": "1", "status": "open", "requested_datetime": "2026-01-02T05:00:00Z"}]
        body = json.dumps(rows).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def test_a_look_asks_the_portal_over_the_wire(declare, settings):
    pytest.importorskip("assets.ingest.portals.open311")
    server = HTTPServer(("127.0.0.1", 0), type("Handler", (Open311,), {"paths": []}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    source = f"http://127.0.0.1:{server.server_port}/open311/v2"
    try:
        [(feed, part)] = fast_feeds(
            load_cities([declare("tinyville", cadence="hourly", portal="open311", source=source)], {}),
            is_simulated=False,
        )
        since = settings.clock.now() - timedelta(hours=2)
        cursor = Cursor(f"{since:%Y-%m-%dT%H:%M:%SZ}")
        found = records_after(settings.lake, feed, part, cursor, settings.clock.now())
        assert len(found) == 1
        calls = len(server.RequestHandlerClass.paths)
        assert 1 <= calls <= 4, server.RequestHandlerClass.paths
    finally:
        server.shutdown()
        server.server_close()
