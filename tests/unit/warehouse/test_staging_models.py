"""Raw text becomes typed, zoned and keyed rows, and every row is accounted for."""

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import duckdb
import pytest

from assets.ingest.lake import Lake
from assets.relay.reports import stage_landed

moment = datetime.fromisoformat
TAKEN = moment("2025-01-01")
EAST, MID = "America/New_York", "America/Chicago"

#: Text, declared rule, UTC, city wall clock, precision.
TIMES = [
    ("2024-07-04T12:00:00.000", "offset", "2024-07-04 17:00:00", "2024-07-04 12:00:00", "second"),
    ("2024-01-04 12:00:00", "offset", "2024-01-04 18:00:00", "2024-01-04 12:00:00", "second"),
    ("07/04/2024 01:05:09 PM", "offset", "2024-07-04 18:05:09", "2024-07-04 13:05:09", "second"),
    ("4/12/2016 7:54", "offset", "2016-04-12 12:54:00", "2016-04-12 07:54:00", "second"),
    ("1-Apr-12", "offset", "2012-04-01 05:00:00", "2012-04-01 00:00:00", "day"),
    ("10/18/2012", "offset", "2012-10-18 05:00:00", "2012-10-18 00:00:00", "day"),
    ("2024-07-04", "offset", "2024-07-04 05:00:00", "2024-07-04 00:00:00", "day"),
    ("2024-07-04T12:00:00Z", "offset", "2024-07-04 12:00:00", "2024-07-04 07:00:00", "second"),
    ("2024-07-04T12:00:00-04:00", "offset", "2024-07-04 16:00:00", "2024-07-04 11:00:00", "second"),
    ("2024/02/15 23:30:00+00", "offset", "2024-02-15 23:30:00", "2024-02-15 17:30:00", "second"),
    ("2024/02/15 23:30:00+00", "local", "2024-02-16 05:30:00", "2024-02-15 23:30:00", "second"),
    ("2024-07-04T12:00:00-04:00", "local", "2024-07-04 17:00:00", "2024-07-04 12:00:00", "second"),
    ("2024-07-04T12:00:00", "utc", "2024-07-04 12:00:00", "2024-07-04 07:00:00", "second"),
    ("2024-07-04T12:00:00-04:00", "utc", "2024-07-04 16:00:00", "2024-07-04 11:00:00", "second"),
]

#: What a record tells beside its id, and why it is held back.
HELD_BACK = {
    "blank": ({"requested_at": "  "}, "no_event_time"),
    "word": ({"requested_at": "infinity"}, "event_time_unreadable"),
    "swapped": ({"requested_at": "13/13/2024"}, "event_time_unreadable"),
    "old": ({"requested_at": "1899-12-30T23:59:59"}, "event_time_out_of_range"),
    "short_year": ({"requested_at": "1/2/20 3:04"}, "event_time_out_of_range"),
    "far": ({"requested_at": "2027-06-01"}, "event_time_out_of_range"),
}

#: What a record tells, and the flags it gets.
FLAGGED = {
    "fine": ({"closed_at": "2024-03-05T10:00:00"}, None),
    "bad_closing": ({"closed_at": "soon"}, "bad_closed_at"),
    "poison_closing": ({"closed_at": "2999-01-01"}, "bad_closed_at"),
    "reversed": ({"closed_at": "2024-03-01T09:59:59"}, "closed_before_created"),
    "same_day": ({"closed_at": "2024-03-01"}, None),
    "same_day_at_midnight": ({"closed_at": "2024-03-01T00:00:00.000"}, None),
    "day_before": ({"closed_at": "2024-02-29"}, "closed_before_created"),
    "undated": ({"status": "Done"}, "closed_without_date"),
    "still_open": ({"status": "Open", "closed_at": "2024-03-05"}, "closing_date_on_open"),
    "strange_status": ({"status": "Limbo"}, "unmapped_status"),
    "strange_number": ({"quantity": "many"}, "bad_quantity"),
    "sentinel": ({"quantity": "-9999"}, "negative_quantity"),
    "strange_flag": ({"is_duplicate": "perhaps"}, "bad_is_duplicate"),
    "old_update": ({"updated_at": "2024-02-28"}, "updated_before_created"),
    "swapped_point": ({"location_quality": "swapped"}, "location_swapped"),
    "unknown_kind": ({"category": "Moon dust"}, "unmapped_category"),
    "two": ({"closed_at": "soon", "quantity": "many"}, "bad_closed_at,bad_quantity"),
}

