"""Request story, place dossier and maintenance debt over a town made up by hand, each guard with its twin."""

from datetime import date
from io import StringIO
from pathlib import Path

import duckdb
import numpy as np
import pytest
from rich.console import Console
from scipy.special import gammainc
from scipy.stats import theilslopes

from assets.ingest.lake import Lake
from assets.warehouse.dossier import UnknownPlaceError, read_dossier
from assets.warehouse.reader import connect
from orchestration.dossier_command import print_dossier
from tests.made_up_town import NEGLECTED, PRIVATE, PRODUCTS, asked, at, built_sql, make_town, readings, run


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("made_up_town")
    make_town(home)
    skipped = ("--exclude-resource-type", "test", "--exclude-resource-type", "unit_test")
    built = run(home, "build", "--select", *(f"+{name}" for name in PRODUCTS), "request_stories", *skipped)
    assert {name: said for name, said in built.items() if said not in ("success", "no-op")} == {}
    return home


def test_what_the_models_promise_holds(home: Path) -> None:
    told = run(
        home,
        "test",
        "--select",
        *PRODUCTS,
        "path:models/intermediate/dossier",
        "request_stories",
        "--exclude-resource-type",
        "unit_test",
    )
    assert len(told) > 20
    assert {name: said for name, said in told.items() if said != "pass"} == {}


@pytest.mark.parametrize("product", PRODUCTS)
def test_another_order_of_rows_changes_nothing(home: Path, product: str) -> None:
    query = built_sql(home, product)
    stored = f"select * from correlation.{product}"
    for threads in (1, 4):
        again = f"from ((({query}) except all ({stored})) union all (({stored}) except all ({query})))"
        assert asked(home, again, threads) == []


# --------------------------------------------------------------------------------------------- request story


def stories(home: Path) -> dict[str, dict]:
    rows = asked(home, "select * from correlation.mart_request_story where city = 'town'")
    return {row["service_request_id"]: row for row in rows}


def test_a_story_says_what_a_report_joined_and_what_was_done(home: Path) -> None:
    told = stories(home)
    requests = "select source_id from core.fct_events where city = 'town' and kind = 'service_request'"
    assert told.keys() == {row["source_id"] for row in asked(home, requests)}
    joined = (
        " on Oak Street in First Ward: Pothole (street or alley). It joined 6 other reports of one case "
        "(2 matched by place and time only). At the same water main, on 2025-06-12 (2 days after the first "
        "report): Confirmed water main break; it was repaired on 2025-06-12. Work that answers it: Pothole "
        "patched (crew record), begun on 2025-06-14, finished on 2025-06-14."
    )
    assert told["C"]["story"] == f"Reported on 2025-06-10{joined} It was closed on 2025-06-20: Done."
    assert (
        told["N2"]["story"]
        == f"Reported on 2025-06-12{joined} The case it joined was closed on 2025-06-20: Done."
    )
    assert [told[name]["case_id"] for name in ("C", "T1", "T4", "N1", "N2")] == ["C"] * 5


def test_a_break_fifteen_days_later_is_no_part_of_a_story(home: Path) -> None:
    early = stories(home)["EARLY"]
    assert (early["tells_failures"], early["n_failure"], early["failed_on"]) == (True, 0, None)
    assert "main break" not in early["story"]


def test_what_a_source_does_not_tell_is_said(home: Path) -> None:
    told = stories(home)
    assert told["Q"]["story"] == (
        "Reported on 2025-06-10, place not told by the source: Pothole (street or alley). It joined no other "
        "report. No work order is linked to it. Whether it is closed is not told by the source."
    )
    assert (told["Q"]["is_case_open"], told["Q"]["is_on_school_route"]) == (None, None)
    # Its feed tells the status of another one, and no closing: core takes what has no end for open.
    assert told["R"]["is_case_open"] is True
    assert asked(home, "select is_open from core.fct_events where source_id = 'Q'") == [{"is_open": True}]
    # Nobody tells repairs of lamps here: that there is none is not known.
    assert "Work on such requests is not told by the source." in told["LAMP"]["story"]
    assert told["LAMP"]["n_work_order"] is None
    assert (told["C"]["is_on_school_route"], told["LAMP"]["is_on_school_route"]) == (True, False)
    assert told["C"]["is_on_bus_route"] is None
    assert told["C"]["main_age_years"] == pytest.approx(100.4, abs=0.1)


