import csv
import gzip
import io
import json
import zipfile
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assets.ingest import csv_records, parsing, unpacking
from assets.ingest.feed import Feed
from assets.ingest.receipts import DeliveryError
from tests.declared_feed import declared_feed


def make_feed(columns=None, kind="service_request", source="a.csv", **part) -> Feed:
    columns = columns or {"source_id": "id", "category": "what", "address": "where"}
    return declared_feed(
        kind=kind,
        columns=columns,
        parts=[{"id": "one", "source": source, **part}],
        **({"area_type": "ward"} if kind == "boundary" else {}),
    )


def stage(folder: Path, content: bytes, feed: Feed):
    """Stage bytes; return rows as (source_row, *mapped columns), rejects, and what stage said."""
    stored = folder / "one.gz"
    stored.write_bytes(gzip.compress(content))
    part = feed.parts[0]
    names = [name for name in feed.mapping(part) if name not in ("x", "y")]
    with parsing.connect(folder) as con:
        staged = parsing.stage(con, stored, feed, part, folder)
        found = con.execute(
            f"select source_row, {', '.join(names)} from {staged.relation} order by 1"
        ).fetchall()
        rejects = con.execute("select * from rejects order by 1").fetchall()
    return found, rejects, staged


def stage_csv(folder: Path, text: str | bytes, **part):
    content = text.encode() if isinstance(text, str) else text
    return stage(folder, content, make_feed(**part))


def test_plain_csv(tmp_path):
    rows, rejects, staged = stage_csv(tmp_path, "id,what,where\n1,a,b\n2,c,\n")
    assert rows == [(1, "1", "a", "b"), (2, "2", "c", None)]
    assert rejects == []
    assert (staged.rows_in_file, staged.source_columns) == (2, ("id", "what", "where"))


@pytest.mark.parametrize(
    "content",
    [
        b'\xef\xbb\xbfid,what,where\r\n1,caf\xc3\xa9,"two\r\nlines"\r\n',
        b'id,what,where\r\n1,caf\xe9,"two\r\nlines"\r\n',
        'id,what,where\r\n1,café,"two\r\nlines"\r\n'.encode("utf-16"),
        b'id,what,where\n\n1,caf\xc3\xa9,"two\r\nlines"\n\n\n',
        b'id,what,where\n1,caf\xc3\xa9,"two\r\nlines"',
    ],
    ids=["bom", "windows-1252", "utf-16", "blank lines", "no last newline"],
)
def test_dirt_that_changes_nothing(tmp_path, content):
    rows, rejects, staged = stage_csv(tmp_path, content)
    assert rows == [(1, "1", "café", "two\r\nlines")]
    assert rejects == []
    assert staged.rows_in_file == 1


def test_old_macintosh_line_ends(tmp_path):
    rows, _, _ = stage_csv(tmp_path, "id,what,where\r1,a,b\r2,c,d\r")
    assert rows == [(1, "1", "a", "b"), (2, "2", "c", "d")]


def test_mixed_encodings_lose_nothing(tmp_path):
    every_byte = bytes(set(range(0x80, 0x100)))
    rows, _, staged = stage_csv(
        tmp_path, b"id,what,where\n1,caf\xc3\xa9,x\n2,caf\xe9,x\n3," + every_byte + b",x\n"
    )
    assert [row[2] for row in rows[:2]] == ["café", "café"]
    assert len(rows[2][2]) == len(set(rows[2][2])) == 128
    assert staged.notes == ["2 lines are not UTF-8; they were read as windows-1252"]


def test_declared_encoding_is_kept_to(tmp_path):
    rows, _, _ = stage_csv(tmp_path, "id,what,where\n1,Ł,x\n".encode("iso8859-2"), encoding="iso8859-2")
    assert rows == [(1, "1", "Ł", "x")]
    with pytest.raises(DeliveryError, match="not utf-8 throughout"):
        stage_csv(tmp_path, b"id,what,where\n1,caf\xe9,x\n", encoding="utf-8")


def test_skipped_lines_header_and_delimiter(tmp_path):
    rows, _, _ = stage_csv(
        tmp_path,
        "Report of 2026\n\nwhere;id;what\n1;a;b\n",
        skip_rows=1,
        delimiter=";",
        header=["id", "what", "where"],
    )
    assert rows == [(1, "1", "a", "b")]


