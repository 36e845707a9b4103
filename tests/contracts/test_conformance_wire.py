"""Conformance cases of the wire (C01-C15, C18, C27-C29): what a portal does, and what lands all the same.

The server is the simulated one, the landing is the real one. Where a guard decides, a twin test switches it
off and shows the fault go through. Cases of the rows themselves are in test_conformance_rows.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from assets.ingest import fetching
from assets.ingest.portals import arcgis, carto, ckan, open311, outages, socrata, wire
from assets.ingest.portals.keyset import Records
from assets.ingest.receipts import DeliveryError
from assets.simulate.serving.store import Column
from tests.conformance import (
    ALL,
    PAGED,
    WITH_ENVELOPE,
    FileTown,
    asked,
    assert_nothing_landed,
    assert_true_to,
    assert_whole,
    at_question,
    cases,
    faults,
    landed,
    spoil,
    stop_counting,
    stop_on_short_pages,
    town_of,
)
from tests.portal_town import NOW, SWEPT, PortalTown

YESTERDAY = NOW - timedelta(days=1)
ORDER_KEY = {
    "socrata": "$order",
    "arcgis": "orderByFields",
    "carto": "ORDER BY",
    "opendatasoft": "order_by",
    "ckan": "sort",
}


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let waits between attempts pass at once, and note how long they would have been."""
    noted: list[float] = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=noted.append))
    return noted


def nine_known_of_ten(town: PortalTown, rows: int) -> None:
    """Land rows, so that a tenth as many new ones are a normal day and no reload."""
    town.fill(rows, at=YESTERDAY)
    assert landed(town).rows_known == rows
    town.later(hours=1)


# C01-C05: pages


@pytest.mark.parametrize("page_rows", [10, 33])
@pytest.mark.parametrize("protocol", cases("C01", "gives-stable-pages", ALL))
def test_pages_of_any_size_give_each_row_once(protocol, page_rows, tmp_path):
    with town_of(protocol, tmp_path) as town:
        town.request |= {"page_rows": page_rows} if protocol in PAGED else {}
        town.fill(100)
        delivery = landed(town)
        assert_whole(town, delivery, retries=0)
        assert_true_to(town)
        if protocol in PAGED:
            assert len(asked(town)) >= 100 / page_rows


