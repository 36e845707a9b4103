"""The portals of crews, sensors and utilities: GeoJSON, Parquet and a JSON array whose numbers are text."""

from pathlib import Path

import numpy as np
import pandas as pd
import shapely

from assets.simulate.calendar import to_utc
from assets.simulate.chance import stream
from assets.simulate.ground import CITY_HALL, Ground, to_lonlat
from assets.simulate.portal.dirt import (
    Fault,
    Ledger,
    location_faults,
    odd_spelling,
    put,
    put_all,
    spoiled,
    untouched,
)
from assets.simulate.portal.files import geojson_bytes, json_objects, shaped, write_gzip, write_parquet

_UTC = "'%Y-%m-%dT%H:%M:%SZ'"
_CATEGORIES = {
    "infra_main_break": "WATER MAIN BREAK",
    "infra_pothole_repair": "POTHOLE PATCH",
    "infra_streetlight_repair": "STREET LIGHT REPAIR",
}
_OUTAGES = {
    "utility_power_outage": "UNPLANNED",
    "utility_planned_outage": "PLANNED",
    "utility_water_outage": "WATER",
}
_ASSET_PATTERNS = {
    "infra_main_break": "M%05d",
    "infra_pothole_repair": "S%05d",
    "infra_streetlight_repair": "L%06d",
}


def publish_work_orders(
    folder: Path, orders: pd.DataFrame, ground: Ground, seed: int, ledger: Ledger
) -> dict[str, int]:
    """Write work_orders.geojson.gz; times carry the offset of the city's clock; return rows per file."""
    rng = stream(seed, "work orders portal")
    lon, lat = to_lonlat(orders.x.to_numpy(), orders.y.to_numpy())
    asset = np.full(len(orders), None, dtype=object)
    for event_type, pattern in _ASSET_PATTERNS.items():
        mine = (orders.event_type == event_type).to_numpy()
        asset[mine] = np.char.mod(pattern, orders.asset.to_numpy()[mine])
    frame = orders.assign(
        category=orders.event_type.map(_CATEGORIES),
        asset=asset,
        offset_hours=(
            (to_utc(_seconds(orders.occurred)) - _seconds(orders.occurred)) // np.timedelta64(1, "h")
        ),
        completed_utc=to_utc(_seconds(orders.completed)),
        lon=lon,
        lat=lat,
    )
    table = shaped(
        f"""
        select source_id as work_order, category as activity, asset as asset_number, request as sr_number,
            concat(strftime(occurred, '%Y-%m-%dT%H:%M:%S'), '-0', offset_hours, ':00') as started,
            strftime(completed_utc, {_UTC}) as finished, quantity::varchar as quantity, severity as severity,
            if(completed_utc is null, 'ACTIVE', 'COMPLETE') as state,
            printf('%.6f', lon) as x, printf('%.6f', lat) as y
        from orders
        """,  # noqa: S608
        orders=frame,
    )
    default = tuple(f"{value:.6f}" for value in to_lonlat(*CITY_HALL))
    faults = [
        *location_faults("x", "y", ("-88.900000", "39.500000"), default),
        Fault("exact_repeat", 0.001, untouched, is_copy=True),
        Fault("changed_repeat", 0.0005, put_all(quantity="9"), is_copy=True),
        Fault("unknown_category", 0.001, put("activity", "FOUNTAIN POLISH")),
        Fault("odd_spelling", 0.002, odd_spelling("activity")),
        Fault("unmapped_status", 0.001, put("state", "PARKED")),
        Fault("blank_key", 0.0001, put("work_order", None)),
        Fault("garbage_time", 0.0002, put_all(started="soon", finished=None)),
        Fault("poison_time", 0.0002, put_all(started="2115-06-01T09:00:00-05:00")),
    ]
    table = spoiled(table, "work_order", faults, rng, ledger, "work_orders", "all")
    x, y = (np.array(table.column(name).to_pylist(), dtype=float) for name in ("x", "y"))
    points = shapely.points(x, y)
    points[np.isnan(x)] = None
    write_gzip(folder / "work_orders.geojson.gz", geojson_bytes(table.drop_columns(["x", "y"]), points))
    return {"work_orders.geojson.gz": table.num_rows}


