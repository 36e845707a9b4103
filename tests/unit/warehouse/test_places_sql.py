"""The models that join events to areas and assets, as plain SQL on tricky shapes, against shapely."""

from datetime import date, datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from jinja2 import Environment
from pyproj import Transformer

from assets.ingest import cover, grid
from assets.ingest.contracts import LOCATION_COLUMNS, column_names
from assets.ingest.feed import City, Feed
from assets.ingest.lake import Lake

PROJECT = Path(__file__).parents[3] / "dbt_project"
CITY = City(
    id="lakeside",
    folder=Path("lakeside"),
    name="Lakeside",
    country="US",
    state="IL",
    time_zone="America/Chicago",
    crs="EPSG:26916",
    bbox=(-88.5, 41.5, -87.0, 42.5),
)
# A corner of four cells; everything lies around it.
X0, Y0 = 440_000, 4_640_000
TO_GLOBE = Transformer.from_crs(CITY.crs, "EPSG:4326", always_xy=True)


TABLES = {
    "int_event_areas": "replace_in_areas",
    "bridge_event_area": "replace_in_areas",
    "int_event_assets": "replace_near_assets",
    "bridge_event_asset": "replace_near_assets",
}


def rendered(text: str, **said) -> str:
    """Render SQL of the project so that it reads tables named like the relations it refers to."""
    macros = [(PROJECT / "macros" / f"{name}.sql").read_text() for name in ("places", "place_deltas")]
    return (
        Environment(autoescape=False)
        .from_string("".join(macros) + text)
        .render(
            ref=lambda relation: relation,
            source=lambda _, table: table,
            in_changed_keys=lambda key: f"{key} in (select event_key from int_changed_keys)",
            built_asset_cells=lambda: "int_asset_cells_built",
            rows_fingerprint=lambda columns: f"bit_xor(hash({', '.join(columns)}))",
            **said,
        )
    )


def model(name: str, *, is_delta: bool = False) -> str:
    """Render a model as it is built whole or, in a delta, the rows that it looks at again."""
    text = next(PROJECT.glob(f"models/*/{name}.sql")).read_text()
    return rendered(text, config=lambda **_: "", places_whole=lambda kind: not is_delta)


def apply_delta(con: duckdb.DuckDBPyConnection) -> None:
    """Do what incremental runs of all four models do."""
    con.execute(f"create or replace table int_asset_cells as {model('int_asset_cells')}")
    for name, strategy in TABLES.items():
        con.execute(f"create or replace temp table looked_at as {model(name, is_delta=True)}")
        key = ["city", "x_m", "y_m"] if name.startswith("int") else ["event_key"]
        arguments = {"target_relation": name, "temp_relation": "looked_at", "unique_key": key}
        con.execute(
            rendered(
                "{{ get_incremental_" + strategy + "_sql(arguments) }}",
                arguments=arguments,
                places_whole=lambda kind: False,
                insert_all=lambda told: f"insert into {told['target_relation']} from looked_at",
            )
        )
    con.execute(f"create or replace table int_asset_cells_built as {model('int_asset_cells_built')}")


def wkb(shape: shapely.Geometry | None) -> bytes | None:
    """Move a shape from metres around the corner to lon/lat."""
    if shape is None:
        return None
    return shapely.to_wkb(
        shapely.transform(
            shape,
            lambda at: np.column_stack(TO_GLOBE.transform(at[:, 0] + X0, at[:, 1] + Y0)),
            include_z=False,
        )
    )


def land(lake: Lake, kind: str, feed: str, rows: list[dict]) -> None:
    """Write raw Parquet as landing does."""
    texts = {name: pa.array([row.get(name) for row in rows], pa.string()) for name in column_names(kind)}
    numbers = {
        name: pa.array([row.get(name) for row in rows], pa.float64())
        for name, type_ in LOCATION_COLUMNS.items()
        if type_ == "DOUBLE"
    }
    delivery = {
        "part": ["whole"] * len(rows),
        "source_row": list(range(len(rows))),
        "delivery_id": ["0"] * len(rows),
        "delivery_sha": ["0"] * len(rows),
        "delivered_at": [datetime(2020, 1, 1)] * len(rows),  # noqa: DTZ001
        "geometry": pa.array([wkb(row.get("shape")) for row in rows], pa.binary()),
    }
    folder = lake.raw(kind, CITY.id, feed)
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({**texts, **numbers, **delivery}), folder / "whole.parquet")


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(tmp_path)


