"""Covers against shapely, and what write_places makes of deliveries."""

import hashlib
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.ingest import cover, grid
from assets.ingest.contracts import LOCATION_COLUMNS, column_names
from assets.ingest.feed import City, Feed
from assets.ingest.lake import Lake

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
WARDS = Feed.model_construct(city="lakeside", id="wards", kind="boundary", area_type="ward")
MAINS = Feed.model_construct(city="lakeside", id="mains", kind="asset", asset_type="water_main", reach_m=50.0)
# A square of about 400 m in the middle of the city.
SQUARE = shapely.box(-87.700, 41.900, -87.695, 41.9036)


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(tmp_path)


def land(lake: Lake, feed: Feed, rows: list[dict], *, part: str = "whole", at: str = "2020-01-01") -> None:
    """Write one delivery of raw Parquet as landing does."""
    texts = {name: pa.array([row.get(name) for row in rows], pa.string()) for name in column_names(feed.kind)}
    numbers = {
        name: pa.array([row.get(name) for row in rows], pa.float64())
        for name, type_ in LOCATION_COLUMNS.items()
        if type_ == "DOUBLE"
    }
    wkb = [shapely.to_wkb(row["shape"]) if row.get("shape") is not None else None for row in rows]
    delivery = {
        "part": [part] * len(rows),
        "source_row": list(range(len(rows))),
        "delivery_id": [at.replace("-", "")] * len(rows),
        "delivery_sha": [hashlib.sha256(at.encode()).hexdigest()] * len(rows),
        "delivered_at": [datetime.fromisoformat(at)] * len(rows),
        "geometry": pa.array(wkb, pa.binary()),
    }
    folder = lake.raw(feed.kind, feed.city, feed.id)
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({**texts, **numbers, **delivery}), folder / f"{part}-{at}.parquet")


def written(lake: Lake, table: str, feed: Feed) -> list[dict]:
    path = lake.derived / "places" / table / f"city={feed.city}" / f"feed={feed.id}" / "data.parquet"
    read = pq.read_table(path, partitioning=None)
    assert read.schema.equals(cover.PLACE_TABLES[table])
    return read.to_pylist()


# A 100 m grid of cells around the origin is as good as any.
COORDINATES = st.integers(-600, 600) | st.floats(-600, 600).map(lambda metres: round(metres, 6))
CORNERS = st.lists(st.tuples(COORDINATES, COORDINATES), min_size=3, max_size=9, unique=True)


