"""What the quality tables say of feeds: attempts, freshness and advice, where rows went, grades."""

import ast
import csv
from datetime import datetime, timedelta
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
moment = datetime.fromisoformat
NOW = moment("2024-06-10 12:00")
CITY = "mid"


def hours(number: float) -> datetime:
    return NOW + timedelta(hours=number)


def request(source_id: str, **said: str | None) -> dict[str, str | None]:
    return {"source_id": source_id, "requested_at": "2024-06-10T05:00:00", "status": "Open"} | said


class Story:
    """One feed of requests whose attempts are told one after another."""

    def __init__(self, lake, feed: str, **said: object) -> None:
        self.lake, self.feed = lake, feed
        lake.feed(CITY, feed, "service_request", **({"event_type": "pothole"} | said))
        lake.status(CITY, feed, "Open", "open")

    def land(self, at: datetime, rows, **said: object) -> None:
        self.lake.land(CITY, self.feed, "service_request", at, rows, **said)

    def fails(self, at: datetime, error_type: str | None, **said: object) -> None:
        known = {"outcome": "failed", "error_type": error_type, "message": f"{error_type} at {at:%H:%M}"}
        self.lake.attempt(CITY, self.feed, "service_request", at, **(known | said))


def stories(lake) -> None:
    current = Story(lake, "current")
    current.land(hours(0), [request("a", category="Hole"), request("b", status="Limbo")])
    schema_change = {"column": "depth", "change": "removed", "before": "number", "after": None}
    current.lake.attempt(
        CITY,
        "current",
        "service_request",
        hours(1),
        outcome="unchanged",
        delivered_at=hours(1),
        mode="incremental",
        cursor_from={"updated_at": "2024-06-10"},
        polls=4,
        first_attempted_at=hours(0.25),
        calls=8,
        schema_changes=[schema_change | {"is_mapped": False}],
    )

    half = Story(lake, "half")
    for part in ("good", "bad"):
        half.land(hours(-72), [request(f"{part} 1")], part=part)
    half.fails(hours(-48), "SourceUnreachable", part="bad")
    half.land(hours(-40), [request("bad 2")], part="bad")
    half.fails(hours(-24), "Http503", part="bad", polls=3, first_attempted_at=hours(-26))
    half.fails(hours(0), "Unauthorised", part="bad")
    half.land(hours(0), [request("good 2")], part="good")

    # What is no longer declared cannot fail; its rows stay.
    retired = Story(lake, "retired")
    for part in ("kept", "dropped"):
        retired.land(hours(0), [request(part)], part=part)
    retired.fails(hours(1), "DatasetGone", part="dropped")

    replayed = Story(lake, "replayed")
    replayed.fails(hours(-2), "GateFailed", outcome="blocked", sha="a" * 64)
    replayed.land(hours(0), [request("a"), request("b")], receipt={"action": "replay"})

    unsettled = Story(lake, "unsettled")
    unsettled.land(hours(-3), [request("a")])
    unsettled.fails(hours(-2), "ColumnsGone", outcome="blocked")
    unsettled.land(hours(-1), [request("a")], receipt={"action": "replay", "rows_in_file": 2})

    # A changed declaration rebuilds the part first, in the same run; what is fetched then is refused.
    refused = Story(lake, "refused_after_replay")
    refused.land(hours(-3), [request("a")])
    refused.land(hours(0), [request("a")], receipt={"action": "replay", "rows_in_file": 2})
    refused.fails(hours(0), "GateFailed", outcome="blocked", sha="a" * 64)

    # A replay settles what was refused; the next failure begins anew.
    anew = Story(lake, "fails_anew")
    anew.fails(hours(-3), "GateFailed", outcome="blocked", sha="a" * 64)
    anew.land(hours(-2), [request("a")], receipt={"action": "replay"})
    anew.fails(hours(-1), "Http500")

    Story(lake, "never").fails(hours(0), None)

    # Attempts go on, records do not: late, however often it is fetched.
    asleep = Story(lake, "asleep")
    asleep.land(hours(-100), [request("a", requested_at="2024-06-01")])
    lake.attempt(CITY, "asleep", "service_request", hours(0), outcome="unchanged", delivered_at=hours(0))

    # An old case that is touched shows that the publisher is at work.
    touched = Story(lake, "touched")
    old = request("a", requested_at="2024-06-01")
    touched.land(hours(0), [old | {"updated_at": "2024-06-10", "category": "Hole", "agency": "Works"}])

    again = Story(lake, "same_bytes_again")
    again.land(hours(0), [request("a")], receipt={"sha": "b" * 64})
    again.land(hours(1), [request("a", status="Closed")], receipt={"sha": "c" * 64})
    again.land(hours(2), [request("a")], receipt={"sha": "b" * 64})

    # Three deliveries; a replay wrote them anew and says what they come to; then another delivery.
    rebuilt = Story(lake, "rebuilt")
    for number in range(3):
        wrong_before = {"rows_in_file": 5, "rows_raw": 5}
        told = [request(str(number))]
        rebuilt.land(hours(number), told, rows_unchanged=number, receipt=wrong_before)
    totals = {"outcome": "landed", "rows_in_file": 6, "rows_raw": 3, "rows_unchanged": 3}
    lake.attempt(
        CITY, "rebuilt", "service_request", hours(4), action="replay", delivered_at=hours(2), **totals
    )
    rebuilt.land(hours(5), [request("4")], rows_unchanged=3)

    graded = Story(lake, "graded", cadence="yearly")
    placed = {"location_quality": "ok", "category": "Hole", "agency": "Works", "address": "1 Elm St"}
    told = [request(str(number), **placed) for number in range(8)]
    told += [
        request("8", **placed) | {"location_quality": "zero", "agency": None},
        request("9", **placed) | {"requested_at": "soon"},
    ]
    graded.land(hours(0), told)
    graded.land(hours(1), [], absent={"0": 1}, rows_unchanged=9)
    lake.exclude(CITY, "graded", moment("2024-01-01").date(), moment("2024-02-01").date())


