"""Boundaries and inventories become the cover tables that SQL joins on; who lies where is for dbt to say.

An event finds its areas and its nearest assets by an equi-join on a cell and an exact test in plain SQL
(`dbt_project/macros/places.sql`), so the warehouse needs no spatial extension. The cells are grid's.
"""

import logging
from itertools import groupby
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from assets.ingest.contracts import DELIVERY_COLUMNS, LOCATION_COLUMNS, column_names
from assets.ingest.lake import Lake

if TYPE_CHECKING:
    from assets.ingest.feed import City, Feed

log = logging.getLogger(__name__)

_TYPES = {
    "text": pa.string(),
    "day": pa.date32(),
    "metres": pa.float64(),
    "number": pa.float64(),
    "cell": pa.int64(),
    "flag": pa.bool_(),
    "wkb": pa.binary(),
}


def _schema(*columns: str) -> pa.Schema:
    return pa.schema([(name, _TYPES[type_]) for name, type_ in (column.split() for column in columns)])


#: The tables under derived/places and their columns; city and feed come from the folder names.
PLACE_TABLES: dict[str, pa.Schema] = {
    "areas": _schema(
        "area_key text",
        "area_type text",
        "area_id text",
        "area_name text",
        "valid_from day",
        "valid_to day",
        "area_km2 number",
        "lon number",
        "lat number",
        "geometry wkb",
    ),
    "area_cover": _schema(
        "area_key text", "cell cell", "is_inside flag", "ref_x metres", "ref_y metres", "ref_inside flag"
    ),
    "area_edges": _schema("area_key text", "cell cell", "x1 metres", "y1 metres", "x2 metres", "y2 metres"),
    "assets": _schema(
        "asset_key text",
        "asset_type text",
        "asset_id text",
        "asset_name text",
        "installed_on day",
        "material text",
        "condition text",
        "valid_from day",
        "valid_to day",
        "attributes text",
        "length_m metres",
        "lon number",
        "lat number",
        "x_m metres",
        "y_m metres",
        "geometry wkb",
    ),
    "asset_cover": _schema(
        "asset_key text",
        "asset_type text",
        "cell cell",
        "reach_m metres",
        "x1 metres",
        "y1 metres",
        "dx metres",
        "dy metres",
        "inv_len2 number",
    ),
}

_DAY_MACRO = """
create macro day(told) as cast(coalesce(
    try_cast(told as timestamp),
    try_strptime(told, ['%Y%m%d', '%m/%d/%Y', '%m/%d/%Y %I:%M:%S %p'])
) as date)
"""

# Every delivery of such a feed is a whole copy: what the newest copies of all parts lack has ended when it
# was first not there. An event of before keeps it.
_ENDED = """
with deliveries as (
    select distinct part, delivery_id, delivered_at from raw_rows
),

last_seen as (
    select source_id, part, max(delivery_id) as delivery_id from raw_rows group by source_id, part
),

gone as (
    select s.source_id, s.part, min(d.delivered_at) as gone_at
    from last_seen s join deliveries d on d.part = s.part and d.delivery_id > s.delivery_id
    group by s.source_id, s.part
),

ended as (
    select s.source_id, cast(max(g.gone_at) as date) as ended_on
    from last_seen s left join gone g using (source_id, part)
    group by s.source_id
    having count(*) = count(g.gone_at)
)
"""

# Portals give the pieces of one district as several rows (Chicago's police districts: 25 rows, 23 districts),
# so all rows of the newest delivery count. The same district under another valid_from is another area.
_BOUNDARY_ROWS = (
    _ENDED
    + """
select
    md5(concat_ws(chr(31), $city, $feed, source_id, coalesce(cast(day(valid_from) as varchar), '')))
        as area_key,
    source_id, name, day(valid_from) as valid_from, least(day(valid_to), ended_on) as valid_to, geometry,
    (nullif(trim(valid_from), '') is not null and day(valid_from) is null)
        or (nullif(trim(valid_to), '') is not null and day(valid_to) is null) as is_unreadable
from raw_rows left join ended using (source_id)
qualify rank() over (
    partition by source_id, day(valid_from) order by delivered_at desc, part desc, delivery_id desc
) = 1
order by source_id, day(valid_from), source_row
"""
)

