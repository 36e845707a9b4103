"""A home and a folder of cities of their own, and the ways a test looks into them; no assertions here."""

import csv
import hashlib
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
from click.testing import Result
from typer.testing import CliRunner

ROOT = Path(__file__).parents[1]
FIRST_RUN = datetime(2026, 1, 2, 6, tzinfo=UTC)


@dataclass(frozen=True)
class Deployment:
    """A home of its own with the cities that a test declares."""

    folder: Path
    minutes: Iterator[int] = field(default_factory=itertools.count)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def cities(self) -> Path:
        return self.folder / "cities"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the next command; each finds the clock a minute later."""
        return {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("CITYSIGNAL", "DAGSTER"))
            },
            "CITYSIGNAL_HOME": str(self.home),
            "CITYSIGNAL_CITIES": str(self.cities),
            "CITYSIGNAL_CLOCK": (FIRST_RUN + timedelta(minutes=next(self.minutes))).isoformat(),
            "COLUMNS": "220",
            "NO_PROXY": "127.0.0.1",
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command in a process of its own, with pipes for what it prints."""
        return subprocess.Popen(
            [sys.executable, "-m", "orchestration.cli", *arguments],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def citysignal(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a process of its own."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=300)
        except BaseException:
            process.kill()
            raise
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def invoke(self, *arguments: str) -> Result:
        """Run a command in this process, which saves the imports; variables and handlers are put back."""
        from orchestration.cli import app

        before, handlers = dict(os.environ), {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
        os.environ.clear()
        os.environ.update(self.environment)
        try:
            return CliRunner().invoke(app, list(arguments))
        finally:
            os.environ.clear()
            os.environ.update(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def rows(self, sql: str) -> list[tuple]:
        path = self.home / "warehouse" / "published" / "warehouse.duckdb"
        with duckdb.connect(str(path), read_only=True) as con:
            return con.execute(sql).fetchall()

    def published(self) -> dict[str, tuple[int, int] | str]:
        """Return what people see: rows and an order-free hash of each core table, a hash of each extract."""
        found: dict[str, tuple[int, int] | str] = {
            table: self.rows(f"select count(*), coalesce(bit_xor(hash(t)), 0) from core.{table} as t")[0]
            for (table,) in self.rows(
                "select table_name from information_schema.tables where table_schema = 'core'"
            )
        }
        for path in sorted((self.home / "open_data" / "releases" / "latest").glob("*/*.csv")):
            found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    def write_csv(self, name: str, rows: list[dict[str, str]]) -> None:
        with (self.folder / "files" / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