#: Category, subcategory, code, the type it becomes, and how it was found.
LABELS = {
    "by_code": ("anything", None, "PHF", "pothole", "code"),
    "by_code_in_any_case": (None, None, " phf ", "pothole", "code"),
    "by_pair": ("Street", "Light", None, "streetlight_outage", "subcategory"),
    "by_category": ("GRAFFITI  removal ", "wall", None, "graffiti", "category"),
    "contradicted": ("Twice", None, None, "other", "none"),
    "unheard_of": ("Moon dust", None, None, "other", "none"),
    "untold": (None, None, None, "other", "none"),
}


def wall_times() -> list[datetime]:
    """Return wall-clock times in both cities: random ones and all around the clock changes of 2024."""
    chosen = random.Random(7)
    start = moment("1970-01-01")
    times = [start + timedelta(seconds=chosen.randrange(54 * 365 * 86400)) for _ in range(300)]
    for night in (moment("2024-03-10"), moment("2024-11-03")):
        times += [night + timedelta(minutes=30 * step) for step in range(-4, 12)]
    return times


def request(source_id: str | None, **said: str | None) -> dict[str, str | None]:
    return {"source_id": source_id, "requested_at": "2024-03-01T10:00:00"} | said


@pytest.fixture(scope="module")
def home(tiny_lake, built):
    lake = tiny_lake("staging")
    lake.city("east", EAST)
    lake.city("mid", MID)

    for rule in ("offset", "local", "utc"):
        lake.feed("mid", f"times_{rule}", "service_request", times=rule, event_type="pothole")
        told = [
            request(str(number), requested_at=text)
            for number, (text, declared, *_) in enumerate(TIMES)
            if declared == rule
        ]
        lake.land("mid", f"times_{rule}", "service_request", TAKEN, told)
    for city in ("east", "mid"):
        lake.feed(city, "clock", "crime", event_type="burglary")
        told = [{"source_id": each.isoformat(), "occurred_at": each.isoformat()} for each in wall_times()]
        lake.land(city, "clock", "crime", TAKEN, told)

    lake.feed("east", "held", "service_request", event_type="pothole")
    told = [request(name, **said) for name, (said, _) in HELD_BACK.items()]
    told += [request("kept"), request(None), request(" ")]
    lake.land("east", "held", "service_request", TAKEN, told, quarantined=["unparseable"])

    lake.feed("east", "flagged", "service_request")
    lake.category("east", "flagged", category="Pothole", event_type="pothole")
    lake.status("east", "flagged", "done", "closed")
    lake.status("east", "flagged", "OPEN", "open")
    told = [
        {"category": "Pothole", "location_quality": "ok"} | request(name, **said)
        for name, (said, _) in FLAGGED.items()
    ]
    lake.land("east", "flagged", "service_request", TAKEN, told)

    lake.feed("east", "labels", "service_request")
    lake.category("east", "labels", code="phf", category="Pot hole", event_type="pothole")
    lake.category("east", "labels", category="street", subcategory="LIGHT", event_type="streetlight_outage")
    lake.category("east", "labels", category="Graffiti Removal", event_type="graffiti")
    lake.category("east", "labels", category="Twice", event_type="graffiti")
    lake.category("east", "labels", category="twice", event_type="pothole")
    told = [
        request(name, category=category, subcategory=subcategory, code=code)
        for name, (category, subcategory, code, *_) in LABELS.items()
    ]
    lake.land("east", "labels", "service_request", TAKEN, told)

    lake.feed("mid", "history", "service_request", event_type="pothole", target_days=7.0)
    lake.status("mid", "history", "Open", "open")
    lake.status("mid", "history", "Closed", "closed")
    lake.status("mid", "history", "Dup", "closed_duplicate")
    states = [("Open", "Open"), ("Closed", "Open"), ("Closed", "Open"), ("Open", "Open")]
    for day, (first, second) in enumerate(states, start=1):
        told = [request("back_and_forth", status=first), request("steady", status=second)]
        lake.land("mid", "history", "service_request", moment(f"2024-06-0{day}"), told, part="a")
    told = [
        request("steady", status="Dup", parent_id="back_and_forth", is_duplicate="true"),
        request("orphan", status="Dup", parent_id="never_delivered"),
        request("day", requested_at="2024-03-01", due_at="2024-03-05"),
    ]
    lake.land("mid", "history", "service_request", moment("2024-06-04"), told, part="b")
    # The same key twice in one file, the second time as before.
    lake.land("mid", "history", "service_request", moment("2024-06-05"), [request("twice")] * 2, part="b")

    # Two states of a case in one delivery, in the order of a portal's row ids.
    lake.feed("mid", "unordered", "service_request", event_type="pothole", times="utc")
    for status, canonical in {"Open": "open", "Closed": "closed"}.items():
        lake.status("mid", "unordered", status, canonical)
    first = {"status": "Open", "updated_at": "2024-03-02T10:00:00"}
    last = {"status": "Closed", "updated_at": "2024-03-09T10:00:00"}
    told = [request("last_first", **last), request("last_first", **first)]
    told += [request("last_last", **first), request("last_last", **last)]
    told += [request("untold", status="Closed"), request("untold", status="Open")]
    lake.land("mid", "unordered", "service_request", TAKEN, told)

    lake.feed("mid", "permits", "permit", event_type="permit_alteration")
    fallback = {
        "source_id": "p",
        "issued_at": "later",
        "applied_at": "2024-03-01",
        "estimated_cost_usd": "$86,753.00",
    }
    lake.land("mid", "permits", "permit", TAKEN, [fallback])
    lake.feed("mid", "works", "infrastructure", event_type="infra_main_break", times="utc")
    lake.land(
        "mid", "works", "infrastructure", TAKEN, [{"source_id": "w", "completed_at": "2024-03-01T00:30:00"}]
    )
    lake.feed("mid", "outages", "utility", event_type="wire_down", owner_agency="power company")
    outage = {"source_id": "o", "started_at": "2024-03-01T10:00:00", "customers_affected": "1,200"}
    lake.land(
        "mid", "outages", "utility", TAKEN, [outage | {"estimated_restoration_at": "2024-03-01T12:00:00"}]
    )

    # Rows of a feed that nobody declares any more.
    lake.land("mid", "forgotten", "service_request", TAKEN, [request("gone")])
    lake.write()
    return built(lake, until_core=True)


