"""Runs the pipeline once on the real municipal files; what they must give is asserted in the test modules."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

ROOT = Path(__file__).parents[2]
REAL_CITIES = ROOT / "tests" / "real" / "cities"
REAL_DATA = Path(os.environ.get("CITYSIGNAL_REAL_DATA", ROOT.parent / "shared" / "data")).resolve()


@dataclass(frozen=True)
class Deployment:
    """A home with a finished run."""

    home: Path
    city: str
    output: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "CITYSIGNAL_HOME": str(self.home),
            "CITYSIGNAL_CITIES": str(REAL_CITIES),
            "CITYSIGNAL_REAL_DATA": str(REAL_DATA),
            "COLUMNS": "200",
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "orchestration.cli", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=800,
            check=False,
        )

    def rows(self, sql: str) -> list[tuple]:
        with duckdb.connect(
            str(self.home / "warehouse" / "published" / "warehouse.duckdb"), read_only=True
        ) as con:
            return con.execute(sql).fetchall()


def require_real_data() -> None:
    """Skip where the files are absent, unless `make test-real` demands them."""
    if REAL_DATA.is_dir():
        return
    message = f"no municipal files at {REAL_DATA}; set CITYSIGNAL_REAL_DATA"
    if os.environ.get("CITYSIGNAL_REQUIRE_REAL"):
        pytest.fail(message)
    pytest.skip(message)


def deploy(home: Path, city: str) -> Deployment:
    require_real_data()
    deployment = Deployment(home, city, "")
    finished = deployment.run("run", "--city", city)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return Deployment(home, city, finished.stdout)


@pytest.fixture(scope="session")
def chicago(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return deploy(tmp_path_factory.mktemp("chicago"), "chicago")


@pytest.fixture(scope="session")
def syracuse(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return deploy(tmp_path_factory.mktemp("syracuse"), "syracuse")


@pytest.fixture(scope="session")
def san_francisco(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return deploy(tmp_path_factory.mktemp("san_francisco"), "san_francisco_outages")


@pytest.fixture(scope="session")
def real_data() -> Path:
    require_real_data()
    return REAL_DATA