def warehouse(lake: Lake, points: np.ndarray, on: date = date(2015, 1, 1)) -> duckdb.DuckDBPyConnection:
    """Return a connection with covers and one event per point, in metres around the corner."""
    con = duckdb.connect()
    for table, schema in cover.PLACE_TABLES.items():
        folder = lake.derived / "places" / table
        if folder.exists():
            con.execute(
                f"create view {table} as from read_parquet('{folder}/**/*.parquet', hive_partitioning=true)"
            )
        else:
            con.register("nothing", schema.empty_table())
            con.execute(f"create table {table} as select *, '' as city, '' as feed from nothing")
    x, y = (points + np.array([X0, Y0])).T
    con.register("events", pa.table({"event_key": np.arange(len(points)), "x_m": x, "y_m": y}))
    con.execute(
        "create table fct_events as select event_key, ? as city, cast(? as date) as event_on, x_m, y_m "
        "from events union all select -1, 'lakeside', current_date, null, null",
        [CITY.id, on],
    )
    con.execute("create view int_events_unioned as from fct_events")
    for name in TABLES:
        con.execute(f"create table {name} as {model(name)}")
    return con


def boundaries(lake: Lake, shapes: dict[str, shapely.Geometry], feed: str = "wards", **said) -> None:
    land(
        lake, "boundary", feed, [{"source_id": key, "shape": shape, **said} for key, shape in shapes.items()]
    )
    declared = Feed.model_construct(city=CITY.id, id=feed, kind="boundary", area_type="ward")
    cover.write_places(lake, CITY, declared)


def inventory(lake: Lake, asset_type: str, rows: list[dict], reach_m: float = 50.0) -> None:
    land(lake, "asset", asset_type, rows)
    declared = Feed.model_construct(
        city=CITY.id, id=asset_type, kind="asset", asset_type=asset_type, reach_m=reach_m
    )
    cover.write_places(lake, CITY, declared)


def found_areas(con: duckdb.DuckDBPyConnection) -> set[tuple[int, str]]:
    rows = con.sql("select event_key, area_id from bridge_event_area").fetchall()
    assert len(rows) == len(set(rows))
    return set(rows)


def star(rng: np.random.Generator, middle, radius: float, corners: int) -> shapely.Polygon:
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    reach = radius * rng.uniform(0.2, 1.0, corners)
    return shapely.Polygon(np.column_stack([np.cos(angles), np.sin(angles)]) * reach[:, None] + middle)


RNG = np.random.default_rng(7)
RING = [(0, 0), (900, 0), (900, 900), (0, 900)]
SHAPES = {
    "on_cell_edges": shapely.Polygon(RING),
    "hole": shapely.Polygon(RING, [[(150, 150), (150, 750), (750, 750), (750, 150)]]),
    "hole_less_than_a_cell": shapely.Polygon(RING, [[(410, 410), (410, 490), (480, 480), (490, 410)]]),
    "hole_touching_the_border": shapely.Polygon(RING, [[(0, 450), (300, 600), (300, 300)]]),
    "islands": shapely.MultiPolygon([shapely.box(10, 10, 330, 330), shapely.box(520, 40, 580, 700)]),
    "islands_that_touch": shapely.MultiPolygon(
        [shapely.box(0, 0, 300, 300), shapely.box(300, 300, 610, 610)]
    ),
    "sliver": shapely.Polygon([(5, 5), (905, 640), (905, 640.7)]),
    "sliver_along_a_cell_edge": shapely.Polygon([(-20, 99.8), (930, 100), (930, 100.4), (-20, 100)]),
    "less_than_a_cell": shapely.Polygon([(220, 230), (260, 240), (250, 270)]),
    "diagonal_through_middles": shapely.Polygon([(0, 0), (900, 900), (900, 0)]),
    "comb": shapely.Polygon(
        [(0, 0)]
        + [(20 * i + 10 * (j > 0), 800 if j else 100) for i in range(40) for j in (0, 1)]
        + [(800, 0)]
    ),
    "rugged": star(RNG, (450, 450), 600, 400),
    "spiky": star(RNG, (450, 450), 5_000, 9),
}


