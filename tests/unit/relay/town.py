"""A small city drawn by hand: its snapshot, its inventories and what lands after; no assertions here."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
import yaml
from pyproj import Transformer

from assets.ingest.cover import PLACE_TABLES
from assets.ingest.grid import cells_within_reach
from assets.ingest.lake import Lake
from tests.unit.warehouse.conftest import TinyLake

MODELS = Path(__file__).parents[3] / "dbt_project" / "models"
TABLES = {
    "core": ("fct_events", "fct_permits", "dim_asset", "dim_feed", "bridge_event_asset"),
    "correlation": ("mart_correlations",),
}
CITY = "mid"
#: 13:00 of 10 June on the city's clock.
NOW = datetime(2025, 6, 10, 18, tzinfo=UTC)
#: When the snapshot was made; what is landed later is read from the lake.
BUILT_AT = datetime.fromisoformat("2025-06-09T06:00:00")
#: Where the map begins, metres east and north in EPSG:26916.
EAST, NORTH = 450_000.0, 4_630_000.0
_GLOBE = Transformer.from_crs("EPSG:26916", "EPSG:4326", always_xy=True)
CATEGORIES = {
    "Water on Street": ("flooding", "street"),
    "Water in Basement": ("flooding", "basement"),
    "Sewage": ("sewer_backup", None),
    "Pothole": ("pothole", None),
    "Signal Out": ("traffic_signal", None),
    "Light Out": ("streetlight_outage", None),
    "Graffiti": ("graffiti", None),
}
FEEDS = {"requests": "service_request", "permits": "permit", "works": "infrastructure", "outages": "utility"}


def key(*parts: str) -> str:
    return hashlib.md5(chr(31).join(parts).encode()).hexdigest()


def on_the_map(lon: float, lat: float) -> tuple[float, float]:
    """Return where a point lies, metres from the map's corner."""
    x, y = _GLOBE.transform(lon, lat, direction="INVERSE")
    return x - EAST, y - NORTH


