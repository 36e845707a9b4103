"""Alerts through time: rolled up and never repeated, taken up again, ended, and the same after a kill."""

import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assets.ingest.alert_tables import alerts_folder
from assets.ingest.lake import Lake
from assets.relay import alerting, reports
from assets.relay.alert import Alert, Message
from assets.relay.alert_store import (
    UnknownAlertError,
    acknowledge,
    read_acknowledgements,
    read_alerts,
    store_alerts,
)
from assets.relay.alerting import raise_alerts
from assets.relay.rules import AlertRule, load_rules
from assets.warehouse.reader import WarehouseError
from tests.unit.relay.town import CITY, NOW, Town, key, utc

AGENCIES = {"transportation", "fire", "water", "planning"}
WATER, LIGHT = "Water on Street", "Light Out"


def hours(count: float) -> timedelta:
    return timedelta(hours=count)


@pytest.fixture(scope="module")
def rules() -> tuple[AlertRule, ...]:
    return load_rules()


@pytest.fixture
def town(tmp_path: Path) -> Town:
    town = Town(tmp_path)
    town.publish()
    return town


@pytest.fixture
def step(town: Town, rules) -> Callable[..., list[Alert]]:
    """Return what lands some rows at a time, then raises and stores; it gives the new revisions."""

    def land_and_raise(at: datetime, *rows: dict, feed: str = "live") -> list[Alert]:
        if rows:
            town.land(rows, at, feed=feed)
        raised = raise_alerts(town.lake, rules, now=at)
        assert store_alerts(town.lake, raised) == sorted(raised, key=lambda one: (one.alert_id, one.revision))
        return raised

    return land_and_raise


def standing(alerts: Iterable[Alert], at: datetime) -> list[Alert]:
    """Return the newest revision of each alert that is not over."""
    newest = {one.alert_id: one for one in alerts}
    return [one for one in newest.values() if not one.is_over(at)]


def summary(alerts: Iterable[Alert]) -> set[tuple[Message, int, int]]:
    return {(one.message, one.revision, len(one.event_keys)) for one in alerts}


def test_a_further_report_updates_the_alerts_and_raises_none(town: Town, step) -> None:
    first = step(NOW, town.request("A", WATER, 0, 0, NOW - hours(1)))
    assert summary(first) == {(Message.ALERT, 1, 1)}
    assert {one.agency for one in first} == AGENCIES
    second = step(NOW + hours(1), town.request("B", WATER, 60, 0, NOW + hours(0.5)))
    assert summary(second) == {(Message.UPDATE, 2, 2)}
    assert {one.alert_id for one in second} == {one.alert_id for one in first}
    assert {one.headline for one in second} == {"Flooding reported: 2 reports"}
    assert {one.expires_at for one in second} == {NOW + hours(24.5)}
    assert step(NOW + hours(2)) == []
    assert len(standing(read_alerts(town.lake), NOW + hours(2))) == len(AGENCIES)


def test_without_roll_up_the_same_reports_are_told_twice(town: Town, rules) -> None:
    """The twin of the test before."""
    flood = next(rule for rule in rules if rule.id == "flooded_intersection")
    apart = flood.model_copy(update={"roll_up": flood.roll_up.model_copy(update={"within_m": 1.0})})
    town.land([town.request(name, WATER, x, 0, NOW - hours(1)) for name, x in (("A", 0), ("B", 60))], NOW)
    assert len(raise_alerts(town.lake, [flood], now=NOW)) == len(AGENCIES)
    assert len(raise_alerts(town.lake, [apart], now=NOW)) == 2 * len(AGENCIES)


def test_latency_counts_from_the_report_and_from_when_the_portal_showed_it(town: Town, step) -> None:
    town.land([town.request("A", WATER, 0, 0, NOW - hours(1))], NOW - timedelta(seconds=40))
    for alert in step(NOW):
        assert alert.reported_at == NOW - hours(1)
        assert alert.available_at == NOW - timedelta(seconds=40)
        assert alert.alerted_at == NOW
        assert alert.event_key == key(CITY, "requests", "A")