@pytest.mark.parametrize("name", SHAPES)
def test_points_lie_where_shapely_says(lake, name):
    shape = SHAPES[name]
    boundaries(lake, {name: shape})
    rng = np.random.default_rng(11)
    points = rng.uniform(-150, 1_050, (20_000, 2))
    on_outline = shapely.get_coordinates(
        shapely.line_interpolate_point(shape.boundary, rng.random(4_000), normalized=True)
    )
    points = np.vstack([points, on_outline + rng.normal(0, 0.5, on_outline.shape)])
    # Corners and points are each moved by up to a third of a millimetre when they are snapped.
    points = points[shapely.distance(shape.boundary, shapely.points(points)) > 1e-3]
    inside = np.flatnonzero(shapely.contains_xy(shape, *points.T))
    assert found_areas(warehouse(lake, points)) == {(int(key), name) for key in inside}
    assert 0 < len(inside) < len(points)


def patchwork(rng: np.random.Generator, side: int) -> dict[str, shapely.Polygon]:
    """Cut a square into quadrilaterals with shared borders, on whole metres so that points can hit them."""
    corners = np.stack(np.meshgrid(np.arange(side + 1), np.arange(side + 1)), axis=-1) * 150
    corners[1:-1, 1:-1] += rng.integers(-60, 61, (side - 1, side - 1, 2))
    return {
        f"{row}.{column}": shapely.Polygon(
            corners[[row, row, row + 1, row + 1], [column, column + 1, column + 1, column]]
        )
        for row in range(side)
        for column in range(side)
    }


def test_every_point_of_a_patchwork_lies_in_exactly_one_area(lake):
    areas = patchwork(np.random.default_rng(3), 8)
    boundaries(lake, areas)
    ends = np.vstack([shapely.get_coordinates(area) for area in areas.values()])
    middles = np.vstack([(ends[:-1] + ends[1:]) / 2, ends])
    lattice = np.stack(np.meshgrid(np.arange(0, 1_200, 10), np.arange(0, 1_200, 10)), axis=-1).reshape(-1, 2)
    points = np.vstack([middles, lattice]).astype(float)
    # The left and lower borders belong to an area, the right and upper ones do not.
    points = points[(points >= 0).all(axis=1) & (points < 1_200).all(axis=1)]
    on_border = shapely.distance(
        shapely.union_all([a.boundary for a in areas.values()]), shapely.points(points)
    )
    assert (on_border < 1e-9).sum() > 300
    found = found_areas(warehouse(lake, points))
    assert sorted(key for key, _ in found) == list(range(len(points)))


def test_left_and_lower_borders_belong_to_an_area(lake):
    boundaries(lake, {"square": shapely.box(0, 0, 200, 200)})
    points = np.array(
        [(0, 0), (0, 100), (100, 0), (200, 0), (0, 200), (200, 100), (100, 200), (200, 200)], float
    )
    assert found_areas(warehouse(lake, points)) == {(0, "square"), (1, "square"), (2, "square")}


def test_an_edge_through_the_usual_reference_point_makes_it_move():
    middle = np.array([X0 + 50, Y0 + 50]) + 0.5 / grid.SNAPS_PER_M
    arm = 40 + 0.5 / grid.SNAPS_PER_M
    shape = shapely.Polygon([middle - arm, middle + arm, (X0 + 1, Y0 + 99)])
    assert shapely.distance(shape.boundary, shapely.Point(middle)) == 0
    covered = grid.cover_area(grid.area_edges(shape))
    assert len(covered.cell) == 1
    assert shapely.distance(shape.boundary, shapely.points(covered.ref_x, covered.ref_y))[0] > 1e-4
    assert covered.ref_inside.tolist() == shapely.contains_xy(shape, covered.ref_x, covered.ref_y).tolist()
    # Nothing in the way, nothing moves.
    free = grid.cover_area(grid.area_edges(shapely.box(X0 + 1, Y0 + 1, X0 + 99, Y0 + 99)))
    assert (free.ref_x[0], free.ref_y[0]) == tuple(middle)


