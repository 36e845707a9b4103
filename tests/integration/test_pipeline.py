"""The whole path on a city that this test declares outside the repository: files in, extracts out."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from tests.deployment import Deployment

pytestmark = pytest.mark.slow

REQUESTS = 240
CRIMES = 60
KEYLESS = 2
BROKEN = 1

FILES = {
    "_city.yaml": """\
name: Tinyville
country: US
state: Illinois
time_zone: America/Chicago
crs: EPSG:26916
bbox: [-88.0, 41.5, -87.0, 42.5]
""",
    "requests.yaml": """\
title: Requests to the clerk
kind: service_request
publisher: Tinyville Clerk
landing_page: https://example.org/requests
licence: CC0-1.0
owner_agency: Streets & Sanitation
cadence: daily
portal: files
parts:
  - {id: all, source: ../../files/requests.csv}
columns:
  source_id: number
  requested_at: created
  closed_at: closed
  status: status
  category: type
  x: lon
  y: lat
statuses: {Open: open, Completed: closed}
expect: {max_quarantine_share: 0.05, max_key_null_share: 0.05}
""",
    "requests.categories.csv": """\
category,subcategory,code,event_type,event_subtype,target_days
Pothole in Street,,,pothole,,7
Rodent Baiting,,,rodent,,5
""",
    "crimes.yaml": """\
title: Reported crimes
kind: crime
publisher: Tinyville Police
landing_page: https://example.org/crimes
licence: CC0-1.0
owner_agency: Police
cadence: daily
portal: files
parts:
  - {id: all, source: ../../files/crimes.csv}
columns:
  source_id: case
  occurred_at: date
  category: offence
  x: lon
  y: lat
event_type: theft
""",
    "wards.yaml": """\
title: Wards
kind: boundary
publisher: Tinyville Clerk
landing_page: https://example.org/wards
licence: CC0-1.0
owner_agency: Clerk
cadence: once
portal: files
area_type: ward
parts:
  - {id: all, source: ../../files/wards.geojson}
columns:
  source_id: ward
  name: ward
