"""A lake of three towns made up by hand, built by dbt up to the products about requests, places and streets.

`town` has five years of repairs, mains, sensors and crimes; `young` is the same streets with two years of
repairs; `plain` has repairs and a boundary, and no inventory. Assertions are in test_place_products.py.
"""

import json
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from pyproj import Transformer

from assets.ingest import cover
from assets.ingest.contracts import LOCATION_COLUMNS, column_names
from assets.ingest.feed import City, Feed
from assets.ingest.lake import Lake
from assets.ingest.locate import h3_cells
from tests.unit.warehouse.conftest import PROJECT, TinyLake, dbt_at

X0, Y0 = 440_000.0, 4_640_000.0
TO_GLOBE = Transformer.from_crs("EPSG:26916", "EPSG:4326", always_xy=True)
DELIVERED = datetime(2026, 1, 5, 12)  # noqa: DTZ001
LAST = date(2025, 12, 31)
SEGMENTS, NEGLECTED, SPACING_M = 48, tuple(range(3, 48, 4)), 300.0
#: What must enter no story: it stands in addresses and notes of the reports below.
PRIVATE = ("Roe", "312-555-0100", "12 Oak")
PRODUCTS = ("mart_request_story", "mart_place_dossier", "mart_maintenance_debt")


def at(x: float, y: float) -> dict[str, object]:
    """Return the location columns of a point, in metres from the town's corner."""
    lon, lat = TO_GLOBE.transform(X0 + x, Y0 + y)
    cells = {f"h3_{n}": int(h3_cells(np.array([lon]), np.array([lat]), n)[0]) for n in (7, 9, 10)}
    return {"x_m": X0 + x, "y_m": Y0 + y, "lon": lon, "lat": lat, "location_quality": "ok"} | cells


def on(segment: int, along: float = 50.0) -> dict[str, object]:
    """Return a point on a segment; segments lie one above the other, 100 m long each."""
    return at(along, segment * SPACING_M)


def shaped(shape: shapely.Geometry) -> bytes:
    return shapely.to_wkb(
        shapely.transform(shape, lambda xy: np.column_stack(TO_GLOBE.transform(xy[:, 0] + X0, xy[:, 1] + Y0)))
    )


def inventory(lake: Lake, city: str, asset_type: str, reach_m: float, rows: Iterable[dict]) -> None:
    """Write an inventory, or with the type `area` a boundary, and its covers."""
    kind = "boundary" if asset_type == "area" else "asset"
    rows = list(rows)
    texts = {name: pa.array([row.get(name) for row in rows], pa.string()) for name in column_names(kind)}
    points = [row["shape"].point_on_surface() for row in rows]
    located = [at(point.x, point.y) for point in points]
    numbers = {
        name: pa.array([where[name] for where in located], pa.float64())
        for name, type_ in LOCATION_COLUMNS.items()
        if type_ == "DOUBLE"
    }
    delivery = {
        "part": ["all"] * len(rows),
        "source_row": list(range(len(rows))),
        "delivery_id": ["0"] * len(rows),
        "delivery_sha": ["0"] * len(rows),
        "delivered_at": [DELIVERED] * len(rows),
        "geometry": pa.array([shaped(row["shape"]) for row in rows], pa.binary()),
    }
    folder = lake.raw(kind, city, asset_type)
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({**texts, **numbers, **delivery}), folder / "all.parquet")
    said = {"area_type": "ward"} if kind == "boundary" else {"asset_type": asset_type, "reach_m": reach_m}
    declared = City(
        id=city, folder=Path(city), name=city, country="US", state="XX", time_zone="America/Chicago",
        crs="EPSG:26916", bbox=(-88.5, 41.5, -87.0, 42.5),
    )  # fmt: skip
    cover.write_places(lake, declared, Feed.model_construct(city=city, id=asset_type, kind=kind, **said))


def streets(lake: Lake, city: str) -> None:
    line = [shapely.LineString([(0, i * SPACING_M), (100, i * SPACING_M)]) for i in range(SEGMENTS)]
    inventory(
        lake,
        city,
        "road_segment",
        30.0,
        (
            {"source_id": f"S{i}", "name": "Oak Street" if i == 0 else f"{i}th Street", "shape": line[i]}
            | {"installed_at": "1990-01-01", "attributes": json.dumps({"class": "local"})}
            for i in range(SEGMENTS)
        ),
    )


