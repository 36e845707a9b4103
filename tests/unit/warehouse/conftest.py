"""A lake of a few rows, written as landing writes it, and dbt run over it in this process."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assets.ingest.contracts import DELIVERY_COLUMNS, KINDS, LOCATION_COLUMNS, column_names
from assets.ingest.declared import SCHEMAS
from assets.ingest.lake import Lake
from assets.ingest.receipts import Delivery, write_receipt, write_receipts_table

PROJECT = Path(__file__).parents[3] / "dbt_project"
#: What other models build on lies elsewhere: places and inference have tests of their own.
ELSEWHERE = (
    "source:places+",
    "source:correlations+",
    "path:models/correlation",
    "path:models/intermediate/correlation",
    "path:models/intermediate/noise",
    "path:models/intermediate/sensitive",
    "path:models/intermediate/outlooks",
    "rebuilt_months",
)
OPERATIONS = ("path:models/operations", "path:models/intermediate/operations+")
_TYPES = {
    "VARCHAR": pa.string(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "TIMESTAMP": pa.timestamp("us"),
}
_QUARANTINE = pa.schema(
    {"part": pa.string(), "source_row": pa.int64(), "reason": pa.string(), "raw_record": pa.string()}
    | {"delivery_sha": pa.string(), "delivered_at": pa.timestamp("us")}
)
_ABSENCES = pa.schema(
    {"part": pa.string(), "source_id": pa.string(), "misses": pa.int32()}
    | {"observed_at": pa.timestamp("us"), "delivery_id": pa.string(), "reason": pa.string()}
)


def _raw_schema(kind: str) -> pa.Schema:
    types = dict.fromkeys(column_names(kind), "VARCHAR") | DELIVERY_COLUMNS | LOCATION_COLUMNS
    return pa.schema({name: _TYPES[type_] for name, type_ in types.items()})


def _write(rows: Sequence[dict], schema: pa.Schema, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), schema), path)


@dataclass
class TinyLake:
    """A lake under construction; `write` ends it."""

    home: Path
    declared: dict[str, list[dict]] = field(default_factory=lambda: {name: [] for name in SCHEMAS})
    attempts: int = 0

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
                "is_verified": True,
                "one_case_in_parts": False,
            }
            | dict.fromkeys(texts, "invented")
            | said
        )

    def part(self, city: str, feed: str, part: str, *, valid_from: date | None = None) -> None:
        """Declare a part after those before; one that lands is declared where it was not."""
        parts = self.declared["parts"]
        mine = [row["part"] for row in parts if (row["city"], row["feed"]) == (city, feed)]
        if part not in mine:
            said = {"city": city, "feed": feed, "part": part, "position": len(mine) + 1}
            parts.append(said | {"valid_from": valid_from})

    def category(self, city: str, feed: str, **said: object) -> None:
        self.declared["categories"].append({"city": city, "feed": feed, "is_private": False, **said})

    def status(self, city: str, feed: str, source_status: str, status: str) -> None:
        said = {"city": city, "feed": feed, "source_status": source_status, "status": status}
        self.declared["statuses"].append(said)

    def exclude(self, city: str, feed: str, since: date | None, until: date | None) -> None:
        said = {"city": city, "feed": feed, "since": since, "until": until, "reason": "invented"}
        self.declared["exclusions"].append(said)

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
        rows_unchanged: int = 0,
        absent: Mapping[str, int] | None = None,
        ended: Sequence[str] = (),
        receipt: Mapping[str, object] | None = None,
    ) -> None:
        """Write one delivery: raw rows, quarantined rows by reason, absences by misses, and its receipt."""
        sha = hashlib.sha256(repr((city, feed, part, delivered_at, rows)).encode()).hexdigest()
        self.attempts += 1
        delivery_id = f"{self.attempts:012x}"
        shared = {"part": part, "delivery_sha": sha, "delivered_at": delivered_at}
        raw = []
        for number, row in enumerate(rows, start=1):
            texts = [chr(30) if row.get(name) is None else row[name] for name in column_names(kind)]
            content = hashlib.md5(chr(31).join(texts).encode()).hexdigest()
            raw.append(
                {"location_quality": "missing", "source_row": number, "content_hash": content}
                | {"delivery_id": delivery_id}
                | shared
                | dict(row)
            )
        bad = [
            shared | {"source_row": len(rows) + number, "reason": reason, "raw_record": "?"}
            for number, reason in enumerate(quarantined, start=1)
        ]
        gone = [(source_id, misses, "missing") for source_id, misses in (absent or {}).items()]
        gone += [(source_id, 2, "ended") for source_id in ended]
        absences = [
            {"part": part, "source_id": source_id, "misses": misses, "reason": reason}
            | {"observed_at": delivered_at, "delivery_id": delivery_id}
            for source_id, misses, reason in gone
        ]
        file = f"{part}-{delivery_id}.parquet"
        _write(raw, _raw_schema(kind), self.lake.raw(kind, city, feed) / file)
        _write(bad, _QUARANTINE, self.lake.quarantine(kind, city, feed) / file)
        _write(absences, _ABSENCES, self.lake.absences(kind, city, feed) / file)
        told = len(rows) + len(bad) + rows_unchanged
        said = {
            "outcome": "landed",
            "rows_in_file": told if rows_in_file is None else rows_in_file,
            "rows_raw": len(rows),
            "rows_quarantined": len(bad),
            "rows_unchanged": rows_unchanged,
            "delivered_at": delivered_at,
            "delivery_id": delivery_id,
            "sha": sha,
        }
        self.attempt(city, feed, kind, delivered_at, part=part, **(said | dict(receipt or {})))

    def attempt(
        self, city: str, feed: str, kind: str, attempted_at: datetime, *, part: str = "all", **said: object
    ) -> None:
        """Write the receipt of one attempt."""
        self.attempts += 1
        self.part(city, feed, part)
        known = {"action": "fetch", "source": "invented", "attempted_at": attempted_at}
        receipt = Delivery(
            city=city,
            feed=feed,
            part=part,
            kind=kind,
            fetch_id=f"{attempted_at:%Y%m%dT%H%M%S}-{self.attempts:08x}",
            **(known | said),
        )
        folder = self.lake.landing(city, feed) / receipt.fetch_id
        folder.mkdir(parents=True, exist_ok=True)
        write_receipt(receipt, folder)

    def write(self) -> None:
        """Write what is declared, what the receipts say, and an empty file wherever dbt reads."""
        for kind in KINDS:
            schemas = {"raw": _raw_schema(kind), "quarantine": _QUARANTINE, "absences": _ABSENCES}
            for name, schema in schemas.items():
                _write([], schema, getattr(self.lake, name)(kind, "_none", "_none") / "empty.parquet")
        for name, rows in self.declared.items():
            _write(rows, SCHEMAS[name], self.lake.derived / "declared" / f"{name}.parquet")
        write_receipts_table(self.lake)


@lru_cache(maxsize=1)
def _workplace() -> tempfile.TemporaryDirectory:
    """Return this process's folder for the one name of all homes and for what dbt read the project to be."""
    return tempfile.TemporaryDirectory(prefix="dbt-of-all-homes-")