@pytest.fixture(scope="module")
def events(home, rows):
    """Every event by feed and source id; only the clock feed is in two cities."""
    return {
        (row["feed"], row["source_id"]) if row["feed"] != "clock" else (row["city"], row["source_id"]): row
        for row in rows(home, "select * from core.fct_events")
    }


@pytest.mark.parametrize(("number", "case"), list(enumerate(TIMES)))
def test_a_source_time_is_kept_as_utc_and_as_wall_clock(events, number, case):
    _, rule, at, local, precision = case
    event = events[f"times_{rule}", str(number)]
    assert event["event_at"] == moment(at)
    assert event["event_local"] == moment(local)
    assert event["event_on"] == moment(local).date()
    assert event["time_precision"] == precision
    assert event["is_time_ambiguous"] is False


@pytest.mark.parametrize(("city", "zone"), [("east", EAST), ("mid", MID)])
def test_wall_clocks_agree_with_zoneinfo_in_every_season(events, city, zone):
    n_ambiguous = 0
    for told in wall_times():
        event = events[city, told.isoformat()]
        early, late = (
            told.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC).replace(tzinfo=None)
            for fold in (0, 1)
        )
        is_gap = late < early
        # A time that the clock skipped has the offset from before the change.
        assert event["event_at"] == (early if is_gap else late), told
        assert event["event_local"] == told
        assert event["is_time_ambiguous"] is (early < late), told
        n_ambiguous += early < late
    assert n_ambiguous >= 2


