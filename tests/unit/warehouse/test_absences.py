"""What a source no longer has, what moves, what is private: deliveries of changes become the right cases."""

from datetime import date, datetime

import pytest

moment = datetime.fromisoformat
CITY, ZONE = "mid", "America/Chicago"


def day(number: int) -> datetime:
    """Return the morning of a day of June, when deliveries come."""
    return moment(f"2024-06-{number:02} 12:00")


def request(source_id: str, **said: str | None) -> dict[str, str | None]:
    return {"source_id": source_id, "requested_at": "2024-06-01T10:00:00", "status": "Open"} | said


def requests_feed(lake, feed: str, **said: object) -> None:
    if "categories" not in said:
        said = {"event_type": "pothole", **said}
    categories = said.pop("categories", ())
    lake.feed(CITY, feed, "service_request", **said)
    for category in categories:
        lake.category(CITY, feed, **category)
    for source_status, status in {"Open": "open", "Closed": "closed", "Dup": "closed_duplicate"}.items():
        lake.status(CITY, feed, source_status, status)


def vanishing(lake) -> None:
    """Keys that are missed once, twice, that come back, and that turn up under a bad time."""
    requests_feed(lake, "vanishing")
    told = [request(name) for name in ("stays", "once", "twice", "returns", " padded ", "back_unreadable")]
    told += [request("child", status="Dup", parent_id="twice")]
    lake.land(CITY, "vanishing", "service_request", day(2), told)
    names = ("twice", "returns", "padded", "back_unreadable")
    gone = dict.fromkeys(names, 1)
    lake.land(CITY, "vanishing", "service_request", day(3), [], absent=gone, rows_unchanged=3)
    gone = dict.fromkeys(names, 2) | {"once": 1}
    lake.land(CITY, "vanishing", "service_request", day(4), [], absent=gone, rows_unchanged=2)
    back = [request("returns"), request("back_unreadable", requested_at="soon")]
    lake.land(CITY, "vanishing", "service_request", day(5), back, rows_unchanged=1)


def dated_copies(lake) -> None:
    """Copies that a declaration dates: each holds as of the same moment, whenever it came."""
    requests_feed(lake, "dated")
    lake.land(CITY, "dated", "service_request", day(2), [request("gone"), request("back")])
    for misses in (1, 2):
        gone = {"gone": misses, "back": misses}
        lake.land(CITY, "dated", "service_request", day(2), [], absent=gone)
    lake.land(CITY, "dated", "service_request", day(2), [request("back")])


def moving(lake) -> None:
    """An open and a closed file: one case moves and stays, one moves and is then deleted."""
    requests_feed(lake, "moving")
    lake.land(CITY, "moving", "service_request", day(2), [request("moves"), request("leaves")], part="open")
    closed = {"status": "Closed", "closed_at": "2024-06-02T18:00:00"}
    moved = [request("moves", **closed), request("leaves", **closed)]
    lake.land(CITY, "moving", "service_request", day(3), moved, part="closed")
    for number, misses in ((3, 1), (4, 2)):
        gone = {"moves": misses, "leaves": misses}
        lake.land(CITY, "moving", "service_request", day(number), [], part="open", absent=gone)
    for number, misses in ((5, 1), (6, 2)):
        delivered = day(number)
        lake.land(CITY, "moving", "service_request", delivered, [], part="closed", absent={"leaves": misses})


def turning_private(lake) -> None:
    """A type that is private, cases that become and cease to be of it, and a label with two rules."""
    categories = [
        {"category": "Pothole", "event_type": "pothole"},
        {"category": "Encampment", "event_type": "graffiti", "is_private": True},
        {"category": "Twofold", "event_type": "graffiti"},
        {"category": "twofold ", "event_type": "graffiti", "is_private": True},
    ]
    requests_feed(lake, "turning", categories=categories)
    told = [
        request("public", category="Pothole"),
        request("private", category="Encampment"),
        request("in_doubt", category="Twofold"),
        request("there_and_back", category="Pothole"),
        request("turns_public", category="Encampment"),
    ]
    lake.land(CITY, "turning", "service_request", day(2), told)
    turned = [
        request("there_and_back", category="Encampment"),
        request("turns_public", category="Pothole"),
    ]
    lake.land(CITY, "turning", "service_request", day(3), turned, rows_unchanged=3)