""",
}


class Tinyville(Deployment):
    """A home with one declared city."""

    def write_requests(self, count: int = REQUESTS) -> None:
        start = datetime(2025, 3, 1, 8, tzinfo=UTC)
        rows = [
            {
                "number": f"R{index:04d}",
                "created": f"{start + timedelta(hours=27 * index):%Y-%m-%dT%H:%M:%S}",
                "closed": f"{start + timedelta(hours=27 * index + 50):%Y-%m-%dT%H:%M:%S}"
                if index % 3
                else "",
                "status": "Completed" if index % 3 else "Open",
                "type": ("Pothole in Street", "Rodent Baiting")[index % 2],
                "lon": f"{-87.65 + (index % 17) * 0.004:.6f}",
                "lat": f"{41.85 + (index % 13) * 0.004:.6f}",
            }
            for index in range(count)
        ]
        # Rows without a key are set aside by staging, a line that is no record by ingest; neither is dropped.
        rows += [{**rows[0], "number": ""} for _ in range(KEYLESS)]
        self.write_csv("requests.csv", rows)
        with (self.folder / "files" / "requests.csv").open("a", encoding="utf-8") as file:
            file.write("R9999,2025-01-01T00:00:00\r\n" * BROKEN)

    def write_crimes(self) -> None:
        start = datetime(2025, 3, 2, 20, tzinfo=UTC)
        self.write_csv(
            "crimes.csv",
            [
                {
                    "case": f"C{index:04d}",
                    "date": f"{start + timedelta(hours=100 * index):%Y-%m-%dT%H:%M:%S}",
                    "offence": "THEFT",
                    "lon": f"{-87.65 + (index % 7) * 0.009:.6f}",
                    "lat": f"{41.85 + (index % 5) * 0.009:.6f}",
                }
                for index in range(CRIMES)
            ],
        )

    def write_wards(self) -> None:
        def ward(name: str, west: float, east: float) -> dict:
            ring = [[west, 41.8], [east, 41.8], [east, 41.95], [west, 41.95], [west, 41.8]]
            return {
                "type": "Feature",
                "properties": {"ward": name},
                "geometry": {"type": "Polygon", "coordinates": [ring]},
            }

        wards = [ward("1", -87.7, -87.62), ward("2", -87.62, -87.5)]
        text = json.dumps({"type": "FeatureCollection", "features": wards})
        (self.folder / "files" / "wards.geojson").write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tinyville:
    """The city after its first run, which must go through; that one alone is a process of its own."""
    deployment = Tinyville(tmp_path_factory.mktemp("tiny"))
    city = deployment.folder / "cities" / "tinyville"
    city.mkdir(parents=True)
    (deployment.folder / "files").mkdir()
    for name, text in FILES.items():
        (city / name).write_text(text, encoding="utf-8")
    deployment.write_requests()
    deployment.write_crimes()
    deployment.write_wards()
    first = deployment.citysignal("run", "--city", "tinyville")
    assert first.returncode == 0, first.stdout + first.stderr
    (deployment.folder / "first.txt").write_text(first.stdout, encoding="utf-8")
    return deployment


def test_summary_reconciles_file_raw_quarantine_and_events(tiny):
    lines = (tiny.folder / "first.txt").read_text().splitlines()
    row = next(line for line in lines if "tinyville/requests" in line and "│" in line)
    cells = [cell.strip() for cell in row.split("│")[1:-1]]
    counts = [int(cell) for cell in cells[2:9]]
    unchanged = 0
    assert counts == [
        REQUESTS + KEYLESS + BROKEN, REQUESTS + KEYLESS, unchanged, BROKEN, KEYLESS, REQUESTS, REQUESTS
    ]  # fmt: skip
    assert cells[9] == f"missing_columns {BROKEN}, no_key {KEYLESS}"


def test_every_event_is_in_the_warehouse_with_its_ward(tiny):
    assert tiny.rows(
        "select feed, count(*) from core.fct_events where city = 'tinyville' group by 1 order by 1"
    ) == [
        ("crimes", CRIMES),
        ("requests", REQUESTS),
    ]
    placed = tiny.rows(
        "select count(distinct event_key) from core.bridge_event_area where area_type = 'ward'"
    )
    assert placed == [(REQUESTS + CRIMES,)]


def test_extracts_and_warehouse_are_one_generation(tiny):
    [(generation,)] = tiny.rows("select generation from quality.generation")
    assert (tiny.home / "open_data" / "releases" / "latest").resolve().name == generation
    assert generation.startswith("20260102T06")


def test_run_is_in_the_history_that_the_ui_shows(tiny, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tiny.home / "dagster"))
    with dg.DagsterInstance.get() as instance:
        runs = instance.get_run_records()
        assert [record.dagster_run.status for record in runs][-1] == dg.DagsterRunStatus.SUCCESS
        first = runs[-1].dagster_run
        assert first.job_name == "city_pipeline"
        assert first.remote_job_origin.location_name == "citysignal"
        event = instance.get_latest_materialization_event(dg.AssetKey(["raw", "tinyville", "requests"]))
        metadata = event.asset_materialization.metadata
        assert metadata["new_or_changed"].value == REQUESTS + KEYLESS
        # Rows without a key are told apart by what they say, and these say the same.
        assert metadata["dagster/row_count"].value == REQUESTS + 1
        assert metadata["quarantined"].value == BROKEN
        fact = instance.get_latest_materialization_event(dg.AssetKey(["core", "fct_events"]))
        assert fact.asset_materialization.metadata["dagster/row_count"].value == REQUESTS + CRIMES


def test_dbt_tests_are_kept_beside_the_checks_of_deliveries(tiny):
    tools = dict(tiny.rows("select tool, count(*) from quality.check_results where is_passed group by 1"))
    assert tools["dbt"] > 20
    assert tools["great_expectations"] >= 3


def test_second_run_changes_nothing_but_the_generation(tiny):
    before = tiny.rows("select bit_xor(hash(e)) from core.fct_events as e")
    again = tiny.invoke("run", "--city", "tinyville")
    assert again.exit_code == 0, again.stdout + again.stderr
    assert tiny.rows("select bit_xor(hash(e)) from core.fct_events as e") == before
    outcomes = {
        path.parent.name: json.loads(path.read_text())["outcome"] for path in receipts(tiny, "requests")
    }
    assert sorted(outcomes.values()) == ["landed", "unchanged"]


def receipts(deployment: Deployment, feed: str) -> list[Path]:
    return sorted((deployment.home / "lake" / "landing" / "tinyville" / feed).glob("*/receipt.json"))


def test_blocked_delivery_is_named_and_the_last_good_rows_stay(tiny):
    tiny.write_requests(count=20)
    refused = tiny.invoke("run")
    assert refused.exit_code == 1
    assert "raw/tinyville/requests delivery" in refused.stdout
    assert "Traceback" not in refused.stdout + refused.stderr
    assert tiny.rows("select count(*) from core.fct_events where feed = 'requests'") == [(REQUESTS,)]
    [(generation,)] = tiny.rows("select generation from quality.generation")
    assert (tiny.home / "open_data" / "releases" / "latest").resolve().name == generation
    status = tiny.invoke("status", "--city", "tinyville")
    line = next(line for line in status.stdout.splitlines() if "tinyville/requests" in line)
    assert line.split("│")[2].strip() == "blocked"

    tiny.write_requests()
    assert tiny.invoke("run").exit_code == 0


def test_build_of_another_run_is_not_published_under_this_ones_name(tiny):
    [(before,)] = tiny.rows("select generation from quality.generation")
    result = tiny.invoke("run", "--select", "key:publish/bi_snapshot")
    assert result.exit_code == 1
    assert "publish/bi_snapshot failed" in result.stdout
    assert tiny.rows("select generation from quality.generation") == [(before,)]


def test_replay_gives_the_same_raw_rows_without_the_portal(tiny):
    raw = tiny.home / "lake" / "raw" / "service_request" / "city=tinyville" / "feed=requests"
    fingerprint = f"select count(*), bit_xor(hash(r)) from read_parquet('{raw}/*.parquet') as r"
    before = duckdb.sql(fingerprint).fetchall()
    assert before[0][0] == REQUESTS + KEYLESS
    for path in raw.iterdir():
        path.unlink()
    (tiny.folder / "files" / "requests.csv").rename(tiny.folder / "files" / "gone.csv")
    try:
        replayed = tiny.invoke("replay", "tinyville", "requests", "--quarantine")
    finally:
        (tiny.folder / "files" / "gone.csv").rename(tiny.folder / "files" / "requests.csv")
    assert replayed.exit_code == 0, replayed.stdout + replayed.stderr
    assert duckdb.sql(fingerprint).fetchall() == before
    assert f"{REQUESTS + KEYLESS:,}" in replayed.stdout


def test_source_that_is_gone_is_a_line_not_a_traceback(tiny):
    (tiny.folder / "files" / "crimes.csv").rename(tiny.folder / "files" / "hidden.csv")
    try:
        result = tiny.invoke("run")
    finally:
        (tiny.folder / "files" / "hidden.csv").rename(tiny.folder / "files" / "crimes.csv")
    assert result.exit_code == 1
    assert "raw/tinyville/crimes delivery" in result.stdout
    assert "crimes.csv" in result.stdout
    assert tiny.rows("select count(*) from core.fct_events where feed = 'crimes'") == [(CRIMES,)]