_INVENTORY_ROWS = (
    _ENDED
    + """
select
    md5(concat_ws(chr(31), $city, $feed, source_id)) as asset_key, source_id as asset_id, name as asset_name,
    day(installed_at) as installed_on, material, condition, day(valid_from) as valid_from,
    least(day(valid_to), ended_on) as valid_to, attributes, lon, lat, x_m, y_m, geometry,
    (nullif(trim(installed_at), '') is not null and day(installed_at) is null)
        or (nullif(trim(valid_from), '') is not null and day(valid_from) is null)
        or (nullif(trim(valid_to), '') is not null and day(valid_to) is null) as is_unreadable
from raw_rows left join ended using (source_id)
qualify row_number() over (
    partition by source_id order by delivered_at desc, source_row desc, part desc, delivery_id desc
) = 1
order by source_id
"""
)


def write_places(lake: Lake, city: "City", feed: "Feed") -> dict[str, int]:
    """Write the cover tables of a boundary set or an inventory from its raw Parquet, each file atomically.

    Boundary: `areas`, `area_cover`, `area_edges`. Of an area (source_id and valid_from) the newest delivery
    wins; its rows are united, and broken polygons are repaired (`make_valid`) and named in the log.

    Inventory: `assets`, `asset_cover`. The newest row of a source_id wins; lines count by their segments,
    polygons by their outlines.

    Returns:
        Rows per table, and `repaired` (broken polygons), `without_place` (boundary rows without a polygon,
        assets with neither usable coordinates nor lines) and `unreadable_dates` (rows whose dates, or some of
        them, became null).

    Raises:
        ValueError: The feed is neither a boundary set nor an inventory.
    """
    if feed.kind == "boundary":
        return _cover_boundaries(lake, city, feed)
    if feed.kind == "asset":
        return _cover_inventory(lake, city, feed)
    raise ValueError(f"{city.id}/{feed.id} is of kind {feed.kind}; only boundary and asset feeds have covers")


def write_no_places(lake: Lake) -> None:
    """Write every table without rows, so that dbt finds them where no city has boundaries or inventories."""
    for name in PLACE_TABLES:
        with _PlaceTable(lake, name, "_none", "_none"):
            pass


def _cover_boundaries(lake: Lake, city: "City", feed: "Feed") -> dict[str, int]:
    import shapely

    from assets.ingest.grid import area_edges

    rows = _raw_rows(lake, feed, _BOUNDARY_ROWS).to_pylist()
    counts = {
        "repaired": 0,
        "without_place": 0,
        "unreadable_dates": sum(row["is_unreadable"] for row in rows),
    }
    project = _projection(city)
    with (
        _PlaceTable(lake, "areas", feed.city, feed.id) as areas,
        _PlaceTable(lake, "area_cover", feed.city, feed.id) as covers,
        _PlaceTable(lake, "area_edges", feed.city, feed.id) as edges,
    ):
        for area_key, same_area in groupby(rows, key=lambda row: row["area_key"]):
            pieces = list(same_area)
            polygons = [polygon for piece in pieces if (polygon := _polygon(piece, feed, counts)) is not None]
            if not polygons:
                continue
            globe = polygons[0] if len(polygons) == 1 else shapely.union_all(polygons)
            plane = shapely.transform(globe, project)
            point = shapely.point_on_surface(globe)
            areas.add(
                area_key=[area_key],
                area_type=[feed.area_type],
                area_id=[pieces[-1]["source_id"]],
                area_name=[pieces[-1]["name"]],
                valid_from=[pieces[-1]["valid_from"]],
                valid_to=[pieces[-1]["valid_to"]],
                area_km2=[plane.area / 1e6],
                lon=[point.x],
                lat=[point.y],
                geometry=[shapely.to_wkb(globe)],
            )
            _add_cover(area_key, area_edges(plane), covers, edges)
    return {"areas": areas.rows, "area_cover": covers.rows, "area_edges": edges.rows, **counts}


