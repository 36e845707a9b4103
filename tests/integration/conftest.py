"""What whole-path tests share because it takes minutes to build."""

import os
import shutil

import pytest
from filelock import FileLock

from tests.simulated_city import City, build


@pytest.fixture(scope="session")
def city(tmp_path_factory: pytest.TempPathFactory) -> City:
    """The simulated city after a run without its truth, built once however many workers ask for it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "simulated_truth"
    finished = folder / "finished"
    with FileLock(folder.with_suffix(".lock")):
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            build(folder)
            finished.touch()
    return City(folder / "home", folder / "truth")