def repairs(since: date, seed: int, rate_a_year: float) -> list[dict]:
    """Return patches of all segments; the neglected get a tenth."""
    rng, days, rows = np.random.default_rng(seed), (LAST - since).days, []
    for segment in range(SEGMENTS):
        share = 0.1 if segment in NEGLECTED else 1.0
        for _ in range(rng.poisson(rate_a_year * share * days / 365.25)):
            day = since + timedelta(days=int(rng.integers(days)))
            rows.append(repair(f"W{len(rows)}", day, on(segment, float(rng.uniform(5, 95)))))
    return [*rows, repair("newest", LAST, on(1))]


def repair(source_id: str, day: date, where: dict, **said: str) -> dict:
    known = {"source_id": source_id, "category": "patch", "status": "Done"}
    return known | {"occurred_at": f"{day}T09:00:00", "completed_at": f"{day}T15:00:00"} | where | said


def request(source_id: str, when: str, where: dict, category: str = "Pothole", **said: str) -> dict:
    known = {"source_id": source_id, "category": category, "status": "Done", "requested_at": when}
    return (
        known
        | {"closed_at": "2025-06-20T12:00:00", "address": "12 Oak St, Jane Roe 312-555-0100"}
        | where
        | said
    )


def readings() -> list[dict]:
    """Return ground movement: a sensor that sinks, one that stands with ties, one with nine readings."""
    rng, rows = np.random.default_rng(5), []
    for sensor, days, slope in (("SINKS", 60, -0.2), ("STANDS", 60, 0.0), ("NEW", 9, -0.2)):
        for back in range(days):
            value = round(
                100 - slope * back + rng.normal(0, 1.0 if sensor != "STANDS" else 0.6),
                0 if sensor == "STANDS" else 2,
            )
            rows.append(
                {"source_id": f"{sensor}-{back}", "asset_id": sensor, "category": "level", "status": "Done"}
                | {
                    "occurred_at": f"{LAST - timedelta(days=back)}T06:00:00",
                    "quantity": str(value),
                    "unit": "mm",
                }
                | on(0, 60.0)
            )
    return rows


def crimes() -> list[dict]:
    """Return 60 thefts and 49 burglaries by segment 0, 49 thefts by segment 2, none by segment 4."""
    told = [("theft", 0, 60), ("burglary", 0, 49), ("theft", 2, 49)]
    return [
        {"source_id": f"{type_}-{segment}-{i}", "category": type_, "occurred_at": "2025-05-05T03:00:00"}
        | {"address": "99 Secret Place"}
        | on(segment, 40.0)
        for type_, segment, n in told
        for i in range(n)
    ]


def declare(lake: TinyLake, city: str) -> None:
    lake.city(city, "America/Chicago")
    types = {"Pothole": "pothole", "Lamp": "streetlight_outage"}
    lake.feed(city, "requests", "service_request", times="local", owner_agency="transportation")
    for category, event_type in types.items():
        lake.category(city, "requests", category=category, event_type=event_type)
    lake.category(city, "requests", category="Private", event_type="pothole", is_private=True)
    lake.feed(city, "works", "infrastructure", times="local", owner_agency="transportation")
    for category, event_type in (
        ("patch", "infra_pothole_repair"),
        ("break", "infra_main_break"),
        ("level", "ground_movement_reading"),
    ):
        lake.category(city, "works", category=category, event_type=event_type)
    for feed in ("requests", "works"):
        for source_status, status in (("Open", "open"), ("Done", "closed"), ("Dup", "closed_duplicate")):
            lake.status(city, feed, source_status, status)