def test_rows_without_key_or_usable_time_are_held_back_with_the_reason(home, rows, events):
    held = rows(home, "select source_id, reason from quality.staging_quarantine where feed = 'held'")
    assert {row["source_id"]: row["reason"] for row in held if row["source_id"]} == {
        name: reason for name, (_, reason) in HELD_BACK.items()
    }
    assert [row["reason"] for row in held if row["source_id"] is None] == ["no_key", "no_key"]
    assert {source_id for feed, source_id in events if feed == "held"} == {"kept"}
    summary = rows(home, "select stage, reason, n_rows from quality.quarantine_summary where feed = 'held'")
    assert {"stage": "ingest", "reason": "unparseable", "n_rows": 1} in summary
    assert {"stage": "staging", "reason": "no_key", "n_rows": 2} in summary


@pytest.mark.parametrize("name", FLAGGED)
def test_what_is_wrong_with_a_row_is_flagged_and_the_row_stays(events, name):
    assert events["flagged", name]["dq_flags"] == FLAGGED[name][1]


def test_a_failed_cast_is_null_and_counted(home, rows, events):
    assert events["flagged", "poison_closing"]["closed_at"] is None
    counted = rows(home, "select flag, n_events from quality.flag_counts where feed = 'flagged'")
    assert {row["flag"]: row["n_events"] for row in counted}["bad_closed_at"] == 3


@pytest.mark.parametrize("name", LABELS)
def test_a_label_is_mapped_by_code_then_pair_then_category(events, name):
    assert events["labels", name]["event_type"] == LABELS[name][3]


def test_unmapped_labels_are_counted(home, rows):
    found = rows(home, "select category, n_events from quality.unmapped_categories where feed = 'labels'")
    assert {(row["category"], row["n_events"]) for row in found} == {
        ("Twice", 1),
        ("Moon dust", 1),
        (None, 1),
    }


def test_alerts_read_a_landed_row_as_staging_does(home, rows):
    """The relay reads what landed before dbt does, by a text of its own."""
    wanted = rows(
        home,
        """
        select city, feed, source_id, event_type, event_at as reported_at, coalesce(is_open, true) as is_open
        from core.fct_events
        -- Which of several states is the newest is another matter.
        where kind = 'service_request' and version_count = 1 and feed <> 'unordered'
        order by all
        """,
    )
    assert len({row["event_type"] for row in wanted}) > 2
    assert {row["is_open"] for row in wanted} == {True, False}
    with duckdb.connect() as con:
        stage_landed(con, Lake(home), {})
        told = con.execute(
            """
            select city, feed, source_id, coalesce(event_type, 'other') as event_type, reported_at, is_open
            from landed_reports
            """
        ).to_arrow_table()
    told = {(row["city"], row["feed"], row["source_id"]): row for row in told.to_pylist()}
    assert [told[row["city"], row["feed"], row["source_id"]] for row in wanted] == wanted


def test_a_category_of_the_feed_is_the_last_resort(home, rows):
    found = rows(home, "select distinct mapping_method from staging.stg_service_requests where feed = 'held'")
    assert found == [{"mapping_method": "feed"}]


def test_status_decides_whether_a_case_is_open_and_the_closing_time_where_it_is_silent(events):
    is_open = {name: events["flagged", name]["is_open"] for name in FLAGGED}
    assert is_open["still_open"] is True
    assert is_open["undated"] is False
    assert is_open["fine"] is False
    assert is_open["strange_status"] is True
    # Nothing in this feed tells how a case ends.
    assert events["held", "kept"]["is_open"] is None


def test_only_changes_are_versions(home, rows):
    found = rows(
        home,
        """select source_id, version_number, versions.status, observed_at
           from core.fct_event_versions as versions join core.fct_events using (event_key)
           where feed = 'history' order by source_id, version_number""",
    )
    told = {}
    for row in found:
        told.setdefault(row["source_id"], []).append(
            (row["version_number"], row["status"], row["observed_at"].day)
        )
    assert told == {
        "back_and_forth": [(1, "open", 1), (2, "closed", 2), (3, "open", 4)],
        "steady": [(1, "open", 1), (2, "closed_duplicate", 4)],
        "orphan": [(1, "closed_duplicate", 4)],
        "day": [(1, "unknown", 4)],
        "twice": [(1, "unknown", 5)],
    }


def test_of_two_states_in_one_delivery_the_one_updated_later_holds(events):
    told = {name: events["unordered", name] for name in ("last_first", "last_last", "untold")}
    assert {name: (event["status"], event["version_count"]) for name, event in told.items()} == {
        "last_first": ("closed", 2),
        "last_last": ("closed", 2),
        # Where no update is told, the order of the file.
        "untold": ("open", 2),
    }


