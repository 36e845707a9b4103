"""A clean checkout has no simulated files yet; that is no mistake, but any other absent file is one."""

from pathlib import Path

import pytest

from assets.ingest.check import check_cities

CITY = """name: Springtown
country: US
state: TX
time_zone: America/Chicago
crs: EPSG:32614
bbox: [-97.75, 32.92, -97.60, 33.03]
is_simulated: {simulated}
"""
FEED = """title: Potholes
kind: service_request
publisher: City of Springtown
landing_page: https://example.org
licence: CC0-1.0
owner_agency: transportation
cadence: daily
portal: files
parts: [{id: all, source: absent.csv}]
columns: {source_id: Number, requested_at: Opened}
event_type: pothole
"""


@pytest.mark.parametrize(("simulated", "problems"), [("true", 0), ("false", 1)])
def test_only_a_simulated_city_may_lack_its_files(tmp_path: Path, simulated: str, problems: int):
    folder = tmp_path / "springtown"
    folder.mkdir()
    (folder / "_city.yaml").write_text(CITY.format(simulated=simulated), encoding="utf-8")
    (folder / "potholes.yaml").write_text(FEED, encoding="utf-8")
    found = check_cities([tmp_path], {})
    assert len(found) == problems
    assert all("absent.csv" in str(problem) for problem in found)
