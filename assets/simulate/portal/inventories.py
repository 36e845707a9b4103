"""What stands or lies in the streets, as inventories: points and lines in as many formats as cities use."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import shapely

from assets.simulate.chance import pick, stream
from assets.simulate.ground import (
    CRS_FEET,
    SIDE_M,
    SOUTH_M,
    STREET_PITCH_M,
    STREETS,
    WEST_M,
    Ground,
    reproject,
    to_feet,
    to_lonlat,
)
from assets.simulate.portal.files import (
    csv_bytes,
    geojson_bytes,
    json_objects,
    write_gzip,
    write_parquet,
    write_shapefile_zip,
)

_SCHOOLS, _SENIOR, _BUS_LINES = 90, 40, 14


def publish(folder: Path, ground: Ground, seed: int) -> dict[str, int]:
    """Write every inventory; return rows per file."""
    rng = stream(seed, "inventories")
    schools = rng.choice(ground.x.size, _SCHOOLS + _SENIOR, replace=False)
    schools, senior = schools[:_SCHOOLS], schools[_SCHOOLS:]
    return {
        "water_mains.zip": _water_mains(folder, ground),
        "street_lights.csv.gz": _street_lights(folder, ground, rng),
        "hydrants.jsonl.gz": _hydrants(folder, ground, rng),
        "traffic_signals.csv": _traffic_signals(folder, rng),
        "schools.geojson": _schools(folder, ground, schools),
        "senior_facilities.parquet": _senior_facilities(folder, ground, senior),
        "road_segments.geojson.gz": _road_segments(folder, ground, rng),
        "school_routes.geojson": _school_routes(folder, ground, schools[: _SCHOOLS // 2], rng),
        "bus_routes.geojson": _bus_routes(folder, rng),
    }


def _water_mains(folder: Path, ground: Ground) -> int:
    mains = ground.mains
    attributes = pd.DataFrame(
        {
            "MAIN_ID": np.char.mod("M%05d", np.arange(mains.x1.size)).astype(object),
            "STREET": ground.street_names[mains.street].astype(object),
            "MATERIAL": ground.main_material.astype(object),
            "INST_YEAR": ground.main_installed.astype(np.int32),
        }
    )
    lines = reproject(mains.geometries(), to_feet)
    write_shapefile_zip(folder / "water_mains.zip", attributes, lines, CRS_FEET)
    return len(attributes)


def _street_lights(folder: Path, ground: Ground, rng: np.random.Generator) -> int:
    x_ft, y_ft = to_feet(ground.light_x, ground.light_y)
    count = x_ft.size
    lamps = np.array(["LED 90W", "SODIUM 150W", "METAL HALIDE"], dtype=object)
    table = pa.table(
        {
            "POLE": np.char.mod("L%06d", np.arange(count)),
            "LAMP": lamps[pick(rng, np.array([6.0, 3, 1]), count)],
            "INSTALLED": np.char.mod("%d-06-01", rng.integers(1995, 2024, count)),
            "X": np.char.mod("%.2f", x_ft),
            "Y": np.char.mod("%.2f", y_ft),
        }
    )
    write_gzip(folder / "street_lights.csv.gz", csv_bytes(table))
    return count


def _hydrants(folder: Path, ground: Ground, rng: np.random.Generator) -> int:
    on_main = np.flatnonzero(rng.random(ground.mains.x1.size) < 0.6)
    x, y = ground.mains.along(on_main, rng.uniform(0.1, 0.9, on_main.size))
    lon, lat = to_lonlat(x, y)
    table = pa.table(
        {
            "hydrant": np.char.mod("H%05d", np.arange(on_main.size)),
            "main": np.char.mod("M%05d", on_main),
            "condition": np.array(["GOOD", "FAIR", "POOR"])[pick(rng, np.array([7.0, 2, 1]), on_main.size)],
            "longitude": np.round(lon, 6),
            "latitude": np.round(lat, 6),
        }
    )
    write_gzip(folder / "hydrants.jsonl.gz", ("\n".join(json_objects(table)) + "\n").encode())
    return table.num_rows


def _traffic_signals(folder: Path, rng: np.random.Generator) -> int:
    column, row = np.meshgrid(np.arange(2, STREETS, 4), np.arange(2, STREETS, 4))
    lon, lat = to_lonlat(WEST_M + column.ravel() * STREET_PITCH_M, SOUTH_M + row.ravel() * STREET_PITCH_M)
    table = pa.table(
        {
            "signal_id": np.char.mod("T%04d", np.arange(lon.size)),
            "controller": np.char.mod("model %d", rng.integers(1, 5, lon.size)),
            "longitude": np.char.mod("%.6f", lon),
            "latitude": np.char.mod("%.6f", lat),
        }
    )
    (folder / "traffic_signals.csv").write_bytes(csv_bytes(table))
    return table.num_rows


def _schools(folder: Path, ground: Ground, spots: np.ndarray) -> int:
    points = shapely.points(*to_lonlat(ground.x[spots], ground.y[spots]))
    levels = np.array(["Elementary", "Middle", "High"])[np.arange(spots.size) % 3]
    streets = ground.street_names[ground.street[spots]]
    names = [f"{street} {level} School" for street, level in zip(streets, levels, strict=True)]
    table = pa.table(
        {"school_id": np.char.mod("SCH%03d", np.arange(spots.size)), "name": names, "level": levels}
    )
    (folder / "schools.geojson").write_bytes(geojson_bytes(table, points))
    return table.num_rows


def _senior_facilities(folder: Path, ground: Ground, spots: np.ndarray) -> int:
    lon, lat = to_lonlat(ground.x[spots], ground.y[spots])
    names = [f"{street} Senior Home" for street in ground.street_names[ground.street[spots]]]
    ids = np.char.mod("SEN%03d", np.arange(spots.size))
    table = pa.table({"facility": ids, "name": names, "longitude": lon, "latitude": lat})
    write_parquet(folder / "senior_facilities.parquet", table)
    return table.num_rows


def _road_segments(folder: Path, ground: Ground, rng: np.random.Generator) -> int:
    count = ground.segments.x1.size
    table = pa.table(
        {
            "segment": np.char.mod("S%05d", np.arange(count)),
            "street": ground.street_names[ground.segments.street],
            "class": np.where(ground.segments.street % 4 == 2, "arterial", "local"),
            "surface": np.array(["ASPHALT", "CONCRETE"])[pick(rng, np.array([8.0, 2]), count)],
            "rating": np.array(["GOOD", "FAIR", "POOR"])[pick(rng, np.array([4.0, 4, 2]), count)],
            "paved": np.char.mod("%d", rng.integers(1990, 2024, count)),
        }
    )
    lines = reproject(ground.segments.geometries(), to_lonlat)
    write_gzip(folder / "road_segments.geojson.gz", geojson_bytes(table, lines))
    return count


def _school_routes(folder: Path, ground: Ground, spots: np.ndarray, rng: np.random.Generator) -> int:
    # Children walk along the streets: to the avenue, then along it to the crossing nearest to the school.
    end = np.column_stack([_to_street(ground.x[spots], WEST_M), _to_street(ground.y[spots], SOUTH_M)])
    away = rng.choice([-800.0, -600.0, 600.0, 800.0], end.shape)
    start = (end + away).clip([WEST_M, SOUTH_M], [WEST_M + SIDE_M, SOUTH_M + SIDE_M])
    corner = np.column_stack([end[:, 0], start[:, 1]])
    lines = reproject(shapely.linestrings(np.stack([start, corner, end], axis=1)), to_lonlat)
    table = pa.table(
        {
            "route": np.char.mod("SR%03d", np.arange(spots.size)),
            "school_id": np.char.mod("SCH%03d", np.arange(spots.size)),
        }
    )
    (folder / "school_routes.geojson").write_bytes(geojson_bytes(table, lines))
    return table.num_rows


def _bus_routes(folder: Path, rng: np.random.Generator) -> int:
    first, second = rng.permutation(np.arange(2, STREETS, 4))[:_BUS_LINES], rng.integers(20, 55, _BUS_LINES)
    along, turn = first * STREET_PITCH_M, second * STREET_PITCH_M
    ends = np.zeros(_BUS_LINES), np.full(_BUS_LINES, SIDE_M)
    across = (along + rng.choice([-8, 8], _BUS_LINES) * STREET_PITCH_M).clip(0, SIDE_M)
    path = np.stack(
        [np.stack([ends[0], turn, turn, ends[1]], 1), np.stack([along, along, across, across], 1)], axis=2
    )
    runs_north = np.arange(_BUS_LINES) % 2 == 1
    path[runs_north] = path[runs_north][:, :, ::-1]
    lines = reproject(shapely.linestrings(path + [WEST_M, SOUTH_M]), to_lonlat)  # noqa: RUF005
    numbers = np.arange(1, _BUS_LINES + 1)
    table = pa.table({"route": np.char.mod("%d", numbers), "name": np.char.mod("Line %d", numbers)})
    (folder / "bus_routes.geojson").write_bytes(geojson_bytes(table, lines))
    return table.num_rows


def _to_street(value: np.ndarray, origin: float) -> np.ndarray:
    return origin + np.round((value - origin) / STREET_PITCH_M) * STREET_PITCH_M