def test_an_event_is_its_newest_version(events, home, rows):
    event = events["history", "back_and_forth"]
    assert (event["status"], event["version_count"]) == ("open", 3)
    assert (event["first_observed_at"], event["last_observed_at"]) == (
        moment("2024-06-01"),
        moment("2024-06-04"),
    )
    (feed,) = rows(home, "select as_of_at from core.dim_feed where city = 'mid' and feed = 'history'")
    assert feed["as_of_at"] == moment("2024-06-05")


def test_a_duplicate_points_to_its_parent_where_that_was_delivered(events):
    steady, orphan, parent = (events["history", name] for name in ("steady", "orphan", "back_and_forth"))
    assert (steady["is_canonical"], steady["canonical_event_key"]) == (False, parent["event_key"])
    # A parent that never came hides nothing.
    assert (orphan["is_canonical"], orphan["canonical_event_key"]) == (True, orphan["event_key"])
    assert (parent["is_canonical"], parent["canonical_event_key"]) == (True, parent["event_key"])


def test_a_target_is_what_the_source_tells_or_what_is_declared(events):
    assert events["history", "orphan"]["due_at"] == moment("2024-03-08 16:00")
    # A day counts until its end, on the city's clock.
    assert events["history", "day"]["due_at"] == moment("2024-03-06 05:59:59")
    assert events["held", "kept"]["due_at"] is None


def test_kinds_take_the_first_usable_event_time(home, rows, events):
    permit = events["permits", "p"]
    assert (permit["event_at"], permit["time_precision"]) == (moment("2024-03-01 06:00"), "day")
    assert permit["dq_flags"] == "bad_issued_at,location_missing"
    assert rows(home, "select estimated_cost_usd from core.fct_permits") == [{"estimated_cost_usd": 86753.0}]
    work = events["works", "w"]
    assert (work["event_at"], work["event_on"].isoformat()) == (moment("2024-03-01 00:30"), "2024-02-29")
    assert rows(home, "select customers_affected from core.fct_utility_outages") == [
        {"customers_affected": 1200.0}
    ]
    # An estimate is no target.
    assert events["outages", "o"]["due_at"] is None


def test_what_nobody_declares_is_left_out(home, rows, events):
    assert not [key for key in events if key[0] == "forgotten"]
    assert rows(home, "select 1 from quality.reconciliation where feed = 'forgotten'") == []


def test_every_raw_row_has_gone_somewhere(home, rows):
    found = {
        row["feed"]: row for row in rows(home, "select * from quality.reconciliation where city = 'mid'")
    }
    history = found["history"]
    assert (history["rows_raw"], history["versions"], history["exact_repeats"]) == (13, 8, 5)
    assert (history["distinct_keys"], history["events"]) == (5, 5)
    held = rows(home, "select * from quality.reconciliation where feed = 'held'")[0]
    assert (held["rows_in_file"], held["rows_quarantined_by_ingest"], held["rows_raw"]) == (10, 1, 9)
    assert held["rows_quarantined_by_staging"] == 8
    assert all(row["is_reconciled"] for row in found.values())


def test_the_extract_says_that_a_city_is_invented_and_hides_where_exactly(home, rows):
    found = rows(home, "select * from open_data.service_requests where feed = 'held'")
    assert [(row["city_name"], row["is_simulated"]) for row in found] == [("East (simulated)", True)]
    assert {"address", "parcel_id", "status_notes", "status_history", "x_m"}.isdisjoint(found[0])


@pytest.mark.parametrize(("lost", "verdict"), [(0, "pass"), (1, "fail")])
def test_a_file_that_lost_a_row_fails_the_build(tiny_lake, dbt, lost, verdict):
    lake = tiny_lake(f"lost_{lost}")
    lake.city("east", EAST)
    lake.feed("east", "held", "service_request", event_type="pothole")
    lake.land("east", "held", "service_request", TAKEN, [request("kept")], rows_in_file=1 + lost)
    lake.write()
    rule = "every_landed_row_is_accounted_for"
    statuses = dbt(lake.home, "build", "--select", f"+{rule}", "--indirect-selection", "empty")
    assert statuses[rule] == verdict
