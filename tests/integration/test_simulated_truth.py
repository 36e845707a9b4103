"""The whole pipeline over a city whose truth is known: what was planted is found, what was spoiled is told.

One run serves all tests, here and in test_operations_truth. The truth is taken away before it, so it cannot
have read what it is held against.
"""

import json
import math
from datetime import timedelta

import pandas as pd
import pytest

from tests.simulated_city import CLOCK, City

pytestmark = pytest.mark.slow

#: One report in five comes late, by two days on average, so the reference window is partly exposed: a mean
#: delay of half a day lowers a planted 1.6 by 3 % (assets/simulate/reporting.py), which no interval knows of.
ATTENUATION = 1.05
#: Widest miss of a planted ratio, so that a wide interval cannot pass for a find: two standard errors of the
#: rarest outcome (300 main breaks near 8,800 potholes, design effect 1.5: 2 * sqrt(1.5 * 4 / 300) = .28).
WIDEST_MISS = 1.32
NAIVE_NULL = 1.3

#: Which flag tells of a fault that leaves the row in place.
FLAGS = {
    "missing_point": "location_missing",
    "zero_point": "location_zero",
    "outside_city": "location_outside_city",
    "default_point": "location_default_point",
    "swapped_point": "location_swapped",
    "unknown_category": "unmapped_category",
    "unmapped_status": "unmapped_status",
    "poison_closed": "bad_closed_at",
    "closed_before_opened": "closed_before_created",
    "odd_number": "bad_customers_affected",
    "negative_reading": "negative_quantity",
}
#: A poisoned time flags the row where the feed has a second time to fall back on; elsewhere it is held back.
POISON_FLAGS = {"crimes": "bad_occurred_at", "permits": "bad_issued_at", "work_orders": "bad_occurred_at"}
#: Why a row is held back.
REASONS = {
    "blank_key": {"no_key"},
    "garbage_time": {"event_time_unreadable"},
    "poison_time": {"event_time_out_of_range"},
    "ragged_line": {"missing_columns", "too_many_columns"},
}
#: Parts that are read as files: of the others no line can be broken, their answers are JSON.
READ_AS_LINES = {("service_requests", "y2024")}
#: Parts that show rows of other parts while they are new: 90 days of requests, and what is out now.
TAIL = timedelta(days=90)
LIVE = {"requests_live": "live", "outages": "live"}
STAGINGS = ("service_requests", "crimes", "permits", "infrastructure", "utility_outages")


@pytest.fixture(scope="module")
def correlations(city: City) -> list[dict]:
    return city.rows("select * from correlation.mart_correlations")


@pytest.fixture(scope="module")
def dirt(city: City) -> dict[tuple[str, str, str], int]:
    """Number of spoiled rows by feed, part and kind of fault."""
    return {
        (feed, part, kind): count
        for feed, parts in city.told("dirt").items()
        for part, kinds in parts.items()
        for kind, count in kinds.items()
    }


@pytest.fixture(scope="module")
def timeless(city: City) -> int:
    """Number of work orders whose beginning was spoiled and whose end is not told: no time is left."""
    spoiled = pd.read_parquet(city.truth / "dirt.parquet")
    spoiled = spoiled[(spoiled.feed == "work_orders") & (spoiled.kind == "poison_time")]
    orders = pd.read_parquet(city.truth / "work_orders.parquet").set_index("source_id")
    return int(orders.completed[spoiled.source_id].isna().sum())


@pytest.fixture(scope="module")
def staged(city: City) -> list[dict]:
    """Every row of every event feed by its part, as the build read it: no older part is hidden by a newer."""
    return [
        row
        for name in STAGINGS
        for row in city.rows(
            f"""select feed, part, event_key, source_id, content_hash, event_type, quarantine_reason,
                       coalesce(dq_flags, '') as flags
                from staging.stg_{name} where city = 'simulated'""",
            warehouse="build",
        )
    ]


def asking(rows: list[dict], pair: dict) -> list[dict]:
    """Return the rows that ask about a pair of cause and outcome, over all subtypes and rings."""
    return [
        row for row in rows if (row["signal_type"], row["outcome_type"]) == (pair["cause"], pair["outcome"])
    ]


def whole_disc(rows: list[dict], pair: dict) -> dict:
    [row] = [
        row
        for row in asking(rows, pair)
        if row["band"] == 1 and row["signal_subtype"] is None and row["signal_cluster_size"] == 1
    ]
    return row


def is_reverse(pair: dict, planted: list[dict]) -> bool:
    return (pair["outcome"], pair["cause"]) in {(each["cause"], each["outcome"]) for each in planted}


def test_the_run_had_no_truth_to_read(city):
    assert sorted(path.name for path in (city.home / "simulated").iterdir()) == ["portal", "simulated.json"]
    assert (city.truth / "effects.json").exists()


