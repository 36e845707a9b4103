"""What every process of the suite shares: how it collects garbage, and a dbt project that is read once."""

import gc
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

# dbt, Dagster and Great Expectations make a million objects that stay; looking through them for garbage as
# often as Python does took an eighth of the CPU of a test that builds a warehouse.
gc.set_threshold(5_000, 10, 50)


@pytest.fixture(scope="session")
def parsed_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home for which the dbt project was parsed, once however many workers ask for it."""
    from orchestration.dbt_manifest import ensure_manifest
    from orchestration.settings import load_settings

    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "parsed_home"
    with FileLock(home.with_suffix(".lock")), pytest.MonkeyPatch.context() as environment:
        environment.setenv("CITYSIGNAL_HOME", str(home))  # dbt's too; taken back here
        ensure_manifest(load_settings({"CITYSIGNAL_HOME": str(home)}))
    return home


@pytest.fixture
def lend_project(parsed_home: Path) -> Callable[[Path], None]:
    """Return what gives another home the parsed project, so that it need not be parsed for it too."""

    def lend(home: Path) -> None:
        folder = home / "dbt" / "parsed"
        folder.mkdir(parents=True)
        for name in ("manifest.json", "stamp.json"):
            text = (parsed_home / "dbt" / "parsed" / name).read_text(encoding="utf-8")
            (folder / name).write_text(text.replace(str(parsed_home), str(home)), encoding="utf-8")

    return lend