def test_ragged_records_are_quarantined_not_padded(tmp_path):
    text = 'id,what,where\n1,a,b\n2,short\n3,"x\ny",b\n4,too,many,cells\n5,"bad"quote,b\n6,5" pipe,b\n7,a,b\n'
    rows, rejects, staged = stage_csv(tmp_path, text)
    assert [(row[0], row[1]) for row in rows] == [(1, "1"), (3, "3"), (6, "6"), (7, "7")]
    assert [(number, reason, raw) for number, reason, _, raw in rejects] == [
        (2, "missing_columns", "2,short"),
        (4, "too_many_columns", "4,too,many,cells"),
        (5, "malformed_quotes", '5,"bad"quote,b'),
    ]
    assert staged.rows_in_file == len(rows) + len(rejects) == 7


def test_an_empty_cell_too_many_is_no_loss(tmp_path):
    rows, rejects, _ = stage_csv(tmp_path, "id,what,where\n1,a,b,\n2,a,b\n")
    assert rows == [(1, "1", "a", "b"), (2, "2", "a", "b")]
    assert rejects == []


def test_a_stray_quote_takes_no_neighbours_along(tmp_path):
    rows, rejects, _ = stage_csv(tmp_path, 'id,what,where\n1,"open,b\n2,a,b\n3,"never\n4,a,b\n')
    assert [row[1] for row in rows] == ["2", "4"]
    assert [reject[3] for reject in rejects] == ['1,"open,b', '3,"never']


def test_rejects_far_into_a_file_keep_record_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(
        parsing, "_LARGEST_DEFAULT_LINE", 4096
    )  # many buffers, so that threads share the file
    lines = [f'{i},"multi\nline {"q" * (i % 50)}",z' if i % 7 else f"{i},short" for i in range(1, 30001)]
    rows, rejects, staged = stage_csv(tmp_path, "id,what,where\n" + "\n".join(lines) + "\n")
    assert staged.rows_in_file == 30000
    assert all(row[0] == int(row[1]) for row in rows)
    assert [r[0] for r in rejects] == list(range(7, 30001, 7))
    assert all(reject[3] == f"{reject[0]},short" for reject in rejects)


cells = st.text(
    st.one_of(
        st.sampled_from(list("\",\n\r;'\\ \tNU#0\x00\ufeff\ufdd0rd\u2028é😀")),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=6,
)
tables = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=8)
)


