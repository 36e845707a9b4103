"""Coordinates as portals write them, and what locating makes of them."""

from pathlib import Path

import duckdb
import h3
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from assets.ingest import locate as subject
from assets.ingest.contracts import LOCATION_COLUMNS, LOCATION_QUALITIES
from assets.ingest.feed import City

BOX = (-87.95, 41.6, -87.5, 42.1)


def a_city(**changes) -> City:
    said = {"id": "lakeside", "folder": Path("lakeside"), "name": "Lakeside", "country": "US", "state": "IL"}
    said |= {"time_zone": "America/Chicago", "crs": "EPSG:26916", "bbox": BOX}
    return City(**said | changes)


def located(pairs, *, crs="EPSG:4326", default_points=(), city=None) -> dict:
    """Locate (x, y) texts; returns the rows of `places` by their pair."""
    with duckdb.connect() as con:
        con.execute("create table told (x varchar, y varchar)")
        if pairs:
            con.executemany("insert into told values (?, ?)", [list(pair) for pair in pairs])
        subject.locate(con, "told", city or a_city(), crs=crs, default_points=default_points)
        rows = con.sql("from places")
        assert (
            dict(zip(rows.columns, map(str, rows.types), strict=True))
            == {
                "x": "VARCHAR",
                "y": "VARCHAR",
            }
            | LOCATION_COLUMNS
        )
        return {row[:2]: dict(zip(LOCATION_COLUMNS, row[2:], strict=True)) for row in rows.fetchall()}


def quality(x, y, **options) -> str:
    return located([(x, y)], **options)[x, y]["location_quality"]


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ("-87.69", "41.99", "ok"),
        (" -87.69 ", "41.99", "ok"),
        ("-8.769e1", "+41.99", "ok"),
        (None, "41.99", "missing"),
        ("-87.69", None, "missing"),
        (None, None, "missing"),
        ("", "41.99", "missing"),
        ("-87.69", "  ", "missing"),
        ("", "not told", "missing"),
        ("-87.69", "not told", "unparseable"),
        ("-87,69", "41.99", "unparseable"),
        ("-8_7.69", "41.99", "unparseable"),
        ("NaN", "41.99", "unparseable"),
        ("nan", "nan", "unparseable"),
        ("-87.69", "inf", "unparseable"),
        ("-Infinity", "41.99", "unparseable"),
        ("1e400", "41.99", "unparseable"),
        ("0x57", "41.99", "unparseable"),
        ("1;drop table told", "41.99", "unparseable"),
        ("0", "0", "zero"),
        ("0.0", "-0.00", "zero"),
        ("0.000001", "0.000001", "zero"),
        ("0", "41.99", "outside_city"),
        ("41.99", "-87.69", "swapped"),
        ("-87.96", "41.99", "outside_city"),
        ("-36.6", "91.7", "outside_city"),
        ("1e300", "1e300", "outside_city"),
        ("-87.95", "41.6", "ok"),
    ],
)
def test_each_location_has_one_verdict(x, y, expected):
    row = located([(x, y)])[x, y]
    assert row.pop("location_quality") == expected
    assert all((value is not None) == (expected == "ok") for value in row.values())


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ("1157924.797", "1939298.014", "ok"),
        ("1939298.014", "1157924.797", "swapped"),
        ("-87.69", "41.99", "outside_city"),
        ("0", "0", "zero"),
        ("1,157,924.797", "1,939,298.014", "unparseable"),
        ("1e30", "1e30", "outside_city"),
    ],
)
def test_feet_of_a_state_plane_are_judged_on_the_globe(x, y, expected):
    assert quality(x, y, crs="EPSG:3435") == expected


def test_a_state_plane_point_lands_where_its_address_is():
    row = located([("1157924.797", "1939298.014")], crs="EPSG:3435")["1157924.797", "1939298.014"]
    # 5931 N Rockwell St, Chicago: 5900 north is 41.988, 2600 west is -87.694.
    assert (row["lon"], row["lat"]) == pytest.approx((-87.6943, 41.9890), abs=5e-4)
    assert (row["x_m"], row["y_m"]) == pytest.approx(
        Transformer.from_crs("EPSG:3435", "EPSG:26916", always_xy=True).transform(1157924.797, 1939298.014),
        abs=0.01,
    )


