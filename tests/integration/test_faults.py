"""Everything that may be wrong with a source, a declaration or a command, against one good run.

Each fault is one line that names what is wrong and what to do, and exit code 1; what was published stays.
"""

import csv
import gzip
import io
import json
import signal
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import stamina

from tests.deployment import Deployment

pytestmark = pytest.mark.slow

CITY = """\
name: Faultville
country: US
state: Illinois
time_zone: America/Chicago
crs: EPSG:26916
bbox: [-88.0, 41.5, -87.0, 42.5]
"""
FEED = """\
title: Requests
kind: service_request
publisher: Faultville Clerk
landing_page: https://example.org/requests
licence: CC0-1.0
owner_agency: Streets
cadence: daily
portal: files
parts:
  - {{id: all, source: "{source}"}}
columns:
  source_id: number
  requested_at: created
  status: status
  address: address
  x: lon
  y: lat
event_type: pothole
statuses: {{Open: open, Completed: closed}}
"""
WARDS = """\
title: Wards
kind: boundary
publisher: Faultville Clerk
landing_page: https://example.org/wards
licence: CC0-1.0
owner_agency: Clerk
cadence: once
portal: files
area_type: ward
parts:
  - {id: all, source: ../../files/wards.geojson}
columns: {source_id: ward}
"""
ROWS = 40
START = datetime(2025, 3, 1, 8, tzinfo=UTC)
HOSTILE = {
    "sql": "'; drop table core.fct_events; --",
    "markup": "<script>alert(1)</script>",
    "formula": '=cmd|"/c calc"!A0',
    "lines": "first\r\nsecond\nthird",
    "quotes": 'she said "no", twice',
    "braces": "{{ run_query('drop table x') }} [bold]${HOME}",
    "accents": "Ægir's 道路 \U0001f573",
    "long": "x" * (1 << 20),
    "nul": "before\0after",
}


def records(count: int = ROWS) -> list[dict[str, str]]:
    return [
        {
            "number": f"R{index:03d}",
            "created": f"{START + timedelta(hours=27 * index):%Y-%m-%dT%H:%M:%S}Z",
            "status": ("Completed", "Open")[index % 2],
            "address": f"{index} Elm St",
            "lon": f"{-87.65 + index * 0.001:.6f}",
            "lat": f"{41.85 + index * 0.001:.6f}",
        }
        for index in range(count)
    ]


def as_csv(rows: list[dict[str, str]], columns: list[str] | None = None) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=columns or list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def zipped(name: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, content)
    return packed.getvalue()