@pytest.fixture(scope="module")
def home(tiny_lake, built):
    lake = tiny_lake("feed_quality")
    lake.city(CITY, "America/Chicago")
    stories(lake)
    lake.declared["parts"] = [row for row in lake.declared["parts"] if row["part"] != "dropped"]
    lake.write()
    return built(lake, until_core=True)


@pytest.fixture(scope="module")
def freshness(home, rows):
    return {row["feed"]: row for row in rows(home, "select * from quality.feed_freshness")}


@pytest.mark.parametrize(
    ("feed", "verdict", "since", "error_type"),
    [
        ("current", "current", None, None),
        ("half", "failing", hours(-26), "Unauthorised"),
        ("retired", "current", None, None),
        ("replayed", "current", None, None),
        ("unsettled", "blocked", hours(-2), "ColumnsGone"),
        ("refused_after_replay", "blocked", hours(0), "GateFailed"),
        ("fails_anew", "failing", hours(-1), "Http500"),
        ("never", "never_landed", hours(0), "other"),
        ("asleep", "late", None, None),
        ("touched", "current", None, None),
    ],
)
def test_a_verdict_says_since_when_and_why(freshness, feed, verdict, since, error_type):
    found = freshness[feed]
    assert (found["verdict"], found["failing_since_at"], found["last_error_type"]) == (
        verdict,
        since,
        error_type,
    )
    assert (found["advice"] is None) is (error_type is None)


def test_the_advice_fits_the_error_and_the_message_is_the_newest(freshness):
    half = freshness["half"]
    assert half["last_error_message"] == "Unauthorised at 12:00"
    assert "token" in half["advice"]
    assert (half["parts_failing"], half["parts_blocked"]) == (1, 0)


def test_freshness_is_that_of_the_newest_record(freshness):
    assert freshness["asleep"]["is_stale"] is True
    assert freshness["touched"]["is_stale"] is False
    assert freshness["touched"]["newest_record_at"] == moment("2024-06-10 05:00")
    assert freshness["touched"]["newest_event_at"] == moment("2024-06-01 05:00")
    # A portal that fails hides neither that its records are new nor that they are old.
    assert freshness["half"]["is_stale"] is False


