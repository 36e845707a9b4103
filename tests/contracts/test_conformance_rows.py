"""Conformance cases of the rows (C16, C17, C19-C26, C30-C33): what a portal holds, and what becomes of it.

How a portal answers is in test_conformance_wire. What only the warehouse decides is asked of one dbt build
over one town whose rows hold all those cases.
"""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from assets.ingest import building, fetching, known_rows, landing, page_records
from assets.ingest.declared import write_declared_tables
from assets.ingest.feed import Feed
from assets.ingest.lake import Lake
from assets.simulate.serving.server import serve
from assets.simulate.serving.store import Column, Dataset, Store
from tests.conformance import assert_true_to, assert_whole, cases, landed, town_of
from tests.declared_feed import BOX, declared_feed, declared_town
from tests.portal_town import DATASET, NOW, SOURCE, SWEPT, PortalTown
from tests.unit.warehouse.conftest import run_dbt

moment = datetime.fromisoformat
YESTERDAY = NOW - timedelta(days=1)
#: Protocols that bring the whole part each time, so that a cut part is refused as such.
WHOLE = ("arcgis", "ckan", "carto", "opendatasoft", "files")


# C16, C32: reloads


@pytest.mark.parametrize("protocol", cases("C16", "loads-all-rows-anew", (*SWEPT, "files")))
def test_a_reload_with_the_same_content_brings_no_version(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town:
        town.fill(100, at=YESTERDAY)
        landed(town)
        town.later(days=1)
        town.dataset.reload()
        town.later(hours=1)
        delivery = landed(town)
        assert (delivery.outcome, delivery.mode) == ("unchanged", "full"), delivery.message
        assert (delivery.rows_new, delivery.rows_changed, delivery.rows_unchanged) == (0, 0, 100)
        assert len(town.rows()) == 100
        assert town.absences() == []
        # The next question is an ordinary one again.
        town.later(days=1)
        town.fill(3, start=200)
        delivery = landed(town)
        assert (delivery.rows_new, delivery.rows_changed) == (3, 0)
        assert delivery.mode == ("incremental" if protocol == "socrata" else "full")
        assert_true_to(town)


@pytest.mark.parametrize("protocol", cases("C16", "loads-all-rows-anew-and-that-is-a-change", ("socrata",)))
def test_twin_taking_a_new_change_time_for_a_change_makes_a_version_of_every_row(
    protocol, tmp_path, monkeypatch
):
    receive = known_rows.receive

    def receive_without_content(con: duckdb.DuckDBPyConnection, *said: str, **named: bool) -> None:
        receive(con, *said, **named)
        con.execute("update received set content_hash = uuid()::varchar")

    monkeypatch.setattr(known_rows, "receive", receive_without_content)
    with town_of(protocol, tmp_path) as town:
        town.fill(100, at=YESTERDAY)
        landed(town)
        town.later(days=1)
        town.dataset.reload()
        delivery = landed(town)
        assert (delivery.outcome, delivery.rows_changed) == ("landed", 100)
        assert len(town.rows()) == 200


def renumbered(town: PortalTown) -> Any:
    town.fill(40)
    assert_whole(town, landed(town))
    before = town.dataset.query("id, _row", order="id").to_pylist()
    town.later(days=1)
    town.dataset.reload()
    assert town.dataset.query("id, _row", order="id").to_pylist() != before
    return landed(town)


@pytest.mark.parametrize("protocol", cases("C32", "numbers-its-rows-anew", ("ckan", "arcgis", "carto")))
def test_rows_are_known_by_the_business_id(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town:
        delivery = renumbered(town)
        assert (delivery.outcome, delivery.rows_unchanged, delivery.rows_known) == ("unchanged", 40, 40)
        assert_true_to(town)


@pytest.mark.parametrize("protocol", cases("C32", "numbers-its-rows-anew-and-they-are-the-key", ("ckan",)))
def test_twin_rows_known_by_the_portals_number_change_with_every_reload(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town:
        columns = {"source_id": "_id", "requested_at": "created", "category": "what", "agency": "id"}
        town.declared["columns"] = columns
        town.fill(40)
        landed(town)
        town.later(days=1)
        town.dataset.reload()
        assert landed(town).rows_changed > 30


# C17: rows that vanish


def vanish(town: PortalTown, first: int, after: int) -> None:
    town.later(days=1)
    town.dataset.delete([f"k{number:07d}" for number in range(first, after)])


@pytest.mark.parametrize(
    "protocol", cases("C17", "loses-5-rows-then-a-third-then-60-percent", (*SWEPT, "files"))
)
def test_a_few_rows_that_vanish_are_marked_and_many_are_not(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town:
        town.request |= {"page_rows": 100} if protocol != "files" else {}
        town.fill(200, at=YESTERDAY)
        landed(town)

        vanish(town, 0, 5)
        first = landed(town)
        assert (first.outcome, first.rows_missing, first.rows_known) == ("landed", 5, 195), first.message
        assert [misses for _, misses, _ in town.absences()] == [1] * 5
        town.later(days=1)
        second = town.land()[-1]
        if protocol != "files":  # the same bytes say nothing new
            assert (second.rows_missing, second.rows_known) == (5, 195)
            assert sorted({misses for _, misses, _ in town.absences()}) == [1, 2]
        assert_true_to(town)
        known, marked = town.state(), town.absences()

        vanish(town, 5, 70)
        third = landed(town)
        assert third.outcome in ("landed", "unchanged")
        assert "half loaded" in third.message + " ".join(third.notes)
        vanish(town, 70, 125)
        fourth = landed(town)
        if protocol == "socrata":
            assert "half loaded" in " ".join(fourth.notes)
        else:
            assert (fourth.outcome, fourth.error_type) == ("blocked", "GateFailed")
            assert "lost rows" in fourth.message
        assert town.state() == known
        assert {key for key, _, _ in town.absences()} == {key for key, _, _ in marked}


@pytest.mark.parametrize("protocol", cases("C17", "loses-rows-of-a-live-tail", ("open311",)))
def test_a_tail_never_takes_a_row_for_gone(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town:
        town.fill(50)
        landed(town)
        vanish(town, 0, 30)
        landed(town)
        assert town.absences() == []
        assert len(town.state()) == 50


@pytest.mark.parametrize("protocol", cases("C17", "loses-a-third-and-it-is-believed", ("socrata", "ckan")))
def test_twin_without_the_95_percent_rule_a_half_loaded_portal_deletes_rows(protocol, tmp_path, monkeypatch):
    monkeypatch.setattr(building, "WHOLE_SHARE", 0.0)
    with town_of(protocol, tmp_path) as town:
        town.fill(60, at=YESTERDAY)
        landed(town)
        vanish(town, 0, 20)
        assert landed(town).rows_missing == 20
        town.later(days=1)
        landed(town)
        assert len(town.state()) == 40


@pytest.mark.parametrize("protocol", cases("C17", "loses-60-percent-and-it-is-believed", WHOLE))
def test_twin_without_the_volume_guard_60_percent_are_lost(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town:
        # A feed may say that it is usual: a file of open cases.
        town.declared["expect"] = {"min_volume_ratio": 0.0}
        town.fill(50)
        landed(town)
        vanish(town, 0, 30)
        delivery = landed(town)
        assert (delivery.outcome, delivery.rows_missing) == ("landed", 30)
        assert len(town.state()) == 20


# C20: the watermark


def with_a_cursor(town: PortalTown) -> None:
    town.sync |= {"mode": "incremental", "cursor": "changed", "deletions": "never", "overlap": "2d"}
    town.dataset.add_column(Column("changed", "floating_timestamp"))
    town.dataset.traits["has_range_filters"] = True
    normal = [town.row(number) | {"changed": moment("2026-02-20T08:00:00")} for number in range(50)]
    normal[7]["changed"] = moment("2115-03-11")
    normal[8]["changed"] = None
    town.dataset.insert(normal, at=YESTERDAY)


@pytest.mark.parametrize("protocol", cases("C20", "tells-a-change-in-2115", SWEPT))
def test_a_poison_date_does_not_move_the_watermark(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town:
        town.request["page_rows"] = 100
        with_a_cursor(town)
        first = landed(town)
        assert (first.outcome, first.rows_new) == ("landed", 50)
        assert first.cursor_to["at"] < "2026-03-02"
        town.later(days=1)
        changed_at = town.store.now - timedelta(hours=9)
        town.dataset.insert([town.row(900) | {"changed": changed_at}])
        town.dataset.update(["k0000003"], {"what": "closed", "changed": changed_at})
        second = landed(town)
        assert (second.mode, second.rows_new, second.rows_changed) == ("incremental", 1, 1)
        assert_true_to(town)


@pytest.mark.parametrize("protocol", cases("C20", "tells-a-change-in-2115-that-is-believed", ("socrata",)))
def test_twin_a_poison_date_taken_for_the_watermark_hides_what_comes_after(protocol, tmp_path, monkeypatch):
    monkeypatch.setattr(
        fetching.PortalFetch,
        "_cursor_to",
        lambda fetch, ask: {"at": "2115-03-11T00:00:00.000", "id": ""},
    )
    with town_of(protocol, tmp_path) as town:
        town.request["page_rows"] = 100
        with_a_cursor(town)
        town.dataset.update(["k0000008"], {"changed": moment("2026-02-20T08:00:00")})
        landed(town)
        town.later(days=1)
        town.dataset.insert([town.row(900) | {"changed": town.store.now - timedelta(hours=9)}])
        assert landed(town).rows_new == 0


# C26: coordinates

PLACES = [
    pytest.param("EPSG:4326", -87.5, 42.0, "ok", id="C26-all-tells-lon-and-lat"),
    pytest.param("EPSG:4326", 42.0, -87.5, "swapped", id="C26-all-swaps-lon-and-lat"),
    pytest.param("EPSG:4326", 0, 0, "zero", id="C26-all-tells-0-0"),
    pytest.param("EPSG:4326", -74.0, 40.7, "outside_city", id="C26-all-tells-another-city"),
    pytest.param("EPSG:4326", 1_179_000, 1_900_000, "outside_city", id="C26-all-tells-undeclared-feet"),
    pytest.param("EPSG:4326", "unknown", "n/a", "unparseable", id="C26-all-tells-text"),
    pytest.param("EPSG:4326", None, "42.0", "missing", id="C26-all-tells-half-a-point"),
    pytest.param("EPSG:3435", 1_179_000, 1_900_000, "ok", id="C26-all-tells-state-plane-feet"),
    pytest.param("EPSG:3857", -9_740_455, 5_160_979, "ok", id="C26-all-tells-web-mercator"),
]


@pytest.mark.parametrize(("crs", "x", "y", "quality"), PLACES)
def test_a_point_is_placed_or_its_reason_told(crs, x, y, quality, tmp_path):
    with town_of("socrata", tmp_path) as town:
        town.dataset.add_column(Column("x"))
        town.dataset.add_column(Column("y"))
        town.declared |= {"crs": crs, "columns": dict(CASE_COLUMNS)}
        town.dataset.insert([{**town.row(1), "x": x and str(x), "y": y and str(y)}])
        assert landed(town).outcome == "landed"
        [file] = town.lake.home.glob("lake/raw/*/city=town/*/*.parquet")
        told, lon, lat = duckdb.execute(
            f"select location_quality, lon, lat from read_parquet('{file}')"
        ).fetchone()
        assert told == quality
        if quality == "ok":
            assert BOX[0] < lon < BOX[2]
            assert BOX[1] < lat < BOX[3]
        else:
            assert (lon, lat) == (None, None)


CASE_COLUMNS = {"source_id": "id", "requested_at": "created", "category": "what", "x": "x", "y": "y"}


# C30: a year rolls over


@pytest.mark.parametrize("protocol", cases("C30", "begins-a-new-part-and-freezes-the-old", ("ckan",)))
def test_a_new_part_is_read_beside_the_old_one_and_nothing_counts_twice(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town:
        [first] = town.feed.model_dump(include={"parts"}, exclude_none=True)["parts"]
        new_id = DATASET["ckan"].replace("254adca6", "1a0b420d")
        columns = [*town.dataset.columns]
        following = town.store.add(Dataset("ckan", new_id, "Calls 2026", columns, "id", "created"))
        old = {"id": "y2025", "source": first["source"], "format": "json", "valid_to": "2026-01-01"}
        new = {
            "id": "y2026",
            "source": SOURCE["ckan"].format(base=town.base, id=new_id),
            "format": "json",
            "valid_from": "2026-01-01",
        }
        town.declared["parts"] = [old]
        town.fill(30)
        landed(town)
        # The new part repeats what was open when the year ended.
        town.declared["parts"] = [old, new]
        repeated = [town.row(number, "still open") for number in range(25, 30)]
        following.insert([*repeated, *(town.row(number) for number in range(100, 120))])
        town.later(days=1)
        assert [each.outcome for each in town.land()] == ["unchanged", "landed"]
        newest = {key: row["what"] for key, row in following.truth().items()}
        assert dict(town.rows()) == town.truth() | newest
        assert len(town.state()) == 50
        # Long after its last day the old part is asked once a month.
        town.later(days=60)
        town.land()
        before = [DATASET["ckan"] in request.body.decode() for request in town.store.requests].count(True)
        town.later(days=10)
        following.insert([town.row(130)])
        assert [each.part for each in town.land()] == ["y2026"]
        after = [DATASET["ckan"] in request.body.decode() for request in town.store.requests].count(True)
        assert after == before


# C33: many rows


@pytest.mark.parametrize("protocol", cases("C33", "gives-20000-rows-with-20-ms-latency", ("socrata",)))
def test_many_rows_come_once_and_in_pieces(protocol, tmp_path, monkeypatch):
    pieces: list[int] = []
    stage = page_records._stage_batch

    def stage_and_count(con: Any, batch: Any, *said: Any) -> Any:
        pieces.append(sum(page.rows for page in batch))
        return stage(con, batch, *said)

    monkeypatch.setattr(page_records, "PIECE_ROWS", 4000)
    monkeypatch.setattr(page_records, "_stage_batch", stage_and_count)
    with town_of(protocol, tmp_path) as town:
        town.request["page_rows"] = 1500
        town.store.faults.add("slow", on="any", times=None, seconds=0.02)
        town.fill(20_000, at=YESTERDAY)
        delivery = landed(town)
        assert_whole(town, delivery, retries=0)
        assert sum(pieces) == 20_000
        # A piece holds no more than asked for, and the page that filled it.
        assert max(pieces) < 4000 + 1500


# C19-C25, C31: what the warehouse makes of it

CASES_ID, OLD_ID, NEW_ID = "case-0001", "sysa-0001", "sysb-0001"
TEXTS = ("id", "created", "closed", "updated", "status", "what", "parent", "amount", "address", "due")
NOVEMBER = moment("2026-11-20T12:00:00")
ORDINARY = {
    "created": "2026-02-03T10:00:00",
    "status": "Open",
    "what": "Pothole",
    "place": (-87.5, 42.0),
    "is_copy": False,
}


def case(source_id: str, **said: Any) -> dict[str, Any]:
    return ORDINARY | {"id": source_id} | said


def hostile_rows() -> list[dict[str, Any]]:
    """Return every case that only the warehouse decides, among ordinary rows."""
    closed = {"status": "Closed"}
    return [
        *(case(f"plain-{number:03}") for number in range(280)),
        # C19
        case("amount-null", amount="(null)"),
        case("amount-blank", amount=""),
        case("amount-na", amount="N/A"),
        case("amount-unspecified", amount="Unspecified"),
        case("amount-number", amount="1000010010.00000000"),
        # C20
        case("poison-2115", created="2115-03-11T00:00:00.000"),
        case("poison-0001", created="0001-01-01T00:00:00.000"),
        case("us-date", created="02/27/2026"),
        case("us-moment", created="02/27/2026 03:03:14 PM"),
        case("digits", created="20260227"),
        case("no-time", created="soon"),
        # C21
        case("gap", created="2026-03-08T02:30:00.000"),
        case("fold", created="2026-11-01T01:30:00.000"),
        case("after-fold", created="2026-11-01T02:30:00.000"),
        # C22
        case("leak-summer", due="2026-07-01T04:00:00.000"),
        case("leak-winter", due="2026-01-15T05:00:00.000"),
        # C24
        case("orphan", parent="never-came", is_copy=True),
        case("child", parent="late-parent", is_copy=True),
        case("linked", parent="plain-000"),
        case("ring-a", parent="ring-b", is_copy=True),
        case("ring-b", parent="ring-a", is_copy=True),
        case("own-parent", parent="own-parent", is_copy=True),
        # C25
        case("closed-early", closed="2026-02-01T10:00:00", **closed),
        case("closed-late", closed="2026-02-07T10:00:00", **closed),
        case("updated-minutes", created="2026-02-03T10:00:40", updated="2026-02-03T10:00:00"),
        case("updated-early", updated="2026-01-31T10:00:00"),
        # C31
        case("test-entry", status="Closed - Testing", closed="2026-02-03T10:05:00"),
    ]


def cases_feed(base: str) -> Feed:
    columns = {
        "source_id": "id",
        "requested_at": "created",
        "closed_at": "closed",
        "updated_at": "updated",
        "due_at": {"sql": 'left("due", 10)'},
        "status": "status",
        "category": {"sql": """if("status" = 'Closed - Testing', 'Test entry', "what")"""},
        "parent_id": "parent",
        "is_duplicate": "is_copy",
        "quantity": "amount",
        "postal_code": "never_filled",
        "address": "address",
    }
    return declared_feed(
        id="cases",
        portal="socrata",
        times="local",
        columns=columns,
        categories=[
            {"category": "Pothole", "event_type": "pothole"},
            {"category": "Test entry", "event_type": "information_request"},
        ],
        statuses={"Open": "open", "Closed": "closed", "Closed - Testing": "cancelled"},
        expect={"max_outside_time_share": 0.05},
        parts=[
            {"id": "all", "source": f"{base}/socrata/resource/{CASES_ID}", "format": "json"},
        ],
    )


def systems_feed(base: str) -> Feed:
    parts = [
        {
            "id": "old",
            "source": f"{base}/socrata/resource/{OLD_ID}",
            "format": "json",
            "valid_from": "2020-01-01",
        },
        {
            "id": "new",
            "source": f"{base}/socrata/resource/{NEW_ID}",
            "format": "json",
            "valid_from": "2026-01-01",
        },
    ]
    return declared_feed(
        id="systems",
        portal="socrata",
        times="local",
        one_case_in_parts=True,
        event_type="pothole",
        columns={"source_id": "id", "requested_at": "created", "status": "status", "address": "address"},
        statuses={"Open": "open"},
        parts=parts,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Land the town of hostile rows twice, and let dbt build what stands on them."""
    folder = tmp_path_factory.mktemp("hostile")
    store, lake = Store(NOVEMBER), Lake(folder / "home")
    text = [Column(name) for name in (*TEXTS, "never_filled")]
    columns = [*text, Column("is_copy", "flag"), Column("place", "point")]
    hostile, old, new = (
        store.add(Dataset("socrata", each, "Cases", columns, "id")) for each in (CASES_ID, OLD_ID, NEW_ID)
    )
    hostile.insert(hostile_rows(), at=NOVEMBER - timedelta(days=1))
    old.insert([case("old-1", address="12  Main St"), case("old-2", address="7 Oak Ave")])
    new.insert([case("new-1", address=" 12 MAIN st"), case("new-3", address="9 Fir St")])
    with serve(store) as base:
        feeds = {feed.id: feed for feed in (cases_feed(base), systems_feed(base))}
        town = declared_town(folder, *feeds.values())
        for _ in range(2):
            for feed in feeds.values():
                for delivery in landing.land_feed(lake, town, feed, now=store.now):
                    assert delivery.outcome in ("landed", "unchanged"), delivery.message
            store.advance(timedelta(days=1))
            hostile.insert([case("late-parent")])
            store.advance(timedelta(hours=1))
    write_declared_tables(lake, {"town": town})
    landing.ensure_lake(lake)
    wanted = ("+fct_service_requests", "+fct_event_versions", "+staging_quarantine", "+reconciliation")
    statuses = run_dbt(
        lake.home, "build", "--exclude-resource-type", "test", "unit_test", "--select", *wanted
    )
    assert {name: said for name, said in statuses.items() if said not in ("success", "no-op")} == {}
    return lake.home


@pytest.fixture(scope="module")
def warehouse(home: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(Lake(home).build_warehouse, read_only=True) as con:
        yield con


@pytest.fixture(scope="module")
def events(warehouse: duckdb.DuckDBPyConnection) -> dict[str, dict[str, Any]]:
    told = warehouse.execute(
        """
        select e.*, r.due_local, r.parent_id, r.parent_event_key
        from core.fct_events e left join core.fct_service_requests r using (event_key)
        """
    ).to_arrow_table()
    return {row["source_id"]: row for row in told.to_pylist()}


@pytest.fixture(scope="module")
def quarantine(warehouse: duckdb.DuckDBPyConnection) -> dict[str, str]:
    staged = "select source_id, quarantine_reason from staging.stg_service_requests"
    return dict(warehouse.execute(f"{staged} where quarantine_reason is not null").fetchall())


def flags_of(event: dict[str, Any]) -> set[str]:
    return set((event["dq_flags"] or "").split(",")) - {""}


NULLS = [
    pytest.param("amount-null", None, True, id="C19-socrata-writes-(null)"),
    pytest.param("amount-blank", None, False, id="C19-socrata-writes-nothing"),
    pytest.param("amount-na", None, True, id="C19-socrata-writes-N/A"),
    pytest.param("amount-unspecified", None, True, id="C19-socrata-writes-Unspecified"),
    pytest.param("amount-number", 1000010010.0, False, id="C19-socrata-writes-numbers-as-text"),
    pytest.param("plain-000", None, False, id="C19-socrata-leaves-the-key-out"),
]


@pytest.mark.parametrize(("name", "quantity", "is_flagged"), NULLS)
def test_what_is_no_number_is_null_and_its_text_stays_in_raw(name, quantity, is_flagged, events, home):
    assert events[name]["quantity"] == quantity
    assert ("bad_quantity" in flags_of(events[name])) is is_flagged
    glob = f"{home}/lake/raw/*/city=town/feed=cases/*.parquet"
    [(raw,)] = duckdb.execute(
        f"select quantity from read_parquet('{glob}') where source_id = ?", [name]
    ).fetchall()
    assert raw == {row["id"]: row.get("amount") for row in hostile_rows()}[name]


@pytest.mark.parametrize("column", [pytest.param("postal_code", id="C19-socrata-never-fills-a-column")])
def test_a_column_that_no_record_fills_is_kept(column, events):
    assert {event[column] for event in events.values()} == {None}


TIMES = [
    pytest.param("us-date", moment("2026-02-27"), "day", id="C20-all-writes-02/27/2026"),
    pytest.param(
        "us-moment", moment("2026-02-27T15:03:14"), "second", id="C20-all-writes-02/27/2026-03:03:14-PM"
    ),
    pytest.param("plain-000", moment("2026-02-03T10:00:00"), "second", id="C20-all-writes-ISO-beside-them"),
]


@pytest.mark.parametrize(("name", "at", "precision"), TIMES)
def test_times_of_several_formats_in_a_column_are_read(name, at, precision, events):
    assert (events[name]["event_local"], events[name]["time_precision"]) == (at, precision)


POISON = [
    pytest.param("poison-2115", "event_time_out_of_range", id="C20-all-writes-the-year-2115"),
    pytest.param("poison-0001", "event_time_out_of_range", id="C20-all-writes-the-year-1"),
    pytest.param("digits", "event_time_unreadable", id="C20-all-writes-20260227"),
    pytest.param("no-time", "event_time_unreadable", id="C20-all-writes-soon"),
]


@pytest.mark.parametrize(("name", "reason"), POISON)
def test_a_time_that_cannot_be_is_quarantined_with_the_reason(name, reason, quarantine, events):
    assert quarantine[name] == reason
    assert name not in events


CLOCK_CHANGES = [
    pytest.param("gap", "2026-03-08T08:30:00", False, id="C21-all-tells-a-time-in-the-spring-gap"),
    pytest.param("fold", "2026-11-01T07:30:00", True, id="C21-all-tells-a-time-in-the-autumn-fold"),
    pytest.param("after-fold", "2026-11-01T08:30:00", False, id="C21-all-tells-a-time-after-the-fold"),
]


@pytest.mark.parametrize(("name", "at", "is_ambiguous"), CLOCK_CHANGES)
def test_clock_changes_go_by_one_rule(name, at, is_ambiguous, events):
    assert (events[name]["event_at"], events[name]["is_time_ambiguous"]) == (moment(at), is_ambiguous)


LEAKS = [
    pytest.param("leak-summer", date(2026, 7, 1), id="C22-socrata-writes-midnight-in-UTC-in-summer"),
    pytest.param("leak-winter", date(2026, 1, 15), id="C22-socrata-writes-midnight-in-UTC-in-winter"),
]


@pytest.mark.parametrize(("name", "day"), LEAKS)
def test_a_day_written_in_utc_stays_the_day(name, day, events):
    assert events[name]["due_local"].date() == day


SYSTEMS = [
    pytest.param("old-1", "new-1", id="C23-socrata-repeats-a-case-in-the-new-system"),
    pytest.param("new-1", "new-1", id="C23-socrata-has-a-case-in-the-old-system-too"),
    pytest.param("old-2", "old-2", id="C23-socrata-has-a-case-in-the-old-system-only"),
    pytest.param("new-3", "new-3", id="C23-socrata-has-a-case-in-the-new-system-only"),
]


@pytest.mark.parametrize(("name", "canonical"), SYSTEMS)
def test_one_case_in_two_systems_is_one_event_with_two_sources(name, canonical, events):
    event = events[name]
    assert event["canonical_event_key"] == events[canonical]["event_key"]
    assert event["is_canonical"] is (name == canonical)
    assert event["duplicate_method"] == (None if name == canonical else "same_case_in_parts")


PARENTS = [
    pytest.param("orphan", "never-came", id="C24-socrata-never-loads-the-parent"),
    pytest.param("child", "late-parent", id="C24-socrata-loads-the-parent-later"),
    pytest.param("linked", "plain-000", id="C24-socrata-links-what-is-no-duplicate"),
    pytest.param("ring-a", "ring-b", id="C24-socrata-links-in-a-ring"),
    pytest.param("own-parent", "own-parent", id="C24-socrata-links-a-case-to-itself"),
]


@pytest.mark.parametrize(("name", "parent"), PARENTS)
def test_a_child_is_kept_with_its_link(name, parent, events):
    assert events[name]["parent_id"] == parent
    assert events[name]["parent_event_key"] is not None


STANDS_FOR = [
    pytest.param("child", "late-parent", id="C24-socrata-loads-the-parent-of-a-duplicate-later"),
    pytest.param("late-parent", "late-parent", id="C24-socrata-loads-a-parent-after-its-child"),
    pytest.param("linked", "linked", id="C24-socrata-links-what-is-no-duplicate-to-a-parent"),
]


@pytest.mark.parametrize(("name", "canonical"), STANDS_FOR)
def test_a_parent_stands_for_its_duplicates_once_it_is_there(name, canonical, events):
    assert events[name]["canonical_event_key"] == events[canonical]["event_key"]
    assert events[name]["is_canonical"] is (name == canonical)


RINGS = [
    pytest.param(("ring-a", "ring-b"), id="C24-socrata-links-two-duplicates-in-a-ring"),
    pytest.param(("own-parent",), id="C24-socrata-links-a-duplicate-to-itself"),
]


@pytest.mark.parametrize("names", RINGS)
def test_duplicates_in_a_ring_are_one_case(names, events):
    assert [events[name]["is_canonical"] for name in names].count(True) == 1


CLOSINGS = [
    pytest.param("closed-early", {"closed_before_created"}, id="C25-all-closes-before-it-opens"),
    pytest.param("closed-late", set(), id="C25-all-closes-after-it-opens"),
    pytest.param("updated-minutes", set(), id="C25-open311-drops-the-seconds-of-updates"),
    pytest.param("updated-early", {"updated_before_created"}, id="C25-all-updates-before-it-opens"),
]


@pytest.mark.parametrize(("name", "flags"), CLOSINGS)
def test_times_in_the_wrong_order_are_kept_and_flagged(name, flags, events):
    told = flags_of(events[name])
    assert told & {"closed_before_created", "updated_before_created"} == flags
    if name == "closed-early":
        assert events[name]["closed_local"] == moment("2026-02-01T10:00:00")


ENTRIES = [
    pytest.param("test-entry", True, id="C31-socrata-holds-test-entries"),
    pytest.param("plain-000", False, id="C31-socrata-holds-entries-that-are-no-test"),
]


@pytest.mark.parametrize(("name", "is_noise"), ENTRIES)
def test_test_entries_are_noise_where_a_rule_says_so(name, is_noise, events):
    assert events[name]["is_noise"] is is_noise


def test_every_record_is_accounted_for(warehouse, events, quarantine):
    for row in warehouse.execute("select * from quality.reconciliation").to_arrow_table().to_pylist():
        assert row["is_reconciled"], row
    assert {row["id"] for row in hostile_rows()} <= {*events, *quarantine}
