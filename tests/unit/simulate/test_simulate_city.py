"""The city as a whole: same bytes from the same seed, whole or not at all, free of the product."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from assets.simulate.city import MARKER, SimulationError, simulate

SMALL = 0.05


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_same_seed_gives_same_bytes_in_another_process(small_city, tmp_path):
    code = f"import pathlib, assets.simulate.city as c; c.simulate(pathlib.Path('city'), scale={SMALL})"
    environment = {"PYTHONHASHSEED": "7", "PYTHONPATH": str(Path.cwd()), "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert digests(tmp_path / "city") == digests(small_city.folder)


def test_another_seed_gives_other_bytes_in_every_file_of_events(small_city, tmp_path):
    other = simulate(tmp_path / "city", seed=312, scale=SMALL)
    mine, theirs = digests(small_city.folder), digests(other.folder)
    assert mine.keys() == theirs.keys()
    same = {name for name in mine if mine[name] == theirs[name]}
    # What is planted, and the grid of crossings, is not a matter of chance.
    assert same <= {"truth/effects.json"}


def test_a_whole_city_is_left_alone_and_a_damaged_one_is_built_anew(tmp_path):
    folder = tmp_path / "city"
    first = simulate(folder, scale=SMALL)
    before = digests(folder)
    touched = (folder / MARKER).stat().st_mtime_ns
    again = simulate(folder, scale=SMALL)
    assert first.is_fresh
    assert not again.is_fresh
    assert (again.rows, again.events) == (first.rows, first.events)
    assert (folder / MARKER).stat().st_mtime_ns == touched

    damaged = folder / "portal" / "crimes.csv.gz"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    assert simulate(folder, scale=SMALL).is_fresh
    assert digests(folder) == before


def test_an_interrupted_build_leaves_the_old_city_and_the_next_call_finishes(tmp_path):
    folder = tmp_path / "city"
    simulate(folder, scale=SMALL)
    before = digests(folder)

    def stop(stage: str, share: float) -> None:
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(folder, seed=5, scale=SMALL, progress=stop)
    assert digests(folder) == before
    assert (tmp_path / ".city.partial").exists()
    assert simulate(folder, seed=5, scale=SMALL).is_fresh
    assert not (tmp_path / ".city.partial").exists()
    assert json.loads((folder / MARKER).read_text())["seed"] == 5


def test_progress_rises_to_one(tmp_path):
    heard: list[tuple[str, float]] = []
    simulate(tmp_path / "city", scale=SMALL, progress=lambda stage, share: heard.append((stage, share)))
    shares = [share for _, share in heard]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_a_folder_with_other_things_is_refused_and_kept(tmp_path):
    (tmp_path / "thesis.txt").write_text("do not lose me")
    with pytest.raises(SimulationError, match=r"thesis\.txt"):
        simulate(tmp_path, scale=SMALL)
    assert (tmp_path / "thesis.txt").read_text() == "do not lose me"


@pytest.mark.parametrize("scale", [0.0, -1.0, 0.01, float("nan")])
def test_a_scale_too_small_for_its_dirt_is_refused(tmp_path, scale):
    with pytest.raises(SimulationError, match="too small"):
        simulate(tmp_path / "city", scale=scale)
    assert not (tmp_path / "city").exists()


def test_the_simulator_loads_no_product_code():
    code = "import sys, assets.simulate.city; print(*sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert "assets.simulate.process" in said
    product = [name for name in said if name.startswith(("assets.", "orchestration"))]
    assert [name for name in product if not name.startswith("assets.simulate")] == []
