"""The shipped mapping of Austin's crimes against an answer of its portal, recorded in June 2024."""

from datetime import datetime

import duckdb
import pytest

from assets.ingest.aggregates import read_time
from assets.ingest.feed import BUILT_IN, load_cities
from assets.ingest.sql_expression import literal, quoted

pytestmark = pytest.mark.real

#: What NIBRS says the records with a code are; the rest of the records has none.
EVENT_TYPE_OF_NIBRS = {
    "09A": "homicide",
    "11A": "rape",
    "11C": "rape",
    "120": "robbery",
    "13A": "assault_aggravated",
    "220": "burglary",
    "23A": "theft",
    "23C": "theft",
    "23D": "theft",
    "23F": "theft_from_vehicle",
    "23G": "theft_from_vehicle",
    "23H": "theft",
    "240": "motor_vehicle_theft",
}


@pytest.fixture(scope="module")
def crimes():
    return load_cities([BUILT_IN], {"CITYSIGNAL_SIMULATED_PORTAL": "http://127.0.0.1"})["austin"].feeds[
        "crimes"
    ]


@pytest.fixture(scope="module")
def recorded(real_data):
    """All records as text, as the portal sent them."""
    path = real_data / "api_fixtures" / "socrata" / "austin_crime_soda_response.json.gz"
    con = duckdb.connect()
    con.execute(f"create table nested as from read_json({literal(str(path))}, format = 'array')")
    names = [row[0] for row in con.execute("describe nested").fetchall()]
    texts = ", ".join(f"cast({quoted(name)} as varchar) as {quoted(name)}" for name in names)
    con.execute(f"create table source as select {texts} from nested")
    return con


@pytest.fixture(scope="module")
def mapped(crimes, recorded):
    """The records under the names of the contract."""
    expressions = crimes.mapping(crimes.parts[0])
    selected = ", ".join(f"{sql} as {quoted(name)}" for name, sql in expressions.items())
    recorded.execute(f"create or replace table mapped as select {selected} from source")
    return recorded


def test_every_mapped_column_is_in_the_answer(crimes, recorded):
    there = {row[0] for row in recorded.execute("describe source").fetchall()}
    named = {name for source in crimes.sources(crimes.parts[0]).values() for name in source.columns()}
    assert named <= there
    assert len(named) >= 10


def test_every_record_has_its_own_id(mapped):
    assert mapped.execute("select count(*), count(distinct source_id) from mapped").fetchone() == (
        1_000,
        1_000,
    )


def test_the_time_is_the_one_the_portal_itself_gives(mapped):
    """Where the portal's own occ_date_time is empty, the day is all there is."""
    joined = f"""select {read_time("m.occurred_at")} as mapped, cast(s.occ_date_time as timestamp) as told,
        cast(s.occ_date as timestamp) as day
        from mapped as m join source as s on s.incident_report_number = m.source_id"""
    counts = f"""select count(*) filter (where mapped is null), count(told),
        count(*) filter (where told is not null and told <> mapped),
        count(*) filter (where told is null and mapped <> day) from ({joined})"""
    unread, told, differing, guessed = mapped.execute(counts).fetchone()
    assert (unread, differing, guessed) == (0, 0, 0)
    assert told > 850


def test_midnight_told_as_2400_is_a_day_without_a_time(mapped):
    [(times,)] = mapped.execute(
        """select list(distinct strftime(cast(occurred_at as timestamp), '%H:%M')) from mapped
           join source on incident_report_number = source_id where occ_time = '2400'"""
    ).fetchall()
    assert times == ["00:00"]


def test_reports_and_flags_are_read(mapped):
    figures = f"""select count({read_time("reported_at")}), count(*) filter (where is_domestic = 'Y'),
        count(*) filter (where is_domestic not in ('Y', 'N')) from mapped"""
    assert mapped.execute(figures).fetchone() == (999, 87, 0)


def test_no_category_is_unmapped_and_codes_say_what_nibrs_says(crimes, mapped):
    of_code = {rule.code: rule.event_type for rule in crimes.categories}
    records = mapped.execute("select code, category, offence_code from mapped").fetchall()
    assert {(code, what) for code, what, _ in records if code not in of_code} == set()
    known = [(of_code[code], EVENT_TYPE_OF_NIBRS[nibrs]) for code, _, nibrs in records if nibrs]
    assert [pair for pair in known if pair[0] != pair[1]] == []
    assert len(known) == 332


def test_the_points_of_2024_are_not_mapped_and_neither_is_an_address(crimes, mapped):
    """The portal has taken both away since: a mapped column that is gone would stop the feed."""
    assert not {"x", "y", "address", "postal_code"} & set(crimes.sources(crimes.parts[0]))
    newest = mapped.execute(f"select max({read_time('occurred_at')}) from mapped").fetchone()[0]
    assert newest < datetime(2024, 7, 1)  # noqa: DTZ001