def test_an_earlier_report_that_comes_late_joins_the_alert_that_was_told(town: Town, step) -> None:
    told = step(NOW, town.request("B", WATER, 0, 0, NOW - hours(1)))
    late = step(NOW + hours(1), town.request("A", WATER, 30, 0, NOW - hours(2)))
    assert summary(late) == {(Message.UPDATE, 2, 2)}
    assert {one.alert_id for one in late} == {one.alert_id for one in told}
    assert {one.reported_at for one in late} == {NOW - hours(2)}


def test_two_alerts_that_turn_out_to_be_of_one_happening_become_one(town: Town, step) -> None:
    """Both are too far from each other, and near to an earlier report that comes late."""
    told = step(
        NOW,
        town.request("B", WATER, 0, 0, NOW - hours(2)),
        town.request("C", WATER, 160, 0, NOW - hours(1)),
    )
    assert len(told) == 2 * len(AGENCIES)
    joined = step(NOW + hours(1), town.request("A", WATER, 80, 0, NOW - hours(3)))
    assert summary(joined) == {(Message.UPDATE, 2, 3), (Message.CANCEL, 2, 1)}
    left = standing(read_alerts(town.lake), NOW + hours(1))
    assert {one.agency for one in left} == AGENCIES
    assert len(left) == len(AGENCIES)
    for one in joined:
        if one.message is Message.CANCEL:
            (why,) = one.context["ended"]
            assert why["joined"] in {each.alert_id for each in left}
    assert step(NOW + hours(2)) == []


def test_an_alert_is_cancelled_when_all_its_reports_are_closed_and_taken_up_when_one_is_not(
    town: Town, step
) -> None:
    a, b = (town.request(name, WATER, 0, 0, NOW - hours(1)) for name in "AB")
    closed = {"status": "closed"}
    step(NOW, a, b)
    assert step(NOW + hours(1), a | closed) == []
    ended = step(NOW + hours(2), b | closed)
    assert summary(ended) == {(Message.CANCEL, 2, 2)}
    assert {one.context["ended"][0]["why"] for one in ended} == {"every report is closed"}
    assert standing(read_alerts(town.lake), NOW + hours(2)) == []
    assert step(NOW + hours(3)) == []
    again = step(NOW + hours(4), town.request("C", WATER, 5, 0, NOW + hours(3.5)))
    assert summary(again) == {(Message.UPDATE, 3, 3)}


def test_an_alert_whose_report_is_of_another_type_now_is_cancelled(town: Town, step) -> None:
    step(NOW, town.request("A", WATER, 0, 0, NOW - hours(1)))
    ended = step(NOW + hours(1), town.request("A", "Graffiti", 0, 0, NOW - hours(1)))
    assert summary(ended) == {(Message.CANCEL, 2, 1)}
    assert step(NOW + hours(2)) == []


def test_what_ran_out_is_neither_told_nor_cancelled(town: Town, step) -> None:
    row = town.request("A", WATER, 0, 0, NOW - hours(1))
    step(NOW, row)
    assert standing(read_alerts(town.lake), NOW + hours(22)) != []
    assert standing(read_alerts(town.lake), NOW + hours(23)) == []
    assert step(NOW + hours(23), row | {"status": "closed"}) == []
    assert step(NOW + hours(24), town.request("B", WATER, 900, 0, NOW - hours(1))) == []


def test_the_bulk_feed_tells_the_same_case_again_and_it_stays_one_report(town: Town, step) -> None:
    told = step(NOW, town.request("A", WATER, 0, 0, NOW - hours(1)))
    assert step(NOW + hours(2), town.request("A", WATER, 0, 0, NOW - hours(1)), feed="requests") == []
    assert {one.event_key for one in told} == {key(CITY, "requests", "A")}


def test_as_two_cases_the_feeds_would_tell_of_two_reports(town: Town, step, monkeypatch) -> None:
    """The twin of the test before."""
    two = reports._REPORTS.replace("coalesce(feeds.live_tail_of, told.feed)", "told.feed")
    assert two != reports._REPORTS
    monkeypatch.setattr(reports, "_REPORTS", two)
    step(NOW, town.request("A", WATER, 0, 0, NOW - hours(1)))
    again = step(NOW + hours(2), town.request("A", WATER, 0, 0, NOW - hours(1)), feed="requests")
    assert summary(again) == {(Message.UPDATE, 2, 2)}


