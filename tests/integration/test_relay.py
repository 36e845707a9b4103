"""From a record at an Open311 portal to a signed message at an agency, through the sensor, on loopback."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest
import shapely
from typer.testing import CliRunner

from assets.ingest.feed import City, Feed
from assets.ingest.landing import land_feed
from assets.relay import relaying
from assets.relay.deliveries import deliveries_folder
from assets.simulate.serving.server import serve
from assets.simulate.serving.store import Column, Dataset, Store
from orchestration import settings as settings_module
from orchestration.alert_lane import alert_lane_sensor
from orchestration.cli import app
from orchestration.fast_lane import FAST_LANE
from orchestration.run_job import job_origin
from orchestration.settings import Settings, load_settings
from tests.alert_receiver import Receiver, receiving
from tests.declared_feed import declared_feed, declared_town
from tests.unit.relay.town import CITY, NOW, Town

SECRET = "q7-Only-For-Tests-Wd3"
COLUMNS = {
    "source_id": "service_request_id",
    "category": "service_name",
    "status": "status",
    "requested_at": "requested_datetime",
    "x": "long",
    "y": "lat",
}
#: Who is told of a flood beside a school, by the rule that is built in.
TOLD = ["fire", "planning", "schools", "transportation", "water"]


class Lane:
    """A town with a snapshot, its live portal, a receiver that can be down, and the sensor."""

    def __init__(self, folder: Path, base: str, store: Store, receiver: Receiver) -> None:
        self.folder, self.base, self.store, self.receiver = folder, base, store, receiver
        self.town = Town(folder / "home")
        self.town.asset("school", "Shore School", shapely.LineString([(100, 0), (101, 0)]))
        self.town.asset("traffic_signal", "S1", shapely.LineString([(5, 0), (6, 0)]))
        self.town.publish()
        feed = declared_feed(
            city=CITY,
            id="live",
            portal="open311",
            cadence="hourly",
            live_tail_of="requests",
            columns=COLUMNS,
            statuses={"open": "open", "closed": "closed"},
            parts=[{"id": "live", "source": f"{base}/open311/v2", "format": "json"}],
        )
        self.city = declared_town(folder, feed).model_copy(update={"id": CITY})
        self.feed: Feed = feed
        self.subscriptions = folder / "subscriptions.yaml"
        self.declare(receiver.url)
        land_feed(self.lake, self.city, feed, now=store.now)
        self.cursor: str | None = None

    @property
    def lake(self):
        return self.town.lake

    @property
    def settings(self) -> Settings:
        return load_settings(
            {
                "CITYSIGNAL_HOME": str(self.folder / "home"),
                "CITYSIGNAL_CLOCK": self.store.now.replace(tzinfo=UTC).isoformat(),
                "CITYSIGNAL_SUBSCRIPTIONS": str(self.subscriptions),
            }
        )

    def declare(self, url: str, **more: str) -> None:
        said = {"id": "everyone", "url": url, "secret_env": "RELAY_SECRET", **more}
        self.subscriptions.write_text(json.dumps({"subscriptions": [said]}), encoding="utf-8")

    def report(self, name: str, x: float, *, category: str = "Water on Street") -> None:
        place = self.town.place(x, 0)
        self.store.find("open311", "requests").insert(
            [
                {
                    "service_request_id": name,
                    "service_name": category,
                    "requested_datetime": self.store.now - timedelta(seconds=20),
                    "status": "open",
                    "lat": place["lat"],
                    "long": place["lon"],
                }
            ]
        )

    def tick(self, instance: dg.DagsterInstance, **later: float) -> str:
        self.store.advance(timedelta(**(later or {"seconds": 15})))
        cities: dict[str, City] = {CITY: self.city}
        sensor = alert_lane_sensor(cities, [(self.feed, self.feed.parts[0])], self.settings)
        context = dg.build_sensor_context(instance=instance, cursor=self.cursor)
        said = sensor(context).skip_message
        self.cursor = context.cursor
        return said

    def taken(self) -> list[dict]:
        return [json.loads(self.receiver.bodies[name]) for name in self.receiver.taken]

    def citysignal(self, *arguments: str):
        return CliRunner().invoke(app, ["alerts", *arguments])


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def lane(tmp_path, monkeypatch) -> Iterator[Lane]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("RELAY_SECRET", SECRET)
    store = Store(NOW.replace(tzinfo=None))
    columns = [
        Column("service_request_id"),
        Column("requested_datetime", "fixed_timestamp"),
        Column("service_name"),
        Column("status"),
        Column("lat", "number"),
        Column("long", "number"),
    ]
    store.add(Dataset("open311", "requests", "Requests", columns, "service_request_id", "requested_datetime"))
    with serve(store) as base, receiving(Receiver(SECRET)) as receiver:
        lane = Lane(tmp_path, base, store, receiver)
        for name, value in {
            "CITYSIGNAL_HOME": lane.settings.home,
            "CITYSIGNAL_SUBSCRIPTIONS": lane.subscriptions,
            "COLUMNS": "220",
        }.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setattr(settings_module, "instant", lambda *said: store.now.replace(tzinfo=UTC))
        yield lane


def busy(instance: dg.DagsterInstance) -> None:
    """Let a run of the fast lane wait for a build, as it does for the minutes that one takes."""

    @dg.op
    def nothing():
        pass

    @dg.job(name=FAST_LANE)
    def tiny():
        nothing()

    instance.create_run_for_job(
        tiny, status=dg.DagsterRunStatus.QUEUED, remote_job_origin=job_origin(FAST_LANE)
    )


def test_a_flood_reaches_every_agency_while_the_landing_waits_for_a_build(lane, instance):
    busy(instance)
    assert lane.tick(instance) == "Nothing is new."
    lane.report("flood", 0)
    said = lane.tick(instance)
    assert said == "5 alerts raised; everyone: 5 delivered"
    assert sorted(one["agency"] for one in lane.taken()) == TOLD
    [fire] = [one for one in lane.taken() if one["agency"] == "fire"]
    assert [school["asset_id"] for school in fire["context"]["schools"]] == ["Shore School"]
    assert lane.tick(instance) == "Nothing is new."
    rows = pq.read_table(deliveries_folder(lane.lake)).to_pylist()
    assert len(rows) == 5
    assert all(
        timedelta(0) <= row["delivered_at"] - row["available_at"] < timedelta(seconds=60) for row in rows
    )
    assert not list((lane.lake.home / "lake" / "raw").rglob("city=mid/feed=live/*.parquet"))


def test_files_of_the_alerts_are_there_and_go_when_they_end(lane, instance):
    lane.report("flood", 0)
    lane.tick(instance)
    folder = lane.lake.home / "alerts" / CITY
    assert sorted(path.parent.name for path in folder.glob("*/*.cap.xml")) == TOLD
    assert len(json.loads((folder / "alerts.geojson").read_bytes())["features"]) == 5
    lane.tick(instance, hours=25)
    assert not list(folder.glob("*/*.cap.xml"))
    assert json.loads((folder / "alerts.geojson").read_bytes())["features"] == []


def test_a_second_report_is_an_update_and_a_pothole_no_business_of_the_fire_brigade(lane, instance):
    lane.report("flood", 0)
    lane.tick(instance)
    lane.report("again", 30)
    lane.report("hole", 5000, category="Pothole")
    lane.tick(instance)
    updates = [one for one in lane.taken() if one["revision"] == 2]
    assert sorted(one["agency"] for one in updates) == TOLD
    assert {len(one["event_keys"]) for one in updates} == {2}
    assert "fire" not in {one["agency"] for one in lane.taken() if one["event_type"] == "pothole"}


def test_a_receiver_that_was_down_for_an_hour_gets_all_of_it_in_order_once(lane, instance):
    lane.report("first", 0)
    lane.tick(instance)
    up = lane.receiver.url
    lane.declare("http://127.0.0.1:9/alerts")
    for number in range(4):
        lane.report(f"flood {number}", 5000.0 * (number + 1))
        assert "does not take alerts: ConnectError" in lane.tick(instance, minutes=15)
    assert len(lane.taken()) == 5
    waiting = lane.citysignal()
    assert waiting.exit_code == 1
    assert "ConnectError" in waiting.stdout
    lane.declare(up)
    lane.tick(instance, minutes=3)
    told = lane.taken()
    assert len(told) == len(lane.receiver.posts) == 5 + 4 * 4, (
        "beside no school but the first, schools are not told"
    )
    assert [one["alerted_at"] for one in told] == sorted(one["alerted_at"] for one in told)


def test_what_was_refused_for_good_is_shown_and_replayed_from_the_command_line(lane, instance):
    lane.report("flood", 0)
    lane.receiver.answers.extend([410] * 5)
    assert "5 messages to everyone were given up" in lane.tick(instance)
    shown = lane.citysignal()
    assert shown.exit_code == 1
    assert shown.stdout.count("HTTP 410 (1 attempts)") == 5
    done = lane.citysignal("--replay")
    assert done.exit_code == 0, done.output
    assert "everyone: 5 dead letters put back, 5 messages delivered" in done.stdout
    assert len(lane.taken()) == 5
    assert lane.citysignal("--replay").exit_code == 0


def test_an_alert_is_acknowledged_from_the_command_line(lane, instance):
    lane.report("flood", 0)
    lane.tick(instance)
    name = lane.taken()[0]["alert_id"]
    assert lane.citysignal("--acknowledge", name).exit_code == 0
    lane.tick(instance)
    features = json.loads((lane.lake.home / "alerts" / CITY / "alerts.geojson").read_bytes())["features"]
    seen = {feature["id"]: feature["properties"]["acknowledged_at"] for feature in features}
    assert [key for key, at in seen.items() if at] == [name]
    unknown = lane.citysignal("--acknowledge", "f" * 32)
    assert unknown.exit_code == 1
    assert "is no alert; take the id from" in unknown.output


def test_what_is_declared_wrongly_is_said_with_file_key_and_remedy(lane):
    lane.declare("http://agency.example/alerts")
    done = lane.citysignal()
    assert done.exit_code == 1
    assert "subscriptions.yaml: subscriptions[0].url: is neither https nor on this machine" in done.output
    assert len(done.output.splitlines()) == 1
    check = CliRunner().invoke(app, ["check"])
    assert check.exit_code == 1
    assert "subscriptions[0].url" in check.stdout


def test_alerts_are_raised_and_wait_while_the_subscriptions_are_declared_wrongly(lane, instance):
    lane.report("flood", 0)
    lane.declare(lane.receiver.url, agency="fire")
    said = lane.tick(instance)
    assert "subscriptions[0].agency: unknown key; did you mean agencies?" in said
    assert "5 alerts raised" in said
    lane.declare(lane.receiver.url)
    assert lane.tick(instance) == "everyone: 5 delivered"


def test_a_receiver_that_hangs_holds_its_own_line_only(lane, instance):
    has_come, was_held = threading.Event(), []

    class Hanging(Receiver):
        def receive(self, headers, body):
            was_held.append(not has_come.wait(4))
            return 204

    class Prompt(Receiver):
        def receive(self, headers, body):
            has_come.set()
            return super().receive(headers, body)

    lane.report("flood", 0)
    with receiving(Hanging(SECRET)) as hanging, receiving(Prompt(SECRET)) as prompt:
        said = [
            {"id": name, "url": one.url, "secret_env": "RELAY_SECRET"}
            for name, one in (("hanging", hanging), ("prompt", prompt))
        ]
        lane.subscriptions.write_text(json.dumps({"subscriptions": said}), encoding="utf-8")
        lane.tick(instance)
    assert was_held == [False] * 5


def test_without_subscriptions_a_replay_has_nobody_to_send_to(lane, monkeypatch):
    monkeypatch.delenv("CITYSIGNAL_SUBSCRIPTIONS")
    assert lane.citysignal().exit_code == 0
    done = lane.citysignal("--replay")
    assert done.exit_code == 2
    assert "CITYSIGNAL_SUBSCRIPTIONS" in done.output


def test_a_city_that_is_not_declared_is_wrong_usage(lane):
    done = lane.citysignal("--city", "simulatd")
    assert done.exit_code == 2
    assert "did you mean simulated?" in done.output


def test_without_its_secret_the_lane_says_so_and_nothing_is_lost(lane, instance, monkeypatch):
    lane.report("flood", 0)
    monkeypatch.delenv("RELAY_SECRET")
    assert "the variable RELAY_SECRET is not set; put the secret" in lane.tick(instance)
    monkeypatch.setenv("RELAY_SECRET", SECRET)
    assert lane.tick(instance) == "everyone: 5 delivered"


def test_the_secret_is_in_no_file_of_the_home_whatever_happened(lane, instance):
    lane.report("flood", 0)
    lane.receiver.answers.extend([204, 410, 503, 503, 503])
    lane.tick(instance)
    home = lane.settings.home
    assert [path for path in home.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()] == []


def test_a_killed_round_raises_nothing_twice(lane, instance, monkeypatch):
    """Killed after the alerts are stored, or after the files, before anything is sent."""
    lane.report("flood", 0)
    for name in ("publish_alerts", "_deliver"):

        def cut_off(*said, **more):
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(relaying, name, cut_off)
            with pytest.raises(KeyboardInterrupt):
                lane.tick(instance)
    assert lane.tick(instance) == "everyone: 5 delivered"
    assert len(lane.receiver.posts) == 5


def test_a_quiet_round_reads_no_alerts_and_one_that_was_cut_off_does(lane, instance, monkeypatch):
    lane.report("flood", 0)
    lane.tick(instance)

    def unread(*said, **more):
        raise AssertionError

    with monkeypatch.context() as patched:
        patched.setattr(relaying, "read_alerts", unread)
        lane.tick(instance)
        with pytest.raises(AssertionError):
            lane.tick(instance, minutes=6)
    assert lane.tick(instance) == "Nothing is new."


def test_the_lane_of_simulated_cities_waits_to_be_turned_on(lane):
    parts = [(lane.feed, lane.feed.parts[0])]
    statuses = {
        flag: alert_lane_sensor({}, parts, lane.settings, is_simulated=flag).default_status
        for flag in (False, True)
    }
    assert statuses == {
        False: dg.DefaultSensorStatus.RUNNING,
        True: dg.DefaultSensorStatus.STOPPED,
    }


def test_times_of_a_delivery_are_told_as_they_were(lane, instance):
    before = lane.store.now
    lane.report("flood", 0)
    lane.tick(instance)
    row = pq.read_table(deliveries_folder(lane.lake)).to_pylist()[0]
    assert row["reported_at"] == before - timedelta(seconds=20)
    assert row["available_at"] == row["alerted_at"] == row["delivered_at"] == before + timedelta(seconds=15)
    assert row["attempts"] == 1
    assert isinstance(row["delivered_at"], datetime)
