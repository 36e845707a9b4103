"""What is new at an Open311 portal is seen once, at once, and nothing of it waits for a landing."""

from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import pytest

from assets.ingest.portals.page import Cursor
from assets.ingest.receipts import DeliveryError
from assets.relay import arrivals
from assets.relay.arrivals import look, seen_folder
from tests.portal_town import PortalTown

FIRST = Cursor("2026-03-01T10:00:00Z")


@pytest.fixture
def town(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with PortalTown("open311", tmp_path, now=datetime.fromisoformat("2026-03-01T12:00:00")) as town:
        columns = {
            "source_id": "service_request_id",
            "requested_at": "requested_datetime",
            "category": "status",
        }
        town.declared = {"columns": columns | {"x": "long", "y": "lat"}}
        yield town


def looked(town, landed: Cursor = FIRST) -> int:
    feed = town.feed
    return look(town.lake, town.city(), feed, feed.parts[0], landed, town.store.now.replace(tzinfo=UTC)).fresh


def seen(town) -> list[dict]:
    return [
        row
        for path in sorted(seen_folder(town.lake, town.feed, town.feed.parts[0]).glob("*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]


def report(town, name: str, *, minutes_ago: float = 1, status: str = "open", **said) -> None:
    at = town.store.now - timedelta(minutes=minutes_ago)
    town.dataset.insert(
        [
            {
                "service_request_id": name,
                "requested_datetime": at,
                "status": status,
                "lat": 42.0,
                "long": -87.5,
            }
            | said
        ]
    )


def test_a_record_is_seen_when_the_portal_has_it_and_once(town):
    assert looked(town) == 0
    report(town, "a")
    town.later(seconds=15)
    assert looked(town) == 1
    town.later(seconds=15)
    assert looked(town) == 0
    [row] = seen(town)
    assert (row["source_id"], row["category"], row["requested_at"][:10]) == ("a", "open", "2026-03-01")
    assert (round(row["lon"], 4), round(row["lat"], 4)) == (-87.5, 42.0)
    assert row["seen_at"] == datetime(2026, 3, 1, 12, 0, 15)  # noqa: DTZ001


def test_nothing_of_it_is_in_raw_and_no_receipt_is_written(town):
    report(town, "a")
    town.later(seconds=15)
    looked(town)
    home = town.lake.home
    assert not (home / "lake" / "raw").exists()
    assert not (home / "lake" / "landing").exists()


def test_a_look_that_is_cut_off_before_its_cursor_loses_and_repeats_nothing(town, monkeypatch):
    report(town, "a")
    town.later(seconds=15)
    real = arrivals.put

    def cut_off(path, body):
        if path.name == arrivals.LAST_LOOK:
            raise KeyboardInterrupt
        real(path, body)

    with monkeypatch.context() as patched:
        patched.setattr(arrivals, "put", cut_off)
        with pytest.raises(KeyboardInterrupt):
            looked(town)
    report(town, "b")
    town.later(seconds=15)
    assert looked(town) == 1
    assert [row["source_id"] for row in seen(town)] == ["a", "b"]


def test_a_record_that_shows_up_late_is_seen(town):
    looked(town)
    report(town, "late", minutes_ago=50)
    town.later(seconds=15)
    assert looked(town) == 1


def test_without_its_overlap_a_look_would_miss_it(town, monkeypatch):
    monkeypatch.setattr(arrivals, "LATE", timedelta())
    looked(town)
    report(town, "late", minutes_ago=50)
    town.later(seconds=15)
    assert looked(town) == 0


def test_the_same_answer_is_not_read_again(town, monkeypatch):
    report(town, "a")
    town.later(seconds=15)
    looked(town)
    read = []
    monkeypatch.setattr(arrivals, "stage_pages", lambda *said: read.append(said))
    town.later(seconds=15)
    assert looked(town) == 0
    assert read == []


def test_a_new_state_is_seen_beside_the_old_one(town):
    report(town, "a")
    town.later(seconds=15)
    looked(town)
    town.dataset.update("a", {"status": "closed"})
    town.later(seconds=15)
    assert looked(town) == 1
    assert [row["category"] for row in seen(town)] == ["open", "closed"]


def test_a_portal_that_fails_leaves_everything_as_it_was(town):
    looked(town)
    report(town, "a")
    town.later(seconds=15)
    broken = town.feed.model_copy(
        update={"parts": (town.feed.parts[0].model_copy(update={"source": "http://127.0.0.1:9/open311/v2"}),)}
    )
    with pytest.raises(DeliveryError):
        look(town.lake, town.city(), broken, broken.parts[0], FIRST, town.store.now.replace(tzinfo=UTC))
    assert looked(town) == 1


def test_after_a_long_rest_a_look_goes_on_from_where_landing_got(town, monkeypatch):
    """There are more pages since the last look than one reads: without the landing it fails for good."""
    looked(town)
    monkeypatch.setattr(arrivals, "MOST_PAGES", 1)
    at = town.store.now
    place = {"status": "open", "lat": 42.0, "long": -87.5}
    town.dataset.insert(
        [
            {"service_request_id": f"r{hour:03d}", "requested_datetime": at + timedelta(hours=hour)} | place
            for hour in range(1203)
        ]
    )
    town.later(hours=1203)
    for _ in "twice":
        with pytest.raises(DeliveryError, match="land the feed"):
            looked(town)
    landed = Cursor(f"{at + timedelta(hours=1200):%Y-%m-%dT%H:%M:%S}Z")
    assert looked(town, landed) == 4
    assert [row["source_id"] for row in seen(town)] == ["r1199", "r1200", "r1201", "r1202"]


def test_over_a_storm_no_record_is_passed_over(town):
    looked(town)
    at = town.store.now
    town.dataset.insert(
        [
            {
                "service_request_id": f"s{number:05d}",
                "requested_datetime": at + timedelta(milliseconds=500 * number),
                "status": "open",
                "lat": 42.0,
                "long": -87.5,
            }
            for number in range(1203)
        ]
    )
    town.later(minutes=12)
    assert looked(town) == 1203