def test_a_report_that_was_built_meanwhile_stays_the_same_report(town: Town, step) -> None:
    step(NOW, town.request("A", WATER, 0, 0, NOW - hours(1)))
    town.event("service_request", "flooding", "A", 0, 0, NOW - hours(1), feed="live", event_subtype="street")
    town.rows["fct_events"][-1] |= {"last_observed_at": utc(NOW), "first_observed_at": utc(NOW)}
    for row in town.rows["dim_feed"]:
        row["as_of_at"] = utc(NOW + hours(1))
    town.publish()
    assert step(NOW + hours(2)) == []


def test_a_record_that_a_look_saw_is_told_before_it_lands(town: Town, step) -> None:
    row = town.request("A", WATER, 0, 0, NOW - hours(1))
    path = town.lake.derived / "alerts" / "seen" / f"{CITY}.live.all" / f"{NOW:%Y-%m-%d}.parquet"
    path.parent.mkdir(parents=True)
    texts = ("source_id", "category", "subcategory", "code", "status", "requested_at", "closed_at")
    seen = {"city": CITY, "feed": "live", "seen_at": utc(NOW - timedelta(seconds=5))}
    columns = {name: [row.get(name)] for name in (*texts, "x_m", "y_m", "lon", "lat")}
    schema = {name: pa.string() for name in texts} | dict.fromkeys(("x_m", "y_m", "lon", "lat"), pa.float64())
    table = pa.table(columns, schema=pa.schema(schema))
    for name, value in seen.items():
        table = table.append_column(name, pa.array([value]))
    pq.write_table(table, path)
    told = step(NOW)
    assert {one.agency for one in told} == AGENCIES
    assert {one.available_at for one in told} == {NOW - timedelta(seconds=5)}
    assert step(NOW + hours(1), row) == []


def test_private_noise_and_deleted_records_raise_nothing(town: Town, rules) -> None:
    for name, flag in (("D", "is_deleted"), ("W", "is_withdrawn"), ("X", "is_excluded"), ("N", "is_noise")):
        town.event("service_request", "flooding", name, 0, 0, NOW - hours(1), **{flag: True})
    for category, said in (("Secret", {"is_private": True}), ("Chatter", {"is_noise": True})):
        town.tiny.category(CITY, "live", category=category, event_type="flooding", **said)
    town.publish()
    town.land([town.request("S", "Secret", 0, 0, NOW), town.request("C", "Chatter", 0, 0, NOW)], NOW)
    assert raise_alerts(town.lake, rules, now=NOW) == []


def test_a_place_that_is_not_known_raises_nothing(town: Town, rules) -> None:
    nowhere = dict.fromkeys(("lon", "lat", "x_m", "y_m")) | {"location_quality": "outside_city"}
    town.land([town.request("A", WATER, 0, 0, NOW - hours(1)) | nowhere], NOW)
    assert raise_alerts(town.lake, rules, now=NOW) == []


def test_another_agency_is_told_where_the_city_has_it_so(town: Town, rules) -> None:
    hole = next(rule for rule in rules if rule.id == "pothole")
    assert hole.tells[0].of("boston") == "public_works"
    told = hole.tells[0].model_copy(update={"in_city": {CITY: "public_works"}})
    town.land([town.request("A", "Pothole", 0, 0, NOW - hours(1))], NOW)
    raised = raise_alerts(town.lake, [hole.model_copy(update={"tells": (told,)})], now=NOW)
    assert [one.agency for one in raised] == ["public_works"]


def test_without_a_snapshot_nothing_can_be_told(town: Town, rules) -> None:
    town.lake.published_warehouse.unlink()
    with pytest.raises(WarehouseError, match="run the pipeline first"):
        raise_alerts(town.lake, rules, now=NOW)


def test_what_no_source_tells_is_said_to_be_not_told(town: Town, step) -> None:
    told = step(NOW, town.request("A", WATER, 0, 0, NOW - hours(1)))
    about = next(one.context for one in told if one.agency == "fire")
    assert about["schools"] == [{"note": f"not told: {CITY} has no inventory of type school"}]
    town.rows["dim_feed"] = [row for row in town.rows["dim_feed"] if row["kind"] == "service_request"]
    town.publish()
    told = step(NOW + hours(1), town.request("B", WATER, 900, 0, NOW))
    about = next(one.context for one in told if one.agency == "planning")
    assert about["street_permits"] == [{"note": f"not told: {CITY} has no feed of kind permit"}]