def as_parquet(rows: list[dict[str, str]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def wards() -> bytes:
    ring = [[-87.7, 41.8], [-87.5, 41.8], [-87.5, 41.95], [-87.7, 41.95], [-87.7, 41.8]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    feature = {"type": "Feature", "properties": {"ward": "1"}, "geometry": geometry}
    return json.dumps({"type": "FeatureCollection", "features": [feature]}).encode()


GOOD = as_csv(records())
LINES = "".join(f"{json.dumps(row)}\n" for row in records()).encode()
PAGE = b"<!DOCTYPE html>\n<html><body>Please sign in</body></html>"


@dataclass(frozen=True)
class Fault:
    """A delivery that must not count: what it is, and what the line about it must say.

    Attributes:
        name: Of the file, below the folder or the server's root.
        good: The bytes of the first delivery.
        bad: Those of the second; nothing takes the file away.
        error_type: What kind of fault it is.
        says: Parts of the line, remedy last.
        status: What the server answers the second time; none for a file on disk.
        announced: The length that the server announces the second time, else the true one.
    """

    name: str
    good: bytes
    bad: bytes | None
    error_type: str
    says: tuple[str, str]
    status: int | None = None
    announced: int | None = None

    @property
    def state(self) -> str:
        """Whether it was refused for what it holds, or could not be had or read at all."""
        return "blocked" if self.error_type in ("GateFailed", "MissingColumns") else "failing"


FAULTS = {
    "cut_gzip": Fault(
        "cut_gzip.csv.gz",
        gzip.compress(GOOD),
        gzip.compress(GOOD)[:-40],
        "TruncatedFile",
        ("is cut or damaged", "fetch it again"),
    ),
    "empty": Fault("empty.csv", GOOD, b"", "EmptyFile", (": is empty (0 bytes)", "ask the publisher")),
    "web_page": Fault(
        "web_page.csv", GOOD, PAGE, "HtmlInsteadOfData", ("is a web page, not csv", "open the address")
    ),
    "other_feed": Fault(
        "other_feed.csv",
        GOOD,
        b"stop,route\n1,36\n2,151\n",
        "MissingColumns",
        ("it has stop, route", "correct `source` or `columns`"),
    ),
    "header_only": Fault(
        "header_only.csv",
        GOOD,
        GOOD.splitlines(keepends=True)[0],
        "GateFailed",
        ("rows of the part is 0, expected >= 1", "fetch again"),
    ),
    "half_gone": Fault(
        "half_gone.csv",
        GOOD,
        as_csv(records(ROWS // 2 - 1)),
        "GateFailed",
        ("rows of the part (40 known before) is 19, expected >= 20", "ask the publisher"),
    ),
    "sly_zip": Fault(
        "sly_zip.csv.zip",
        zipped("a.csv", GOOD),
        zipped("../a.csv", GOOD),
        "UnsafeZip",
        ("'../a.csv' points out", "clean one"),
    ),
    "keyless": Fault(
        "keyless.csv",
        GOOD,
        as_csv([row | {"number": ""} for row in records()]),
        "GateFailed",
        ("share of rows without source_id is 1", "map `source_id`"),
    ),
    "gone": Fault("gone.csv", GOOD, None, "SourceMissing", (": is not there", "put the file there")),
    "cut_parquet": Fault(
        "cut_parquet.parquet",
        as_parquet(records()),
        as_parquet(records())[:-100],
        "WrongFormat",
        ("is no whole Parquet file", "fetch it again"),
    ),
    "cut_lines": Fault(
        "cut_lines.jsonl",
        LINES,
        LINES[: len(LINES) // 3],
        "GateFailed",
        ("rows of the part (40 known before) is 14, expected >= 20", "ask the publisher"),
    ),
    "wards": Fault(
        "wards.geojson",
        wards(),
        wards()[:-20],
        "BrokenJson",
        ("the JSON ends early or is broken", "fetch again"),
    ),
    "web_404": Fault(
        "web_404.csv", GOOD, b"no", "DatasetGone", ("answered HTTP 404", "look for its successor"), status=404
    ),
    "web_500": Fault(
        "web_500.csv", GOOD, b"oh", "SourceUnreachable", ("(HTTP 500)", "then run again"), status=500
    ),
    "web_login": Fault(
        "web_login.csv", GOOD, PAGE, "HtmlInsteadOfData", ("is a web page", "open the address"), status=200
    ),
    "web_cut": Fault(
        "web_cut.csv",
        GOOD,
        GOOD[:900],
        "SourceUnreachable",
        ("no complete answer in 2 attempts (the answer broke off)", "then run again"),
        status=200,
        announced=len(GOOD),
    ),
}
COLUMNS = list(records()[0])


class Portal(ThreadingHTTPServer):
    """Serves the faults' good bytes, then their bad ones."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.is_bad = False
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Answer(BaseHTTPRequestHandler):
    """One answer of the portal."""

    server: Portal

    def do_GET(self) -> None:
        fault = FAULTS[Path(self.path).stem]
        is_bad = self.server.is_bad
        body = fault.bad if is_bad else fault.good
        self.send_response(fault.status if is_bad else 200)
        self.send_header("Content-Length", str(fault.announced if is_bad and fault.announced else len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@dataclass(frozen=True)
class Story:
    """What the module's two runs said and left.

    Attributes:
        good: Output of the first run.
        published: What it published.
        bad: Output of the second, every delivery of which is a fault.
    """

    town: Deployment
    good: object
    published: dict
    bad: object
    published_after: dict


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    town = Deployment(tmp_path_factory.mktemp("faults"))
    city, files, portal = town.cities / "faultville", town.folder / "files", Portal()
    city.mkdir(parents=True)
    files.mkdir()
    (city / "_city.yaml").write_text(CITY, encoding="utf-8")
    address = f"http://127.0.0.1:{portal.server_port}"
    for name, fault in FAULTS.items():
        where = f"../../files/{fault.name}" if fault.status is None else f"{address}/{fault.name}"
        text = WARDS if name == "wards" else FEED.format(source=where)
        (city / f"{name}.yaml").write_text(text, encoding="utf-8")
        (files / fault.name).write_bytes(fault.good)
    (city / "hostile.yaml").write_text(FEED.format(source="../../files/hostile.csv"), encoding="utf-8")
    hostile = [row | {"address": text} for row, text in zip(records(), HOSTILE.values(), strict=False)]
    (files / "hostile.csv").write_bytes(as_csv(hostile))
    # A neighbour that is declared wrongly stands in nobody's way.
    neighbour = town.cities / "neighbour"
    neighbour.mkdir()
    (neighbour / "_city.yaml").write_text("name: Neighbour\n", encoding="utf-8")
    with stamina.set_testing(True, attempts=2):
        good = town.invoke("run", "--city", "faultville")
        assert good.exit_code == 0, good.output
        published = town.published()
        for fault in FAULTS.values():
            if fault.bad is None:
                (files / fault.name).unlink()
            elif fault.status is None:
                (files / fault.name).write_bytes(fault.bad)
        portal.is_bad = True
        bad = town.invoke("run", "--city", "faultville")
    portal.shutdown()
    portal.server_close()
    return Story(town, good, published, bad, town.published())


def test_a_city_declared_wrongly_is_named_and_left_out_of_another_ones_run(story):
    [warning] = story.good.stderr.splitlines()
    assert warning.startswith("citysignal: warning: city neighbour is left out: ")
    assert "country: is missing; add it (and " in warning


def test_hostile_content_lands_as_text_and_comes_out_unharmed(story):
    found = dict(story.town.rows("select source_id, address from core.fct_events where feed = 'hostile'"))
    expected = {f"R{index:03d}": text for index, text in enumerate(HOSTILE.values())}
    assert {k: v if len(v) < 100 else len(v) for k, v in found.items()} == {
        k: v if len(v) < 100 else len(v) for k, v in expected.items()
    }


def test_a_run_of_faults_ends_with_1_and_leaves_what_was_published(story):
    assert story.bad.exit_code == 1
    assert "Traceback" not in story.bad.output
    assert story.published_after == story.published
    assert len(story.published) > 10
    # It was built and published anew, not left alone.
    [(generation,)] = story.town.rows("select generation from quality.generation")
    assert generation.startswith("20260102T0601")


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_line_with_feed_and_remedy(story, name):
    lines = [
        line
        for line in story.bad.stdout.splitlines()
        if line.strip().startswith(f"failed raw/faultville/{name} delivery: ")
    ]
    assert len(lines) == 1, story.bad.stdout
    fault = FAULTS[name]
    what, remedy = fault.says
    assert what in lines[0]
    assert remedy in lines[0].split(what, 1)[1]
    told = f"delivery: faultville/{name} {fault.state} since 2026-01-02 ({fault.error_type}): "
    source = lines[0].split(told, 1)[1].split(": ", 1)[0]
    assert source.endswith(f"/{fault.name}")
    assert " -> " in lines[0].split(source, 1)[1]


def test_status_says_which_deliveries_were_refused(story):
    lines = story.town.invoke("status", "--city", "faultville").stdout.splitlines()
    verdicts = {
        line.split("│")[1].strip().removeprefix("faultville/"): line.split("│")[2].strip()
        for line in lines
        if line.startswith("│")
    }
    assert verdicts.pop("hostile") in ("late", "current")
    assert verdicts == {name: fault.state for name, fault in FAULTS.items()}
    for name, fault in FAULTS.items():
        told = f"faultville/{name} {fault.state} since 2026-01-02 ({fault.error_type}): "
        assert [line for line in lines if line.startswith(told)], name


def replaced(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return change


PARTS = '  - {id: all, source: "GOOD"}\n'
DECLARATIONS = {
    "unknown key": (
        lambda text: text + "targetdays: 7\n",
        "targetdays: unknown key; did you mean target_days?",
    ),
    "missing column": (
        replaced("created", "creatd"),
        "columns.requested_at: good.csv has no column 'creatd'; did you mean 'created'?",
    ),
    "bad crs": (
        lambda text: text + "crs: EPSG:99999\n",
        "crs: 'EPSG:99999' is no coordinate reference system;",
    ),
    "overlapping parts": (
        replaced(
            PARTS,
            '  - {id: a, source: "GOOD", valid_from: 2024-01-01, valid_to: 2025-01-02}\n'
            '  - {id: b, source: "GOOD", valid_from: 2025-01-01}\n',
        ),
        "parts: the validity of a and b overlaps; end one where the next begins",
    ),
    "unknown status": (
        replaced("Completed: closed", "Completed: done"),
        "statuses.Completed: 'done' is no canonical status; use one of open, ",
    ),
    "unknown event type": (
        replaced("event_type: pothole", "event_type: potholes"),
        "event_type: unknown event type 'potholes'; did you mean pothole?",
    ),
    "key said twice": (
        lambda text: text + "title: Again\n",
        "the key 'title' is said twice; keep one",
    ),
    "semicolon in sql": (
        replaced("status: status", "status: {sql: '\"status\"; drop table x'}"),
        "columns.status: the expression holds a `;`; write one expression",
    ),
    "undefined variable": (
        replaced("GOOD", "${NOWHERE}/good.csv"),
        "parts[0].source: ${NOWHERE} is not defined; set NOWHERE",
    ),
    "id with a space": (
        replaced("id: all", 'id: "a b"'),
        "parts[0].id: 'a b' cannot be an id; use lower-case",
    ),
    "id with dots": (
        replaced("id: all", 'id: "../a"'),
        "parts[0].id: '../a' cannot be an id; use lower-case",
    ),
    "file that is not there": (replaced("GOOD", "absent.csv"), "put it there or correct the source"),
    "ragged yaml": (lambda text: text + "expect: [1\n", "; correct the YAML"),
}


@pytest.mark.parametrize("case", DECLARATIONS)
def test_a_wrong_declaration_is_one_line_from_check_and_from_run(tmp_path, case):
    change, said = DECLARATIONS[case]
    town = declared(tmp_path, change)
    checked = town.invoke("check")
    assert checked.exit_code == 1
    lines = checked.stdout.splitlines()
    assert [line for line in lines if "wrong.yaml" in line and said in line], checked.output
    assert lines[1:] == ["1 problem"]
    if case not in ("missing column", "file that is not there"):  # these are for the delivery to show
        ran = town.invoke("run", "--city", "wrongville")
        assert ran.exit_code == 1
        [line] = ran.stderr.splitlines()
        assert line.startswith("citysignal: ")
        assert said in line


@pytest.mark.parametrize("name", ["a b.yaml", "..yaml", "Wrong.yaml"])
def test_a_file_name_that_is_no_id_is_refused(tmp_path, name):
    town = declared(tmp_path, lambda text: text, name)
    checked = town.invoke("check")
    assert checked.exit_code == 1
    assert "cannot be an id; use lower-case letters, digits and _, a letter first" in checked.stdout


def declared(folder: Path, change: Callable[[str], str], name: str = "wrong.yaml") -> Deployment:
    town = Deployment(folder)
    city = town.cities / "wrongville"
    city.mkdir(parents=True)
    (city / "good.csv").write_bytes(GOOD)
    (city / "_city.yaml").write_text(CITY, encoding="utf-8")
    text = change(FEED.format(source="GOOD")).replace("GOOD", "good.csv")
    (city / name).write_text(text, encoding="utf-8")
    return town


def test_a_second_run_at_once_is_told_to_wait_and_ctrl_c_ends_the_first_with_one_line(story):
    town = story.town
    first = town.start("run", "--city", "faultville")
    try:
        holder = town.home / "dagster" / "run.holder.json"
        deadline = time.monotonic() + 60
        while not (holder.exists() and json.loads(holder.read_text() or "{}").get("pid") == first.pid):
            assert time.monotonic() < deadline
            assert first.poll() is None
            time.sleep(0.05)
        second = town.invoke("run", "--city", "faultville")
        assert second.exit_code == 1
        [_, line] = second.stderr.splitlines()  # the first is about the neighbour
        assert line.startswith(f"citysignal: process {first.pid} (since ")
        assert line.endswith("wait for it to end")
        time.sleep(3)
        first.send_signal(signal.SIGINT)
        _, said = first.communicate(timeout=60)
    finally:
        first.kill()
        first.wait()
    assert first.returncode == 1
    assert said.splitlines()[1:] == ["citysignal: stopped; run the command again to go on"]
    assert town.published() == story.published
