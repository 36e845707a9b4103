"""README's "Add a city", done word for word: its files, its commands, its table of columns."""

import gzip
import re
from datetime import UTC, datetime, timedelta

import pytest

from assets.ingest.contracts import EVENT_TIME, KINDS, column_names
from assets.simulate.serving.server import serve
from assets.simulate.serving.store import Column, Dataset, Store
from tests.deployment import ROOT, Deployment

SECTION = re.search(
    r"^## Add a city\n(.*?)^## ", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
)[1]
PORTAL_SECTION = re.search(
    r"^## Feeds over the wire\n(.*?)^## ",
    (ROOT / "README.md").read_text(encoding="utf-8"),
    re.DOTALL | re.MULTILINE,
)[1]
PORTAL_FILES = dict(
    re.findall(
        r"`my-cities/(\S+)` [^`]*?(?:`[^`]*`[^`]*)*?:\n\n```(?:yaml|csv)\n(.*?)```", PORTAL_SECTION, re.DOTALL
    )
)
FILES = dict(re.findall(r"`my-cities/(\S+\.yaml)` [^`]*:\n\n```yaml\n(.*?)```", SECTION, re.DOTALL))
COMMANDS = re.findall(r"^\.venv/bin/citysignal (.*)$", SECTION, re.MULTILINE)
HEADER = ["Case Number", "Opened", "Closed", "Status", "Street Address", "Longitude", "Latitude"]
ROWS = 120


def potholes(year: int) -> bytes:
    """Return a year's file; from 2025 on the column of closings has another name and plain dates."""
    lines = [",".join(HEADER if year < 2025 else [n.replace("Closed", "Date Completed") for n in HEADER])]
    for index in range(ROWS):
        opened = datetime(year, 1, 1, 9, tzinfo=UTC) + timedelta(hours=60 * index)
        closed = f"{opened + timedelta(days=3):%m/%d/%Y}" if year < 2025 else f"{opened:%Y-%m-%d}"
        place = f"{-97.7 + index * 0.0005:.4f},{32.95 + index * 0.0004:.4f}"
        status = ("Open", "Closed", "Duplicate")[index % 3]
        when = closed if status != "Open" else ""
        lines.append(f"{year}-{index},{opened:%Y-%m-%d %H:%M:%S},{when},{status},{index} Elm St,{place}")
    return gzip.compress("\n".join(lines).encode())


@pytest.mark.slow
def test_the_city_of_the_readme_checks_and_runs(tmp_path):
    town = Deployment(tmp_path)
    for name, text in FILES.items():
        path = town.cities / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    data = town.cities / "springtown" / "data"
    data.mkdir()
    for year in (2024, 2025):
        (data / f"potholes_{year}.csv.gz").write_bytes(potholes(year))
    assert [command.split()[0] for command in COMMANDS] == ["check", "run"]
    for command in COMMANDS:
        result = town.invoke(*command.split())
        assert result.exit_code == 0, result.output
    assert town.rows("select count(*), count(x_m) from core.fct_events") == [(2 * ROWS, 2 * ROWS)]
    assert town.rows("select count(closed_at) from core.fct_service_requests") == [(2 * ROWS * 2 // 3,)]
    assert town.rows("select distinct event_type from core.fct_events") == [("pothole",)]


@pytest.mark.slow
def test_a_ninth_city_from_its_portal_page_is_one_folder(tmp_path):
    town = Deployment(tmp_path)
    for name, text in PORTAL_FILES.items():
        path = town.cities / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert sorted(PORTAL_FILES) == [
        "seattle/_city.yaml",
        "seattle/building_permits.categories.csv",
        "seattle/building_permits.yaml",
    ]
    assert town.invoke("check").exit_code == 0
    store = Store()
    store.add(seattle_permits())
    with serve(store) as base:
        # The portal's page by another host; nothing else is changed.
        path = town.cities / "seattle" / "building_permits.yaml"
        page = "https://data.seattle.gov/Permitting/Building-Permits/76t5-zqzr"
        assert f"source: {page}\n" in PORTAL_FILES["seattle/building_permits.yaml"]
        path.write_text(path.read_text().replace(f"source: {page}", f"source: {base}/socrata/d/76t5-zqzr"))
        result = town.invoke("run", "--city", "seattle")
    assert result.exit_code == 0, result.output
    told = "select count(*), count(x_m), count(distinct event_type) from core.fct_events"
    assert town.rows(told) == [(ROWS, ROWS, 4)]
    assert town.rows("select sum(estimated_cost_usd) from core.fct_permits") == [(ROWS * 1000.0,)]


def seattle_permits() -> Dataset:
    """Return permits as the portal has them, by its columns."""
    names = re.findall(r"^  \w+: (\w+)$", PORTAL_FILES["seattle/building_permits.yaml"], re.MULTILINE)
    dates = ("applieddate", "issueddate", "expiresdate")
    columns = [Column(name, "floating_timestamp" if name in dates else "text") for name in names]
    dataset = Dataset("socrata", "76t5-zqzr", "Building permits", columns, "permitnum", "applieddate")
    first = datetime(2025, 11, 1, 9, tzinfo=UTC).replace(tzinfo=None)
    dataset.insert(
        [
            {
                "permitnum": f"67{index:05d}-CN",
                "permittypemapped": ("Building", "Demolition", "Roof", "Grading")[index % 4],
                "statuscurrent": ("Issued", "Completed")[index % 2],
                "applieddate": first + timedelta(hours=index),
                "issueddate": first + timedelta(days=9, hours=index),
                "estprojectcost": "1000",
                "originaladdress1": f"{index} PINE ST",
                "originalzip": "98101",
                "longitude": f"{-122.33 + index * 0.0003:.4f}",
                "latitude": "47.61",
            }
            for index in range(ROWS)
        ]
    )
    return dataset


def test_the_table_of_columns_is_the_contract():
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", SECTION, re.MULTILINE)
    told = {kind: (re.findall(r"`(\w+)`", must), re.findall(r"`(\w+)`", may)) for kind, must, may in rows}
    assert set(told) == set(KINDS)
    for kind, (must, may) in told.items():
        times = [name for name in EVENT_TIME.get(kind, ()) if name in must]
        assert must == ["source_id", *times], kind
        assert sorted([*must, *may]) == sorted(column_names(kind)), kind