def test_an_acknowledgement_is_kept_once(town: Town, step) -> None:
    alert = step(NOW, town.request("A", WATER, 0, 0, NOW - hours(1)))[0]
    assert acknowledge(town.lake, alert.alert_id, now=NOW + hours(1)) == 1
    assert acknowledge(town.lake, alert.alert_id, now=NOW + hours(2)) == 1
    assert read_acknowledgements(town.lake) == {alert.alert_id: NOW + hours(1)}
    with pytest.raises(UnknownAlertError, match="is no alert"):
        acknowledge(town.lake, "0" * 32, now=NOW)


def test_what_is_stored_is_read_back_whole(town: Town, step) -> None:
    raised = step(NOW, town.request("A", WATER, 0, 0, NOW - hours(1)))
    stored = read_alerts(town.lake)
    assert sorted(stored, key=lambda one: one.alert_id) == sorted(raised, key=lambda one: one.alert_id)
    assert store_alerts(town.lake, raised) == []
    assert read_alerts(town.lake) == stored
    assert read_alerts(town.lake, since=NOW + timedelta(days=1)) == []


# --- whatever the order and the batches

SPOTS = (0, 40, 90, 150, 1000, 1060)


def row_of(town: Town, number: int, what: tuple[str, int, int]) -> dict:
    category, spot, minutes = what
    return town.request(f"R{number}", category, SPOTS[spot], 0, NOW - timedelta(minutes=minutes))


def last_words(lake: Lake, at: datetime, *, with_id: bool) -> list[tuple]:
    left_out = {"revision", "message", "alerted_at", "available_at"} | (set() if with_id else {"alert_id"})
    told = [one.model_dump(exclude=left_out) for one in standing(read_alerts(lake), at)]
    return sorted(tuple(sorted((name, repr(value)) for name, value in one.items())) for one in told)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    whats=st.lists(
        st.tuples(st.sampled_from((WATER, LIGHT)), st.integers(0, len(SPOTS) - 1), st.integers(1, 14 * 60)),
        min_size=4,
        max_size=14,
    ),
    seed=st.integers(0, 10**6),
    in_order=st.booleans(),
)
def test_any_order_and_any_batches_end_in_the_same_alerts(
    tmp_path_factory: pytest.TempPathFactory, rules, whats, seed: int, in_order: bool
) -> None:
    """The ids too where reports come in the order of their times; else an id that was told stays."""
    chosen = random.Random(seed)
    numbered = sorted(enumerate(whats), key=lambda one: (-one[1][2], key(CITY, "requests", f"R{one[0]}")))
    towns = [Town(tmp_path_factory.mktemp("order")) for _ in range(2)]
    for town in towns:
        town.publish()
    at_once = [row_of(towns[0], *one) for one in chosen.sample(numbered, len(numbered))]
    towns[0].land(at_once, NOW)
    later = NOW + timedelta(minutes=10)
    store_alerts(towns[0].lake, raise_alerts(towns[0].lake, rules, now=later))

    order = numbered if in_order else chosen.sample(numbered, len(numbered))
    cuts = sorted({0, len(order), *(chosen.randrange(len(order)) for _ in range(3))})
    for number, (start, stop) in enumerate(pairwise(cuts)):
        batch = [row_of(towns[1], *one) for one in order[start:stop]]
        at = NOW + timedelta(minutes=number)
        towns[1].land(chosen.sample(batch, len(batch)), at)
        if chosen.random() < 0.8:
            store_alerts(towns[1].lake, raise_alerts(towns[1].lake, rules, now=at))
    store_alerts(towns[1].lake, raise_alerts(towns[1].lake, rules, now=later))

    one, other = (last_words(town.lake, later, with_id=in_order) for town in towns)
    assert one == other
    told = [
        (alert.rule, alert.agency, alert.event_key) for alert in standing(read_alerts(towns[1].lake), later)
    ]
    assert len(set(told)) == len(told)


# --- killed anywhere