def outages(lake) -> None:
    """Snapshots: an outage that is not in a successful answer has ended then."""
    lake.feed(CITY, "outages", "utility", event_type="wire_down")
    lake.status(CITY, "outages", "Active", "open")

    def outage(source_id: str, **said: str) -> dict[str, str]:
        return {"source_id": source_id, "started_at": "2024-06-02T06:00:00-05:00", "status": "Active"} | said

    first = [outage(name) for name in ("lasts", "ends", "comes_back", "ends_again", "seen_twice")]
    first += [outage("told", restored_at="2024-06-02T11:00:00-05:00")]
    land = lake.land
    land(CITY, "outages", "utility", day(2), first)
    land(CITY, "outages", "utility", day(3), [], ended=("ends", "comes_back", "ends_again", "told"))
    # An answer without it again: the first absence is the end.
    land(CITY, "outages", "utility", day(4), [outage("comes_back"), outage("ends_again")], ended=("ends",))
    land(CITY, "outages", "utility", day(5), [], ended=("ends_again",), rows_unchanged=2)


def live_and_bulk(lake) -> None:
    """An Open311 tail beside the bulk feed of the same cases; one of its categories is no demand."""
    categories = [
        {"category": "Pothole", "event_type": "pothole"},
        {"category": "One Reporter", "event_type": "graffiti", "is_noise": True},
    ]
    requests_feed(lake, "tail", categories=categories, live_tail_of="bulk")
    requests_feed(lake, "bulk", categories=categories)
    told = [request(name, category="Pothole") for name in ("both", "only_live")]
    lake.land(CITY, "tail", "service_request", day(2), told)
    told = [request("both", category="Pothole"), request("reporter", category="One Reporter")]
    lake.land(CITY, "bulk", "service_request", day(3), told)


def two_systems(lake) -> None:
    """The same cases in an old and a new system, declared in the wrong order."""
    requests_feed(lake, "systems", one_case_in_parts=True)
    lake.part(CITY, "systems", "new", valid_from=date(2024, 6, 1))
    lake.part(CITY, "systems", "old", valid_from=date(2020, 1, 1))
    requests_feed(lake, "apart")
    old = [
        request("o1", address="12  Main St"),
        request("o2", address="7 Oak Ave"),
        request("o3", address="7 Oak Ave"),
        request("o4", address="1 Elm St", requested_at="2024-05-31T23:00:00"),
        request("o5", address=None),
        request("o6", address="5 Ash St"),
        request("o7", address="9 Fir St", status="Dup", parent_id="o8"),
        request("o8", address="9 Fir St"),
    ]
    new = [
        request("n1", address=" 12 MAIN st", requested_at="2024-06-01T23:00:00"),
        request("n2", address="7 Oak Ave"),
        request("n4", address="1 Elm St"),
        request("n5", address=None),
        request("n6", address="5 Ash St"),
        request("n8", address="9 Fir St"),
    ]
    for feed in ("systems", "apart"):
        lake.land(CITY, feed, "service_request", day(2), old, part="old")
        lake.land(CITY, feed, "service_request", day(2), new, part="new")
    for number, misses in ((3, 1), (4, 2)):
        gone = {"n6": misses}
        lake.land(CITY, "systems", "service_request", day(number), [], part="new", absent=gone)