def test_planted_effects_are_supported_and_near_the_truth(city, correlations):
    planted = city.told("effects")["planted"]
    assert len(planted) == 4
    for pair in planted:
        row = whole_disc(correlations, pair)
        assert (row["radius_m"], row["window_days"]) == (pair["radius_m"], pair["last_day"])
        assert row["verdict"] == "supported", row["reason"]
        truth = pair["rate_ratio"]
        assert row["ci_low"] <= truth <= ATTENUATION * row["ci_high"], row["reason"]
        assert abs(math.log(row["rr"] / truth)) < math.log(WIDEST_MISS), row["reason"]


def test_absent_effects_are_not_supported_anywhere(city, correlations):
    rows = [row for pair in city.told("effects")["null"] for row in asking(correlations, pair)]
    assert len({row["question_id"] for row in rows}) >= 6
    assert [row["reason"] for row in rows if row["verdict"] == "supported"] == []
    assert all(row["verdict"] != "supported" for row in correlations if row["is_negative_control"])


def test_beyond_their_disc_planted_effects_are_not_supported(correlations):
    assert [row["reason"] for row in correlations if row["band"] == 3 and row["verdict"] == "supported"] == []


def test_the_reverse_of_an_effect_is_told_from_it(city, correlations):
    effects = city.told("effects")
    [pair] = [pair for pair in effects["null"] if is_reverse(pair, effects["planted"])]
    assert {row["verdict"] for row in asking(correlations, pair)} & {"supported"} == set()
    disc = whole_disc(correlations, pair)
    # The guard at work: without the placebo the pair would be judged by its ratio alone.
    assert disc["verdict"] == "reversed_or_confounded"
    assert disc["placebo_rr"] > 1.3


def test_the_naive_ratio_is_fooled_where_nothing_was_planted(city, correlations):
    nulls = [pair for pair in city.told("effects")["null"] if asking(correlations, pair)]
    assert len(nulls) >= 4
    naive = {
        row["question_id"]: row["naive_ratio"] for row in (whole_disc(correlations, pair) for pair in nulls)
    }
    assert min(naive.values()) > NAIVE_NULL, naive


def test_faults_that_leave_a_row_in_place_are_flagged_exactly(dirt, staged, timeless):
    expected, found = {}, {}
    usable = [row for row in staged if row["quarantine_reason"] is None]
    for (feed, part, kind), count in dirt.items():
        flag = POISON_FLAGS.get(feed) if kind == "poison_time" else FLAGS.get(kind)
        if flag is None:
            continue
        expected[feed, part, kind] = count
        found[feed, part, kind] = sum(
            flag in row["flags"].split(",") for row in usable if (row["feed"], row["part"]) == (feed, part)
        )
    expected["work_orders", "all", "poison_time"] -= timeless
    assert {kind for _, _, kind in expected} == {*FLAGS, "poison_time"}
    assert found == expected


def test_rows_that_cannot_be_used_are_held_back_exactly(city, dirt, timeless):
    held = city.rows(
        "select feed, part, reason, n_rows from quality.quarantine_summary where city = 'simulated'"
    )
    expected = {
        key: count
        for key, count in dirt.items()
        if key[2] in REASONS
        and not (key[2] == "poison_time" and key[0] in POISON_FLAGS)
        and not (key[2] == "ragged_line" and key[:2] not in READ_AS_LINES)
    } | {("work_orders", "all", "poison_time"): timeless}
    assert {key[:2] for key in expected if key[2] == "ragged_line"} == READ_AS_LINES
    found = {
        (feed, part, kind): sum(
            row["n_rows"]
            for row in held
            if (row["feed"], row["part"]) == (feed, part) and row["reason"] in REASONS[kind]
        )
        for feed, part, kind in expected
    }
    assert found == expected
    assert sum(row["n_rows"] for row in held) == sum(expected.values())


def test_repeats_are_told_from_changes(dirt, staged):
    contents: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for row in staged:
        if row["quarantine_reason"] is None:
            contents.setdefault((row["feed"], row["part"]), []).append(
                (row["event_key"], row["content_hash"])
            )
    found = {}
    for (feed, part), rows in contents.items():
        states = set(rows)
        found[feed, part, "exact_repeat"] = len(rows) - len(states)
        found[feed, part, "changed_repeat"] = len(states) - len({key for key, _ in states})
    expected = {key: dirt.get(key, 0) for key in found}
    assert found == expected
    assert sum(count for (_, _, kind), count in found.items() if kind == "changed_repeat") > 200


@pytest.mark.parametrize(
    ("feed", "part", "table", "state"),
    [
        ("service_requests", "y2025", "fct_service_requests", "status = 'cancelled'"),
        ("permits", "all", "fct_permits", "status = 'revoked'"),
        ("work_orders", "all", "fct_infrastructure", "quantity = 9"),
        ("crimes", "all", "fct_crimes", "is_arrest"),
    ],
)
def test_of_two_states_in_one_file_the_last_holds(city, dirt, feed, part, table, state):
    """A reader that hands rows over in another order than the file's would show cases as they once were."""
    [row] = city.rows(f"""
        select count(*) as n, count(*) filter (where {state}) as n_latest
        from read_parquet('{city.truth}/dirt.parquet') as dirt
        inner join core.fct_events as events using (feed, source_id)
        inner join core.{table} as of_kind using (event_key)
        where dirt.kind = 'changed_repeat' and feed = '{feed}' and part = '{part}'""")
    assert row == {"n": dirt[feed, part, "changed_repeat"], "n_latest": dirt[feed, part, "changed_repeat"]}