def _polygon(piece: dict, feed: "Feed", counts: dict[str, int]):
    """Return the polygon of a raw row, repaired where it is broken, or None; count and log both."""
    import shapely

    geometry = shapely.force_2d(shapely.from_wkb(piece["geometry"]))
    is_broken = geometry is not None and not geometry.is_valid
    if is_broken:
        geometry = shapely.make_valid(geometry)
        counts["repaired"] += 1
        log.warning("%s/%s: area %s had a broken polygon; repaired", feed.city, feed.id, piece["source_id"])
    # Repairs may leave lines and points beside the polygons, and may nest multipolygons in collections.
    parts = shapely.get_parts(shapely.get_parts(geometry)) if geometry is not None else np.array([])
    parts = parts[(shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & ~shapely.is_empty(parts)]
    if len(parts) == 0:
        counts["without_place"] += 1
        log.warning("%s/%s: area %s has no polygon; left out", feed.city, feed.id, piece["source_id"])
        return None
    return parts[0] if len(parts) == 1 else shapely.multipolygons(parts)


def _add_cover(area_key: str, edges: np.ndarray, covers: "_PlaceTable", edge_rows: "_PlaceTable") -> None:
    from assets.ingest.grid import cover_area

    cover = cover_area(edges)
    count = len(cover.cell)
    is_inside = np.isnan(cover.ref_x)
    covers.add(
        area_key=[area_key] * count,
        cell=cover.cell,
        is_inside=is_inside,
        ref_x=pa.array(cover.ref_x, mask=is_inside),
        ref_y=pa.array(cover.ref_y, mask=is_inside),
        ref_inside=pa.array(cover.ref_inside, mask=is_inside),
    )
    x1, y1, x2, y2 = edges[cover.edge].T
    edge_rows.add(area_key=[area_key] * len(x1), cell=cover.edge_cell, x1=x1, y1=y1, x2=x2, y2=y2)


def _cover_inventory(lake: Lake, city: "City", feed: "Feed") -> dict[str, int]:
    import shapely

    from assets.ingest.grid import cells_within_reach

    rows = _raw_rows(lake, feed, _INVENTORY_ROWS)
    geometry = shapely.force_2d(shapely.from_wkb(rows["geometry"].to_numpy(zero_copy_only=False)))
    plane = shapely.transform(geometry, _projection(city))
    x_m, y_m = (rows[name].to_numpy(zero_copy_only=False).astype(float) for name in ("x_m", "y_m"))
    owner, x1, y1, x2, y2 = _pieces(plane, x_m, y_m)
    keys = rows["asset_key"].to_numpy(zero_copy_only=False)
    length = np.where(_is_linear(plane), shapely.length(plane), np.nan)
    with (
        _PlaceTable(lake, "assets", feed.city, feed.id) as assets,
        _PlaceTable(lake, "asset_cover", feed.city, feed.id) as covers,
    ):
        told = {name: rows[name] for name in PLACE_TABLES["assets"].names if name in rows.column_names}
        assets.add(
            **told,
            asset_type=[feed.asset_type] * len(rows),
            length_m=pa.array(length, from_pandas=True),
        )
        for piece, cell in cells_within_reach(x1, y1, x2, y2, feed.reach_m):
            dx, dy = (x2 - x1)[piece], (y2 - y1)[piece]
            length2 = dx**2 + dy**2
            covers.add(
                asset_key=keys[owner[piece]],
                asset_type=[feed.asset_type] * len(piece),
                cell=cell,
                reach_m=np.full(len(piece), float(feed.reach_m)),
                x1=x1[piece],
                y1=y1[piece],
                dx=dx,
                dy=dy,
                inv_len2=np.divide(1.0, length2, out=np.zeros(len(piece)), where=length2 > 0),
            )
    return {
        "assets": assets.rows,
        "asset_cover": covers.rows,
        "repaired": 0,
        "without_place": len(rows) - len(np.unique(owner)),
        "unreadable_dates": int(np.sum(rows["is_unreadable"].to_numpy(zero_copy_only=False).astype(bool))),
    }


def _pieces(plane: np.ndarray, x_m: np.ndarray, y_m: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return (row number, x1, y1, x2, y2) of all points and segments, points as segments without length.

    A single point is where locating put it, so that one outside the city or on a default point has no piece.
    """
    import shapely

    is_point = np.isin(shapely.get_type_id(plane), (-1, shapely.GeometryType.POINT)) | shapely.is_empty(plane)
    points = np.flatnonzero(is_point & np.isfinite(x_m) & np.isfinite(y_m))
    others = np.flatnonzero(~is_point)
    parts, part = shapely.get_parts(plane[others], return_index=True)
    is_area = np.isin(
        shapely.get_type_id(parts), (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)
    )
    parts[is_area] = shapely.boundary(parts[is_area])
    lines, line = shapely.get_parts(parts, return_index=True)
    ends, end = shapely.get_coordinates(lines, return_index=True)
    is_single = shapely.get_num_coordinates(lines)[end] == 1
    joined = end[:-1] == end[1:]
    start, stop = ends[:-1][joined], ends[1:][joined]
    owner = np.concatenate([others[part[line[end[:-1][joined]]]], others[part[line[end[is_single]]]]])
    pieces = np.vstack([np.hstack([start, stop]), np.hstack([ends[is_single], ends[is_single]])])
    is_usable = np.isfinite(pieces).all(axis=1)
    at = np.column_stack([x_m[points], y_m[points]])
    owner = np.concatenate([points, owner[is_usable]])
    return owner, *np.vstack([np.hstack([at, at]), pieces[is_usable]]).T


def _is_linear(geometry: np.ndarray) -> np.ndarray:
    import shapely

    return np.isin(
        shapely.get_type_id(geometry), (shapely.GeometryType.LINESTRING, shapely.GeometryType.MULTILINESTRING)
    )


def _projection(city: "City"):
    """Return a function from lon/lat to metres, both of shape (n, 2)."""
    from pyproj import Transformer

    transformer = Transformer.from_crs("EPSG:4326", city.crs, always_xy=True)
    return lambda points: np.column_stack(transformer.transform(points[:, 0], points[:, 1]))


def _raw_rows(lake: Lake, feed: "Feed", select: str) -> pa.Table:
    """Run a query over `raw_rows`, the raw rows of all deliveries of a feed, if there are any."""
    files = [str(path) for path in sorted(lake.raw(feed.kind, feed.city, feed.id).glob("*.parquet"))]
    with duckdb.connect() as con:
        if files:
            con.from_parquet(files, union_by_name=True, hive_partitioning=False).create_view("raw_rows")
        else:
            types = {"source_row": "bigint", "delivered_at": "timestamp", "geometry": "blob"}
            types |= dict.fromkeys(("lon", "lat", "x_m", "y_m"), "double")
            names = [*column_names(feed.kind), *DELIVERY_COLUMNS, *LOCATION_COLUMNS, "geometry"]
            columns = ", ".join(f"{name} {types.get(name, 'varchar')}" for name in names)
            con.execute(f"create table raw_rows ({columns})")
        con.execute(_DAY_MACRO)
        return con.execute(select, {"city": feed.city, "feed": feed.id}).to_arrow_table()


class _PlaceTable:
    """One file under derived/places, written beside its place and renamed into it when all rows are in."""

    _ROWS_PER_GROUP = 100_000

    def __init__(self, lake: Lake, name: str, city: str, feed: str):
        self.path = lake.derived / "places" / name / f"city={city}" / f"feed={feed}" / "data.parquet"
        self.schema = PLACE_TABLES[name]
        self.rows = 0
        # Not *.parquet: what a killed run leaves behind must not match the globs of dbt.
        self._unfinished = self.path.with_suffix(".unfinished")
        self._waiting: list[pa.Table] = []

    def __enter__(self) -> "_PlaceTable":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(self._unfinished, self.schema, compression="zstd")
        return self

    def add(self, **columns) -> None:
        self._waiting.append(pa.table(columns).select(self.schema.names).cast(self.schema))
        self.rows += self._waiting[-1].num_rows
        if sum(table.num_rows for table in self._waiting) >= self._ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting))
        self._waiting = []

    def __exit__(self, error_type, error, traceback) -> None:
        if error_type is None:
            self._flush()
        self._writer.close()
        if error_type is None:
            self._unfinished.replace(self.path)
        else:
            self._unfinished.unlink()