def test_null_island_of_a_projected_plane_is_zero():
    assert quality("0.3", "-0.4", crs="EPSG:3857") == "zero"
    assert quality("3", "-4", crs="EPSG:3857") == "outside_city"


LAT, LON = 41.88, -87.63
METRE_NORTH = 1 / 111_320


@pytest.mark.parametrize(("metres", "expected"), [(0, "default_point"), (0.9, "default_point"), (1.2, "ok")])
@pytest.mark.parametrize("whose", ["city", "feed"])
def test_known_default_points_lose_their_location(metres, expected, whose):
    city = a_city(default_points=((LON, LAT),) if whose == "city" else ())
    points = ((LON, LAT),) if whose == "feed" else ()
    x, y = str(LON), str(LAT + metres * METRE_NORTH)
    assert quality(x, y, city=city, default_points=points) == expected
    assert quality(x, y) == "ok"


def test_a_default_point_outside_the_city_is_called_by_its_name():
    assert quality("-89.5", "40.0", default_points=[(-89.5, 40.0)]) == "default_point"
    assert quality("-89.5", "40.0") == "outside_city"


def test_one_row_per_distinct_pair_so_that_landing_joins_back_without_loss():
    pairs = [("-87.69", "41.99"), ("-87.69", "41.990"), (None, "41.99"), (None, None), ("", None)]
    with duckdb.connect() as con:
        con.execute("create table told (x varchar, y varchar)")
        con.executemany("insert into told values (?, ?)", [list(pair) for pair in pairs * 3])
        for _ in range(2):
            subject.locate(con, "told", a_city(), crs="EPSG:4326", default_points=())
        assert con.sql("select count(*) from places").fetchone() == (len(pairs),)
        joined = con.sql(
            "select count(*) from told join places "
            "on told.x is not distinct from places.x and told.y is not distinct from places.y"
        )
        assert joined.fetchone() == (len(pairs) * 3,)


def test_chunks_change_nothing(monkeypatch):
    rng = np.random.default_rng(1)
    pairs = [(f"{lon:.6f}", f"{lat:.6f}") for lon, lat in rng.uniform((-88.2, 41.5), (-87.4, 42.2), (50, 2))]
    pairs += [(None, None), ("x", "y"), ("0", "0")]
    whole = located(pairs)
    monkeypatch.setattr(subject, "CHUNK_LOCATIONS", 7)
    assert located(pairs) == whole
    assert (
        {"ok", "outside_city"} < {row["location_quality"] for row in whole.values()} <= {*LOCATION_QUALITIES}
    )


def test_nothing_to_locate_is_no_error():
    assert located([]) == {}


def test_h3_cells_are_those_of_the_reference_library():
    rng = np.random.default_rng(2)
    lon, lat = rng.uniform((-180, -90), (180, 90), (2_000, 2)).T
    for resolution in (7, 9, 10):
        expected = [
            h3.str_to_int(h3.latlng_to_cell(*point, resolution)) for point in zip(lat, lon, strict=True)
        ]
        cells = subject.h3_cells(lon, lat, resolution)
        assert cells.dtype == np.int64
        assert cells.tolist() == expected


POINTS = st.tuples(st.floats(BOX[0], BOX[2]), st.floats(BOX[1], BOX[3]))


@settings(max_examples=15, deadline=None)
@given(st.lists(POINTS, min_size=1))
def test_any_point_of_the_box_keeps_its_coordinates_to_the_last_bit(points):
    rows = located([(repr(lon), repr(lat)) for lon, lat in points])
    for lon, lat in points:
        row = rows[repr(lon), repr(lat)]
        assert (row["lon"], row["lat"], row["location_quality"]) == (lon, lat, "ok")
        assert row["h3_9"] == h3.str_to_int(h3.latlng_to_cell(lat, lon, 9))


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=20))
def test_no_text_whatever_stops_a_delivery(pairs):
    rows = located(pairs)
    assert set(rows) == set(pairs)
    assert {row["location_quality"] for row in rows.values()} <= set(LOCATION_QUALITIES)
