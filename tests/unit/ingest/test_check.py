"""`citysignal check`: what it says of files that are absent, unreadable or without a mapped column."""

import gzip
import json
import os
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from assets.ingest.check import check_cities

ROOT = Path(__file__).parents[3]
REAL_DATA = Path(os.environ.get("CITYSIGNAL_REAL_DATA", ROOT.parent / "shared" / "data")).resolve()

CITY = """
name: Testville
country: US
state: IL
time_zone: America/Chicago
crs: EPSG:26916
bbox: [-87.95, 41.6, -87.5, 42.05]
"""
COLUMNS = {"source_id": "Number", "requested_at": "Created On", "address": {"sql": 'trim("Street")'}}
HEADER = "Number,Created On,Street\n"


def declare(folder: Path, **said: object) -> Path:
    place = folder / "testville"
    place.mkdir(exist_ok=True)
    (place / "_city.yaml").write_text(CITY, encoding="utf-8")
    feed = {
        "title": "Requests",
        "kind": "service_request",
        "publisher": "City",
        "landing_page": "https://example.org",
        "licence": "none stated",
        "owner_agency": "sanitation",
        "cadence": "daily",
        "portal": "files",
        "columns": COLUMNS,
        "event_type": "pothole",
        **said,
    }
    (place / "requests.yaml").write_text(yaml.safe_dump(feed, sort_keys=False), encoding="utf-8")
    return place


def check(folder: Path, part: dict, **said: object) -> list[tuple[str, str]]:
    declare(folder, parts=[{"id": "all", **part}], **said)
    return [(problem.key, problem.message) for problem in check_cities([folder], {})]


def test_a_file_with_all_columns_is_in_order(tmp_path):
    declare(tmp_path)
    (tmp_path / "testville" / "a.csv").write_text(HEADER, encoding="utf-8")
    assert check(tmp_path, {"source": "a.csv"}) == []


def test_a_file_that_is_not_there(tmp_path):
    [(key, message)] = check(tmp_path, {"source": "gone.csv"})
    assert key == "parts[0].source"
    assert message.startswith("file not found: ")
    assert message.endswith("gone.csv; put it there or correct the source")


def test_an_address_is_not_fetched(tmp_path):
    assert check(tmp_path, {"source": "http://127.0.0.1:9/a.csv"}) == []


def test_absent_columns_are_named_with_the_closest_and_all_there_are(tmp_path):
    declare(tmp_path)
    (tmp_path / "testville" / "a.csv").write_text("Numbre,CreatedOn,Avenue\n", encoding="utf-8")
    found = dict(check(tmp_path, {"source": "a.csv"}))
    assert sorted(found) == ["columns.address", "columns.requested_at", "columns.source_id"]
    assert "a.csv has no column 'Number'; did you mean 'Numbre'?" in found["columns.source_id"]
    assert found["columns.source_id"].endswith("it has 'Numbre', 'CreatedOn', 'Avenue'")
    assert "did you mean 'CreatedOn'?" in found["columns.requested_at"]
    assert "'Street'; it has" in found["columns.address"], (
        "the column of an expression, and nothing close to it"
    )


def test_names_may_differ_in_case_as_they_may_for_landing(tmp_path):
    declare(tmp_path)
    (tmp_path / "testville" / "a.csv").write_text(HEADER.upper(), encoding="utf-8")
    assert check(tmp_path, {"source": "a.csv"}) == []


def test_an_overridden_column_is_named_where_it_is_declared(tmp_path):
    declare(tmp_path)
    (tmp_path / "testville" / "a.csv").write_text(HEADER, encoding="utf-8")
    [(key, _)] = check(tmp_path, {"source": "a.csv", "columns": {"channel": "How"}})
    assert key == "parts[0].columns.channel"


def gzipped(path: Path, text: bytes) -> None:
    path.write_bytes(gzip.compress(text))