CHILD = """
import os, signal, sys
from datetime import datetime
from pathlib import Path
from assets.ingest import alert_tables
from assets.ingest.lake import Lake
from assets.relay.alerting import raise_alerts, store_alerts
from assets.relay.rules import load_rules

where, lake = sys.argv[1], Lake(Path(sys.argv[2]))
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
replace = Path.replace

def torn(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    sink = path.with_suffix(".whole")
    alert_tables.pq.write_table(table, sink)
    path.write_bytes(sink.read_bytes()[:100])
    die()

def killed(self, target):
    if where == "before the rename":
        die()
    replace(self, target)
    die()

raised = raise_alerts(lake, load_rules(), now=datetime.fromisoformat(sys.argv[3]))
if where == "before storing":
    die()
if where == "without a rename":
    import assets.relay.alert_store as store
    store.write_file = torn
Path.replace = killed
store_alerts(lake, raised)
"""


def killed_at(where: str, lake: Lake) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, where, str(lake.home), NOW.isoformat()],
        cwd=Path(__file__).parents[3],
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL


@pytest.mark.parametrize("where", ["before storing", "before the rename", "after the rename"])
def test_who_is_killed_raises_the_same_alerts_again(town: Town, rules, where: str) -> None:
    town.land([town.request(name, WATER, x, 0, NOW - hours(1)) for name, x in (("A", 0), ("B", 900))], NOW)
    wanted = raise_alerts(town.lake, rules, now=NOW)
    killed_at(where, town.lake)
    stored = read_alerts(town.lake)
    assert len(stored) in (0, len(wanted))
    later = NOW + timedelta(minutes=1)
    raised = raise_alerts(town.lake, rules, now=later)
    assert store_alerts(town.lake, raised) == sorted(raised, key=lambda one: one.alert_id)
    words = {"alerted_at"}
    ended = {one.alert_id: one.model_dump(exclude=words) for one in read_alerts(town.lake)}
    assert ended == {one.alert_id: one.model_dump(exclude=words) for one in wanted}
    assert raise_alerts(town.lake, rules, now=later) == []
    left = [path.name for path in alerts_folder(town.lake, "revisions").rglob("*.parquet")]
    assert len(left) == 1


def test_without_the_rename_a_kill_leaves_a_file_that_nobody_can_read(town: Town) -> None:
    """The twin of the test before."""
    town.land([town.request("A", WATER, 0, 0, NOW - hours(1))], NOW)
    killed_at("without a rename", town.lake)
    with pytest.raises((pa.ArrowInvalid, OSError)):
        read_alerts(town.lake)


def test_an_id_is_made_of_the_first_report_and_the_agency_alone(town: Town, rules, tmp_path_factory) -> None:
    row = town.request("A", WATER, 0, 0, NOW - hours(1))
    town.land([row], NOW)
    other = Town(tmp_path_factory.mktemp("elsewhere"))
    other.land([row, other.request("B", WATER, 10, 0, NOW - hours(0.5))], NOW + hours(1))
    other.publish()
    one = {alert.agency: alert.alert_id for alert in raise_alerts(town.lake, rules, now=NOW)}
    two = {alert.agency: alert.alert_id for alert in raise_alerts(other.lake, rules, now=NOW + hours(2))}
    assert one == two
    assert len(set(one.values())) == len(AGENCIES)


def test_a_late_joiner_would_be_told_as_a_second_alert_by_its_first_report_alone(
    town: Town, step, monkeypatch
) -> None:
    """What an id that follows the first report, whatever is stored, would do."""
    step(NOW, town.request("B", WATER, 0, 0, NOW - hours(1)))
    monkeypatch.setattr(alerting, "_by_recipient", lambda alerts: {})
    told = step(NOW + hours(1), town.request("A", WATER, 30, 0, NOW - hours(2)))
    assert summary(told) == {(Message.ALERT, 1, 2)}
    assert len(standing(read_alerts(town.lake), NOW + hours(1))) == 2 * len(AGENCIES)


def test_a_time_without_offset_is_the_citys_clock(town: Town, step) -> None:
    row = town.request("A", WATER, 0, 0, NOW) | {"requested_at": "2025-06-10T12:00:00"}
    assert {one.reported_at for one in step(NOW, row)} == {datetime(2025, 6, 10, 17, tzinfo=UTC)}