def test_areas_hold_from_their_first_day_until_the_day_after_their_last(lake):
    shape = {"1": shapely.box(0, 0, 500, 500)}
    boundaries(lake, shape, "wards_2003", valid_to="2015-05-18")
    boundaries(lake, {"2": shape["1"]}, "wards_2015", valid_from="2015-05-18", valid_to="2023-05-15")
    boundaries(lake, {"3": shape["1"]}, "wards_2023", valid_from="05/15/2023")
    point = np.array([[250.0, 250.0]])
    for day, expected in {
        date(1990, 1, 1): "1",
        date(2015, 5, 17): "1",
        date(2015, 5, 18): "2",
        date(2023, 5, 14): "2",
        date(2023, 5, 15): "3",
    }.items():
        assert found_areas(warehouse(lake, point, day)) == {(0, expected)}


def test_an_area_with_a_lower_one_of_its_type_on_one_of_its_days_is_overlapping(lake):
    square = shapely.box(0, 0, 500, 500)
    boundaries(lake, {"old": square}, "wards_2003", valid_to="2015-05-18")
    boundaries(lake, {"new": square}, "wards_2015", valid_from="2015-05-18")
    point = np.array([[250.0, 250.0]])
    flags = "select area_id, is_overlapping from int_event_areas order by area_key"
    assert [is_overlapping for _, is_overlapping in warehouse(lake, point).sql(flags).fetchall()] == [
        False
    ] * 2
    # The third holds on days of both, which never hold together.
    boundaries(lake, {"third": square}, "wards_twin", valid_from="2015-05-17")
    found = warehouse(lake, point).sql(flags).fetchall()
    assert [is_overlapping for _, is_overlapping in found] == [
        any("third" in (area, lower) for lower, _ in found[:rank]) for rank, (area, _) in enumerate(found)
    ]


def test_a_city_does_not_see_the_areas_of_another(lake):
    boundaries(lake, {"1": shapely.box(0, 0, 500, 500)})
    con = warehouse(lake, np.array([[250.0, 250.0]]))
    con.execute("update fct_events set city = 'hillside'")
    assert con.sql(model("int_event_areas")).fetchall() == []


def nearest(con: duckdb.DuckDBPyConnection) -> dict[tuple[int, str], tuple[str, float]]:
    rows = con.sql("select event_key, asset_type, asset_id, distance_m from bridge_event_asset").fetchall()
    found = {row[:2]: row[2:] for row in rows}
    assert len(found) == len(rows)
    return found


def on_map(shape: shapely.Point) -> dict:
    return {"shape": shape, "x_m": shape.x + X0, "y_m": shape.y + Y0}


def test_nearest_assets_are_those_shapely_finds(lake):
    rng = np.random.default_rng(5)
    lights = [shapely.Point(at) for at in rng.uniform(0, 2_000, (300, 2))]
    mains = [
        shapely.LineString(rng.uniform(0, 2_000, 2) + rng.normal(0, 90, (count, 2)).cumsum(axis=0))
        for count in rng.integers(2, 9, 60)
    ]
    mains.append(shapely.MultiLineString([[(0, 0), (2_000, 30)], [(0, 900), (40, 2_000)]]))
    schools = [
        shapely.box(*corner, *(corner + size))
        for corner, size in zip(rng.uniform(0, 1_800, (10, 2)), rng.uniform(10, 80, (10, 2)), strict=True)
    ]
    shapes = {"street_light": (lights, 50.0), "water_main": (mains, 120.0), "school": (schools, 175.5)}
    for asset_type, (items, reach_m) in shapes.items():
        place = on_map if asset_type == "street_light" else lambda shape: {"shape": shape}
        rows = [{"source_id": f"{n:03}", **place(shape)} for n, shape in enumerate(items)]
        inventory(lake, asset_type, rows, reach_m)
    points = rng.uniform(-200, 2_200, (5_000, 2))
    found = nearest(warehouse(lake, points))
    for asset_type, (items, reach_m) in shapes.items():
        outlines = [shape.boundary if shape.area else shape for shape in items]
        distance = shapely.distance(shapely.points(points)[:, None], np.array(outlines)[None, :])
        best = distance.argmin(axis=1)
        expected = {key for key in range(len(points)) if distance[key, best[key]] <= reach_m}
        got = {key: value for (key, type_), value in found.items() if type_ == asset_type}
        assert set(got) == expected
        assert 0 < len(expected) < len(points)
        for key in expected:
            assert got[key] == (f"{best[key]:03}", pytest.approx(distance[key, best[key]], abs=1e-6))


