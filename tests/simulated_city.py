"""The simulated city at full scale after a run that had no truth to read; no assertions on what it found."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from assets.simulate.city import simulate

ROOT = Path(__file__).parents[1]
CLOCK = datetime(2026, 1, 2, 6, tzinfo=UTC)


@dataclass(frozen=True)
class City:
    """A finished home, and its truth in a folder that was out of its reach."""

    home: Path
    truth: Path

    def told(self, name: str) -> Any:
        return json.loads((self.truth / f"{name}.json").read_text(encoding="utf-8"))

    def rows(self, sql: str, *, warehouse: str = "published") -> list[dict]:
        path = self.home / "warehouse" / warehouse / "warehouse.duckdb"
        with duckdb.connect(str(path), read_only=True) as con:
            return con.execute(sql).to_arrow_table().to_pylist()


def build(folder: Path) -> None:
    """Simulate a city in a new folder, take its truth away and run everything over it."""
    city = City(folder / "home", folder / "truth")
    simulate(city.home / "simulated")
    shutil.move(city.home / "simulated" / "truth", city.truth)
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("CITYSIGNAL", "DAGSTER"))
    }
    done = subprocess.run(
        [sys.executable, "-m", "orchestration.cli", "run", "--city", "simulated"],
        env={**kept, "CITYSIGNAL_HOME": str(city.home), "CITYSIGNAL_CLOCK": CLOCK.isoformat()},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
