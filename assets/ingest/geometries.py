"""Geometries of GeoJSON and shapefiles: WKB in lon/lat and a representative point; areas belong to cover.

Batches of a few thousand features at a time; attributes stay text.
"""

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from assets.ingest.receipts import DeliveryError
from assets.ingest.sql_expression import literal

if TYPE_CHECKING:
    import pyproj

BATCH_FEATURES = 4096
LON_LAT = "EPSG:4326"

_SHAPES = pa.schema(
    [
        ("geometry", pa.binary()),
        ("geometry_x", pa.string()),
        ("geometry_y", pa.string()),
        ("is_bad", pa.bool_()),
    ]
)


@dataclass
class Layer:
    """What was written from a shapefile; the count is the one in the header of its .dbf."""

    count: int
    notes: list[str] = field(default_factory=list)


def write_geojson(con: duckdb.DuckDBPyConnection, texts: Path, crs: str, target: Path) -> None:
    """Write the geometry of each feature, in the same order.

    Args:
        con: Any connection.
        texts: Parquet whose column `line` holds one GeoJSON feature each, or anything else.
        crs: Reference system of the coordinates.
        target: Parquet: geometry (WKB, lon/lat), geometry_x, geometry_y (a point on the shape, in `crs`, as
            text), is_bad (there is a geometry, but nobody can read it).
    """
    import shapely

    to_lon_lat = _to_lon_lat(crs)
    batches = con.cursor().execute(
        f"""
        select case when json_valid(line) and json_type(line, '/geometry') = 'OBJECT'
            then json_extract(line, '/geometry')::varchar end as shape
        from read_parquet({literal(str(texts))})
        """  # noqa: S608
    )
    with pq.ParquetWriter(target, _SHAPES, compression="snappy") as writer:
        for batch in batches.to_arrow_reader(BATCH_FEATURES):
            said = batch.column(0).to_numpy(zero_copy_only=False)
            shapes = shapely.from_geojson(said, on_invalid="ignore")
            is_bad = shapely.is_missing(shapes) & ~np.equal(said, None)
            writer.write_table(_shape_columns(shapes, is_bad, to_lon_lat))


def write_shapefile(layer: Path, crs: str, target: Path) -> Layer:
    """Write a shapefile's attributes as text beside geometry, geometry_x and geometry_y.

    Raises:
        DeliveryError: Nothing reads it as a shapefile.
    """
    import shapely
    from pyogrio.errors import DataSourceError
    from pyogrio.raw import open_arrow

    to_lon_lat = _to_lon_lat(crs)
    try:
        with open_arrow(layer, batch_size=BATCH_FEATURES, use_pyarrow=True) as (meta, batches):
            written = Layer(_dbf_records(layer.with_suffix(".dbf")), _crs_notes(meta["crs"], crs))
            # pyogrio calls the geometry column wkb_geometry where the layer gives it no name.
            geometry = meta["geometry_name"] or "wkb_geometry"
            attributes = [name for name in batches.schema.names if name != geometry]
            schema = pa.schema([*((name, pa.string()) for name in attributes), *list(_SHAPES)[:3]])
            with pq.ParquetWriter(target, schema, compression="snappy") as writer:
                for batch in batches:
                    wkb = batch.column(batch.schema.get_field_index(geometry))
                    shapes = shapely.from_wkb(wkb.to_numpy(zero_copy_only=False))
                    found = _shape_columns(shapes, np.zeros(len(shapes), bool), to_lon_lat)
                    texts = [
                        batch.column(batch.schema.get_field_index(n)).cast(pa.string()) for n in attributes
                    ]
                    columns = [*texts, *(found.column(name).combine_chunks() for name in _SHAPES.names[:3])]
                    writer.write_table(pa.table(columns, schema=schema))
    except DataSourceError as error:
        raise DeliveryError(
            "BrokenShapefile", f"the shapefile cannot be read ({error}); ask the publisher for a whole copy"
        ) from None
    return written


def _shape_columns(
    shapes: np.ndarray, is_bad: np.ndarray, to_lon_lat: "pyproj.Transformer | None"
) -> pa.Table:
    import shapely

    shapes = shapely.force_2d(shapes)
    # A polygon that crosses itself has no point on its surface until it is mended; the shape itself stays.
    mended = np.where(shapely.is_valid(shapes), shapes, shapely.make_valid(shapes))
    points = shapely.point_on_surface(mended)
    if to_lon_lat is not None:
        shapes = shapely.transform(
            shapes, lambda xy: np.column_stack(to_lon_lat.transform(xy[:, 0], xy[:, 1]))
        )
    return pa.table(
        [
            pa.array(shapely.to_wkb(shapes), pa.binary()),
            _as_text(shapely.get_x(points)),
            _as_text(shapely.get_y(points)),
            pa.array(is_bad),
        ],
        schema=_SHAPES,
    )


def _as_text(numbers: np.ndarray) -> pa.Array:
    return pa.array(numbers, pa.float64(), mask=~np.isfinite(numbers)).cast(pa.string())


def _to_lon_lat(crs: str) -> "pyproj.Transformer | None":
    from pyproj import CRS, Transformer

    if CRS.from_user_input(crs) == CRS.from_user_input(LON_LAT):
        return None
    return Transformer.from_crs(crs, LON_LAT, always_xy=True)


def _crs_notes(told: str | None, declared: str) -> list[str]:
    from pyproj import CRS

    if told and CRS.from_user_input(told).to_epsg() not in (None, CRS.from_user_input(declared).to_epsg()):
        return [f"the layer says its coordinates are {told}, the declaration says {declared}; check `crs`"]
    return []


def _dbf_records(path: Path) -> int:
    with path.open("rb") as file:
        return struct.unpack("<4xI", file.read(8))[0]