@contextmanager
def dbt_at(home: Path) -> Iterator[None]:
    """Let dbt in this process work over a home, with `home / "dbt"` as its target.

    dbt reads the whole project anew (5 s) where the home has another name than before, so each home has the
    same name while dbt is at work, that of a link to it, and begins with what dbt read for the first one.
    """
    from assets.warehouse.dbt_build import release_warehouse

    name = Path(_workplace().name, "home")
    parsed, kept = home / "dbt" / "partial_parse.msgpack", name.with_name("partial_parse.msgpack")
    for folder in ("warehouse/build", "dbt"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    name.unlink(missing_ok=True)
    name.symlink_to(home)
    if kept.exists() and not parsed.exists():
        shutil.copy(kept, parsed)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CITYSIGNAL_HOME", str(name))
        environment.setenv("DO_NOT_TRACK", "1")
        try:
            yield
        finally:
            release_warehouse()
    if parsed.exists() and not kept.exists():
        shutil.copy(parsed, kept)


def run_dbt(home: Path, *arguments: str, without: Sequence[str] = ()) -> dict[str, str]:
    """Run dbt over a lake, places and inference left out, and return the status of each node by its name.

    Rules against cases made by hand (dbt's unit tests) run in test_rules.py, once for all.

    Raises:
        RuntimeError: dbt did not get as far as running nodes.
    """
    from dbt.cli.main import dbtRunner

    flags = ["--project-dir", PROJECT, "--profiles-dir", PROJECT]
    flags += ["--target-path", home / "dbt", "--log-path", home / "dbt"]
    # Over so few rows a second thread only contends for the interpreter, for a tenth of the CPU.
    flags += ["--threads", "1", "--log-level", "error", "--log-level-file", "info"]
    if arguments[0] == "build":
        flags += ["--exclude-resource-type", "unit_test"]
    if arguments[0] != "run-operation":
        flags += ["--exclude", *ELSEWHERE, *without]
    with dbt_at(home):
        result = dbtRunner().invoke([*arguments, *map(str, flags)])
    if result.exception or result.result is None:
        raise RuntimeError(f"dbt did not run: {result.exception}")
    if arguments[0] == "run-operation":
        return {each.unique_id: str(each.status) for each in result.result}
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
def built(dbt: Callable[..., dict[str, str]]) -> Callable[[TinyLake], Path]:
    """Return what builds a written lake, demands that all went through, and gives its home.

    With `until_core` it leaves out the operations marts, which take half of the time.
    """

    def build(lake: TinyLake, *, until_core: bool = False) -> Path:
        statuses = dbt(lake.home, "build", without=OPERATIONS if until_core else ())
        failed = {name: said for name, said in statuses.items() if said not in ("success", "pass", "no-op")}
        assert failed == {}
        return lake.home

    return build


@pytest.fixture(scope="session")
def rows() -> Callable[[Path, str], list[dict]]:
    """Return what reads the rows of a query from a home's warehouse."""

    def read(home: Path, query: str) -> list[dict]:
        with duckdb.connect(Lake(home).build_warehouse, read_only=True) as con:
            return con.execute(query).to_arrow_table().to_pylist()

    return read