def polygon_of(corners) -> shapely.Geometry | None:
    """Make any ring of corners a valid (multi)polygon; None where it encloses next to nothing."""
    valid = shapely.make_valid(shapely.Polygon(corners))
    parts = shapely.get_parts(shapely.get_parts(valid))
    parts = parts[(shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & (shapely.area(parts) > 1)]
    return shapely.multipolygons(parts) if len(parts) else None


@settings(max_examples=150, deadline=None)
@given(CORNERS)
def test_a_cover_is_whole_and_its_inner_cells_are_inside(corners):
    shape = polygon_of(corners)
    if shape is None:
        return
    edges = grid.area_edges(shape)
    covered = grid.cover_area(edges)
    column, row = (axis.ravel() for axis in np.meshgrid(np.arange(-8, 8), np.arange(-8, 8)))
    keys = grid.cell_keys(column, row)
    cells = shapely.box(column * 100, row * 100, column * 100 + 100, row * 100 + 100)
    inner = set(covered.cell[np.isnan(covered.ref_x)].tolist())
    touched = covered.cell[~np.isnan(covered.ref_x)]
    assert len(covered.cell) == len(set(covered.cell.tolist()))
    assert set(covered.edge_cell.tolist()) == set(touched.tolist())
    assert set(keys[shapely.distance(shape.boundary, cells) == 0].tolist()) <= set(touched.tolist())
    assert set(touched.tolist()) <= set(keys[shapely.distance(shape.boundary, cells) < 0.01].tolist())
    assert inner == set(keys[shapely.contains(shape, cells) & ~np.isin(keys, touched)].tolist())

    points = shapely.points(covered.ref_x, covered.ref_y)[~np.isnan(covered.ref_x)]
    clear = shapely.distance(shape.boundary, points) > 1e-3
    inside = covered.ref_inside[~np.isnan(covered.ref_x)]
    assert (shapely.contains(shape, points)[clear] == inside[clear]).all()


@settings(max_examples=100, deadline=None)
@given(CORNERS, st.integers(0, 2**32 - 1))
def test_even_odd_agrees_with_shapely_off_the_border(corners, seed):
    shape = polygon_of(corners)
    if shape is None:
        return
    points = np.random.default_rng(seed).uniform(-650, 650, (300, 2))
    points = points[shapely.distance(shape.boundary, shapely.points(points)) > 1e-3]
    inside = grid.is_inside(*points.T, grid.area_edges(shape))
    assert (inside == shapely.contains_xy(shape, *points.T)).all()


@settings(max_examples=100, deadline=None)
@given(COORDINATES, COORDINATES, COORDINATES, COORDINATES, st.floats(0.5, 250))
def test_cells_within_reach_are_those_shapely_finds(x1, y1, x2, y2, reach_m):
    ends = (np.array([float(value)]) for value in (x1, y1, x2, y2))
    found = [keys for _, keys in grid.cells_within_reach(*ends, reach_m)]
    found = set(np.concatenate(found).tolist())
    column, row = (axis.ravel() for axis in np.meshgrid(np.arange(-12, 12), np.arange(-12, 12)))
    keys = grid.cell_keys(column, row)
    cells = shapely.box(column * 100, row * 100, column * 100 + 100, row * 100 + 100)
    piece = shapely.LineString([(x1, y1), (x2, y2)]) if (x1, y1) != (x2, y2) else shapely.Point(x1, y1)
    distance = shapely.distance(piece, cells)
    assert set(keys[distance <= reach_m].tolist()) <= found
    assert found <= set(keys[distance <= reach_m + 0.01].tolist())


def test_chunks_change_nothing(monkeypatch):
    rng = np.random.default_rng(1)
    shape = polygon_of(rng.uniform(-2_000, 2_000, (40, 2)))
    edges = grid.area_edges(shape)
    whole = grid.cover_area(edges)
    monkeypatch.setattr(grid, "CHUNK_PAIRS", 100)
    chunked = grid.cover_area(edges)
    for name in ("cell", "ref_x", "ref_y", "ref_inside", "edge", "edge_cell"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(chunked, name))


def test_an_area_tells_who_it_is(lake):
    land(
        lake,
        WARDS,
        [{"source_id": "7", "name": "Seventh", "valid_from": "2015-05-18T00:00:00", "shape": SQUARE}],
    )
    counts = cover.write_places(lake, CITY, WARDS)
    (area,) = written(lake, "areas", WARDS)
    key = hashlib.md5(b"lakeside\x1fwards\x1f7\x1f2015-05-18").hexdigest()
    assert (area["area_key"], area["area_type"], area["area_id"]) == (key, "ward", "7")
    assert (area["area_name"], area["valid_from"], area["valid_to"]) == ("Seventh", date(2015, 5, 18), None)
    assert area["area_km2"] == pytest.approx(0.4147 * 0.3998, rel=1e-2)
    assert SQUARE.contains(shapely.Point(area["lon"], area["lat"]))
    assert shapely.from_wkb(area["geometry"]).equals(SQUARE)
    tables = {name: len(written(lake, name, WARDS)) for name in ("areas", "area_cover", "area_edges")}
    assert counts == {**tables, "repaired": 0, "without_place": 0, "unreadable_dates": 0}
    assert {row["area_key"] for row in written(lake, "area_cover", WARDS)} == {key}


def test_the_newest_delivery_of_an_area_wins(lake):
    moved = shapely.transform(SQUARE, lambda at: at + 0.01)
    land(
        lake,
        WARDS,
        [{"source_id": "1", "shape": SQUARE}, {"source_id": "2", "shape": SQUARE}],
        at="2020-01-01",
    )
    land(lake, WARDS, [{"source_id": "1", "shape": moved}], at="2021-01-01")
    cover.write_places(lake, CITY, WARDS)
    areas = {row["area_id"]: row for row in written(lake, "areas", WARDS)}
    assert shapely.from_wkb(areas["1"]["geometry"]).equals(moved)
    # What the newer copy lacks was there before it.
    assert shapely.from_wkb(areas["2"]["geometry"]).equals(SQUARE)
    assert [areas[area]["valid_to"] for area in ("1", "2")] == [None, date(2021, 1, 1)]
    land(lake, WARDS, [{"source_id": "2", "shape": SQUARE}], part="other", at="2022-01-01")
    cover.write_places(lake, CITY, WARDS)
    assert {row["area_id"]: row["valid_to"] for row in written(lake, "areas", WARDS)}["2"] is None


def test_one_district_under_two_validities_is_two_areas(lake):
    land(lake, WARDS, [{"source_id": "1", "valid_to": "2015-05-18", "shape": SQUARE}], part="old")
    land(lake, WARDS, [{"source_id": "1", "valid_from": "05/18/2015", "shape": SQUARE}], part="new")
    cover.write_places(lake, CITY, WARDS)
    areas = written(lake, "areas", WARDS)
    assert {(row["valid_from"], row["valid_to"]) for row in areas} == {
        (None, date(2015, 5, 18)),
        (date(2015, 5, 18), None),
    }
    assert len({row["area_key"] for row in areas}) == 2


def test_rows_of_one_district_are_united(lake):
    other = shapely.transform(SQUARE, lambda at: at + 0.02)
    land(lake, WARDS, [{"source_id": "31", "shape": SQUARE}, {"source_id": "31", "shape": other}])
    cover.write_places(lake, CITY, WARDS)
    (area,) = written(lake, "areas", WARDS)
    assert shapely.from_wkb(area["geometry"]).equals(SQUARE | other)


def test_broken_and_missing_polygons_are_said(lake, caplog):
    (west, south), (east, north) = SQUARE.bounds[:2], SQUARE.bounds[2:]
    bow_tie = shapely.Polygon([(west, south), (east, north), (east, south), (west, north)])
    rows = [
        {"source_id": "bow tie", "shape": bow_tie, "valid_from": "some day"},
        {"source_id": "nowhere"},
        {"source_id": "a line", "shape": shapely.LineString([(west, south), (east, north)])},
        {"source_id": "whole", "shape": SQUARE},
    ]
    land(lake, WARDS, rows)
    counts = cover.write_places(lake, CITY, WARDS)
    assert (counts["areas"], counts["repaired"], counts["without_place"], counts["unreadable_dates"]) == (
        2,
        1,
        2,
        1,
    )
    for source_id in ("bow tie", "nowhere", "a line"):
        assert f"lakeside/wards: area {source_id} " in caplog.text
    assert "area whole" not in caplog.text
    area = next(row for row in written(lake, "areas", WARDS) if row["area_id"] == "bow tie")
    assert shapely.from_wkb(area["geometry"]).is_valid
    assert area["area_km2"] == pytest.approx(0.4147 * 0.3998 / 2, rel=1e-2)


def test_an_inventory_of_points_lies_where_it_was_located(lake):
    x_m, y_m = 440_010.0, 4_640_050.0
    rows = [
        {
            "source_id": "told in columns",
            "x_m": x_m,
            "y_m": y_m,
            "lon": -87.7,
            "lat": 41.9,
            "material": "iron",
        },
        {"source_id": "told as a point", "x_m": x_m, "y_m": y_m, "shape": shapely.Point(-87.7, 41.9)},
        {"source_id": "outside the city", "shape": shapely.Point(0, 0)},
        {"source_id": "nowhere", "installed_at": "1911-06-01"},
    ]
    land(lake, MAINS, rows)
    counts = cover.write_places(lake, CITY, MAINS)
    assert counts == {
        "assets": 4,
        "asset_cover": 8,
        "repaired": 0,
        "without_place": 2,
        "unreadable_dates": 0,
    }
    assets = {row["asset_id"]: row for row in written(lake, "assets", MAINS)}
    told = assets["told in columns"]
    assert told["asset_key"] == hashlib.md5(b"lakeside\x1fmains\x1ftold in columns").hexdigest()
    assert (told["asset_type"], told["material"], told["length_m"]) == ("water_main", "iron", None)
    assert (told["lon"], told["lat"], told["x_m"], told["y_m"]) == (-87.7, 41.9, x_m, y_m)
    assert assets["nowhere"]["installed_on"] == date(1911, 6, 1)
    cells = [row for row in written(lake, "asset_cover", MAINS) if row["asset_key"] == told["asset_key"]]
    # Midway up its cell and 10 m from its left border: cells above and below are 50 m away, corners 51.
    near = [(4_399, 46_400), (4_400, 46_399), (4_400, 46_400), (4_400, 46_401)]
    assert sorted(row["cell"] for row in cells) == [column * 4_000_000 + row for column, row in near]
    assert {
        (row["reach_m"], row["x1"], row["y1"], row["dx"], row["dy"], row["inv_len2"]) for row in cells
    } == {(50.0, x_m, y_m, 0.0, 0.0, 0.0)}


def test_lines_are_cut_into_segments_and_polygons_into_their_outlines(lake):
    line = shapely.LineString([(-87.700, 41.900, 3.0), (-87.699, 41.900, 4.0), (-87.699, 41.901, 5.0)])
    both = shapely.MultiLineString([[(-87.70, 41.91), (-87.69, 41.91)], [(-87.70, 41.92), (-87.69, 41.92)]])
    shapes = {
        "line": line,
        "both": both,
        "square": SQUARE,
        "points": shapely.MultiPoint([(-87.7, 41.9), (-87.6, 41.9)]),
    }
    shapes["collection"] = shapely.GeometryCollection([shapely.Point(-87.7, 41.9), both])
    land(lake, MAINS, [{"source_id": key, "shape": shape} for key, shape in shapes.items()])
    cover.write_places(lake, CITY, MAINS)
    assets = {row["asset_id"]: row for row in written(lake, "assets", MAINS)}
    pieces = {key: set() for key in shapes}
    name = {row["asset_key"]: key for key, row in assets.items()}
    for row in written(lake, "asset_cover", MAINS):
        length2 = row["dx"] ** 2 + row["dy"] ** 2
        assert row["inv_len2"] == (pytest.approx(1 / length2) if length2 else 0)
        pieces[name[row["asset_key"]]].add((row["x1"], row["y1"], row["dx"], row["dy"]))
    assert {key: len(found) for key, found in pieces.items()} == {
        "line": 2,
        "both": 2,
        "square": 4,
        "points": 2,
        "collection": 3,
    }
    assert assets["line"]["length_m"] == pytest.approx(83.0 + 111.1, abs=0.5)
    assert assets["both"]["length_m"] == pytest.approx(2 * 829.5, abs=2)
    assert assets["square"]["length_m"] is None


def test_the_newest_row_of_an_asset_wins(lake):
    land(
        lake,
        MAINS,
        [{"source_id": "1", "material": "lead"}, {"source_id": "1", "material": "iron"}],
        at="2021-01-01",
    )
    land(lake, MAINS, [{"source_id": "1", "material": "wood"}], at="2020-01-01")
    cover.write_places(lake, CITY, MAINS)
    assert [row["material"] for row in written(lake, "assets", MAINS)] == ["iron"]


@pytest.mark.parametrize("feed", [WARDS, MAINS], ids=["boundary", "asset"])
def test_what_never_landed_has_covers_without_rows(lake, feed):
    counts = cover.write_places(lake, CITY, feed)
    assert set(counts.values()) == {0}
    for name in set(counts) & set(cover.PLACE_TABLES):
        assert written(lake, name, feed) == []


def test_a_deployment_without_places_has_every_table(lake):
    cover.write_no_places(lake)
    nowhere = Feed.model_construct(city="_none", id="_none")
    assert all(written(lake, name, nowhere) == [] for name in cover.PLACE_TABLES)


@pytest.mark.parametrize("kind", ["service_request", "utility"])
def test_events_have_no_cover(lake, kind):
    with pytest.raises(ValueError, match=f"lakeside/calls is of kind {kind}"):
        cover.write_places(lake, CITY, Feed.model_construct(city="lakeside", id="calls", kind=kind))
    assert not lake.derived.exists()


def test_a_second_run_writes_the_same_bytes(lake):
    land(lake, WARDS, [{"source_id": str(number), "shape": SQUARE} for number in range(5)])
    land(lake, MAINS, [{"source_id": str(number), "shape": SQUARE.boundary} for number in range(5)])
    runs = []
    for _ in range(2):
        cover.write_places(lake, CITY, WARDS)
        cover.write_places(lake, CITY, MAINS)
        runs.append({path: path.read_bytes() for path in lake.derived.rglob("*") if path.is_file()})
    assert len(runs[0]) == 5
    assert runs[0] == runs[1]


def test_a_run_that_fails_leaves_the_last_cover_and_nothing_else(lake, monkeypatch):
    land(lake, WARDS, [{"source_id": "1", "shape": SQUARE}])
    cover.write_places(lake, CITY, WARDS)
    before = {path: path.read_bytes() for path in lake.derived.rglob("*") if path.is_file()}
    land(lake, WARDS, [{"source_id": "2", "shape": SQUARE}], at="2021-01-01")

    def killed(*_):
        # What a kill leaves in the folder must not look like a cover to a glob.
        assert [path.suffix for path in lake.derived.rglob("*") if path not in before and path.is_file()] == [
            ".unfinished"
        ] * 3
        raise OSError("no space left")

    monkeypatch.setattr(grid, "cover_area", killed)
    with pytest.raises(OSError, match="no space left"):
        cover.write_places(lake, CITY, WARDS)
    assert {path: path.read_bytes() for path in lake.derived.rglob("*") if path.is_file()} == before