def test_an_attempt_is_told_whole(home, rows):
    [fetch] = rows(
        home,
        "select * from quality.feed_fetches where feed = 'current' and outcome = 'unchanged'",
    )
    assert (fetch["mode"], fetch["polls"], fetch["calls"]) == ("incremental", 4, 8)
    assert fetch["cursor_from"] == '{"updated_at": "2024-06-10"}'
    assert (fetch["first_attempted_at"], fetch["attempted_at"]) == (hours(0.25), hours(1))


def test_a_change_of_columns_is_told_with_the_fetch_that_saw_it(home, rows):
    [change] = rows(home, "select * from quality.feed_schema_changes")
    assert (change["feed"], change["column_name"], change["change"]) == ("current", "depth", "removed")
    assert (change["type_before"], change["type_after"], change["is_mapped"]) == ("number", None, False)


def test_what_is_not_mapped_is_counted_with_its_share(home, rows):
    [status] = rows(home, "select * from quality.unmapped_statuses where feed = 'current'")
    assert (status["source_status"], status["n_events"], status["events_share"]) == ("Limbo", 1, 0.5)


def test_rows_are_accounted_for_over_repeats_and_replays(home, rows):
    found = {row["feed"]: row for row in rows(home, "select * from quality.reconciliation")}
    assert found["same_bytes_again"]["rows_in_file"] == 3
    assert (found["rebuilt"]["rows_in_file"], found["rebuilt"]["rows_unchanged"]) == (10, 6)
    assert {feed: row["is_reconciled"] for feed, row in found.items() if not row["is_reconciled"]} == {}


def test_a_grade_is_that_of_the_weakest_part(home, rows):
    grades = {row["feed"]: row for row in rows(home, "select * from quality.dataset_grades")}
    graded = grades["graded"]
    assert graded["location_score"] == pytest.approx(8 / 9)
    assert graded["completeness_score"] == pytest.approx(35 / 36)
    assert graded["missing_score"] == pytest.approx(8 / 9)
    assert graded["quarantine_score"] == pytest.approx(0.9)
    assert (graded["exclusion_score"], graded["mapping_score"], graded["freshness_score"]) == (1, 1, 1)
    assert (graded["grade"], graded["weakest_part"]) == ("B", "location")
    assert graded["weakest_score"] == pytest.approx(8 / 9)
    assert (grades["never"]["grade"], grades["never"]["weakest_part"]) == ("D", "freshness")
    assert grades["never"]["mapping_score"] is None
    assert (grades["touched"]["grade"], grades["touched"]["weakest_part"]) == ("A", None)
    assert (grades["asleep"]["grade"], grades["asleep"]["freshness_score"]) == ("C", 0.6)
    # Nothing of this feed has a place; that is no fault of its rows.
    assert grades["touched"]["location_score"] is None


def break_nothing(folder: Path) -> None:
    """Leave the lake as it landed."""


def lose_a_raw_file(folder: Path) -> None:
    """Take away what one delivery brought."""
    sorted(folder.glob("raw/service_request/city=mid/feed=deltas/*.parquet"))[-1].unlink()


@pytest.mark.parametrize(
    ("fault", "verdict"), [(break_nothing, "pass"), (lose_a_raw_file, "fail")], ids=["whole", "lost"]
)
def test_a_delta_that_is_lost_fails_the_build(tiny_lake, dbt, fault, verdict):
    lake = tiny_lake(f"deltas_{verdict}")
    lake.city(CITY, "America/Chicago")
    story = Story(lake, "deltas")
    story.land(hours(0), [request("a"), request("b")])
    story.land(hours(1), [request("a", status="Closed")], rows_unchanged=1)
    lake.write()
    fault(lake.home / "lake")
    rule = "every_landed_row_is_accounted_for"
    statuses = dbt(lake.home, "build", "--select", f"+{rule}", "--indirect-selection", "empty")
    assert statuses[rule] == verdict


def error_types() -> set[str]:
    """Return the error types that ingest names literally."""
    found = set()
    for path in (ROOT / "assets" / "ingest").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "DeliveryError" and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    found.add(first.value)
    return found


def test_every_error_of_ingest_has_advice():
    with (ROOT / "dbt_project/seeds/fetch_errors.csv").open(encoding="utf-8", newline="") as file:
        advised = {row["error_type"] for row in csv.DictReader(file)}
    assert len(error_types()) > 10
    assert sorted(error_types() - advised) == []