def test_odd_spellings_change_no_type(city, dirt):
    types = city.rows(f"""
        select feed, part, count(*) as n, count(*) filter (where event_type = 'other') as n_unmapped
        from read_parquet('{city.truth}/dirt.parquet') as dirt
        inner join core.fct_events using (feed, source_id)
        where dirt.kind = 'odd_spelling' group by feed, part""")
    assert {(row["feed"], row["part"], "odd_spelling"): row["n"] for row in types} == {
        key: count for key, count in dirt.items() if key[2] == "odd_spelling"
    }
    assert sum(row["n_unmapped"] for row in types) == 0


def test_every_kind_of_dirt_is_looked_at(dirt):
    looked_at = {*FLAGS, *REASONS, "exact_repeat", "changed_repeat", "odd_spelling"}
    assert {kind for _, _, kind in dirt} == looked_at


def test_no_unplaceable_event_has_a_place(city):
    placed = city.rows("""
        select location_quality, count(*) as n, count(x_m) + count(lon) + count(h3_7) as n_placed
        from core.fct_events group by 1""")
    by_quality = {row["location_quality"]: row for row in placed}
    assert set(by_quality) == {"ok", "missing", "zero", "outside_city", "default_point", "swapped"}
    assert {quality for quality, row in by_quality.items() if row["n_placed"]} == {"ok"}


def test_every_feed_reconciles(city):
    rows = city.rows("select * from quality.reconciliation where city = 'simulated'")
    assert [row["feed"] for row in rows if not row["is_reconciled"]] == []
    assert min(row["rows_in_file"] for row in rows) > 0


def test_every_row_of_every_file_came_and_every_live_one_besides(city, dirt):
    receipts = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in (city.home / "lake" / "landing" / "simulated").glob("*/*/receipt.json")
    ]
    assert {receipt["outcome"] for receipt in receipts} == {"landed"}
    came = {(receipt["feed"], receipt["part"]): receipt["rows_in_file"] for receipt in receipts}
    assert len(came) == len(receipts)
    reconciled = city.rows("select rows_in_file from quality.reconciliation where city = 'simulated'")
    assert sum(row["rows_in_file"] for row in reconciled) == sum(came.values())

    live = {part: came.pop(part) for part in LIVE.items()}
    marker = json.loads((city.home / "simulated" / "simulated.json").read_text(encoding="utf-8"))
    unsaid = sum(n for key, n in dirt.items() if key[2] == "ragged_line" and key[:2] not in READ_AS_LINES)
    assert unsaid > 0
    assert sum(came.values()) == sum(marker["rows"].values()) - unsaid

    [expected] = city.rows(f"""
        select
            count(*) filter (
                where feed = 'service_requests' and event_at >= timestamp '{CLOCK - TAIL:%Y-%m-%d %H:%M:%S}'
            ) as requests,
            count(*) filter (where feed = 'outages' and source_status = 'ACTIVE') as outages
        from core.fct_events where city = 'simulated'""")
    assert expected["outages"] > 0
    assert live == {
        ("requests_live", "live"): expected["requests"],
        ("outages", "live"): expected["outages"],
    }


def test_a_request_of_the_live_tail_is_counted_once(city):
    """Bulk and tail tell the same cases in the same state, save where only the tail maps the status."""
    [row] = city.rows("""
        select
            count(*) as n,
            count(*) filter (where live.is_canonical) as n_canonical,
            count(*) filter (where live.canonical_event_key = bulk.canonical_event_key) as n_known,
            count(*) filter (where bulk.is_open <> live.is_open and bulk.status <> 'unknown') as n_otherwise
        from core.fct_events as live
        left join core.fct_events as bulk
            on live.source_id = bulk.source_id and bulk.feed = 'service_requests'
        where live.feed = 'requests_live'""")
    assert row["n"] > 10_000
    assert row == {"n": row["n"], "n_canonical": 0, "n_known": row["n"], "n_otherwise": 0}


def test_every_extract_says_that_it_is_simulated(city):
    packages = sorted((city.home / "open_data" / "releases" / "latest").glob("*/datapackage.json"))
    assert packages
    of_cities = 0
    for path in packages:
        package = json.loads(path.read_text(encoding="utf-8"))
        columns = {
            field["name"]
            for each in package["resources"]
            for field in each.get("schema", {}).get("fields", ())
        }
        if "city" in columns:  # the questions are put to every city and tell of none
            of_cities += 1
            assert "simulated" in package["title"].lower(), path
            assert package["simulated"] is True
            head = (path.parent / "README.md").read_text(encoding="utf-8").splitlines()[0]
            assert "simulated" in head.lower()
    assert of_cities == len(packages) - 1
    told = city.rows(
        "select distinct is_simulated, city_name ilike '%simulated%' as named from open_data.service_requests"
    )
    assert told == [{"is_simulated": True, "named": True}]