def test_private_and_deleted_requests_have_no_story(home: Path) -> None:
    told = stories(home)
    assert {name for name, row in told.items() if row["story"] is None} == {"SECRET", "GONE"}
    # Without the guard they would be told.
    unguarded = built_sql(home, "mart_request_story").replace(
        "is_deleted or is_withdrawn as is_withheld", "false as is_withheld"
    )
    rows = asked(home, f"select story from ({unguarded}) where city = 'town'")
    assert len(rows) == len(told)
    assert all(row["story"] for row in rows)
    published = asked(home, "select service_request_id as id, feed from open_data.request_stories")
    assert len(published) == len(told) - 2
    assert {row["id"] for row in published} == told.keys() - {"SECRET", "GONE"}


def test_no_story_holds_what_stands_in_addresses_and_notes(home: Path) -> None:
    sources = asked(home, "select string_agg(address, ' ') as said from core.fct_events")[0]["said"]
    assert all(word in sources for word in PRIVATE)
    told = " ".join(row["story"] or "" for row in stories(home).values())
    assert [word for word in PRIVATE if word in told] == []


# --------------------------------------------------------------------------------------------- place dossier


def test_a_dossier_answers_by_address_segment_cell_and_point(home: Path) -> None:
    connection = connect(Lake(home).build_warehouse)
    try:
        where = at(50, 0)
        by_address = read_dossier(connection, "town", " 12  oak ST")
        by_point = read_dossier(connection, "town", f"{where['lon']},{where['lat']}")
        assert list(by_address.names) == ["address", "segment", "cell"]
        assert list(read_dossier(connection, "town", "S0").names) == ["segment", "cell"]
        assert by_point.names == {"cell": by_address.names["cell"]}
        assert read_dossier(connection, "town", by_point.names["cell"]).entries == by_point.entries
        with pytest.raises(UnknownPlaceError, match="alike are '12 "):
            read_dossier(connection, "town", "13 oak st")
        # Where a crime was recorded is no address that can be asked for.
        with pytest.raises(UnknownPlaceError):
            read_dossier(connection, "town", "99 Secret Place")
        with pytest.raises(UnknownPlaceError):
            read_dossier(connection, "town", "0,0")
        with pytest.raises(UnknownPlaceError, match="knows no city 'tonw', but 'plain', 'town', 'young'"):
            read_dossier(connection, "tonw", "12 Oak St")
    finally:
        connection.close()

    console = Console(width=220, file=StringIO())
    print_dossier(by_address, console)
    page = console.file.getvalue()
    for said in (
        "2, 2 open since 2025-01-02, 1 expired, newest 2025-12-02",
        "CAST IRON",
        "1, last 2025-06-12",
        "NEAR",
        "R0",
        "falling (60 days)",
        "too few readings (9 days)",
        "Larceny: 60",
    ):
        assert said in page
    assert "FAR" not in page
    assert "Burglary" not in page


def crimes_told(home: Path, query: str) -> dict[tuple, set]:
    rows = asked(home, f"select * from ({query}) where city = 'town' and section = 'crime'")
    assert {row["place_type"] for row in rows} <= {"cell"}
    found: dict[tuple, set] = {}
    for row in rows:
        found.setdefault(row["h3_10"], set()).add((row["label"], row["n"], row["newest_on"]))
    return found


def test_crimes_are_told_from_the_floor_on_and_nothing_shows_what_is_below_it(home: Path) -> None:
    cells = [at(40, 300.0 * segment)["h3_10"] for segment in (0, 2, 4)]
    withheld = ("every other type", None, None)
    query = "select * from correlation.mart_place_dossier"
    told = crimes_told(home, query)
    assert told[cells[0]] == {("Larceny", 60, None), withheld}
    # 49 thefts look like none.
    assert told[cells[1]] == told[cells[2]] == {withheld}
    everywhere = asked(
        home,
        "select distinct h3_10 from correlation.mart_place_dossier "
        "where city = 'town' and place_type = 'cell'",
    )
    assert set(told) == {row["h3_10"] for row in everywhere}

    product = built_sql(home, "mart_place_dossier")
    assert product.count(">= 50") == 1
    bare = crimes_told(home, product.replace(">= 50", ">= 1"))
    assert ("Larceny", 49, None) in bare[cells[1]]
    assert ("Burglary", 49, None) in bare[cells[0]]


