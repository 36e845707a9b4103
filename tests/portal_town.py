"""A made-up town whose one feed lies behind a simulated portal, for tests of what lands over the wire."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from assets.ingest import landing
from assets.ingest.feed import City, Feed
from assets.ingest.lake import Lake
from assets.ingest.receipts import Delivery
from assets.simulate.serving.server import serve
from assets.simulate.serving.store import Column, Dataset, Store
from tests.declared_feed import declared_feed, declared_town

NOW = datetime.fromisoformat("2026-03-01T12:00:00")
DATASET = {
    "socrata": "abcd-1234",
    "arcgis": "calls",
    "ckan": "254adca6-64ab-4c5c-9fc0-a6da622be185",
    "carto": "calls",
    "opendatasoft": "calls",
    "open311": "requests",
    "outages": "live",
}
SOURCE = {
    "socrata": "{base}/socrata/resource/{id}",
    "arcgis": "{base}/arcgis/{id}/FeatureServer/0",
    "ckan": "{base}/ckan/dataset/calls/resource/{id}",
    "carto": "{base}/carto/tables/{id}",
    "opendatasoft": "{base}/opendatasoft/explore/dataset/{id}",
    "open311": "{base}/open311/v2",
    "outages": "{base}/outages/{id}.json",
}
PROTOCOLS = tuple(SOURCE)
#: Protocols that bring the whole part each time, or can sweep it, so that what vanishes is found.
SWEPT = ("socrata", "arcgis", "ckan", "carto", "opendatasoft")

_KEY = {"open311": "service_request_id", "outages": "outage_id"}
_CREATED = {"open311": "requested_datetime", "outages": "start_time"}
_STATUS = {"open311": "status", "outages": "cause"}


class PortalTown:
    """One feed of one data set behind one protocol, and the lake it lands in."""

    def __init__(self, protocol: str, folder: Path, *, now: datetime = NOW, **traits: Any) -> None:
        self.protocol, self.folder = protocol, folder
        self.lake = Lake(folder / "home")
        self.store = Store(now)
        self.key = _KEY.get(protocol, "id")
        self.created = _CREATED.get(protocol, "created")
        self.changing = _STATUS.get(protocol, "what")
        self.dataset = self.store.add(
            Dataset(
                protocol,
                DATASET[protocol],
                "Calls",
                [*self._columns()],
                self.key,
                self.created,
                traits=traits,
            )
        )
        self.declared: dict[str, Any] = {}
        self.request: dict[str, Any] = {"records": "/outages"} if protocol == "outages" else {}
        self.sync: dict[str, Any] = {}
        self.base = ""
        self._server: Any = None

    def __enter__(self) -> "PortalTown":
        self._server = serve(self.store)
        self.base = self._server.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._server.__exit__(*error)

    def _columns(self) -> list[Column]:
        columns = [Column(self.key), Column(self.created, "floating_timestamp"), Column(self.changing)]
        if self.protocol == "open311":
            columns[1] = Column(self.created, "fixed_timestamp")
            return [*columns, Column("lat", "number"), Column("long", "number")]
        if self.protocol == "outages":
            return [*columns, Column("lat", "number"), Column("lon", "number")]
        place = "the_geom" if self.protocol == "carto" else "place"
        return [*columns, Column(place, "point")]

    def fill(self, rows: int, *, start: int = 0, what: str = "pothole", at: datetime | None = None) -> None:
        """Let the publisher add rows, one an hour apart from the start of 2026 on."""
        self.dataset.insert([self.row(number, what) for number in range(start, start + rows)], at)

    def row(self, number: int, what: str = "pothole") -> dict[str, Any]:
        """Return one row of the data set."""
        created = datetime.fromisoformat("2026-01-01") + timedelta(hours=number % 1400)
        what = "open" if self.protocol == "open311" and what == "pothole" else what
        row = {self.key: f"k{number:07d}", self.created: created, self.changing: what}
        if self.protocol == "open311":
            return row | {"lat": 42.0, "long": -87.5}
        if self.protocol == "outages":
            return row | {"lat": 42.0, "lon": -87.5}
        place = "the_geom" if self.protocol == "carto" else "place"
        return row | {place: (-87.5, 42.0)}

    @property
    def feed(self) -> Feed:
        """The feed as it is declared now."""
        kind = "utility" if self.protocol == "outages" else "service_request"
        time = "started_at" if kind == "utility" else "requested_at"
        said = {
            "kind": kind,
            "portal": self.protocol,
            "request": self.request,
            "sync": self.sync,
            "columns": {"source_id": self.key, time: self._time(), "category": self.changing},
            "parts": [
                {
                    "id": "one",
                    "source": SOURCE[self.protocol].format(base=self.base, id=DATASET[self.protocol]),
                    "format": "json",
                }
            ],
        }
        return declared_feed(**{**said, **self.declared})

    def _time(self) -> Any:
        if self.protocol not in ("arcgis", "outages"):
            return self.created
        at = f'make_timestamp(try_cast("{self.created}" as bigint) * 1000)'
        return {"sql": f"strftime({at}, '%Y-%m-%dT%H:%M:%S') || 'Z'"}

    def city(self) -> City:
        """The town."""
        return declared_town(self.folder, self.feed)

    def land(self, **said: Any) -> list[Delivery]:
        """Land the feed at the store's time."""
        options = {"first_wait_seconds": 0.01, **said.pop("wire_options", {})}
        return landing.land_feed(
            self.lake, self.city(), self.feed, now=self.store.now, wire_options=options, **said
        )

    def later(self, **span: float) -> None:
        """Let time pass."""
        self.store.advance(timedelta(**span))

    def rows(self) -> list[tuple[str, str]]:
        """Return (key, changing column) of every raw row, in the order they landed."""
        return self._ask("raw", "source_id, category", "delivered_at, delivery_id, source_row")

    def absences(self) -> list[tuple[str, int, str]]:
        """Return (key, misses, reason) of every absence."""
        return self._ask("absences", "source_id, misses, reason", "observed_at, source_id")

    def _ask(self, zone: str, select: str, order: str) -> list[tuple]:
        files = f"lake/{zone}/*/city=town/*/*.parquet"
        if not list(self.lake.home.glob(files)):
            return []
        glob = str(self.lake.home / files)
        return duckdb.execute(f"select {select} from read_parquet('{glob}') order by {order}").fetchall()

    def state(self) -> dict[str, str]:
        """Return what the lake holds to be true now: the newest row of every key that is not gone."""
        raw = f"{self.lake.home}/lake/raw/*/city=town/*/*.parquet"
        gone = ""
        if list(self.lake.home.glob("lake/absences/*/city=town/*/*.parquet")):
            gone = f"""
                anti join (
                    select source_id as id, max(delivery_id) as delivery_id
                    from read_parquet('{self.lake.home}/lake/absences/*/city=town/*/*.parquet')
                    group by 1
                ) a on a.id = newest.source_id and a.delivery_id > newest.delivery_id
            """
        if not list(self.lake.home.glob("lake/raw/*/city=town/*/*.parquet")):
            return {}
        return dict(
            duckdb.execute(
                f"""
                select source_id, category from (
                    select * from read_parquet('{raw}')
                    qualify row_number() over (
                        partition by source_id order by delivery_id desc, source_row desc
                    ) = 1
                ) newest {gone}
                """
            ).fetchall()
        )

    def truth(self) -> dict[str, str]:
        """Return what the portal's data set holds, as `state` would say it."""
        return {key: row[self.changing] for key, row in self.dataset.truth().items()}