def utc(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(tzinfo=None)


@cache
def columns(model: str) -> dict[str, str]:
    """Return the columns and types that a public model promises."""
    for path in sorted(MODELS.rglob("*.yml")):
        for said in yaml.safe_load(path.read_text(encoding="utf-8")).get("models", []):
            if said["name"] == model:
                return {column["name"]: column["data_type"] for column in said["columns"]}
    raise LookupError(model)


@dataclass
class Town:
    """A town under construction; `publish` writes its snapshot, `land` what comes after."""

    home: Path
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    shapes: list[tuple[str, str, shapely.Geometry]] = field(default_factory=list)
    tiny: TinyLake = field(init=False)

    def __post_init__(self) -> None:
        self.tiny = TinyLake(self.home)
        self.tiny.city(CITY, "America/Chicago")
        self.tiny.declared["cities"][0]["crs"] = "EPSG:26916"
        for feed, kind in FEEDS.items():
            self.tiny.feed(CITY, feed, kind)
            self.rows["dim_feed"].append({"city": CITY, "feed": feed, "kind": kind, "as_of_at": BUILT_AT})
        self.tiny.feed(CITY, "live", "service_request", portal="open311", live_tail_of="requests")
        self.rows["dim_feed"].append(
            {"city": CITY, "feed": "live", "kind": "service_request", "as_of_at": BUILT_AT}
        )
        for feed in ("live", "requests"):
            self.tiny.status(CITY, feed, "open", "open")
            self.tiny.status(CITY, feed, "closed", "closed")
            for category, (event_type, subtype) in CATEGORIES.items():
                self.tiny.category(
                    CITY, feed, category=category, event_type=event_type, event_subtype=subtype
                )

    @property
    def lake(self) -> Lake:
        return self.tiny.lake

    def asset(self, asset_type: str, asset_id: str, shape: shapely.Geometry, **said: Any) -> None:
        """Draw an inventory item; metres from the map's corner."""
        self.shapes.append((asset_type, asset_id, shape))
        self.rows["dim_asset"].append(
            {
                "asset_key": key(CITY, asset_type, asset_id),
                "city": CITY,
                "asset_type": asset_type,
                "asset_id": asset_id,
            }
            | said
        )

    def event(
        self, kind: str, event_type: str, source_id: str, x: float, y: float, at: datetime, **said: Any
    ) -> str:
        """Put an event into the snapshot and return its key."""
        feed = said.pop("feed", {kind: feed for feed, kind in FEEDS.items()}[kind])
        event_key = key(CITY, feed, source_id)
        at = utc(at)
        row = {
            "event_key": event_key,
            "city": CITY,
            "feed": feed,
            "kind": kind,
            "source_id": source_id,
            "event_type": event_type,
            "event_group": kind,
            "event_at": at,
            "event_on": at.date(),
            "is_open": True,
            "first_observed_at": at,
            "last_observed_at": at,
            "is_canonical": True,
        }
        row |= dict.fromkeys(("is_deleted", "is_withdrawn", "is_excluded", "is_noise"), False)
        self.rows["fct_events"].append(row | self.place(x, y) | said)
        return event_key

    def permit(self, event_type: str, permit_id: str, x: float, y: float, **days: date | None) -> None:
        """Put a permit into the snapshot; days are those of the city's clock."""
        local = {
            name: None if day is None else datetime.combine(day, datetime.min.time())
            for name, day in days.items()
        }
        issued = local.get("issued") or BUILT_AT
        event_key = self.event("permit", event_type, permit_id, x, y, issued.replace(tzinfo=UTC))
        self.rows["fct_permits"].append(
            {"event_key": event_key, "city": CITY, "feed": "permits", "source_id": permit_id}
            | {f"{name}_local": at for name, at in local.items()}
        )

    def broken(self, main_id: str, source_id: str, x: float, y: float, at: datetime, **said: Any) -> str:
        """Put a break of a main into the snapshot, joined to the main."""
        event_key = self.event("infrastructure", "infra_main_break", source_id, x, y, at, **said)
        self.rows["bridge_event_asset"].append(
            {"event_key": event_key, "city": CITY, "asset_type": "water_main", "asset_id": main_id}
            | {"asset_key": key(CITY, "water_main", main_id), "distance_m": 0.0, "reach_m": 30.0}
        )
        return event_key

    def place(self, x: float, y: float) -> dict[str, float]:
        lon, lat = _GLOBE.transform(EAST + x, NORTH + y)
        return {"lon": lon, "lat": lat, "x_m": EAST + x, "y_m": NORTH + y}

    def request(
        self, source_id: str, category: str, x: float, y: float, at: datetime, *, status: str = "open"
    ) -> dict[str, Any]:
        """Return a row as landing makes it of an Open311 record."""
        return {
            "source_id": source_id,
            "category": category,
            "status": status,
            "requested_at": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "location_quality": "ok",
        } | self.place(x, y)

    def land(self, rows: Sequence[Mapping[str, Any]], at: datetime, *, feed: str = "live") -> None:
        """Land a delivery of requests after the snapshot."""
        self.tiny.land(CITY, feed, "service_request", utc(at), rows)

    def publish(self) -> None:
        """Write declarations, cover and snapshot."""
        self.tiny.write()
        self._write_cover()
        path = self.lake.published_warehouse
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        with duckdb.connect(str(path)) as con:
            for schema, models in TABLES.items():
                con.execute(f"create schema {schema}")
                for model in models:
                    promised = columns(model)
                    types = ", ".join(f"{name} {type_}" for name, type_ in promised.items())
                    con.execute(f"create table {schema}.{model} ({types})")
                    rows = self.rows[model]
                    assert {name for row in rows for name in row} <= set(promised), model
                    if rows:
                        con.executemany(
                            f"insert into {schema}.{model} values ({', '.join('?' * len(promised))})",
                            [[row.get(name) for name in promised] for row in rows],
                        )

    def _write_cover(self) -> None:
        pieces = [
            (key(CITY, asset_type, asset_id), asset_type, *ends)
            for asset_type, asset_id, shape in self.shapes
            for ends in _pieces(shape)
        ]
        ends = np.array([piece[2:] for piece in pieces], dtype=float).reshape(-1, 4)
        x1, y1, x2, y2 = ends.T
        tables = []
        # The reach of an inventory is less than what alerts look at.
        for piece, cell in cells_within_reach(x1, y1, x2, y2, 30.0) if len(pieces) else ():
            dx, dy = (x2 - x1)[piece], (y2 - y1)[piece]
            length2 = dx**2 + dy**2
            tables.append(
                pa.table(
                    {
                        "asset_key": [pieces[one][0] for one in piece],
                        "asset_type": [pieces[one][1] for one in piece],
                        "cell": cell,
                        "reach_m": np.full(len(piece), 30.0),
                        "x1": x1[piece],
                        "y1": y1[piece],
                        "dx": dx,
                        "dy": dy,
                        "inv_len2": np.divide(1.0, length2, out=np.zeros(len(piece)), where=length2 > 0),
                    },
                    schema=PLACE_TABLES["asset_cover"],
                )
            )
        folder = self.lake.derived / "places" / "asset_cover" / f"city={CITY}" / "feed=drawn"
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(
            pa.concat_tables([PLACE_TABLES["asset_cover"].empty_table(), *tables]), folder / "data.parquet"
        )


def _pieces(shape: shapely.Geometry) -> list[tuple[float, float, float, float]]:
    points = [(EAST + x, NORTH + y) for x, y in shape.coords]
    if len(points) == 1:
        return [(*points[0], *points[0])]
    return [(*a, *b) for a, b in pairwise(points)]
