"""What the real Syracuse files must give: two layouts of one feed, a shifted header, segments for places."""

from datetime import date

import duckdb
import pytest

from assets.correlate.outlook_backtest import backtest
from assets.correlate.outlook_panel import refuse_look_ahead
from assets.correlate.outlook_tables import Outcome, backtests_table
from assets.correlate.outlooks import read_panel
from tests import outlooks_shown
from tests.outlooks_shown import jobs, pooled
from tests.real.catalogue_asked import BANDS, answers, asked, show

pytestmark = [pytest.mark.real, pytest.mark.slow]

#: Rows of each file in the data manifest, added up over the parts of the feed.
STATED_ROWS = {
    "water_main_breaks": 3_042,
    "potholes_filled": 7_392 + 3_462,
    "permits": 21_556,
    "crimes": 15_052,
    "crimes_2024": 6_693,
}


def test_every_row_of_every_file_is_accounted_for(syracuse):
    rows = {
        feed: (in_file, raw + quarantined)
        for feed, in_file, raw, quarantined in syracuse.rows(
            """select feed, rows_in_file, rows_raw, rows_quarantined_by_ingest
               from quality.reconciliation where city = 'syracuse'"""
        )
    }
    assert {feed: rows[feed][0] for feed in STATED_ROWS} == STATED_ROWS
    assert all(in_file == kept for in_file, kept in rows.values())
    assert syracuse.rows("select count(*) from quality.reconciliation where not is_reconciled") == [(0,)]


def test_potholes_of_both_layouts_lie_in_the_city(syracuse):
    shares = syracuse.rows(
        """select year(event_on), avg((location_quality = 'ok')::int), count(*) from core.fct_events
           where feed = 'potholes_filled' group by 1 order by 1"""
    )
    assert [year for year, _, _ in shares] == [2016, 2018]
    assert all(located > 0.95 and events > 3_000 for _, located, events in shares)


def test_repeated_main_breaks_are_one_event(syracuse):
    """The file numbers 47 duplicates anew; what makes a break is its day, place and class."""
    [(keys, breaks)] = syracuse.rows(
        """select r.distinct_keys, (select count(*) from core.fct_events where feed = 'water_main_breaks')
           from quality.reconciliation as r where r.feed = 'water_main_breaks'"""
    )
    assert keys == breaks
    assert breaks in (2_994, 2_995)


def test_the_shifted_permit_header_is_put_right(syracuse):
    [(costly, typed)] = syracuse.rows(
        """select count(*) filter (where estimated_cost_usd > 0),
               count(*) filter (where event_type <> 'other')
           from core.fct_permits join core.fct_events using (event_key) where fct_events.feed = 'permits'"""
    )
    assert costly > 10_000
    assert typed > 20_000


def test_ratings_name_segments_of_the_inventory(syracuse):
    [(known,)] = syracuse.rows(
        """select avg((a.asset_id is not null)::int) from core.fct_events as e
           left join core.dim_asset as a on a.city = e.city and a.asset_id = e.asset_id
           where e.feed = 'road_ratings'"""
    )
    assert known > 0.9


#: Potholes filled over half a year each of 2016 and 2018, some 230 main breaks a year, crimes with a place.
ASKED = {
    "pothole_repair_main_break",
    "main_break_pothole_repair",
    "pothole_repair_theft",
    "robbery_pothole_repair",
    "burglary_main_break",
}


def test_every_question_that_the_files_allow_has_a_verdict(syracuse):
    owed, found = asked(syracuse.rows), answers(syracuse.rows)
    show(found)
    assert {question for question, _ in owed} == ASKED
    assert set(found) == owed


def test_potholes_and_main_breaks_are_answered_both_ways_and_too_few_to_tell(syracuse):
    """1,700 repairs have 11 main breaks within 100 m and 14 days: a doubling could not be seen there."""
    found = answers(syracuse.rows)
    before, after = (
        [found[question, band] for band in BANDS]
        for question in ("pothole_repair_main_break", "main_break_pothole_repair")
    )
    for ring in before + after:
        assert ring["verdict"] == "insufficient"
        assert (ring["rr"], ring["ci_low"], ring["ci_high"]) == (None, None, None)
    assert all(ring["n_anchor"] > 400 for ring in before + after)
    assert before[0]["d0"] + before[0]["d1"] < 50
    assert before[0]["minimal_detectable_rr"] > 2
    # Crews fill what is near a break by the dozen, all of them in a few places.
    assert after[2]["d0"] + after[2]["d1"] >= 50


def test_the_whole_city_is_too_small_for_a_claim(syracuse):
    assert "supported" not in {row["verdict"] for row in answers(syracuse.rows).values()}


#: The years for which the city's breaks are looked back upon.
FIRST_DAY = (date(2016, 1, 1) - date(1970, 1, 1)).days - 1


def test_cells_ranked_by_expected_breaks_are_judged_on_those_of_2016_to_2019(syracuse):
    """Without an inventory of mains the units are cells with a record of any kind."""
    path = syracuse.home / "warehouse" / "build" / "warehouse.duckdb"
    with duckdb.connect(str(path), read_only=True) as con:
        panel, keys = read_panel(con, "syracuse", "main_failure_risk")
        breaks = jobs(con, "infra_main_break")["day"].to_numpy()
    refuse_look_ahead(panel)
    result = backtest(panel, since_day=FIRST_DAY)
    rows = backtests_table([Outcome(panel, keys, result, {}, None)]).to_pylist()
    outlooks_shown.show("Syracuse, breaks of 2016 to 2019 in periods of 28 days", rows)
    looks = pooled(rows)
    model = looks["model", "share"]
    over, over_low, over_high, gain, low, high = (
        model[name + end]
        for name in ("lift_over_past_count", "gain_over_heuristic")
        for end in ("", "_ci_low", "_ci_high")
    )
    print(f"model over past-break count {over:.2f} [{over_low:.2f}, {over_high:.2f}]")
    print(f"gain over the count of 365 days {gain:.4f} [{low:.4f}, {high:.4f}]")
    origins = sorted(look.origin_day for look in result.looks if look.origin_day is not None)
    assert (origins[0], model["n_origin"]) == (FIRST_DAY, 44)
    ahead = (breaks > origins[0]) & (breaks <= origins[-1] + panel.horizon_days)
    assert ahead.sum() == model["n_failure"] > 500
    assert all(row["lift_ci_low"] > 2 for row in looks.values())
    assert all(0.8 < row["calibration_ratio"] < 1.25 for row in looks.values())
    assert low < gain < high


def test_the_heuristic_ranks_where_a_gain_is_not_shown_over_all_periods(syracuse):
    """The gate looks at all periods since 2014: at one cell in a hundred the interval of the gain holds 0."""
    gains = syracuse.rows(
        """select picked, gain_over_heuristic, gain_over_heuristic_ci_low, n_origin
           from correlation.mart_outlook_backtests
           where origin = 'pooled' and part = 'all' and method = 'model' order by picked"""
    )
    assert [(picked, periods) for picked, _, _, periods in gains] == [("crew", 68), ("share", 68)]
    shipped = "model" if all(low > 0 for _, _, low, _ in gains) else "heuristic"
    [(method, unit_type, last, reason)] = syracuse.rows(
        "select method, unit_type, max(rank), reason from correlation.mart_main_failure_risk group by all"
    )
    print(f"\n{reason}")
    assert (method, unit_type) == (shipped, "cell")
    assert last > 2000
    assert reason.startswith(f"The {shipped} ranks: over 68 periods")