def zipped(path: Path, text: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inside.csv", text)
        archive.writestr("__MACOSX/._inside.csv", b"shadow")


@pytest.mark.parametrize(
    ("name", "write", "text", "part"),
    [
        ("a.csv.gz", gzipped, HEADER.encode(), {}),
        ("plain_despite_its_name.csv.gz", Path.write_bytes, HEADER.encode(), {}),
        ("a.csv.zip", zipped, HEADER.encode(), {}),
        ("bom.csv", Path.write_bytes, b"\xef\xbb\xbf" + HEADER.encode(), {}),
        ("semicolon.csv", Path.write_bytes, HEADER.replace(",", ";").encode(), {"delimiter": ";"}),
        ("skip.csv", Path.write_bytes, b"Report, of\n\n" + HEADER.encode(), {"skip_rows": 2}),
        ("quoted.csv", Path.write_bytes, b'"Number","Created On","Street"\n"1","a\nb","c"\n', {}),
        ("windows.csv", Path.write_bytes, HEADER.encode() + b"1,2,caf\xe9\n", {}),
        (
            "replaced.csv",
            Path.write_bytes,
            b"Antenna,B,C\n",
            {"header": ["Number", "Created On", "Street"]},
        ),
        (
            "utf16.csv",
            Path.write_bytes,
            HEADER.encode("utf-16"),
            {"encoding": "utf-16"},
        ),
        (
            "a.jsonl",
            Path.write_bytes,
            b'{"Number": 1, "Created On": "x"}\n{"Number": 2, "Street": {"a": 1}}\n',
            {},
        ),
        (
            "a.json",
            Path.write_bytes,
            json.dumps([{"Number": 1, "Created On": 2, "Street": [1]}]).encode(),
            {},
        ),
    ],
)
def test_headers_are_read_however_the_file_is_written(tmp_path, name, write, text, part):
    declare(tmp_path)
    write(tmp_path / "testville" / name, text)
    assert check(tmp_path, {"source": name, **part}) == []
    # The twin: the same file without one of the columns.
    write(tmp_path / "testville" / name, text.replace(*changed(part, text)))
    assert check(tmp_path, {"source": name, **part}) != []


def changed(part: dict, text: bytes) -> tuple[bytes, bytes]:
    if "header" in part:
        return b",C", b""
    encoding = part.get("encoding", "utf-8").replace("utf-16", "utf-16-le")
    return "Street".encode(encoding), "Avenue".encode(encoding)


def test_parquet_columns(tmp_path):
    declare(tmp_path)
    path = tmp_path / "testville" / "a.parquet"
    pq.write_table(pa.table({"Number": [1], "Created On": ["x"], "Street": ["y"]}), path)
    assert check(tmp_path, {"source": "a.parquet"}) == []
    pq.write_table(pa.table({"Number": [1], "Created On": ["x"]}), path)
    assert [key for key, _ in check(tmp_path, {"source": "a.parquet"})] == ["columns.address"]


def test_geometry_fields_and_their_representative_point(tmp_path):
    declare(tmp_path)
    point = {"type": "Point", "coordinates": [-87.6, 41.8]}
    feature = {
        "type": "Feature",
        "properties": {"Number": "1", "Created On": "x", "Street": "y"},
        "geometry": point,
    }
    text = json.dumps({"type": "FeatureCollection", "features": [feature]}).encode()
    gzipped(tmp_path / "testville" / "a.geojson.gz", text)
    assert check(tmp_path, {"source": "a.geojson.gz"}) == []
    gzipped(tmp_path / "testville" / "a.geojson.gz", text.replace(b"Street", b"Avenue"))
    [(key, message)] = check(tmp_path, {"source": "a.geojson.gz"})
    assert key == "columns.address"
    assert "'geometry_x', 'geometry_y'" in message


@pytest.mark.parametrize(
    ("name", "content", "part", "message"),
    [
        ("a.csv.gz", b"\x1f\x8bbroken", {}, "cannot be read as csv"),
        (
            "a.csv",
            b"A,B\n",
            {"header": ["A", "B", "C"]},
            "has 2 columns where `header:` names 3; name each of 'A'",
        ),
        ("a.csv", b"A\n", {"encoding": "utf-9"}, "has no known encoding 'utf-9'; correct `encoding:`"),
        ("a.csv", b"caf\xe9\n", {"encoding": "utf-8"}, "is not written in utf-8; set `encoding:`"),
        ("a.parquet", b"PAR1", {}, "cannot be read as parquet"),
        ("a.geojson", b"{}", {}, "holds no geometries that can be read"),
        ("a.shp", b"\0\0", {}, "is no zip; pack the shapefile's files into one"),
        ("a.json", b"{", {}, "holds no records that can be read"),
        ("a.zip", b"PK\x03\x04", {"format": "csv"}, "cannot be read as csv"),
    ],
)
def test_files_that_cannot_be_read_say_why(tmp_path, name, content, part, message):
    declare(tmp_path)
    (tmp_path / "testville" / name).write_bytes(content)
    [(key, found)] = check(tmp_path, {"source": name, **part})
    assert key == "parts[0].source"
    assert found.startswith(f"{name} {message}")


def test_a_zip_of_two_files_is_refused(tmp_path):
    declare(tmp_path)
    with zipfile.ZipFile(tmp_path / "testville" / "a.csv.zip", "w") as archive:
        archive.writestr("one.csv", HEADER)
        archive.writestr("two.csv", HEADER)
    [(_, message)] = check(tmp_path, {"source": "a.csv.zip"})
    assert message == "a.csv.zip holds 2 files where one is needed; pack one alone"


def test_a_mapped_column_that_is_there_twice(tmp_path):
    declare(tmp_path)
    (tmp_path / "testville" / "a.csv").write_text("Number,Created On,Street,Street,x,x\n", encoding="utf-8")
    [(key, message)] = check(tmp_path, {"source": "a.csv"})
    assert key == "columns.address"
    assert message == "a.csv has 2 columns named 'Street'; name them all apart with `header:`"


def test_cities_after_a_wrong_one_are_still_checked(tmp_path):
    declare(tmp_path, parts=[{"id": "all", "source": "gone.csv"}])
    (tmp_path / "aville").mkdir()
    (tmp_path / "aville" / "_city.yaml").write_text("name: [", encoding="utf-8")
    assert sorted(problem.key for problem in check_cities([tmp_path], {})) == ["line 1", "parts[0].source"]


@pytest.mark.real
def test_the_real_cities_fit_their_files():
    if not REAL_DATA.is_dir():
        if os.environ.get("CITYSIGNAL_REQUIRE_REAL"):
            pytest.fail(f"no municipal files at {REAL_DATA}; set CITYSIGNAL_REAL_DATA")
        pytest.skip(f"no municipal files at {REAL_DATA}; set CITYSIGNAL_REAL_DATA")
    variables = {"CITYSIGNAL_REAL_DATA": str(REAL_DATA)}
    assert check_cities([ROOT / "tests" / "real" / "cities"], variables) == []