def make_town(home: Path) -> TinyLake:
    """Write the lake."""
    lake = TinyLake(home)
    cover.write_no_places(lake.lake)
    for city in ("town", "young", "plain"):
        declare(lake, city)
    lake.feed(
        "town", "quiet", "service_request", times="local", event_type="pothole", owner_agency="transportation"
    )
    lake.feed("town", "permits", "permit", times="local", event_type="permit_roof", owner_agency="buildings")
    lake.status("town", "permits", "Issued", "issued")
    lake.feed("town", "crimes", "crime", times="local", owner_agency="police")
    for type_ in ("theft", "burglary"):
        lake.category("town", "crimes", category=type_, event_type=type_)
    streets(lake.lake, "town")
    streets(lake.lake, "young")
    inventory(lake.lake, "town", "water_main", 30.0, [
        {"source_id": "M0", "material": "CAST IRON", "installed_at": "1925-01-01",
         "shape": shapely.LineString([(0, 2), (100, 2)])},
    ])  # fmt: skip
    inventory(lake.lake, "town", "school", 150.0, [
        {"source_id": "NEAR", "name": "Near School", "shape": shapely.Point(50, 190)},
        {"source_id": "FAR", "name": "Far School", "shape": shapely.Point(50, -210)},
    ])  # fmt: skip
    inventory(lake.lake, "town", "school_route", 40.0, [
        {"source_id": "R0", "shape": shapely.LineString([(50, 0), (50, 190)])},
    ])  # fmt: skip
    area = [{"source_id": "1", "name": "First Ward", "shape": shapely.box(-500, -500, 900, 900)}]
    inventory(lake.lake, "town", "area", 0.0, area)
    inventory(lake.lake, "plain", "area", 0.0, area)

    corner = on(0, 50.0)
    told = {"parent_id": "C", "status": "Dup", "is_duplicate": "true"}
    joined = [
        request("C", "2025-06-10T08:00:00", corner, status_notes="Jane Roe called again"),
        *(request(f"T{i}", f"2025-06-1{i}T09:00:00", corner, **told) for i in range(1, 5)),
        *(request(f"N{i}", f"2025-06-1{i}T10:00:00", on(0, 50.0 + i)) for i in (1, 2)),
        # The break is 15 days after this one.
        request("EARLY", "2025-05-28T08:00:00", on(0, 95.0), closed_at="2025-05-29T08:00:00"),
        request("SECRET", "2025-06-10T08:00:00", on(9), category="Private"),
        request("GONE", "2025-06-10T08:00:00", on(11)),
        request("LAMP", "2025-06-10T08:00:00", on(4), category="Lamp", status="Open"),
    ]  # fmt: skip
    lake.land("town", "requests", "service_request", DELIVERED - timedelta(days=1), joined)
    lake.land(
        "town",
        "requests",
        "service_request",
        DELIVERED,
        [],
        rows_unchanged=len(joined) - 1,
        absent={"GONE": 2},
    )
    nowhere = {"source_id": "Q", "requested_at": "2025-06-10T08:00:00", "address": "12 Oak St"}
    lake.status("town", "quiet", "Received", "open")
    received = {"source_id": "R", "requested_at": "2025-06-11T08:00:00", "status": "Received"} | on(20)
    lake.land("town", "quiet", "service_request", DELIVERED, [nowhere, received])
    works = [
        *repairs(date(2021, 1, 1), seed=3, rate_a_year=3.0),
        repair("BREAK", date(2025, 6, 12), on(0, 55.0), category="break", asset_id="M0"),
        # It names a duplicate of C.
        repair("PATCH", date(2025, 6, 14), corner, attributes=json.dumps({"sr_number": "N2"})),
        *readings(),
    ]
    lake.land("town", "works", "infrastructure", DELIVERED, works)
    lake.land(
        "young", "works", "infrastructure", DELIVERED, repairs(date(2024, 1, 1), seed=4, rate_a_year=5.0)
    )
    quarterly = [LAST - timedelta(days=90 * i) for i in range(20)]
    lake.land(
        "plain", "works", "infrastructure", DELIVERED, [repair(f"W{day}", day, on(0)) for day in quarterly]
    )  # fmt: skip
    permits = [
        {"source_id": "P1", "status": "Issued", "issued_at": "2025-01-02", "expires_at": "2025-07-01"},
        {"source_id": "P2", "status": "Issued", "issued_at": "2025-12-02", "expires_at": "2026-12-01"},
    ]
    lake.land(
        "town", "permits", "permit", DELIVERED, [row | {"address": "12  OAK ST"} | corner for row in permits]
    )
    lake.land("town", "crimes", "crime", DELIVERED, crimes())
    lake.write()
    return lake


def run(home: Path, *arguments: str) -> dict[str, str]:
    """Run dbt over the home; return the status of each node by its name, with the message where it failed."""
    from dbt.cli.main import dbtRunner

    flags = ["--project-dir", PROJECT, "--profiles-dir", PROJECT, "--target-path", home / "dbt"]
    flags += ["--log-path", home / "dbt", "--log-level", "error", "--threads", "1"]
    with dbt_at(home):
        result = dbtRunner().invoke([*arguments, *map(str, flags)])
    if result.result is None:
        raise RuntimeError(f"dbt did not run: {result.exception}")
    return {
        each.node.name: str(each.status)
        if each.status in ("success", "pass", "no-op")
        else f"{each.status}: {each.message}"
        for each in result.result
    }


def built_sql(home: Path, model: str) -> str:
    """Return the SQL that a product was built by."""
    return (home / "dbt/compiled/citysignal/models/correlation" / f"{model}.sql").read_text(encoding="utf-8")


def asked(home: Path, query: str, threads: int = 2) -> list[dict]:
    """Return the rows of a query over the built warehouse."""
    with duckdb.connect(Lake(home).build_warehouse, read_only=True, config={"threads": threads}) as con:
        return con.execute(query).to_arrow_table().to_pylist()