def excluded(lake) -> None:
    """Two ranges not to use, that overlap, the second without an end."""
    requests_feed(lake, "excluded")
    lake.exclude(CITY, "excluded", date(2024, 5, 1), date(2024, 5, 3))
    lake.exclude(CITY, "excluded", date(2024, 5, 2), date(2024, 5, 4))
    lake.exclude(CITY, "excluded", date(2024, 7, 1), None)
    days = ("2024-04-30", "2024-05-01", "2024-05-02", "2024-05-03", "2024-05-04", "2024-06-30", "2024-07-02")
    told = [request(text, requested_at=f"{text}T23:30:00") for text in days]
    lake.land(CITY, "excluded", "service_request", moment("2024-07-03"), told)


@pytest.fixture(scope="module")
def home(tiny_lake, built):
    lake = tiny_lake("absences")
    lake.city(CITY, ZONE)
    stories = (
        vanishing,
        dated_copies,
        moving,
        turning_private,
        outages,
        two_systems,
        live_and_bulk,
        excluded,
    )
    for story in stories:
        story(lake)
    lake.write()
    return built(lake)


@pytest.fixture(scope="module")
def events(home, rows):
    """Every event by feed and source id."""
    return {
        (row["feed"], row["source_id"]): row
        for row in rows(home, f"select * from core.fct_events where city = '{CITY}'")
    }


@pytest.fixture(scope="module")
def published(home, rows):
    """Ids in the extract by feed."""
    found: dict[str, set[str]] = {}
    for row in rows(home, "select feed, service_request_id from open_data.service_requests"):
        found.setdefault(row["feed"], set()).add(row["service_request_id"])
    return found


@pytest.mark.parametrize(
    ("name", "missing_since", "is_deleted"),
    [
        ("stays", None, False),
        ("once", day(4), False),
        ("twice", day(3), True),
        ("returns", None, False),
        ("padded", day(3), True),
        ("back_unreadable", None, False),
    ],
)
def test_missing_once_is_noted_and_missing_twice_is_deleted(events, name, missing_since, is_deleted):
    event = events["vanishing", name]
    assert (event["missing_since_at"], event["is_deleted"]) == (missing_since, is_deleted)
    assert event["is_canonical"] is not is_deleted
    assert event["canonical_event_key"] == event["event_key"]


def test_copies_of_one_date_are_compared_in_the_order_they_came(events):
    assert events["dated", "gone"]["is_deleted"] is True
    assert events["dated", "back"]["missing_since_at"] is None


def test_what_was_deleted_is_not_published_and_what_is_missing_once_still_is(published):
    assert published["vanishing"] == {"stays", "once", "returns", "back_unreadable", "child"}


def test_a_row_that_came_back_as_it_was_is_no_new_version(events):
    assert events["vanishing", "returns"]["version_count"] == 1


def test_a_duplicate_keeps_its_link_to_a_deleted_parent(events):
    child = events["vanishing", "child"]
    assert (child["is_canonical"], child["duplicate_method"]) == (False, "source")
    assert child["canonical_event_key"] == events["vanishing", "twice"]["event_key"]


def test_a_delivery_that_changes_nothing_moves_the_day_the_data_hold(home, rows):
    """Nothing of part `open` came after the second day."""
    (feed,) = rows(home, "select as_of_at from core.dim_feed where feed = 'moving'")
    assert feed["as_of_at"] == day(6)


def test_a_case_that_moves_to_another_file_keeps_one_history(events, published, home, rows):
    moves = events["moving", "moves"]
    assert (moves["missing_since_at"], moves["is_deleted"], moves["status"]) == (None, False, "closed")
    versions = rows(
        home,
        f"""select version_number, status, observed_at from core.fct_event_versions
            where event_key = '{moves["event_key"]}' order by version_number""",
    )
    assert [tuple(row.values()) for row in versions] == [(1, "open", day(2)), (2, "closed", day(3))]
    assert published["moving"] == {"moves"}


def test_a_case_is_missing_since_the_last_file_lost_it(events):
    leaves = events["moving", "leaves"]
    assert (leaves["missing_since_at"], leaves["is_deleted"]) == (day(5), True)