def test_trends_are_those_of_scipy_and_none_where_days_are_few(home: Path) -> None:
    rows = {row["sensor_id"]: row for row in asked(home, "select * from intermediate.int_sensor_trends")}
    for sensor, verdict in (("SINKS", "falling"), ("STANDS", "no_trend_shown")):
        series = [row for row in readings() if row["asset_id"] == sensor]
        days = [date.fromisoformat(row["occurred_at"][:10]).toordinal() for row in series]
        slope, _, low, high = theilslopes([float(row["quantity"]) for row in series], days, 0.95)
        told = rows[sensor]
        assert [told["trend"], told["trend_low"], told["trend_high"]] == pytest.approx(
            [90 * slope, 90 * low, 90 * high], abs=1e-9
        )
        assert told["trend_verdict"] == verdict
    # Nine days of the sensor that sinks as fast would have had a trend.
    new = rows["NEW"]
    assert (new["n_reading_day"], new["trend"], new["trend_verdict"]) == (9, None, "too_few_readings")
    series = [float(row["quantity"]) for row in readings() if row["asset_id"] == "NEW"]
    assert theilslopes(series, -np.arange(9.0))[0] != 0


# ------------------------------------------------------------------------------------------ maintenance debt


def debts(
    home: Path, city: str, query: str = "select * from correlation.mart_maintenance_debt"
) -> list[dict]:
    return asked(home, f"select * from ({query}) where city = '{city}' order by unit_id")


def test_five_years_tell_which_streets_are_neglected(home: Path) -> None:
    rows = debts(home, "town")
    assert {(row["state"], row["covered_years"], row["n_alike"]) for row in rows} == {("estimated", 5.0, 48)}
    neglected = {f"S{i}" for i in NEGLECTED}
    of = {row["unit_id"]: row["p_under_half"] for row in rows}
    assert min(of[name] for name in neglected) > max(p for name, p in of.items() if name not in neglected)
    assert np.mean([of[name] for name in neglected]) > 0.7
    assert max(p for name, p in of.items() if name not in neglected) < 0.2


def test_the_posterior_is_that_of_gamma_and_poisson(home: Path) -> None:
    rows = debts(home, "town")
    n = np.array([row["n_repair"] for row in rows], float)
    # All segments have one length, class and age: each expects the mean.
    e = np.full(len(n), n.mean())
    v = (np.sum((n - e) ** 2) - e.sum()) / np.sum(e**2)
    assert v > 0
    assert [row["expected_repair"] for row in rows] == pytest.approx(list(e), rel=1e-6)
    assert [row["repair_ratio"] for row in rows] == pytest.approx(list((1 + v * n) / (1 + v * e)), rel=1e-4)
    exact = gammainc(1 / v + n, (1 / v + e) / 2)
    assert [row["p_under_half"] for row in rows] == pytest.approx(list(exact), abs=1e-3)


def test_two_years_of_repairs_tell_nothing_and_without_the_guard_would(home: Path) -> None:
    rows = debts(home, "young")
    assert {(row["state"], row["covered_years"]) for row in rows} == {("not_covered", 2.0)}
    for column in ("expected_repair", "repair_ratio", "p_under_half", "own_weight"):
        assert {row[column] for row in rows} == {None}
    assert sum(row["n_repair"] for row in rows) > 100

    product = built_sql(home, "mart_maintenance_debt")
    assert product.count("n_quarter < 18") == 2
    bare = debts(home, "young", product.replace("n_quarter < 18", "n_quarter < 0"))
    assert all(row["p_under_half"] is not None for row in bare)


def test_without_an_inventory_areas_have_counts_and_no_expectation(home: Path) -> None:
    (row,) = debts(home, "plain")
    assert (row["unit_type"], row["unit_id"], row["state"]) == ("ward", "1", "no_inventory")
    assert (row["n_repair"], row["n_request"], row["expected_repair"]) == (20, None, None)


def test_the_gamma_of_plain_sql_is_within_a_thousandth_of_scipys(home: Path) -> None:
    """Over all shapes and limits a street can have; the cube root alone is wrong by fifty times as much."""
    product = built_sql(home, "mart_maintenance_debt")
    start = product.index("when estimates.shape is not null then") + len(
        "when estimates.shape is not null then"
    )
    formula = product[start : product.index("when estimates.asset_key is not null then 0")]
    shapes, shares = np.geomspace(0.05, 400, 80), np.geomspace(0.001, 4, 80)
    grid = (
        "(select s as shape, s * r as x from (select unnest($s) as s), (select unnest($r) as r)) as estimates"
    )
    with duckdb.connect() as con:
        found = con.execute(
            f"select shape, x, {formula} as p from {grid}",
            {"s": list(shapes), "r": list(shares)},
        ).fetchnumpy()
    assert len(found["p"]) == 6400
    assert np.abs(found["p"] - gammainc(found["shape"], found["x"])).max() < 1e-3