@given(
    table=tables,
    line_end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_python_writes_lands_whole(tmp_path, table, line_end, quoting):
    width = len(table[0])
    names = ["id", "what", "where", "more"][:width]
    text = io.StringIO(newline="")
    # A terminator of both characters makes the writer quote both; the plain one is put in afterwards.
    csv.writer(text, lineterminator="\r\n", quoting=quoting).writerows([names, *table])
    if line_end == "\n":
        # Between quotes every second piece: terminators are only in the others.
        pieces = text.getvalue().split('"')
        pieces[::2] = [piece.replace("\r\n", "\n") for piece in pieces[::2]]
        written = '"'.join(pieces)
    else:
        written = text.getvalue()
    columns = dict(zip(["source_id", "category", "address", "status"], names, strict=False))
    rows, rejects, staged = stage(tmp_path, written.encode(), make_feed(columns))
    order = list(make_feed(columns).mapping(make_feed(columns).parts[0]))
    wanted = [list(columns).index(name) for name in order]
    assert rejects == []
    assert rows == [
        (number, *(record[i] or None for i in wanted)) for number, record in enumerate(table, start=1)
    ]
    assert staged.rows_in_file == len(table)


def test_without_the_plain_copy_duckdb_loses_the_record(tmp_path):
    # The twin of the property above: the reason for csv_records, kept until DuckDB reads it right.
    path = tmp_path / "direct.csv"
    path.write_bytes(b'"a","b\r\n"\n"c",d\n')
    options = (
        "auto_detect = false, header = false, delim = ',', quote = '\"', escape = '\"', store_rejects = true"
    )
    try:
        found = (
            duckdb.connect()
            .execute(f"from read_csv('{path}', {options}, columns = {{a: 'VARCHAR', b: 'VARCHAR'}})")
            .fetchall()
        )
    except duckdb.InvalidInputException:
        found = []
    assert found != [("a", "b\r\n"), ("c", "d")]


def test_json_array_rows_and_lines(tmp_path):
    records = [
        {"id": 1, "what": 'a, "b"\n', "where": None},
        {"id": 2.50, "where": {"street": "é"}, "new/~k": True},
    ]
    expected = [(1, "1", 'a, "b"\n', None), (2, "2.5", None, '{"street":"é"}')]
    array = json.dumps(records, indent=2, ensure_ascii=False).encode()
    for content, format_ in (
        (array, "json"),
        (b'{"meta": {"n": [1]}, "rows": ' + array + b', "more": [3]}', "json"),
        ("\n".join(json.dumps(r, ensure_ascii=False) for r in records).encode(), "jsonl"),
    ):
        rows, rejects, staged = stage(tmp_path, content, make_feed(source="a.json", format=format_))
        assert [(r[0], r[1], r[2], r[3] and r[3].replace(" ", "")) for r in rows] == expected
        assert (rejects, staged.rows_in_file) == ([], 2)
        assert set(staged.source_columns) == {"id", "what", "where", "new/~k"}


def test_json_keeps_the_source_text_of_numbers(tmp_path):
    rows, _, _ = stage(
        tmp_path,
        b'[{"id": 10000000000000000001, "what": 41.88362178, "where": "\\u00e9"}]',
        make_feed(source="a.json"),
    )
    assert rows == [(1, "10000000000000000001", "41.88362178", "é")]


def test_json_records_that_are_none(tmp_path):
    lines = b'{"id": 1, "what": "a", "where": "b"}\n{"id": 2, broken\n[3]\n\n{"id": 4, "where": "b"}\n'
    rows, rejects, staged = stage(tmp_path, lines, make_feed(source="a.jsonl"))
    assert [row[:2] for row in rows] == [(1, "1"), (4, "4")]
    assert [(r[0], r[1]) for r in rejects] == [(2, "malformed_json"), (3, "not_an_object")]
    assert staged.rows_in_file == 4


@pytest.mark.parametrize(
    ("content", "error_type"),
    [
        (b'[{"id": 1}, {"id": 2', "BrokenJson"),
        (b'[{"id": 1}', "BrokenJson"),
        (b'{"rows": [{"id": 1}]', "BrokenJson"),
        (b'{"error": true, "message": "no"}', "NoRecords"),
        (b"id,what\n1,a", "WrongFormat"),
        (b"<html><body>Sign in</body></html>", "HtmlInsteadOfData"),
        (b"", "EmptyFile"),
    ],
)
def test_json_that_is_none(tmp_path, content, error_type):
    with pytest.raises(DeliveryError) as caught:
        stage(tmp_path, content, make_feed(source="a.json"))
    assert caught.value.error_type == error_type


def test_records_longer_than_a_block(tmp_path):
    long = "x" * (3 << 20)
    records = [{"id": i, "what": long, "where": "b"} for i in range(2)]
    rows, _, _ = stage(tmp_path, json.dumps(records).encode(), make_feed(source="a.json"))
    assert [len(row[2]) for row in rows] == [len(long)] * 2
    rows, _, _ = stage_csv(tmp_path, f'id,what,where\n1,"{long}\n",b\n2,a,b\n')
    assert [len(row[2]) for row in rows] == [len(long) + 1, 1]


SQUARE = {
    "type": "Polygon",
    "coordinates": [[[-87.5, 42], [-87.4, 42], [-87.4, 42.1], [-87.5, 42.1], [-87.5, 42]]],
}


def test_many_features_keep_the_order_of_the_file(tmp_path):
    """Two states of a record in one file are told apart by their order alone; a hash join forgets it."""
    features = [
        {
            "type": "Feature",
            "properties": {"id": str(number), "what": "a", "where": "b"},
            "geometry": {"type": "Point", "coordinates": [-87.6 + number * 1e-6, 41.9]},
        }
        for number in range(20_000)
    ]
    content = json.dumps({"type": "FeatureCollection", "features": features}).encode()
    rows, rejects, _ = stage(tmp_path, content, make_feed(source="calls.geojson"))
    assert rejects == []
    assert [int(source_id) for _, source_id, *_ in rows] == list(range(20_000))


def test_geojson(tmp_path):
    import shapely

    features = [
        {"type": "Feature", "properties": {"ID": 7, "NAME": "Ward 7"}, "geometry": SQUARE},
        {"type": "Feature", "properties": {"ID": 8}, "geometry": None},
        {"type": "Feature", "properties": {"ID": 9}, "geometry": {"type": "Polygon", "coordinates": [[1]]}},
        {
            "type": "Feature",
            "properties": {"ID": 10},
            "geometry": {"type": "Point", "coordinates": [-87.5, 42, 3]},
        },
    ]
    content = json.dumps({"type": "FeatureCollection", "features": features}).encode()
    feed = make_feed({"source_id": "ID", "name": "NAME"}, kind="boundary", source="a.geojson.gz")
    rows, rejects, staged = stage(tmp_path, content, feed)
    assert rows == [(1, "7", "Ward 7"), (2, "8", None), (4, "10", None)]
    assert [(r[0], r[1]) for r in rejects] == [(3, "malformed_geometry")]
    assert staged.rows_in_file == 4
    found = duckdb.execute(f"select geometry, x, y from '{tmp_path / 'staged.parquet'}'").fetchall()
    assert shapely.from_wkb(bytes(found[0][0])).equals(shapely.geometry.shape(SQUARE))
    assert shapely.geometry.shape(SQUARE).contains(shapely.Point(float(found[0][1]), float(found[0][2])))
    assert found[1] == (None, None, None)
    assert (float(found[2][1]), float(found[2][2])) == (-87.5, 42)


def write_shapefile(folder: Path, crs="EPSG:26916") -> dict[str, bytes]:
    import geopandas
    import shapely

    frame = geopandas.GeoDataFrame(
        {"ID": [1, 2], "NAME": ["Élm", None]},
        geometry=[
            shapely.LineString([(448000, 4630000), (448100, 4630000)]),
            shapely.Point(448000, 4640000).buffer(5).boundary,
        ],
        crs=crs,
    )
    frame.to_file(folder / "roads.shp")
    return {path.name: path.read_bytes() for path in folder.glob("roads.*")}


def zipped(members: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return content.getvalue()


@pytest.fixture
def road_feed():
    return make_feed(
        {"source_id": "ID", "name": "NAME"}, kind="boundary", source="roads.shp.zip", crs="EPSG:26916"
    )


def test_shapefile_in_feet_and_metres_comes_to_lon_lat(tmp_path, road_feed):
    import shapely

    files = write_shapefile(tmp_path)
    content = zipped(
        {f"roads/{name}": data for name, data in files.items()} | {"__MACOSX/roads/._roads.shp": b"x"}
    )
    rows, rejects, staged = stage(tmp_path, content, road_feed)
    assert rows == [(1, "1", "Élm"), (2, "2", None)]
    assert (rejects, staged.rows_in_file, staged.notes) == ([], 2, [])
    geometry, x, y = duckdb.execute(f"select geometry, x, y from '{tmp_path / 'staged.parquet'}'").fetchall()[
        0
    ]
    west, south, _, _ = shapely.from_wkb(bytes(geometry)).bounds
    assert (west, south) == pytest.approx((-87.6267, 41.8196), abs=1e-3)
    assert 448000 <= float(x) <= 448100
    assert float(y) == 4630000


def test_shapefile_that_says_another_crs_is_noted(tmp_path, road_feed):
    content = zipped(write_shapefile(tmp_path, "EPSG:32616"))
    _, _, staged = stage(tmp_path, content, road_feed)
    assert "EPSG:32616" in staged.notes[0]


@pytest.mark.parametrize(
    ("change", "error_type"),
    [
        (lambda files: files | {"../../evil.shp": b"x"}, "UnsafeZip"),
        (lambda files: files | {"/etc/evil": b"x"}, "UnsafeZip"),
        (lambda files: files | {"..\\evil.txt": b"x"}, "UnsafeZip"),
        (lambda files: {"readme.txt": b"x"}, "WrongZip"),
        (lambda files: files | {"other.shp": b"x"}, "WrongZip"),
        (lambda files: {name: data for name, data in files.items() if not name.endswith(".dbf")}, "WrongZip"),
        (lambda files: files | {"roads.shp": b"not a shapefile"}, "BrokenShapefile"),
    ],
)
def test_zips_that_are_no_shapefile(tmp_path, road_feed, change, error_type):
    content = zipped(change(write_shapefile(tmp_path)))
    with pytest.raises(DeliveryError) as caught:
        stage(tmp_path, content, road_feed)
    assert caught.value.error_type == error_type
    assert not (tmp_path.parent / "evil.shp").exists()


def test_zip_of_one_csv(tmp_path):
    rows, _, _ = stage_csv(tmp_path, zipped({"a/calls.csv": b"id,what,where\n1,a,b\n"}))
    assert rows == [(1, "1", "a", "b")]


def test_cut_zip(tmp_path, road_feed):
    with pytest.raises(DeliveryError) as caught:
        stage(tmp_path, zipped(write_shapefile(tmp_path))[:-200], road_feed)
    assert caught.value.error_type == "TruncatedFile"


def test_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    duckdb.execute(f"copy (select 1 as id, date '2026-01-02' as what, [1, 2] as \"where\") to '{path}'")
    rows, _, staged = stage(tmp_path, path.read_bytes(), make_feed(source="a.parquet"))
    assert rows == [(1, "1", "2026-01-02", "[1, 2]")]
    assert staged.rows_in_file == 1
    with pytest.raises(DeliveryError, match="no whole Parquet"):
        stage(tmp_path, path.read_bytes()[:-9], make_feed(source="a.parquet"))


@pytest.mark.parametrize(
    ("content", "error_type"),
    [
        (b"", "EmptyFile"),
        (b"\n\n", "EmptyFile"),
        (b"<!DOCTYPE html><html><head><title>Sign in</title>", "HtmlInsteadOfData"),
        (b"\xef\xbb\xbf\n <html>", "HtmlInsteadOfData"),
        (b'<?xml version="1.0"?><Error/>', "HtmlInsteadOfData"),
        (b'{"error": "no such dataset"}', "WrongFormat"),
        (b"%PDF-1.7", "WrongFormat"),
        (b"stop,latitude\n1,2\n", "MissingColumns"),
    ],
)
def test_files_that_are_not_this_feed(tmp_path, content, error_type):
    with pytest.raises(DeliveryError) as caught:
        stage_csv(tmp_path, content)
    assert caught.value.error_type == error_type
    assert "\n" not in str(caught.value)


def test_without_the_sniff_a_web_page_is_data(tmp_path, monkeypatch):
    page = "<html>,,\nid,what,where\n"
    header = ["id", "what", "where"]
    with pytest.raises(DeliveryError):
        stage_csv(tmp_path, page, header=header)
    monkeypatch.setattr(unpacking, "is_markup", lambda head: False)
    rows, _, _ = stage_csv(tmp_path, page, header=header)
    assert rows == [(1, "id", "what", "where")]


def test_cut_gzip(tmp_path):
    stored = tmp_path / "one.csv.gz"
    stored.write_bytes(gzip.compress(b"id,what,where\n" + b"1,a,b\n" * 9999)[:-20])
    feed = make_feed()
    with parsing.connect(tmp_path) as con, pytest.raises(DeliveryError, match="cut or damaged"):
        parsing.stage(con, stored, feed, feed.parts[0], tmp_path)


def test_names_and_values_of_a_source_never_become_sql(tmp_path):
    evil = "x' , '); drop table rejects; --"
    text = io.StringIO(newline="")
    csv.writer(text).writerows(
        [["id", evil, 'q"uote', "", "ID"], ["1", "'); drop table rejects; --", "b", "c", "d"]]
    )
    feed = make_feed({"source_id": "id", "category": evil, "address": 'q"uote', "status": "ID_1"})
    rows, rejects, staged = stage(tmp_path, text.getvalue().encode(), feed)
    assert rows == [(1, "1", "'); drop table rejects; --", "d", "b")]
    assert rejects == []
    assert staged.source_columns == ("id", evil, 'q"uote', "column3", "ID_1")


def test_an_expression_that_does_not_fit_blocks(tmp_path):
    feed = make_feed({"source_id": {"sql": 'cast("id" as integer)'}})
    with pytest.raises(DeliveryError, match="try_cast") as caught:
        stage(tmp_path, b"id\nnot a number\n", feed)
    assert caught.value.outcome == "blocked"


def test_a_count_that_disagrees_is_seen(tmp_path, monkeypatch):
    # The twin of the honest count: a reader that loses a record is found out.
    real = csv_records.write_records

    def lossy(stream, part, folder):
        records = real(stream, part, folder)
        records.path.write_text(records.path.read_text("utf-8").replace("2,a,b\n", ""), "utf-8")
        return records

    monkeypatch.setattr(csv_records, "write_records", lossy)
    rows, rejects, staged = stage_csv(tmp_path, "id,what,where\n1,a,b\n2,a,b\n")
    assert staged.rows_in_file == 2
    assert len(rows) + len(rejects) == 1