def test_a_private_type_is_kept_inside_and_follows_the_case(events, published):
    assert published["turning"] == {"public", "turns_public"}
    for name in ("private", "in_doubt", "there_and_back"):
        event = events["turning", name]
        assert (event["is_withdrawn"], event["is_canonical"]) == (True, True), name


@pytest.mark.parametrize(
    ("name", "restored_at", "origin"),
    [
        ("lasts", None, None),
        ("ends", day(3), "observed"),
        ("comes_back", None, None),
        ("ends_again", day(5), "observed"),
        ("told", moment("2024-06-02 16:00"), "told"),
    ],
)
def test_an_outage_ends_when_it_is_first_absent(events, home, rows, name, restored_at, origin):
    [outage] = rows(
        home,
        f"select * from core.fct_utility_outages where source_id = '{name}'",
    )
    assert (outage["restored_at"], outage["restored_at_origin"]) == (restored_at, origin)
    event = events["outages", name]
    assert event["closed_at"] == restored_at
    assert (event["is_deleted"], event["missing_since_at"], event["is_canonical"]) == (False, None, True)
    if origin == "observed":
        assert outage["restored_local"] == event["closed_local"] == restored_at.replace(hour=7)
        assert event["is_open"] is False


def test_a_case_of_the_live_tail_stands_for_the_one_of_the_bulk_feed_once_that_has_it(events):
    live, bulk = events["tail", "both"], events["bulk", "both"]
    assert (live["duplicate_method"], live["canonical_event_key"]) == ("live_tail", bulk["event_key"])
    assert (live["is_canonical"], bulk["is_canonical"]) == (False, True)
    assert events["tail", "only_live"]["is_canonical"]


def test_a_category_that_is_declared_noise_is_noise_whatever_its_type(events):
    assert events["bulk", "reporter"]["is_noise"]
    assert not events["bulk", "both"]["is_noise"]


def test_one_case_in_two_systems_is_counted_once(events):
    def canonical(feed: str) -> set[str]:
        return {name for (of, name), event in events.items() if of == feed and event["is_canonical"]}

    told = {"o1", "o2", "o3", "o4", "o5", "o6", "o8", "n1", "n2", "n4", "n5", "n6", "n8"}
    assert canonical("apart") == told
    # Two of 7 Oak Ave in one system, another day, no address, a twin that was deleted: these stay apart.
    assert canonical("systems") == told - {"o1", "o8", "n6"}
    old, new = events["systems", "o1"], events["systems", "n1"]
    assert (old["duplicate_method"], old["is_duplicate"]) == ("same_case_in_parts", True)
    assert old["canonical_event_key"] == new["event_key"]
    # What the source itself links is followed to the row that counts.
    said = events["systems", "o7"]
    assert (said["duplicate_method"], said["canonical_event_key"]) == (
        "source",
        events["systems", "n8"]["event_key"],
    )


def test_days_not_to_use_are_flagged_and_left_out_of_the_metric_book(events, home, rows):
    flagged = {name for (feed, name), event in events.items() if feed == "excluded" and event["is_excluded"]}
    assert flagged == {"2024-05-01", "2024-05-02", "2024-05-03", "2024-07-02"}
    book = rows(home, "select month_on, opened from operations.mart_metric_book where event_type = 'pothole'")
    opened = {row["month_on"].month: row["opened"] for row in book}
    assert opened[4] == 1
    # Of May, 4 May of this feed and 31 May of the two that tell of systems.
    assert opened[5] == 3
    assert 7 not in opened or opened[7] == 0
    assert {name for (feed, name), e in events.items() if e["is_excluded"] and feed != "excluded"} == set()


def test_every_row_of_the_deltas_is_accounted_for(home, rows):
    found = rows(home, "select * from quality.reconciliation")
    assert all(row["is_reconciled"] for row in found)
    [vanishing_rows] = [row for row in found if row["feed"] == "vanishing"]
    assert (vanishing_rows["rows_in_file"], vanishing_rows["rows_raw"]) == (15, 9)
    assert vanishing_rows["rows_unchanged"] == 6
