"""A feed that is not as it should be is told by one line: since when, why and what to do."""

from datetime import UTC, datetime

import pytest

from assets.ingest.feed import load_cities
from assets.ingest.trouble import explained, remedy_of, trouble_line, troubles
from assets.warehouse.summary import FeedStatus
from orchestration.feed_state import feed_state, feed_states
from orchestration.recorded import feed_record

REFUSED = {
    "error_type": "Unauthorised",
    "message": "tinyville/requests, part all, https://data.example.org/requests: answered HTTP 403; "
    "renew the token",
}


def moment(*said: int) -> datetime:
    return datetime(*said, tzinfo=UTC).replace(tzinfo=None)


@pytest.fixture
def record(declare, settings):
    """Return what the receipts written so far say of tinyville/requests."""
    folder = declare("tinyville")

    def read(parts: int = 1):
        feed = load_cities([folder], {})["tinyville"].feeds["requests"]
        if parts == 2:
            [part] = feed.parts
            feed = feed.model_copy(update={"parts": (part, part.model_copy(update={"id": "old"}))})
        return feed_record(settings.lake, feed)

    return read


def built(verdict: str, **said) -> FeedStatus:
    given = dict.fromkeys(FeedStatus.__dataclass_fields__) | {
        "city": "tinyville",
        "feed": "requests",
        "last_attempt_at": moment(2025, 12, 1, 6),
        "last_success_at": moment(2025, 12, 1, 6),
        "rows_raw": 10,
        "rows_missing": 2,
        "rows_quarantined": 3,
        "verdict": verdict,
    }
    return FeedStatus(**given | said)


def test_failing_feed_tells_since_when_why_and_what_to_do(record, receipt):
    receipt(1, rows_known=10)
    for day in (3, 4, 5):
        receipt(day, "failed", **REFUSED)
    state = feed_state(record(), built("current"))
    assert (state.verdict, state.since) == ("failing", moment(2025, 12, 3, 6))
    assert state.last_success == moment(2025, 12, 1, 6)
    assert state.rows == 10
    assert state.line == (
        "tinyville/requests failing since 2025-12-03 (Unauthorised): "
        "https://data.example.org/requests: answered HTTP 403 -> renew the token"
    )


def test_attempts_that_stand_for_many_polls_tell_the_first(record, receipt):
    receipt(1)
    receipt(9, "failed", first_attempted_at=moment(2025, 12, 2), polls=700, **REFUSED)
    assert feed_state(record(), None).since == moment(2025, 12, 2)


def test_an_attempt_that_arrives_ends_it_and_what_the_warehouse_still_says_is_over(record, receipt):
    receipt(1)
    receipt(3, "failed", **REFUSED)
    receipt(4, "unchanged")
    state = feed_state(record(), built("failing"))
    assert (state.verdict, state.since) == ("not built yet", None)
    assert state.line.endswith("-> `citysignal run --city tinyville`")
    assert feed_state(record(), built("current")).line == ""


def test_the_last_attempt_says_why_and_the_first_since_when(record, receipt):
    receipt(1)
    receipt(2, "failed", **REFUSED)
    receipt(3, "failed", error_type="DatasetGone", message="data.example.org answered HTTP 404; look on")
    assert feed_state(record(), None).line == (
        "tinyville/requests failing since 2025-12-02 (DatasetGone): data.example.org answered HTTP 404 "
        "-> look on"
    )


def test_a_gate_that_refuses_has_its_remedy_from_the_table_of_errors(record, receipt):
    receipt(1)
    receipt(
        2, "blocked", error_type="GateFailed", message="volume: rows is 3; key: 2 rows have none", sha="a"
    )
    state = feed_state(record(), built("current"))
    assert state.verdict == "blocked"
    assert state.line == (
        "tinyville/requests blocked since 2025-12-02 (GateFailed): volume: rows is 3; key: 2 rows have none "
        f"-> {remedy_of('GateFailed')}"
    )
    assert "replay" in remedy_of("GateFailed")


def test_a_replay_settles_what_was_refused_and_not_what_never_came(record, receipt):
    receipt(1)
    receipt(2, "blocked", error_type="GateFailed", message="rows is 3", sha="a")
    receipt(3, "landed", action="replay", sha="a")
    assert feed_state(record(), built("current")).verdict == "current"
    receipt(4, "failed", **REFUSED)
    receipt(5, "landed", action="replay", sha="a")
    assert feed_state(record(), built("current")).verdict == "failing"


def test_a_feed_of_several_parts_is_one_line_the_worst_first(record, receipt):
    receipt(1, part="all")
    receipt(2, "blocked", part="all", error_type="GateFailed", message="rows is 3")
    receipt(3, "failed", part="old", **REFUSED)
    receipt(3, "failed", part="undeclared", **REFUSED)
    state = feed_state(record(parts=2), None)
    assert state.verdict == "failing"
    assert state.since == moment(2025, 12, 2, 6)
    assert "(Unauthorised): part old: " in state.line
    assert state.line.endswith("-> renew the token (and 1 more part)")


def test_never_tried_never_landed_and_not_built_yet(record, receipt):
    assert feed_state(record(), None).line == (
        "tinyville/requests was never tried -> `citysignal run --city tinyville`"
    )
    receipt(1, "failed", **REFUSED)
    state = feed_state(record(), None)
    assert (state.verdict, state.since) == ("never landed", moment(2025, 12, 1, 6))
    receipt(2)
    assert feed_state(record(), None).verdict == "not built yet"


def test_late_is_what_the_warehouse_says_and_names_the_page_to_look_at(record, receipt):
    receipt(1)
    state = feed_state(record(), built("late", newest_record_at=moment(2025, 11, 20, 9)))
    assert (state.verdict, state.since) == ("late", moment(2025, 11, 20, 9))
    assert state.line == (
        "tinyville/requests late since 2025-11-20: no newer record came, and what comes daily is late after "
        "2 days -> look at https://example.org/tinyville whether the publisher still updates it or has "
        "a successor"
    )


def test_figures_come_from_the_warehouse_where_it_has_them(record, receipt):
    receipt(1, rows_known=7, rows_missing=1, quarantine_reasons={"no key": 4})
    alone, with_it = feed_state(record(), None), feed_state(record(), built("current"))
    assert (alone.rows, alone.rows_missing, alone.rows_quarantined) == (7, 1, 4)
    assert (with_it.rows, with_it.rows_missing, with_it.rows_quarantined) == (7, 2, 3)


def test_without_a_warehouse_every_feed_has_a_state(declare, settings, receipt):
    cities = load_cities([declare("tinyville")], {})
    receipt(1, "failed", **REFUSED)
    [state] = feed_states(settings.lake, list(cities.values()))
    assert (state.name, state.verdict) == ("tinyville/requests", "never landed")


@pytest.mark.parametrize(
    ("error_type", "like"),
    [("Http418", "Http4xx"), ("Http503", "Http5xx"), ("Unheard", "other"), (None, "other")],
)
def test_an_error_without_a_row_of_its_own_has_the_remedy_of_its_family(error_type, like):
    assert remedy_of(error_type) == remedy_of(like)


def test_nothing_wrong_is_no_line(receipt):
    delivery = receipt(1)
    assert troubles([delivery], ["all"]) == []
    assert trouble_line([]) == ""


def test_a_message_without_a_remedy_keeps_all_of_its_words(receipt):
    delivery = receipt(1, "failed", error_type="Http503", message="two\n lines")
    assert explained(delivery) == ("two lines", remedy_of("Http5xx"))
