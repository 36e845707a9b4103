"""The map office's areas as GeoJSON: wards in two generations, neighbourhoods, police districts."""

from pathlib import Path

import pyarrow as pa

from assets.simulate.ground import Areas, Ground, reproject, to_lonlat
from assets.simulate.portal.files import geojson_bytes


def publish(folder: Path, ground: Ground) -> dict[str, int]:
    """Write every set of areas; return rows per file."""
    sets = {
        "wards_2015.geojson": ground.wards[0],
        "wards_2025.geojson": ground.wards[1],
        "neighbourhoods.geojson": ground.neighbourhoods,
        "police_districts.geojson": ground.police_districts,
    }
    return {name: _write(folder / name, areas) for name, areas in sets.items()}


def _write(path: Path, areas: Areas) -> int:
    table = pa.table({"id": areas.ids, "name": areas.names})
    path.write_bytes(geojson_bytes(table, reproject(areas.polygons(), to_lonlat)))
    return table.num_rows
