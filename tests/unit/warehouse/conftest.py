"""A lake of a few rows, written as landing writes it, and dbt run over it in this process."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assets.ingest.contracts import column_names
from assets.ingest.declared import SCHEMAS
from assets.ingest.lake import Lake
from assets.ingest.landing import ensure_lake
from assets.ingest.receipts import Delivery, write_receipt, write_receipts_table

PROJECT = Path(__file__).parents[3] / "dbt_project"
#: What other models build on lies elsewhere: places and inference have tests of their own.
ELSEWHERE = (
    "source:places+",
    "source:correlations+",
    "path:models/correlation",
    "path:models/intermediate/correlation",
)


def _write(rows: Sequence[dict], schema: pa.Schema, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), schema), path)


@dataclass
class TinyLake:
    """A lake under construction; `build` ends it."""

    home: Path
    declared: dict[str, list[dict]] = field(default_factory=lambda: {name: [] for name in SCHEMAS})

    @property
    def lake(self) -> Lake:
        return Lake(self.home)

    def city(self, city: str, time_zone: str, *, is_simulated: bool = True) -> None:
        self.declared["cities"].append(
            {"city": city, "city_name": city.title(), "time_zone": time_zone, "is_simulated": is_simulated}
            | {"country": "US", "state": "XX", "crs": "EPSG:26916"}
        )

    def feed(self, city: str, feed: str, kind: str, **said: object) -> None:
        texts = ("title", "publisher", "landing_page", "licence", "owner_agency")
        self.declared["feeds"].append(
            {
                "city": city,
                "feed": feed,
                "kind": kind,
                "cadence": "daily",
                "portal": "files",
                "times": "offset",
            }
            | dict.fromkeys(texts, "invented")
            | said
        )

    def category(self, city: str, feed: str, **said: object) -> None:
        self.declared["categories"].append({"city": city, "feed": feed, **said})

    def status(self, city: str, feed: str, source_status: str, status: str) -> None:
        said = {"city": city, "feed": feed, "source_status": source_status, "status": status}
        self.declared["statuses"].append(said)

    def land(
        self,
        city: str,
        feed: str,
        kind: str,
        delivered_at: datetime,
        rows: Sequence[Mapping[str, str | None]],
        *,
        part: str = "all",
        quarantined: Sequence[str] = (),
        rows_in_file: int | None = None,
    ) -> None:
        """Write one delivery: its raw rows, its quarantined rows by reason, and its receipt."""
        ensure_lake(self.lake)
        schemas = [
            pq.read_schema(folder(kind, "_none", "_none") / "empty.parquet")
            for folder in (self.lake.raw, self.lake.quarantine)
        ]
        sha = hashlib.sha256(repr((city, feed, part, delivered_at, rows)).encode()).hexdigest()
        shared = {"part": part, "delivery_sha": sha, "delivered_at": delivered_at}
        raw = []
        for number, row in enumerate(rows, start=1):
            texts = [chr(30) if row.get(name) is None else row[name] for name in column_names(kind)]
            content = hashlib.md5(chr(31).join(texts).encode()).hexdigest()
            raw.append(
                {"location_quality": "missing", "source_row": number, "content_hash": content}
                | shared
                | dict(row)
            )
        bad = [
            shared | {"source_row": len(rows) + number, "reason": reason, "raw_record": "?"}
            for number, reason in enumerate(quarantined, start=1)
        ]
        file = f"{part}-{sha[:12]}.parquet"
        _write(raw, schemas[0], self.lake.raw(kind, city, feed) / file)
        _write(bad, schemas[1], self.lake.quarantine(kind, city, feed) / file)
        receipt = Delivery(
            city=city,
            feed=feed,
            part=part,
            kind=kind,
            fetch_id=f"{delivered_at:%Y%m%dT%H%M%S}-{sha[:8]}",
            outcome="landed",
            action="fetch",
            source="invented",
            attempted_at=delivered_at,
            delivered_at=delivered_at,
            rows_in_file=len(rows) + len(bad) if rows_in_file is None else rows_in_file,
            rows_raw=len(rows),
            rows_quarantined=len(bad),
            sha=sha,
        )
        folder = self.lake.landing(city, feed) / receipt.fetch_id
        folder.mkdir(parents=True, exist_ok=True)
        write_receipt(receipt, folder)

    def write(self) -> None:
        """Write what is declared and what the receipts say."""
        ensure_lake(self.lake)
        for name, rows in self.declared.items():
            _write(rows, SCHEMAS[name], self.lake.derived / "declared" / f"{name}.parquet")
        write_receipts_table(self.lake)


def run_dbt(home: Path, *arguments: str) -> dict[str, str]:
    """Run dbt over a lake, places and inference left out, and return the status of each node by its name.

    Raises:
        RuntimeError: dbt did not get as far as running nodes.
    """
    from dbt.cli.main import dbtRunner

    from assets.warehouse.dbt_build import release_warehouse

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CITYSIGNAL_HOME", str(home))
        environment.setenv("DO_NOT_TRACK", "1")
        for folder in ("warehouse/build", "dbt"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        flags = ["--project-dir", PROJECT, "--profiles-dir", PROJECT]
        flags += ["--target-path", home / "dbt", "--log-path", home / "dbt", "--log-level", "error"]
        try:
            result = dbtRunner().invoke([*arguments, "--exclude", *ELSEWHERE, *map(str, flags)])
        finally:
            release_warehouse()
    if result.result is None:
        raise RuntimeError(f"dbt did not run: {result.exception}")
    return {each.node.name: str(each.status) for each in result.result}


@pytest.fixture(scope="session")
def tiny_lake(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], TinyLake]:
    """Return a maker of empty lakes, each in a folder of its own."""
    return lambda name: TinyLake(tmp_path_factory.mktemp(name))


@pytest.fixture(scope="session")
def dbt() -> Callable[..., dict[str, str]]:
    """Return what runs dbt over a home."""
    return run_dbt


@pytest.fixture(scope="session")
def rows() -> Callable[[Path, str], list[dict]]:
    """Return what reads the rows of a query from a home's warehouse."""

    def read(home: Path, query: str) -> list[dict]:
        with duckdb.connect(Lake(home).build_warehouse, read_only=True) as con:
            return con.execute(query).to_arrow_table().to_pylist()

    return read