def test_equally_near_assets_are_told_apart_by_key_in_whatever_order_they_came(lake, tmp_path):
    rows = [
        {"source_id": str(n), **on_map(shapely.Point(at))}
        for n, at in enumerate([(0, 10), (0, -10), (10, 0)])
    ]
    inventory(lake, "hydrant", rows)
    other = Lake(tmp_path / "other")
    inventory(other, "hydrant", rows[::-1])
    point = np.array([[0.0, 0.0]])
    keys_found = "select asset_key from bridge_event_asset"
    found = warehouse(lake, point).sql(keys_found).fetchall()
    assert found == warehouse(other, point).sql(keys_found).fetchall()
    with duckdb.connect() as con:
        keys = [con.execute("select md5(?)", [f"lakeside\x1fhydrant\x1f{n}"]).fetchone()[0] for n in range(3)]
    assert found == [(min(keys),)]


def test_only_what_stood_on_the_day_is_nearest(lake):
    def item(source_id, distance, **said):
        return {"source_id": source_id, **on_map(shapely.Point(distance, 0)), **said}

    inventory(
        lake,
        "street_light",
        [
            item("gone", 5, valid_to="2010-01-01"),
            item("new", 6, valid_from="2014-01-01"),
            item("always", 7),
            item("always_but_farther", 8),
            item("gone_and_farther", 9, valid_to="2010-01-01"),
        ],
    )
    inventory(lake, "hydrant", [item("new_hydrant", 3, valid_from="2014-01-01")])
    point = np.array([[0.0, 0.0]])
    expected = {
        date(2009, 12, 31): {"street_light": "gone"},
        date(2010, 1, 1): {"street_light": "always"},
        date(2013, 12, 31): {"street_light": "always"},
        date(2014, 1, 1): {"street_light": "new", "hydrant": "new_hydrant"},
    }
    for day, items in expected.items():
        con = warehouse(lake, point, day)
        assert {type_: found[0] for (_, type_), found in nearest(con).items()} == items
        # The farther ones can never be nearest, so they are not carried along.
        assert con.sql("select count(*) from int_event_assets").fetchone() == (4,)


def test_reach_is_up_to_and_with_its_last_metre(lake):
    inventory(lake, "hydrant", [{"source_id": "1", **on_map(shapely.Point(0, 0))}], reach_m=100.0)
    points = np.array([(100.0, 0.0), (-100.0, 0.0), (0.0, -100.0), (100.001, 0.0), (0.0, 100.001)])
    assert sorted(key for key, _ in nearest(warehouse(lake, points))) == [0, 1, 2]


def tables(con: duckdb.DuckDBPyConnection) -> dict[str, list[tuple]]:
    return {name: con.sql(f"from {name} order by all").fetchall() for name in TABLES}


def whole_tables(con: duckdb.DuckDBPyConnection) -> dict[str, list[tuple]]:
    """Return what whole builds of all four models would hold, in memory of what is there."""
    held = tables(con)
    con.execute("begin")
    for name in TABLES:
        con.execute(f"create or replace table {name} as {model(name)}")
    whole = tables(con)
    con.execute("rollback")
    assert tables(con) == held
    return whole


@pytest.fixture
def growing(lake):
    """Return a warehouse of five events in or beside ward 1, which has a hydrant, and nothing new."""
    boundaries(lake, {"1": shapely.box(0, 0, 500, 500)})
    inventory(lake, "hydrant", [{"source_id": "1", **on_map(shapely.Point(10, 10))}])
    points = np.array([(10.0, 20.0), (10.0, 30.0), (400.0, 400.0), (10.0, 20.0), (900.0, 900.0)])
    con = warehouse(lake, points)
    con.execute("drop view int_events_unioned; create table int_events_unioned as from fct_events")
    con.execute("create table int_batches as select 'lakeside' as city, 'boundary' as kind, false as is_new")
    con.execute("create table int_changed_keys (event_key bigint)")
    con.execute("create table int_asset_cells_built (city varchar, cell bigint, fingerprint ubigint)")
    con.execute(
        f"insert into int_asset_cells_built from ({model('int_asset_cells')}) select city, cell, fingerprint"
    )
    return con


