"""Coordinates as text become lon/lat, local metres, H3 cells and a verdict on them; areas belong to cover.

Municipal points repeat, so all work is done once per distinct pair of texts (`performance.md` section 2).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa

from assets.ingest.contracts import LOCATION_COLUMNS

if TYPE_CHECKING:
    from assets.ingest.feed import City

#: Locations held in memory at a time; a chunk takes about 60 MB.
CHUNK_LOCATIONS = 200_000
DEFAULT_POINT_RADIUS_M = 1.0
H3_RESOLUTIONS = (7, 9, 10)

# try_cast alone takes 1_000, nan and inf for numbers; no portal means those by them.
_NUMBER = r"[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?"
_METRES_PER_DEGREE = 111_320.0
_ZERO_DEGREES = 1e-5


def locate(
    con: duckdb.DuckDBPyConnection,
    relation: str,
    city: "City",
    *,
    crs: str,
    default_points: Sequence[tuple[float, float]],
) -> None:
    """Create the temporary table `places`: one row per distinct (x, y) of a relation, null pairs included.

    Its columns are x and y (VARCHAR, as they came) and LOCATION_COLUMNS. Every row has a location_quality;
    only where it is `ok` are the others set. It is the first that holds, of: `missing` (one of the two is
    blank), `unparseable`, `zero` (0/0 as told, or on the globe), `default_point` (within a metre of one),
    `ok` (in the city's box), `swapped` (in it once x and y, or lon and lat, are exchanged), `outside_city`.

    Args:
        con: The connection that sees `relation`; memory stays bounded by CHUNK_LOCATIONS.
        relation: Name of a table or view with VARCHAR columns x and y.
        city: Gives the projected reference system in metres, the box and the city's own default points.
        crs: Reference system of x and y; x is always the easting or the longitude.
        default_points: Lon and lat of what the feed's geocoder answers when it has no answer.
    """
    from pyproj import Transformer

    to_globe = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    # Metres always come from lon/lat, so that a boundary in degrees and a point in feet meet in one plane.
    to_metres = Transformer.from_crs("EPSG:4326", city.crs, always_xy=True)
    known = [*city.default_points, *default_points]

    location = ", ".join(f"{name} {type_}" for name, type_ in LOCATION_COLUMNS.items())
    con.execute(f"create or replace temp table places (x varchar, y varchar, {location})")
    con.execute(
        f"""
        create or replace temp table location_texts as
        select
            x, y,
            nullif(trim(x), '') is null or nullif(trim(y), '') is null as is_missing,
            case when regexp_full_match(trim(x), '{_NUMBER}') then try_cast(x as double) end as x_number,
            case when regexp_full_match(trim(y), '{_NUMBER}') then try_cast(y as double) end as y_number
        from (select distinct x, y from {relation})
        """  # noqa: S608
    )
    count = con.execute("select count(*) from location_texts").fetchone()[0]
    for start in range(0, count, CHUNK_LOCATIONS):
        texts = con.execute(
            "select * from location_texts where rowid >= ? and rowid < ?", [start, start + CHUNK_LOCATIONS]
        ).to_arrow_table()
        con.register("located_chunk", _located(texts, city.bbox, known, to_globe, to_metres))
        con.execute("insert into places select * from located_chunk")
        con.unregister("located_chunk")
    con.execute("drop table location_texts")


def _located(texts: pa.Table, bbox, default_points, to_globe, to_metres) -> pa.Table:
    is_missing = texts["is_missing"].to_numpy(zero_copy_only=False).astype(bool)
    x = texts["x_number"].to_numpy(zero_copy_only=False).astype(float)
    y = texts["y_number"].to_numpy(zero_copy_only=False).astype(float)
    is_number = np.isfinite(x) & np.isfinite(y) & ~is_missing
    x, y = np.where(is_number, x, 0.0), np.where(is_number, y, 0.0)
    lon, lat = to_globe.transform(x, y)
    is_inside = _is_in(bbox, lon, lat)
    is_swapped = _is_in(bbox, lat, lon)
    astray = np.flatnonzero(is_number & ~is_inside & ~is_swapped)
    is_swapped[astray] = _is_in(bbox, *to_globe.transform(y[astray], x[astray]))

    # np.select takes the first that holds, which is the order the docstring promises.
    quality = np.select(
        [
            is_missing,
            ~is_number,
            ((x == 0) & (y == 0)) | ((np.abs(lon) < _ZERO_DEGREES) & (np.abs(lat) < _ZERO_DEGREES)),
            _is_near(lon, lat, default_points),
            is_inside,
            is_swapped,
        ],
        ["missing", "unparseable", "zero", "default_point", "ok", "swapped"],
        default="outside_city",
    )
    is_ok = quality == "ok"
    lon, lat = lon[is_ok], lat[is_ok]
    x_m, y_m = to_metres.transform(lon, lat)
    values = [lon, lat, x_m, y_m, *(h3_cells(lon, lat, resolution) for resolution in H3_RESOLUTIONS)]
    columns = [_null_elsewhere(is_ok, column) for column in values]
    return pa.table(
        [texts["x"], texts["y"], *columns, pa.array(quality)], names=["x", "y", *LOCATION_COLUMNS]
    )


def h3_cells(lon: np.ndarray, lat: np.ndarray, resolution: int) -> np.ndarray:
    """Return the H3 cells of points as signed 64-bit integers, which every SQL engine has."""
    from h3ronpy.vector import coordinates_to_cells

    if len(lon) == 0:
        return np.empty(0, dtype=np.int64)
    return np.asarray(coordinates_to_cells(lat, lon, resolution), dtype=np.uint64).view(np.int64)


def _is_in(bbox, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    west, south, east, north = bbox
    return (lon >= west) & (lon <= east) & (lat >= south) & (lat <= north)


def _is_near(lon: np.ndarray, lat: np.ndarray, points) -> np.ndarray:
    near = np.zeros(len(lon), dtype=bool)
    for point_lon, point_lat in points:
        # A flat earth is good enough for a metre, and unlike the city's plane it has no edge.
        east = (lon - point_lon) * _METRES_PER_DEGREE * np.cos(np.radians(point_lat))
        north = (lat - point_lat) * _METRES_PER_DEGREE
        near |= np.hypot(east, north) <= DEFAULT_POINT_RADIUS_M
    return near


def _null_elsewhere(is_set: np.ndarray, values: np.ndarray) -> pa.Array:
    whole = np.zeros(len(is_set), dtype=values.dtype)
    whole[is_set] = values
    return pa.array(whole, mask=~is_set)