def publish_flood_sensors(folder: Path, readings: pd.DataFrame, seed: int, ledger: Ledger) -> dict[str, int]:
    """Write flood_sensors.parquet with typed columns and UTC times; return rows per file."""
    rng = stream(seed, "flood sensors portal")
    lon, lat = to_lonlat(readings.x.to_numpy(), readings.y.to_numpy())
    text = shaped(
        """
        select source_id as event_id, printf('FLOOD-%02d', sensor) as sensor_id,
            started::varchar as start_time, ended::varchar as end_time, peak_mm::varchar as peak_depth_mm,
            printf('%.6f', lon) as longitude, printf('%.6f', lat) as latitude
        from readings
        """,
        readings=readings.assign(lon=lon, lat=lat),
    )
    faults = [
        Fault("missing_point", 0.01, put_all(longitude=None, latitude=None)),
        Fault("exact_repeat", 0.002, untouched, is_copy=True),
        Fault("negative_reading", 0.002, put("peak_depth_mm", "-9999")),
    ]
    text = spoiled(text, "event_id", faults, rng, ledger, "flood_sensors", "all")
    typed = shaped(
        """
        select event_id, sensor_id, start_time::timestamp as start_time, end_time::timestamp as end_time,
            peak_depth_mm::double as peak_depth_mm, longitude::double as longitude,
            latitude::double as latitude
        from told
        """,
        told=text,
    )
    write_parquet(folder / "flood_sensors.parquet", typed)
    return {"flood_sensors.parquet": typed.num_rows}


def publish_outages(folder: Path, outages: pd.DataFrame, seed: int, ledger: Ledger) -> dict[str, int]:
    """Write outages.json.gz: records in which numbers are text and nulls are absent; return rows."""
    rng = stream(seed, "outages portal")
    lon, lat = to_lonlat(outages.x.to_numpy(), outages.y.to_numpy())
    table = shaped(
        f"""
        select source_id as outage_id, kind as outage_type,
            if(restored is null, 'ACTIVE', 'RESTORED') as status, strftime(started, {_UTC}) as start_time,
            strftime(estimated, {_UTC}) as etr, strftime(restored, {_UTC}) as restored_time,
            customers::varchar as customers_out, cause, provider,
            printf('%.5f', lon) as longitude, printf('%.5f', lat) as latitude
        from outages
        """,  # noqa: S608
        outages=outages.assign(kind=outages.event_type.map(_OUTAGES), lon=lon, lat=lat),
    )
    default = tuple(f"{value:.5f}" for value in to_lonlat(*CITY_HALL))
    faults = [
        *location_faults("longitude", "latitude", ("-88.90000", "39.50000"), default),
        Fault("exact_repeat", 0.002, untouched, is_copy=True),
        Fault("changed_repeat", 0.001, put_all(customers_out="0"), is_copy=True),
        Fault("unknown_category", 0.001, put("outage_type", "BRIEF FLICKER")),
        Fault("odd_number", 0.001, put("customers_out", "about 50")),
        Fault("blank_key", 0.0002, put("outage_id", None)),
        Fault("garbage_time", 0.0004, put("start_time", "pending")),
    ]
    table = spoiled(table, "outage_id", faults, rng, ledger, "outages", "all")
    body = ",\n".join(json_objects(table, without_nulls=True))
    write_gzip(folder / "outages.json.gz", f"[{body}]\n".encode())
    return {"outages.json.gz": table.num_rows}


def _seconds(times: pd.Series) -> np.ndarray:
    return times.to_numpy().astype("datetime64[s]")
