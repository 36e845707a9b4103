"""What the real Syracuse files must give: two layouts of one feed, a shifted header, segments for places."""

import pytest

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