@pytest.mark.parametrize("protocol", cases("C02", "shuffles-what-is-not-ordered", SWEPT))
def test_an_order_is_always_asked_for(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town:
        # The others shuffle always.
        spoil(town, "shuffle", times=None)
        town.fill(100)
        assert_whole(town, landed(town), retries=0)
        for request in asked(town):
            said = f"{request.query} {request.body.decode()}"
            assert ORDER_KEY[protocol] in said


@pytest.mark.parametrize("protocol", cases("C02", "is-asked-without-an-order", ("socrata",)))
def test_twin_without_an_order_rows_are_lost(protocol, tmp_path, monkeypatch):
    asked_with_order = socrata.Socrata._page_question
    monkeypatch.setattr(
        socrata.Socrata,
        "_page_question",
        lambda *said: replace(asked_with_order(*said), order=None),
    )
    with town_of(protocol, tmp_path) as town:
        town.fill(100)
        counted = landed(town)
        assert counted.error_type == "CountMismatch"
        assert_nothing_landed(town, counted)
        stop_counting(monkeypatch)
        lost = landed(town)
        assert lost.outcome == "landed"
        assert len(town.state()) < 100


CLAMPS = [
    pytest.param("socrata", 30, None, id="C03-socrata-clamps-to-30"),
    pytest.param("arcgis", 30, None, id="C03-arcgis-clamps-to-30"),
    pytest.param("ckan", 30, None, id="C03-ckan-clamps-to-30"),
    pytest.param("ckan", 30, 60, id="C03-ckan-clamps-60-to-30"),
    pytest.param("carto", 30, 100, id="C03-carto-refuses-more-than-30"),
    pytest.param("opendatasoft", 100, 1000, id="C03-opendatasoft-gives-100-at-most"),
]


@pytest.mark.parametrize(("protocol", "most", "page_rows"), CLAMPS)
def test_a_clamped_page_is_stepped_by_the_rows_that_came(protocol, most, page_rows, tmp_path):
    with town_of(protocol, tmp_path) as town:
        if protocol != "opendatasoft":  # its limit is always there
            spoil(town, "clamp", rows=most, times=None)
        town.request["page_rows"] = page_rows
        town.fill(130)
        assert_whole(town, landed(town))
        assert len(asked(town)) >= 130 / most


@pytest.mark.parametrize("protocol", cases("C03", "clamps-and-is-stepped-by-rows-asked", ("ckan",)))
def test_twin_stepping_by_the_rows_asked_for_passes_over_rows(protocol, tmp_path, monkeypatch):
    def step(connector: ckan.Ckan, walk: Any, records: Any) -> tuple[bool, bool]:
        walk.rows += 50
        walk.seen = records.total
        return True, walk.rows < records.total

    monkeypatch.setattr(ckan.Ckan, "_step", step)
    with town_of(protocol, tmp_path) as town:
        town.request["page_rows"] = 50
        spoil(town, "clamp", rows=30, times=None)
        town.fill(100)
        counted = landed(town)
        assert counted.error_type == "CountMismatch"
        assert_nothing_landed(town, counted)
        stop_counting(monkeypatch)
        assert landed(town).outcome == "landed"
        assert len(town.state()) == 60


@pytest.mark.parametrize("protocol", cases("C03", "clamps-and-a-short-page-is-the-last", ("socrata",)))
def test_twin_a_short_page_taken_for_the_last_loses_the_rest(protocol, tmp_path, monkeypatch):
    stop_on_short_pages(monkeypatch)
    with town_of(protocol, tmp_path) as town:
        town.request["page_rows"] = None
        spoil(town, "clamp", rows=30, times=None)
        town.fill(100)
        counted = landed(town)
        assert counted.error_type == "CountMismatch"
        assert_nothing_landed(town, counted)
        stop_counting(monkeypatch)
        assert landed(town).outcome == "landed"
        assert len(town.state()) == 30


MISLEADING_PAGES = faults(
    "C04",
    ("socrata", "arcgis"),
    sends_short_pages={"short_page": {"share": 0.5, "times": 3}},
    sends_an_empty_page={"empty_page": {"after": 2}},
    sends_short_and_empty_pages={"short_page": {"share": 0.3, "times": 2}, "empty_page": {"after": 3}},
)


def mislead(town: PortalTown, pages: dict[str, dict[str, Any]]) -> None:
    for kind, said in pages.items():
        if (town.protocol, kind) == ("socrata", "empty_page"):
            # Socrata has no word for it: a page of no share of its rows.
            kind, said = "short_page", {**said, "share": 0.0}
        spoil(town, kind, **said)


@pytest.mark.parametrize(("protocol", "pages"), MISLEADING_PAGES)
def test_a_short_or_empty_page_is_not_the_end(protocol, pages, tmp_path):
    with town_of(protocol, tmp_path) as town:
        mislead(town, pages)
        town.fill(100)
        assert_whole(town, landed(town))


@pytest.mark.parametrize(
    "protocol", cases("C04", "sends-an-empty-page-that-is-the-end", ("arcgis", "socrata"))
)
def test_twin_an_empty_page_taken_for_the_end_loses_the_rest(protocol, tmp_path, monkeypatch):
    read = arcgis._read_features

    def read_and_stop(*said: Any) -> Any:
        features = read(*said)
        return features if features.rows else replace(features, is_more=False)

    monkeypatch.setattr(arcgis, "_read_features", read_and_stop)
    stop_on_short_pages(monkeypatch)
    with town_of(protocol, tmp_path) as town:
        mislead(town, {"empty_page": {"after": 2, "times": 1}})
        town.fill(100)
        counted = landed(town)
        assert counted.error_type == "CountMismatch"
        assert_nothing_landed(town, counted)
    with town_of(protocol, tmp_path / "again") as town:
        stop_counting(monkeypatch)
        mislead(town, {"empty_page": {"after": 2, "times": 1}})
        town.fill(100)
        assert landed(town).outcome == "landed"
        assert len(town.state()) == 20


OLD_SERVERS = [
    pytest.param({}, True, id="C05-arcgis-leaves-the-flag-out"),
    pytest.param({"version": 10.2}, False, id="C05-arcgis-10.2-has-no-pages"),
    pytest.param({"version": 10.3}, False, id="C05-arcgis-10.3-has-no-flag-on-pages"),
]


@pytest.mark.parametrize(("traits", "has_no_flag"), OLD_SERVERS)
def test_a_server_without_flag_or_pages_is_read_by_object_ids(traits, has_no_flag, tmp_path):
    with town_of("arcgis", tmp_path, max_record_count=30, **traits) as town:
        if has_no_flag:
            town.store.faults.add("no_flag", on="any", times=None)
        town.request["page_rows"] = None
        town.fill(100)
        assert_whole(town, landed(town), retries=0)
        assert asked(town, "ids")
        assert all("objectIds" in f"{request.query} {request.body}" for request in asked(town))


# C06-C10: answers that are none


@pytest.mark.parametrize("protocol", cases("C06", "says-error-500-in-a-200-then-answers", WITH_ENVELOPE))
def test_an_error_inside_a_200_is_asked_again(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town:
        town.fill(30)
        spoil(town, "error_in_200", times=2, after=0 if protocol == "outages" else 1)
        delivery = landed(town)
        assert_whole(town, delivery)
        # CARTO says so of a statement that takes too long: it is asked for less instead.
        assert delivery.retries >= 1 or (protocol == "carto" and len(asked(town)) > 5)


@pytest.mark.parametrize("protocol", cases("C06", "says-error-500-in-a-200-for-ever", WITH_ENVELOPE))
def test_an_error_inside_a_200_that_stays_is_a_typed_failure(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town:
        town.fill(30)
        spoil(town, "error_in_200", times=None)
        assert_nothing_landed(town, landed(town, wire_options={"attempts": 3}))


FINAL_ERRORS = [
    pytest.param(400, "Http400", id="C06-arcgis-says-error-400-in-a-200"),
    pytest.param(498, "Unauthorised", id="C06-arcgis-says-error-498-in-a-200"),
    pytest.param(404, "DatasetGone", id="C06-arcgis-says-error-404-in-a-200"),
]


@pytest.mark.parametrize(("code", "error_type"), FINAL_ERRORS)
def test_a_final_error_inside_a_200_is_not_asked_again(code, error_type, tmp_path):
    with town_of("arcgis", tmp_path) as town:
        town.fill(30)
        spoil(town, "error_in_200", code=code, times=None)
        delivery = landed(town)
        assert_nothing_landed(town, delivery)
        assert (delivery.error_type, delivery.retries) == (error_type, 0)


def http_date(seconds: int) -> str:
    return format_datetime(datetime.now().astimezone() + timedelta(seconds=seconds))


WAITS = faults(
    "C07",
    ALL,
    answers_429_with_2_seconds={"retry_after": "2", "least": 2.0, "most": 2.0},
    answers_429_with_a_date={"retry_after": 30, "least": 20.0, "most": 30.0},
)


@pytest.mark.parametrize(("protocol", "told"), WAITS)
def test_a_429_is_waited_for_as_long_as_it_says(protocol, told, tmp_path, waits):
    with town_of(protocol, tmp_path) as town:
        town.fill(30)
        said = told["retry_after"]
        said = said if isinstance(said, str) else http_date(said)
        # Without this CARTO would mean a statement that took too long.
        body = '{"error": ["You are over the rate limit"]}' if protocol == "carto" else None
        spoil(town, "status", code=429, retry_after=said, body=body, after=int(protocol in PAGED))
        assert_whole(town, landed(town), retries=1)
        [wait] = waits
        assert told["least"] <= wait <= told["most"]


SILENT = [protocol for protocol in ALL if protocol not in ("opendatasoft", "carto")]


@pytest.mark.parametrize("protocol", cases("C07", "answers-429-without-a-time", SILENT))
def test_a_429_without_a_time_is_waited_for_longer_and_longer(protocol, tmp_path, waits):
    with town_of(protocol, tmp_path) as town:
        town.fill(30)
        spoil(town, "status", code=429, times=3)
        assert_whole(town, landed(town, wire_options={"first_wait_seconds": 1.0}), retries=3)
        # Each with up to a second of jitter.
        assert [wait >= least for wait, least in zip(waits, (0, 1, 3), strict=True)] == [True] * 3
        assert max(waits) <= 60


@pytest.mark.parametrize("protocol", cases("C07", "answers-429-with-minus-1", ("carto",)))
def test_a_429_of_a_statement_that_takes_too_long_halves_the_page(protocol, tmp_path, waits):
    with town_of(protocol, tmp_path) as town:
        town.request["page_rows"] = 16
        town.fill(40)
        spoil(town, "status", code=429, retry_after="-1", times=2)
        assert_whole(town, landed(town))
        limits = [int(re.search(r"LIMIT (\d+)", request.one("q"))[1]) for request in asked(town)]
        assert limits[:3] == [16, 8, 4]
        assert sum(waits) < 60


@pytest.mark.parametrize("protocol", cases("C07", "answers-429-until-tomorrow", ("opendatasoft",)))
def test_a_quota_that_lasts_until_tomorrow_is_left_to_the_next_run(protocol, tmp_path, waits):
    with town_of(protocol, tmp_path) as town:
        town.fill(30)
        spoil(town, "status", code=429, times=1, after=1)
        delivery = landed(town)
        assert_nothing_landed(town, delivery)
        assert delivery.error_type == "Http429"
        assert waits == []
        town.later(hours=1)
        assert_whole(town, landed(town))


@pytest.mark.parametrize("protocol", cases("C07", "answers-429-for-ever", ALL))
def test_exhausted_attempts_are_a_failure_and_never_the_end_of_the_data(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town:
        town.fill(30)
        spoil(town, "status", code=429, retry_after="0", times=None, after=int(protocol in PAGED))
        delivery = landed(town, wire_options={"attempts": 3})
        assert_nothing_landed(town, delivery)
        assert delivery.retries >= 2


@pytest.mark.parametrize("protocol", cases("C07", "answers-429-and-that-is-the-end", ("socrata",)))
def test_twin_exhausted_attempts_taken_for_an_empty_page_end_the_data(protocol, tmp_path, monkeypatch):
    ask = socrata.Socrata._ask

    def ask_and_give_up(connector: socrata.Socrata, *said: Any) -> Any:
        try:
            return ask(connector, *said)
        except DeliveryError:
            return wire.Answer(200, {}, b"[]", ""), Records(0)

    monkeypatch.setattr(socrata.Socrata, "_ask", ask_and_give_up)
    with town_of(protocol, tmp_path) as town:
        town.fill(30)
        spoil(town, "status", code=429, retry_after="0", times=None, after=1)
        # The portal's count is the second guard.
        counted = landed(town, wire_options={"attempts": 2})
        assert counted.error_type == "CountMismatch"
        stop_on_short_pages(monkeypatch)
        stop_counting(monkeypatch)
        assert landed(town, wire_options={"attempts": 2}).outcome == "landed"
        assert len(town.state()) < 30


@pytest.mark.parametrize("protocol", cases("C08", "answers-202-twice", ("socrata", "files")))
def test_a_202_is_waited_for(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town:
        town.fill(30)
        spoil(town, "status", code=202, times=2)
        assert_whole(town, landed(town), retries=2)


BREAKS = {
    "bursts_of_500_502_503": (),
    "resets_in_mid_body": ("reset",),
    "sends_half_a_body": ("truncated",),
    "sends_half_a_gzip": ("truncated_gzip",),
    "tells_a_wrong_length": ("wrong_length",),
    "sends_an_html_page": ("html",),
}
BROKEN = [
    case
    for case in faults("C09", ALL, **{name: list(kinds) for name, kinds in BREAKS.items()})
    if case.values != ("files", ["html"])  # of a CSV nobody can tell; its columns are missing then
]


@pytest.mark.parametrize(("protocol", "kinds"), BROKEN)
def test_a_broken_answer_is_asked_again_and_no_half_page_lands(protocol, kinds, tmp_path):
    with town_of(protocol, tmp_path) as town:
        town.fill(30)
        after = int(protocol in PAGED)
        for kind in kinds:
            spoil(town, kind, after=after)
        for code in () if kinds else (500, 502, 503):
            spoil(town, "status", code=code, after=after)
        assert_whole(town, landed(town), retries=len(kinds) or 3)


@pytest.mark.parametrize("protocol", cases("C09", "sends-half-bodies-for-ever", ALL))
def test_answers_that_stay_broken_are_a_failure(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town:
        town.fill(30)
        spoil(town, "truncated", times=None, after=int(protocol in PAGED))
        assert_nothing_landed(town, landed(town, wire_options={"attempts": 3}))


@pytest.mark.parametrize("protocol", cases("C09", "sends-half-a-gzip-that-is-taken", ("files",)))
def test_twin_half_a_gzip_taken_for_the_whole_lands_half_the_rows(protocol, tmp_path, monkeypatch):
    monkeypatch.setattr(wire, "_unpacked", lambda response, size=None: response.iter_bytes(size))
    with town_of(protocol, tmp_path) as town:
        town.declared["expect"] = {"max_quarantine_share": 0.5}
        town.fill(200)
        spoil(town, "truncated_gzip")
        assert landed(town).outcome == "landed"
        assert 0 < len(town.state()) < 200


@pytest.mark.parametrize("is_json", [False, True], ids=["", "as-json"])
@pytest.mark.parametrize("protocol", cases("C10", "ends-rows-with-an-error", ("carto", "opendatasoft")))
def test_an_error_behind_rows_is_no_page(protocol, is_json, tmp_path):
    with town_of(protocol, tmp_path) as town:
        town.request["page_rows"] = 40 if protocol == "carto" else None
        town.fill(100)
        spoil(town, "midstream", is_json=is_json)
        delivery = landed(town)
        assert_whole(town, delivery)
        assert len(asked(town)) > (3 if protocol == "carto" else 1)


@pytest.mark.parametrize("protocol", cases("C10", "ends-large-answers-with-an-error", ("carto",)))
def test_a_page_that_fails_behind_its_first_rows_is_halved(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town:
        town.request["page_rows"] = 40
        town.fill(100)
        spoil(town, "midstream", times=4, message="statement timeout")
        assert_whole(town, landed(town))
        limits = [int(re.search(r"LIMIT (\d+)", request.one("q"))[1]) for request in asked(town)]
        assert limits[:5] == [40, 20, 10, 5, 2]


@pytest.mark.parametrize("protocol", cases("C10", "never-ends-an-export", ("opendatasoft",)))
def test_an_export_that_never_ends_is_a_failure(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town:
        town.request["page_rows"] = None
        town.fill(100)
        spoil(town, "midstream", times=None)
        delivery = landed(town, wire_options={"attempts": 3})
        assert_nothing_landed(town, delivery)
        assert delivery.error_type == "BrokenAnswer"


@pytest.mark.parametrize("protocol", cases("C10", "ends-rows-with-an-error-that-is-taken", ("carto",)))
def test_twin_an_error_behind_rows_taken_for_a_page_loses_rows(protocol, tmp_path, monkeypatch):
    read = carto.read_records

    def read_and_overlook(*said: Any, **more: Any) -> Records:
        return replace(read(*said, **more), outer=(None,))

    monkeypatch.setattr(carto, "read_records", read_and_overlook)
    stop_on_short_pages(monkeypatch)
    stop_counting(monkeypatch)
    with town_of(protocol, tmp_path) as town:
        town.request["page_rows"] = 200
        town.fill(100)
        spoil(town, "midstream", is_json=True)
        assert landed(town).outcome == "landed"
        assert len(town.state()) == 50


# C11-C13: Open311

PAGE_BASES = [
    pytest.param(base, repeats, id=f"C11-open311-counts-pages-from-{base}{'-and-repeats-the-last' * repeats}")
    for base in (0, 1)
    for repeats in (False, True)
]


@pytest.mark.parametrize(("base", "repeats"), PAGE_BASES)
def test_pages_end_with_the_first_that_brings_no_new_id(base, repeats, tmp_path):
    with town_of("open311", tmp_path, page_base=base) as town:
        if repeats:
            spoil(town, "repeat_last_page", times=None)
        town.request["page_rows"] = 30
        town.fill(103)
        delivery = landed(town)
        assert_whole(town, delivery, retries=0)
        assert len(asked(town)) < 40


@pytest.mark.parametrize("protocol", cases("C12", "caps-a-window-at-25", ("open311",)))
def test_a_window_that_holds_more_than_the_cap_is_split(protocol, tmp_path):
    with town_of(protocol, tmp_path, has_pages=False) as town:
        spoil(town, "clamp", rows=25, times=None)
        town.fill(130)
        assert_whole(town, landed(town))


@pytest.mark.parametrize("protocol", cases("C12", "caps-a-minute-at-25", ("open311",)))
def test_a_minute_that_holds_more_than_the_cap_is_a_failure(protocol, tmp_path):
    with town_of(protocol, tmp_path, has_pages=False) as town:
        spoil(town, "clamp", rows=25, times=None)
        town.dataset.insert([town.row(0) | {"service_request_id": f"same-{n}"} for n in range(26)])
        delivery = landed(town)
        assert_nothing_landed(town, delivery)
        assert delivery.error_type == "WindowTooFull"


@pytest.mark.parametrize("protocol", cases("C12", "caps-a-window-that-is-not-split", ("open311",)))
def test_twin_a_full_window_that_is_not_split_loses_rows(protocol, tmp_path, monkeypatch):
    monkeypatch.setattr(open311.Open311, "_is_cut", lambda connector, window: False)
    with town_of(protocol, tmp_path, has_pages=False) as town:
        spoil(town, "clamp", rows=25, times=None)
        town.fill(130)
        assert landed(town).outcome == "landed"
        assert len(town.state()) < 130


def at_half_a_second(town: PortalTown) -> None:
    town.fill(40)
    town.later(seconds=0.5)
    spoil(town, "fractional_seconds_500", times=None)


@pytest.mark.parametrize("protocol", cases("C13", "fails-on-fractions-of-seconds", ("open311",)))
def test_times_are_asked_without_fractions(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town:
        at_half_a_second(town)
        assert_whole(town, landed(town), retries=0)


@pytest.mark.parametrize("protocol", cases("C13", "is-asked-with-fractions-of-seconds", ("open311",)))
def test_twin_times_with_fractions_are_refused(protocol, tmp_path, monkeypatch):
    monkeypatch.setattr(open311, "_w3c", lambda at: f"{at.isoformat(timespec='milliseconds')}Z")
    with town_of(protocol, tmp_path) as town:
        at_half_a_second(town)
        assert_nothing_landed(town, landed(town, wire_options={"attempts": 2}))


# C14, C15: rows that move, rows that share a time


def edit_last_row(town: PortalTown, what: str) -> Callable[[], None]:
    def edit() -> None:
        town.later(seconds=1)
        town.dataset.update([f"k{number:07d}" for number in (1, 2, 1042)], {town.changing: what})

    return edit


READ_WHOLE = [
    *(
        pytest.param(protocol, True, id=f"C14-{protocol}-edits-rows-between-pages-of-a-full-read")
        for protocol in SWEPT
    ),
    pytest.param("socrata", False, id="C14-socrata-edits-rows-between-pages-of-a-full-read-by-offset"),
]


@pytest.mark.parametrize(("protocol", "compares_ids"), READ_WHOLE)
def test_a_row_edited_during_a_full_read_is_seen_and_the_newest_wins(protocol, compares_ids, tmp_path):
    with town_of(protocol, tmp_path) as town:
        town.dataset.compares_ids = compares_ids
        town.fill(60, at=YESTERDAY)
        at_question(town, 3, edit_last_row(town, "edited"))
        delivery = landed(town)
        assert delivery.outcome == "landed"
        assert set(town.state()) == set(town.truth())
        town.later(hours=1)
        landed(town)
        assert_true_to(town)


@pytest.mark.parametrize("compares_ids", [True, False], ids=["by-keyset", "by-offset"])
@pytest.mark.parametrize("protocol", cases("C14", "edits-rows-between-pages-of-what-changed", ("socrata",)))
def test_a_row_edited_during_an_incremental_read_is_seen_by_the_next(protocol, compares_ids, tmp_path):
    with town_of(protocol, tmp_path) as town:
        town.dataset.compares_ids = compares_ids
        town.request["page_rows"] = 30
        nine_known_of_ten(town, 300)
        changed = [f"k{number:07d}" for number in range(90)]
        town.dataset.update(changed, {town.changing: "changed"}, at=town.store.now - timedelta(minutes=30))
        town.later(minutes=1)
        at_question(town, 3, edit_last_row(town, "edited"))
        delivery = landed(town)
        assert (delivery.outcome, delivery.mode) == ("landed", "incremental")
        # The rows that left the window did not push others over a page's edge.
        assert set(changed) - {"k0000001", "k0000002"} <= {
            key for key, what in town.state().items() if what == "changed"
        }
        town.later(hours=1)
        landed(town)
        assert_true_to(town)


def delete_rows_that_were_read(town: PortalTown) -> None:
    town.dataset.compares_ids = False
    town.fill(60, at=YESTERDAY)

    def delete() -> None:
        read = town.dataset.query("id", order="_rid", limit=5).column("id").to_pylist()
        town.dataset.delete(read)

    at_question(town, 5, delete)


@pytest.mark.parametrize("protocol", cases("C14", "deletes-rows-between-pages-by-offset", ("socrata",)))
def test_rows_that_move_up_while_pages_are_counted_are_read_again(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town:
        delete_rows_that_were_read(town)
        assert landed(town).outcome == "landed"
        assert set(town.truth()) <= set(town.state())


@pytest.mark.parametrize(
    "protocol", cases("C14", "deletes-rows-between-pages-by-offset-unseen", ("socrata",))
)
def test_twin_rows_that_move_up_while_pages_are_counted_are_passed_over(protocol, tmp_path, monkeypatch):
    def follow(connector: Any, stage: Any, place: Any, records: Records, by_offset: bool) -> Any:
        repeated = 1 if place.offset and records.rows else 0
        offset = (place.offset or 0) + records.rows - repeated
        return replace(place, offset=offset, after=records.last or place.after)

    with town_of(protocol, tmp_path) as town:
        delete_rows_that_were_read(town)
        follows = socrata.Socrata._followed
        monkeypatch.setattr(
            socrata.Socrata,
            "_followed",
            lambda *said: (follow if said[-1] else follows)(*said),
        )
        assert landed(town).outcome == "landed"
        assert not set(town.truth()) <= set(town.state())


def one_time_for_many(town: PortalTown) -> None:
    town.request["page_rows"] = 500
    nine_known_of_ten(town, 2500)
    town.fill(2000, start=5000, at=town.store.now - timedelta(minutes=30))


@pytest.mark.parametrize("protocol", cases("C15", "gives-2000-rows-one-time", ("socrata",)))
def test_rows_of_one_time_are_told_apart_by_their_ids(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town:
        one_time_for_many(town)
        delivery = landed(town)
        assert (delivery.mode, delivery.rows_new) == ("incremental", 2000)
        assert_true_to(town)


@pytest.mark.parametrize(
    "protocol", cases("C15", "gives-2000-rows-one-time-and-ids-do-not-count", ("socrata",))
)
def test_twin_without_the_row_id_rows_of_one_time_are_lost(protocol, tmp_path, monkeypatch):
    stages = socrata.Socrata._stages

    def by_time_only(connector: socrata.Socrata, *said: Any) -> list[Any]:
        return [replace(each, keys=each.keys[:1], start=each.start[:1]) for each in stages(connector, *said)]

    with town_of(protocol, tmp_path) as town:
        # By month it would be found out that rows are missing.
        town.sync["deletions"] = "never"
        one_time_for_many(town)
        monkeypatch.setattr(socrata.Socrata, "_stages", by_time_only)
        delivery = landed(town)
        assert (delivery.outcome, delivery.mode, delivery.rows_new) == ("landed", "incremental", 500)


# C18: columns


def rename_mapped(town: PortalTown) -> None:
    town.dataset.rename_column(town.changing, "what_now")
    town.later(hours=1)


@pytest.mark.parametrize("protocol", cases("C18", "adds-a-column", SWEPT))
def test_an_added_column_is_noted(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town:
        town.fill(30, at=YESTERDAY)
        landed(town)
        town.dataset.add_column(Column("ward"), "7")
        town.later(hours=1)
        town.fill(1, start=500)
        delivery = landed(town)
        assert delivery.outcome == "landed"
        [change] = delivery.schema_changes
        assert (change["column"], change["change"], change["is_mapped"]) == ("ward", "added", False)
        assert "ward added" in delivery.message
        assert_true_to(town)


@pytest.mark.parametrize("protocol", cases("C18", "renames-a-mapped-column", (*SWEPT, "files")))
def test_a_renamed_mapped_column_stops_the_feed_and_is_named(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town:
        town.fill(30, at=YESTERDAY)
        landed(town)
        before = town.state()
        rename_mapped(town)
        delivery = landed(town)
        gone = "MissingColumns" if protocol == "files" else "ColumnsGone"
        assert (delivery.outcome, delivery.error_type) == ("blocked", gone)
        assert "what" in delivery.message.replace("what_now", "")
        assert "what_now" in delivery.message
        assert town.state() == before


@pytest.mark.parametrize("protocol", cases("C18", "retypes-a-mapped-column", SWEPT))
def test_a_retyped_mapped_column_stops_the_feed_until_the_mapping_changes(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town:
        town.fill(30, what="17", at=YESTERDAY)
        landed(town)
        town.dataset.retype_column("what", "number")
        town.later(hours=1)
        delivery = landed(town)
        assert (delivery.outcome, delivery.error_type) == ("blocked", "ColumnsRetyped")
        assert "what" in delivery.message
        columns = dict(town.feed.columns) | {"category": {"sql": '"what"'}}
        town.declared["columns"] = {
            name: said if isinstance(said, dict) else {"sql": said.sql} if said.sql else said.column
            for name, said in columns.items()
        }
        assert town.land()[-1].outcome in ("landed", "unchanged")


@pytest.mark.parametrize("protocol", cases("C18", "drops-an-unmapped-column", SWEPT))
def test_a_dropped_unmapped_column_is_noted(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town:
        town.dataset.add_column(Column("ward"), "7")
        town.fill(30, at=YESTERDAY)
        landed(town)
        town.dataset.drop_column("ward")
        town.later(hours=1)
        delivery = landed(town)
        assert delivery.error_type is None
        assert [(each["column"], each["change"]) for each in delivery.schema_changes] == [("ward", "removed")]
        assert_true_to(town)


@pytest.mark.parametrize(
    "protocol", cases("C18", "says-no-such-column-between-two-pages", ("socrata", "carto"))
)
def test_a_column_that_goes_during_a_read_stops_the_feed_and_is_named(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town:
        town.request["where"] = "what is not null"
        town.fill(60)
        at_question(town, 3, lambda: town.dataset.rename_column("what", "what_now"))
        delivery = landed(town)
        assert_nothing_landed(town, delivery, "blocked")
        assert delivery.error_type == "ColumnsGone"
        assert "what" in delivery.message


@pytest.mark.parametrize("protocol", cases("C18", "renames-a-column-that-nobody-looks-at", ("socrata",)))
def test_twin_without_the_schema_check_a_renamed_column_becomes_null(protocol, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "note_schema", lambda *_: None)
    with town_of(protocol, tmp_path) as town:
        town.fill(30, at=YESTERDAY)
        landed(town)
        rename_mapped(town)
        town.later(days=1)
        town.sync["mode"] = "full"
        assert landed(town).outcome == "landed"
        assert set(town.state().values()) == {None}


# C27: outage maps


@pytest.mark.parametrize("protocol", cases("C27", "sends-an-empty-list", ("outages",)))
def test_an_empty_snapshot_ends_all_outages(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town:
        town.fill(5)
        landed(town)
        town.later(minutes=15)
        spoil(town, "empty_page")
        delivery = landed(town)
        assert (delivery.outcome, delivery.rows_in_file, delivery.rows_missing) == ("landed", 0, 5)
        assert {(misses, reason) for _, misses, reason in town.absences()} == {(2, "ended")}
        # They are out again in the next answer.
        town.later(minutes=15)
        assert landed(town).rows_known == 5
        assert_true_to(town)


SILENCES = [
    pytest.param("status", {"code": 503}, id="C27-outages-answers-503"),
    pytest.param("reset", {}, id="C27-outages-resets"),
    pytest.param("html", {}, id="C27-outages-sends-an-html-page"),
    pytest.param("error_in_200", {}, id="C27-outages-says-an-error-in-a-200"),
    pytest.param("truncated_gzip", {}, id="C27-outages-sends-half-a-gzip"),
]


@pytest.mark.parametrize(("kind", "said"), SILENCES)
def test_no_answer_restores_no_outage(kind, said, tmp_path):
    with town_of("outages", tmp_path) as town:
        town.fill(20)
        landed(town)
        town.later(minutes=15)
        town.dataset.delete(["k0000000"])
        spoil(town, kind, times=3, **said)
        assert landed(town, wire_options={"attempts": 3}).outcome == "failed"
        assert town.absences() == []
        # The first good answer tells what has ended.
        town.later(minutes=15)
        assert landed(town).outcome == "landed"
        assert town.absences() == [("k0000000", 2, "ended")]
        assert_true_to(town)


@pytest.mark.parametrize("protocol", cases("C27", "answers-503-and-that-is-empty", ("outages",)))
def test_twin_no_answer_taken_for_an_empty_one_restores_every_outage(protocol, tmp_path, monkeypatch):
    answered = outages.Outages._from_web

    def answered_or_empty(connector: outages.Outages) -> Any:
        try:
            return answered(connector)
        except DeliveryError:
            return outages._Snapshot(b'{"outages": []}', 0, "$.outages[*]")

    monkeypatch.setattr(outages.Outages, "_from_web", answered_or_empty)
    with town_of(protocol, tmp_path) as town:
        town.fill(5)
        landed(town)
        town.later(minutes=15)
        spoil(town, "status", code=503, times=None)
        assert landed(town, wire_options={"attempts": 2}).outcome == "landed"
        assert len(town.absences()) == 5


@pytest.mark.parametrize("protocol", cases("C27", "splits-an-outage", ("outages",)))
def test_an_outage_that_splits_in_two_is_not_restored(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town:
        town.fill(3)
        landed(town)
        town.later(minutes=15)
        town.dataset.insert([town.row(0) | {"outage_id": "k0000000-b"}])
        town.dataset.update(["k0000000"], {town.changing: "half of it"})
        delivery = landed(town)
        assert (delivery.rows_new, delivery.rows_changed, delivery.rows_missing) == (1, 1, 0)
        assert town.absences() == []
        assert_true_to(town)


@pytest.mark.parametrize("protocol", cases("C27", "replaces-an-outage-by-two", ("outages",)))
def test_an_outage_that_two_others_replace_is_not_restored(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town:
        town.fill(3)
        landed(town)
        town.later(minutes=15)
        town.dataset.delete(["k0000000"])
        town.dataset.insert([town.row(0) | {"outage_id": f"k0000000-{half}"} for half in "ab"])
        town.dataset.insert([town.row(40)])
        landed(town)
        assert town.absences() == [("k0000000", 2, "split")]
        # One that is gone while another one begins elsewhere in time is over.
        town.later(minutes=15)
        town.dataset.delete(["k0000001"])
        town.dataset.insert([town.row(41)])
        landed(town)
        assert town.absences()[1:] == [("k0000001", 2, "ended")]


# C28: no entry, no data set

REFUSALS = faults(
    "C28",
    ALL,
    answers_401={"code": 401, "error_type": "Unauthorised"},
    answers_403={"code": 403, "error_type": "Unauthorised"},
    answers_404={"code": 404, "error_type": "DatasetGone"},
)


@pytest.mark.parametrize(("protocol", "told"), REFUSALS)
def test_a_refusal_is_a_typed_failure_that_changes_nothing(protocol, told, tmp_path):
    with town_of(protocol, tmp_path) as town:
        town.fill(3)
        town.store.faults.add("status", on="any", code=told["code"], times=None)
        delivery = landed(town)
        assert_nothing_landed(town, delivery)
        assert (delivery.error_type, delivery.retries) == (told["error_type"], 0)
        town.store.faults.clear()
        town.later(hours=1)
        assert_whole(town, landed(town))


@pytest.mark.parametrize("protocol", cases("C28", "revokes-the-token", WITH_ENVELOPE))
def test_a_revoked_token_is_told_and_not_shown(protocol, tmp_path, monkeypatch):
    monkeypatch.setenv("TOWN_TOKEN", "good-token")
    with town_of(protocol, tmp_path) as town:
        town.request["token_env"] = "TOWN_TOKEN"
        town.fill(3)
        landed(town)
        monkeypatch.setenv("TOWN_TOKEN", "revoked-token")
        town.store.faults.add("token", on="any", token="good-token", times=None)
        town.later(hours=1)
        delivery = landed(town)
        assert (delivery.outcome, delivery.error_type) == ("failed", "Unauthorised")
        assert "revoked-token" not in delivery.message
        assert_true_to(town)


@pytest.mark.parametrize("protocol", cases("C28", "retires-one-of-three-parts", ("socrata",)))
def test_a_retired_part_leaves_the_other_parts_alone(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town, FileTown(tmp_path / "other") as other:
        town.fill(30)
        other.fill(30, start=100)
        other.publish()
        gone = {"id": "gone", "source": f"{town.base}/socrata/resource/8zsp-zqpf", "format": "json"}
        file = {"id": "file", "source": f"{other.base}/files/calls.csv", "portal": "files"}
        town.declared["parts"] = [gone, *town.feed.model_dump(include={"parts"})["parts"][:1], file]
        first, second, third = town.land()
        assert (first.outcome, first.error_type) == ("failed", "DatasetGone")
        assert (second.outcome, third.outcome) == ("landed", "landed")
        assert town.state() == town.truth() | other.truth()


# C29: a kill in mid-run

_LAND = """
import json, sys
from datetime import datetime
from pathlib import Path
from tests.conformance import town_of
protocol, folder, base, now = sys.argv[1:]
town = town_of(protocol, Path(folder))
town.base, town.publish = base, lambda: None
town.store.now = datetime.fromisoformat(now)
town.land()
"""


@pytest.mark.parametrize("protocol", cases("C29", "sees-its-client-killed", ALL))
def test_a_killed_read_goes_on_without_loss_or_repetition(protocol, tmp_path):
    with town_of(protocol, tmp_path) as town:
        town.fill(103)
        if isinstance(town, FileTown):
            town.publish()
        victim: list[subprocess.Popen] = []

        def kill() -> None:
            os.kill(victim[0].pid, signal.SIGKILL)

        # The third page of four or more; of a single answer, that one.
        kind = "file" if protocol == "files" else "page"
        at_question(town, 5 if protocol in PAGED else 1, kill, kind)
        arguments = [protocol, str(tmp_path), town.base, town.store.now.isoformat()]
        victim.append(
            subprocess.Popen([sys.executable, "-c", _LAND, *arguments], cwd=Path(__file__).parents[2])
        )
        assert victim[0].wait(timeout=120) == -signal.SIGKILL
        assert town.rows() == []
        before = len(asked(town, kind))
        town.later(hours=1)
        # One that goes on from the pages on disk asks at once for what came since, where it can.
        delivery, *since = town.land()
        assert [one.outcome for one in since] in ([], ["unchanged"])
        assert_whole(town, delivery)
        assert_true_to(town)
        if protocol in PAGED and protocol != "open311":
            assert any("went on after" in note for note in delivery.notes)
            # Fewer than the eleven pages that a read from the start takes.
            assert since or len(asked(town, kind)) - before < 11
            assert delivery.calls < 14