def test_a_delta_of_events_gives_what_a_whole_build_gives(growing):
    growing.execute(f"""
        insert into int_changed_keys values (0), (1), (2), (3), (77);
        update fct_events set x_m = {X0} + 450 where event_key = 0;
        update fct_events set x_m = null, y_m = null where event_key = 1;
        update fct_events set event_on = date '2016-01-01' where event_key = 2;
        delete from fct_events where event_key = 3;
        insert into fct_events select 77, city, event_on, x_m + 1, y_m from fct_events where event_key = 4;
        insert into int_events_unioned from fct_events where event_key in (0, 1, 2, 77);
    """)
    before = tables(growing)
    whole = whole_tables(growing)
    for _ in "twice":
        apply_delta(growing)
        assert tables(growing) == whole
    assert [name for name in TABLES if before[name] == whole[name]] == ["int_event_assets"]


OF_AREAS = ["int_event_areas", "bridge_event_area"]
OF_ASSETS = ["int_event_assets", "bridge_event_asset"]


@pytest.mark.parametrize("is_new", [True, False])
def test_boundaries_drawn_anew_are_asked_again_for_every_event(lake, growing, is_new):
    """Without a new batch the old answers stay, the ones that have none now among them."""
    before = tables(growing)
    boundaries(lake, {"1": shapely.box(0, 0, 300, 25)})
    growing.execute("insert into int_batches values ('lakeside', 'boundary', $1)", [is_new])
    whole = whole_tables(growing)
    assert len(whole["bridge_event_area"]) < len(before["bridge_event_area"])
    for _ in "twice":
        apply_delta(growing)
        assert tables(growing) == (whole if is_new else before)


INVENTORIES = {
    "moved": [{"source_id": "1", **on_map(shapely.Point(10, 65))}],
    "gone": [],
    "begins later": [{"source_id": "1", "valid_from": "2016-01-01", **on_map(shapely.Point(10, 10))}],
    "joined by a farther one": [
        {"source_id": "1", **on_map(shapely.Point(10, 10))},
        {"source_id": "2", **on_map(shapely.Point(410, 400))},
    ],
}


@pytest.mark.parametrize("change", INVENTORIES)
def test_an_inventory_that_changed_is_asked_again_where_it_reaches_or_reached(lake, growing, change):
    before = tables(growing)
    inventory(lake, "hydrant", INVENTORIES[change])
    whole = whole_tables(growing)
    assert whole["bridge_event_asset"] != before["bridge_event_asset"]
    for _ in "twice":
        apply_delta(growing)
        assert {name: tables(growing)[name] for name in OF_ASSETS} == {
            name: whole[name] for name in OF_ASSETS
        }


def test_a_change_of_an_inventory_leaves_other_cells_alone(lake, growing):
    """Whoever looked at all places again would mend the answer that is spoilt here."""
    inventory(lake, "hydrant", INVENTORIES["joined by a farther one"])
    apply_delta(growing)
    growing.execute(f"update int_event_assets set distance_m = 7 where x_m < {X0 + 100}")
    inventory(lake, "hydrant", INVENTORIES["joined by a farther one"][:1])
    apply_delta(growing)
    spoilt = growing.sql("select count(*) from int_event_assets where distance_m = 7").fetchone()
    assert spoilt == (2,)
    assert growing.sql("select count(*) from int_event_assets where distance_m <> 7").fetchone() == (0,)


def test_a_delta_leaves_other_cities_alone(lake, growing):
    growing.execute("update int_batches set city = 'hillside', is_new = true")
    before = tables(growing)
    boundaries(lake, {"1": shapely.box(0, 0, 300, 25)})
    apply_delta(growing)
    assert tables(growing) == before
