import csv
import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime

import duckdb
import pytest
from frictionless import Package, system

from assets.publish import extract as extract_module
from assets.publish.dictionary import DictionaryError
from assets.publish.extract import ReleaseError, publish_release, read_release
from assets.publish.privacy import PersonalDataError
from assets.publish.snapshot import publish_snapshot
from assets.warehouse.reader import WarehouseError

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PUBLISHED = [
    "event_key",
    "source_id",
    "city",
    "notes",
    "is_open",
    "days",
    "share",
    "opened_on",
    "requested_at",
    "requested_local",
]


def release(workshop, generation="g1", **options):
    return publish_release(workshop.lake, workshop.write_manifest(), generation, now=NOW, **options)


def validate(folder):
    with system.use_context(trusted=True):
        report = Package(str(folder / "datapackage.json")).validate()
    return sorted({row[0] for row in report.flatten(["type"])})


def rows_of(folder):
    with (folder / "requests.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_release_is_valid_complete_and_latest(workshop):
    workshop.build("g1")
    lines = []
    summary = release(workshop, progress=lines.append)
    folder = workshop.lake.releases / "g1" / "requests"
    assert {path.name for path in folder.iterdir()} == {
        "requests.csv",
        "requests.parquet",
        "datapackage.json",
        "README.md",
        "SHA256SUMS",
    }
    assert validate(folder) == []
    subprocess.run(
        ["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=folder, check=True, stdout=subprocess.DEVNULL
    )
    assert len((folder / "SHA256SUMS").read_text().splitlines()) == 4
    assert lines == ["requests: 50 rows"]
    (dataset,) = summary.datasets
    assert (dataset.dataset, dataset.rows, dataset.is_simulated) == ("requests", 50, False)
    assert dataset.bytes == sum((folder / f"requests.{kind}").stat().st_size for kind in ("csv", "parquet"))
    latest = workshop.lake.releases / "latest"
    assert latest.readlink().as_posix() == "g1"
    assert read_release(latest.resolve()) == summary


def test_only_cleared_columns_leave_in_yaml_order(workshop):
    workshop.build("g1")
    release(workshop)
    folder = workshop.lake.releases / "g1" / "requests"
    assert list(rows_of(folder)[0]) == PUBLISHED
    schema = duckdb.sql(f"describe from '{folder / 'requests.parquet'}'").fetchall()
    assert [row[0] for row in schema] == PUBLISHED
    package = json.loads((folder / "datapackage.json").read_text())
    fields = package["resources"][0]["schema"]["fields"]
    assert [field["name"] for field in fields] == PUBLISHED
    assert fields[0]["description"] == "What event_key means."
    assert not [path for path in folder.rglob("*") if b"secret" in path.read_bytes()]


def test_values_keep_their_meaning(workshop):
    workshop.build("g1", rows=8)
    release(workshop)
    folder = workshop.lake.releases / "g1" / "requests"
    rows = sorted(rows_of(folder), key=lambda row: int(row["days"]))
    assert rows[1]["notes"] == 'a "quoted", one'
    assert rows[2]["notes"] == "two\nlines é"
    assert rows[3]["notes"] == "=1+1"
    assert [row["is_open"] for row in rows[:3]] == ["", "false", "true"]
    assert rows[1]["requested_at"] == "2026-01-01T13:00:00Z"
    assert rows[1]["requested_local"] == "2026-01-01T07:00:00.5"
    assert rows[1]["opened_on"] == "2026-01-02"
    # ::double prints the shortest text that reads back as the same number.
    assert [float(row["share"]) for row in rows] == [number / 7 for number in range(8)]
    assert [row["event_key"] for row in rows_of(folder)] == sorted(row["event_key"] for row in rows)
    types = dict(row[:2] for row in duckdb.sql(f"describe from '{folder / 'requests.parquet'}'").fetchall())
    assert types["requested_at"] == "TIMESTAMP WITH TIME ZONE"
    assert types["requested_local"] == "TIMESTAMP"


def test_same_data_give_the_same_bytes(workshop):
    digests = []
    for generation in ("g1", "g2"):
        # 130,000 rows are more than one row group, written by more than one thread.
        workshop.build(generation, rows=130_000)
        folder = release(workshop, generation).folder / "requests"
        digests.append(
            [
                hashlib.sha256((folder / f"requests.{kind}").read_bytes()).digest()
                for kind in ("csv", "parquet")
            ]
        )
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("fault", "errors"),
    [
        (lambda text: text.replace(b"springfield", b"Springfield", 1), ["hash-count"]),
        (
            lambda text: text.replace(b"2026-01-01T13:00:00Z", b"yesterday afternoon.", 1),
            ["hash-count", "type-error"],
        ),
        (lambda text: text[:-1], ["byte-count", "hash-count"]),
    ],
)
def test_seeded_faults_in_the_csv_are_caught(workshop, fault, errors):
    workshop.build("g1")
    path = release(workshop).folder / "requests" / "requests.csv"
    damaged = fault(path.read_bytes())
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    assert validate(path.parent) == errors


def test_a_changed_byte_in_the_parquet_is_caught(workshop):
    workshop.build("g1")
    path = release(workshop).folder / "requests" / "requests.parquet"
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    path.write_bytes(damaged)
    assert validate(path.parent) == ["hash-count"]


def test_simulated_rows_are_named_so(workshop):
    workshop.build("g1", simulated=True)
    (dataset,) = release(workshop).datasets
    assert dataset.title == "Requests (simulated)"
    assert dataset.is_simulated
    readme = (dataset.folder / "README.md").read_text()
    assert readme.startswith("# Requests (simulated)\n\n**Simulated data.**")
    workshop.build("g2")
    (dataset,) = release(workshop, "g2").datasets
    assert dataset.title == "Requests"
    assert "imulated" not in (dataset.folder / "README.md").read_text()


def latest_generation(workshop):
    return (workshop.lake.releases / "latest").readlink().as_posix()


def test_a_release_never_changes(workshop):
    workshop.build("g1")
    release(workshop)
    workshop.build("g2")
    release(workshop, "g2")
    for generation in ("g1", "g2"):
        with pytest.raises(ReleaseError, match="already released"):
            release(workshop, generation)
    assert latest_generation(workshop) == "g2"


def test_a_run_killed_before_latest_is_finished_by_the_next(workshop, monkeypatch):
    workshop.build("g1")
    release(workshop)
    workshop.build("g2")
    with monkeypatch.context() as patch:
        patch.setattr(extract_module, "_point", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            release(workshop, "g2")
    assert latest_generation(workshop) == "g1"
    assert release(workshop, "g2").datasets[0].rows == 50
    assert latest_generation(workshop) == "g2"


def test_a_run_killed_while_moving_latest_leaves_nothing_for_good(workshop):
    workshop.build("g1")
    workshop.lake.releases.mkdir(parents=True)
    (workshop.lake.releases / ".latest").symlink_to("g0")
    release(workshop)
    assert {path.name for path in workshop.lake.releases.iterdir()} == {"g1", "latest"}
    assert latest_generation(workshop) == "g1"


RELEASER = """
import itertools, sys, duckdb
from datetime import datetime, timezone
from pathlib import Path
from assets.ingest.lake import Lake
from assets.publish.extract import publish_release

lake = Lake(Path(sys.argv[1]))
for number in itertools.count(int(sys.argv[2])):
    connection = duckdb.connect(str(lake.build_warehouse))
    connection.execute("update quality.generation set generation = ?", [f"g{number:05}"])
    connection.close()
    publish_release(lake, Path(sys.argv[3]), f"g{number:05}", now=datetime(2026, 1, 2, tzinfo=timezone.utc))
    print(number, flush=True)
"""


def test_kill_at_any_moment_leaves_whole_releases_only(workshop):
    workshop.build("g00000", rows=5_000)
    manifest, releases, chance = workshop.write_manifest(), workshop.lake.releases, random.Random(20260102)
    for attempt in range(4):
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                RELEASER,
                str(workshop.lake.home),
                str(1000 * (attempt + 1)),
                str(manifest),
            ],
            stdout=subprocess.PIPE,
        )
        process.stdout.readline()
        time.sleep(chance.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        for folder in releases.glob("g*/requests"):
            subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
        assert read_release((releases / "latest").resolve()).datasets[0].rows == 5_000
    # A run after the killed ones clears what they left and publishes.
    workshop.build("g99999")
    release(workshop, "g99999")
    assert latest_generation(workshop) == "g99999"
    assert not list(releases.glob(".*"))


FAILURES = {
    "empty": (
        lambda shop: shop.build("g2", rows=0),
        ReleaseError,
        "dataset requests has no rows",
    ),
    "missing column": (
        lambda shop: shop.columns.append({**shop.column("city"), "name": "ward"}),
        ReleaseError,
        "published column ward is not in the view",
    ),
    "phone": (
        lambda shop: shop.build(
            "g2", extra="update core.fct_requests set notes = 'call (312) 555-0100 now' where days = 3"
        ),
        PersonalDataError,
        r"requests\.parquet, column notes: what looks like a phone number in row \d+ \(1 such rows\)",
    ),
    "repeated key": (
        lambda shop: shop.build("g2", extra="update core.fct_requests set event_key = 'same' where days < 2"),
        ReleaseError,
        r"primary key \(event_key\) is null or repeated, for instance \('same',\)",
    ),
    "null key": (
        lambda shop: shop.build("g2", extra="update core.fct_requests set event_key = null where days = 2"),
        ReleaseError,
        "is null or repeated",
    ),
    "key not published": (
        lambda shop: shop.column("event_key")["config"]["meta"].update(publish=False),
        DictionaryError,
        "primary key column event_key is not published",
    ),
    "nested type": (
        lambda shop: shop.build(
            "g2",
            extra="create or replace view open_data.requests as "
            "select * replace ([city] as city) from warehouse.core.fct_requests",
        ),
        DictionaryError,
        r"city: type VARCHAR\[\] cannot go into a CSV",
    ),
    "another generation": (lambda shop: shop.build("g3"), WarehouseError, "holds g3"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_failures_leave_latest_and_the_releases_alone(workshop, failure):
    workshop.build("g1")
    release(workshop)
    workshop.build("g2")
    change, error, message = FAILURES[failure]
    change(workshop)
    with pytest.raises(error, match=message):
        release(workshop, "g2")
    assert latest_generation(workshop) == "g1"
    assert {path.name for path in workshop.lake.releases.iterdir()} == {"g1", "latest"}


def test_an_empty_dataset_may_be_allowed(workshop):
    workshop.build("g1", rows=0)
    workshop.terms["allow_empty"] = True
    (dataset,) = release(workshop).datasets
    assert dataset.rows == 0
    assert validate(dataset.folder) == []


def test_rows_that_are_gone_are_refused_even_where_empty_is_allowed(workshop):
    workshop.terms["allow_empty"] = True
    workshop.build("g1")
    release(workshop)
    workshop.build("g2", rows=0)
    with pytest.raises(ReleaseError, match="in the release before"):
        release(workshop, "g2")
    assert latest_generation(workshop) == "g1"


def test_leftovers_of_a_killed_run_are_cleared(workshop):
    workshop.build("g1")
    leftover = workshop.lake.releases / ".g0.tmp" / "requests"
    leftover.mkdir(parents=True)
    (leftover / "requests.csv").write_text("half", encoding="utf-8")
    release(workshop)
    assert {path.name for path in workshop.lake.releases.iterdir()} == {"g1", "latest"}


def test_the_published_snapshot_serves_as_well_as_the_build(workshop):
    workshop.build("g1")
    publish_snapshot(workshop.lake, "g1")
    workshop.build("g2")
    assert release(workshop).datasets[0].rows == 50
