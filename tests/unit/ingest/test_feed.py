"""Declarations: what loads, what is refused, and that every refusal names file, key and remedy."""

from pathlib import Path

import duckdb
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.ingest.consistency import canonical_statuses, event_types
from assets.ingest.contracts import EVENT_KINDS, EVENT_TIME, KINDS, column_names
from assets.ingest.feed import BUILT_IN, City, DeclarationError, load_cities, read_cities
from assets.ingest.part import Source

CITY = {
    "name": "Testville",
    "country": "US",
    "state": "IL",
    "time_zone": "America/Chicago",
    "crs": "EPSG:26916",
    "bbox": [-87.95, 41.6, -87.5, 42.05],
}
FEED = {
    "title": "Requests",
    "kind": "service_request",
    "publisher": "City of Testville",
    "landing_page": "https://example.org/requests",
    "licence": "none stated",
    "owner_agency": "sanitation",
    "cadence": "daily",
    "portal": "files",
    "parts": [{"id": "all", "source": "requests.csv"}],
    "columns": {"source_id": "Number", "requested_at": "Created", "x": "Lon", "y": "Lat"},
    "event_type": "sanitation_violation",
}
AT_PORTAL = {"id": "all", "source": "https://portal.example/data/abcd-1234"}
BOUNDARY = {
    key: value
    for key, value in {
        **FEED,
        "kind": "boundary",
        "area_type": "ward",
        "columns": {"source_id": "ward"},
        "parts": [{"id": "all", "source": "wards.geojson"}],
    }.items()
    if key != "event_type"
}


def write_city(
    folder: Path, city: dict | str | None = None, name: str = "testville", **feeds: dict | str
) -> Path:
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    for stem, said in {"_city": CITY if city is None else city, **feeds}.items():
        text = said if isinstance(said, str) else yaml.safe_dump(said, sort_keys=False, allow_unicode=True)
        (place / f"{stem}.yaml").write_text(text, encoding="utf-8")
    return folder


def load_feed(folder: Path, said: dict, variables: dict[str, str] | None = None):
    return load_cities([write_city(folder, requests=said)], variables or {})["testville"].feeds["requests"]


def problems(folder: Path, said: dict | str, city: dict | str | None = None) -> list[tuple[str, str]]:
    write_city(folder, city, requests=said)
    return [(problem.key, problem.message) for problem in read_cities([folder], {})[1]]


def test_a_right_declaration_loads_with_its_defaults(tmp_path):
    feed = load_feed(tmp_path, FEED)
    assert (feed.city, feed.id, feed.kind) == ("testville", "requests", "service_request")
    assert feed.crs == "EPSG:4326"
    assert feed.times == "offset"
    assert feed.expect.min_volume_ratio == 0.5
    assert feed.expect.max_unmapped_share == 0.02
    assert feed.parts[0].format == "csv"
    assert feed.parts[0].source == str(tmp_path / "testville" / "requests.csv")
    assert feed.event_time_columns == ("requested_at",)
    assert feed.part("all") is feed.parts[0]


def test_variables_and_addresses_in_sources(tmp_path):
    parts = [
        {"id": "a", "source": "${HOME_OF}/a.csv.gz"},
        {"id": "b", "source": "https://example.org/b.jsonl?limit=5"},
        {"id": "c", "source": "c.zip", "format": "csv"},
    ]
    feed = load_feed(tmp_path, {**FEED, "parts": parts}, {"HOME_OF": "/elsewhere"})
    assert [part.source for part in feed.parts] == [
        "/elsewhere/a.csv.gz",
        "https://example.org/b.jsonl?limit=5",
        str(tmp_path / "testville" / "c.zip"),
    ]
    assert [part.format for part in feed.parts] == ["csv", "jsonl", "csv"]
    assert [part.is_remote for part in feed.parts] == [False, True, False]


def with_columns(**columns: object) -> dict:
    return {**FEED, "columns": {**FEED["columns"], **columns}}


def without(said: dict, key: str) -> dict:
    return {name: value for name, value in said.items() if name != key}


WRONG: dict[str, tuple[dict | str, str, str]] = {
    "unknown key": ({**FEED, "licens": "x"}, "licens", "unknown key; did you mean licence?"),
    "unknown key of a part": (
        {**FEED, "parts": [{"id": "a", "source": "a.csv", "crc": "EPSG:4326"}]},
        "parts[0].crc",
        "unknown key; did you mean crs?",
    ),
    "unknown key of the expectations": (
        {**FEED, "expect": {"min_row": 5}},
        "expect.min_row",
        "unknown key; did you mean min_rows?",
    ),
    "missing key": (without(FEED, "licence"), "licence", "is missing; add it"),
    "wrong kind": ({**FEED, "kind": "crimes"}, "kind", "'crimes' is unknown; did you mean crime?"),
    "wrong cadence": (
        {**FEED, "cadence": "often"},
        "cadence",
        "'often' is unknown; use one of hourly, daily",
    ),
    "unknown portal": ({**FEED, "portal": "gopher"}, "portal", "'gopher' is unknown"),
    "unknown column": (
        with_columns(requestd_at="C"),
        "columns.requestd_at",
        "unknown column of kind service_request; did you mean requested_at?",
    ),
    "column of another kind": (
        with_columns(issued_at="C"),
        "columns.issued_at",
        "unknown column of kind service_request",
    ),
    "column that is a number": (with_columns(status=5), "columns.status", "write a source column name, or"),
    "no source_id": (
        {**FEED, "columns": without(FEED["columns"], "source_id")},
        "columns.source_id",
        "is missing; map the id",
    ),
    "no event time": (
        {**FEED, "columns": without(FEED["columns"], "requested_at")},
        "columns.requested_at",
        "is missing; map the time of the event to requested_at",
    ),
    "half a place": (
        {**FEED, "columns": without(FEED["columns"], "x")},
        "columns.x",
        "is missing beside the other coordinate",
    ),
    "unknown event type": (
        {**FEED, "event_type": "potholes"},
        "event_type",
        "unknown event type 'potholes'; did you mean pothole?",
    ),
    "event type of another kind": (
        {**FEED, "event_type": "burglary"},
        "event_type",
        "'burglary' is of kind crime, the feed of kind service_request",
    ),
    "no event type": (without(FEED, "event_type"), "event_type", "add it, or a requests.categories.csv"),
    "unknown canonical status": (
        {**with_columns(status="S"), "statuses": {"Done": "closd"}},
        "statuses.Done",
        "'closd' is no canonical status; did you mean closed?",
    ),
    "status without statuses": (
        with_columns(status="S"),
        "statuses",
        "is missing; say which canonical status",
    ),
    "statuses without status": (
        {**FEED, "statuses": {"Done": "closed"}},
        "columns.status",
        "is missing; map",
    ),
    "bad crs": ({**FEED, "crs": "EPSG:0"}, "crs", "'EPSG:0' is no coordinate reference system; write it as"),
    "twice the same part": (
        {**FEED, "parts": [{"id": "a", "source": "a.csv"}, {"id": "a", "source": "b.csv"}]},
        "parts",
        "2 parts have the id 'a'; give each its own",
    ),
    "validity backwards": (
        {
            **FEED,
            "parts": [{"id": "a", "source": "a.csv", "valid_from": "2020-01-01", "valid_to": "2019-01-01"}],
        },
        "parts[0].valid_to",
        "2019-01-01 is not after valid_from 2020-01-01",
    ),
    "portal at a path": (
        {**FEED, "portal": "socrata"},
        "parts[0].source",
        "socrata is asked over http(s); write the address of the data set",
    ),
    "format a portal does not answer in": (
        {**FEED, "portal": "ckan", "parts": [{**AT_PORTAL, "format": "csv"}]},
        "parts[0].format",
        "ckan does not answer in csv; write json, or remove it",
    ),
    "header of what a portal answers": (
        {**FEED, "portal": "carto", "parts": [{**AT_PORTAL, "header": ["Number"]}]},
        "parts[0].header",
        "says nothing of what carto answers; remove it",
    ),
    "mode a portal cannot": (
        {**FEED, "sync": {"mode": "incremental", "cursor": "Changed"}},
        "sync.mode",
        "files cannot be kept up by incremental; use one of full, snapshot",
    ),
    "months of another column": (
        {**FEED, "portal": "socrata", "parts": [AT_PORTAL], "sync": {"created": ":created_at"}},
        "sync.created",
        "':created_at' does not give the event time, whose months are compared; name its column, or say",
    ),
    "incremental without a cursor": (
        {**FEED, "portal": "arcgis", "parts": [AT_PORTAL], "sync": {"mode": "incremental"}},
        "sync.cursor",
        "name the column of arcgis that says when a row changed",
    ),
    "records of what is no snapshot": (
        {**FEED, "portal": "ckan", "parts": [AT_PORTAL], "request": {"records": "/rows"}},
        "request.records",
        "says nothing for ckan; remove it",
    ),
    "token that is no variable": (
        {**FEED, "portal": "ckan", "parts": [AT_PORTAL], "request": {"token_env": "a secret"}},
        "request.token_env",
        "",
    ),
    "overlap that is no span": (
        {**FEED, "portal": "ckan", "parts": [AT_PORTAL], "sync": {"overlap": "soon"}},
        "sync.overlap",
        "'soon' is no span of time; write it as 10m, 6h or 2d",
    ),
    "exclusion without a day": (
        {**FEED, "exclude": [{"reason": "flood of test calls"}]},
        "exclude[0]",
        "names no day; say since, until, or both",
    ),
    "exclusion backwards": (
        {**FEED, "exclude": [{"since": "2020-02-01", "until": "2020-01-01", "reason": "tests"}]},
        "exclude[0].until",
        "2020-01-01 is not after 2020-02-01",
    ),
    "tail of itself": ({**FEED, "live_tail_of": "requests"}, "live_tail_of", "is the feed itself"),
    "tail of nothing": (
        {**FEED, "live_tail_of": "bulk"},
        "live_tail_of",
        "'bulk' is no feed of testville; name one, or remove it",
    ),
    "undefined variable": (
        {**FEED, "parts": [{"id": "a", "source": "${NOWHERE}/a.csv"}]},
        "parts[0].source",
        "${NOWHERE} is not defined; set NOWHERE",
    ),
    "id that is a path": (
        {**FEED, "parts": [{"id": "../a", "source": "a.csv"}]},
        "parts[0].id",
        "'../a' cannot be an id; use lower-case letters",
    ),
    "format that cannot be told": (
        {**FEED, "parts": [{"id": "a", "source": "a.dat"}]},
        "parts[0].format",
        "the name does not tell the format; add `format:`",
    ),
    "no parts": ({**FEED, "parts": []}, "parts", "[] will not do"),
    "a year for a date": (
        {**FEED, "parts": [{"id": "a", "source": "a.csv", "valid_from": 2015}]},
        "parts[0].valid_from",
        "2015 is no date; write it as 2015-01-02",
    ),
    "header that names a column twice": (
        {**FEED, "parts": [{"id": "a", "source": "a.csv", "header": ["A", "A"]}]},
        "parts[0].header",
        "names a column twice",
    ),
    "two statements": (
        with_columns(address={"sql": "1; drop table x"}),
        "columns.address",
        "the expression holds a `;`",
    ),
    "no expression": (
        with_columns(address={"sql": "coalesce("}),
        "columns.address",
        "DuckDB cannot parse it",
    ),
    "share above one": (
        {**FEED, "expect": {"max_null_share": {"x": 1.5}}},
        "expect.max_null_share.x",
        "1.5 will",
    ),
    "expectation of an unknown column": (
        {**FEED, "expect": {"value_ranges": {"cost": [0, 1]}}},
        "expect.value_ranges.cost",
        "unknown column of kind service_request",
    ),
    "unmapped labels of a boundary": (
        {**BOUNDARY, "expect": {"max_unmapped_share": 0.1}},
        "expect.max_unmapped_share",
        "says nothing for a feed of kind boundary; remove it",
    ),
    "asset key of an event": (
        {**FEED, "reach_m": 5},
        "reach_m",
        "says nothing for a feed of kind service_request",
    ),
    "area type of a boundary": (
        without(BOUNDARY, "area_type"),
        "area_type",
        "is missing; say what an area is",
    ),
    "boundary without geometry": (
        {**BOUNDARY, "parts": [{"id": "a", "source": "a.csv"}]},
        "parts[0].format",
        "csv holds no areas",
    ),
    "boundary with an event type": (
        {**BOUNDARY, "event_type": "pothole"},
        "event_type",
        "says nothing for a feed of kind boundary; remove it",
    ),
    "asset of unknown type": (
        {**without(BOUNDARY, "area_type"), "kind": "asset", "asset_type": "scool"},
        "asset_type",
        "'scool' is unknown; did you mean school?",
    ),
    "what the folder says": ({**FEED, "city": "other"}, "city", "is given by the file's place; remove it"),
    "duplicate key": (
        yaml.safe_dump(FEED) + "licence: another\n",
        f"line {yaml.safe_dump(FEED).count(chr(10)) + 1}",
        "the key 'licence' is said twice; keep one",
    ),
    "duplicate key below": (
        yaml.safe_dump(without(FEED, "columns")) + "columns:\n  x: A\n  x: B\n",
        f"line {yaml.safe_dump(without(FEED, 'columns')).count(chr(10)) + 3}",
        "the key 'x' is said twice; keep one",
    ),
    "no YAML": ("title: [", "line 1", "correct the YAML"),
    "a list": ("- title", "the file", "holds no keys"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_with_file_key_and_remedy(tmp_path, case):
    said, key, message = WRONG[case]
    found = problems(tmp_path, said)
    assert [k for k, _ in found] == [key]
    assert message in found[0][1]
    assert len(found[0][1].split("; ")) >= 2 or "?" in found[0][1], "there is a remedy"
    # The twin: without the mistake the same folder is in order.
    assert problems(tmp_path, FEED) == []


WRONG_CITY = {
    "time zone": ({**CITY, "time_zone": "Chicago"}, "time_zone", "'Chicago' is no time zone"),
    "degrees": ({**CITY, "crs": "EPSG:4326"}, "crs", "'EPSG:4326' is not projected in metres"),
    "feet": ({**CITY, "crs": "EPSG:3435"}, "crs", "'EPSG:3435' is not projected in metres"),
    "box order": ({**CITY, "bbox": [-87.5, 41.6, -87.95, 42.05]}, "bbox", "is out of order; write [west,"),
    "unknown key": ({**CITY, "zone": "x"}, "zone", "unknown key"),
    "feeds inside": ({**CITY, "feeds": {}}, "feeds", "is given by the file's place"),
    "Norway": ({**CITY, "country": False}, "country", "False is not text; put it in quotes"),
    "unknown agency": (
        {**CITY, "agencies": {"DSNY": "sanitaton"}},
        "agencies.DSNY",
        "'sanitaton' is no canonical agency; did you mean sanitation?",
    ),
    "one name for two agencies": (
        {**CITY, "agencies": {"Streets  Dept": "transportation", "streets dept": "sanitation"}},
        "agencies.streets dept",
        "contradicts 'Streets  Dept', which is the same name; keep one",
    ),
    "hours of work": (
        {**CITY, "work_hours": {"source": "law", "allowed": {"monday": "7-18"}}},
        "work_hours.allowed.monday",
        "'7-18' is no span of a day; write it as 07:00-18:00",
    ),
    "hours that end before they begin": (
        {**CITY, "work_hours": {"source": "law", "allowed": {"monday": "18:00-07:00"}}},
        "work_hours.allowed.monday",
        "'18:00-07:00' is no span of a day",
    ),
    "a day that is none": (
        {**CITY, "work_hours": {"source": "law", "allowed": {"mondays": "07:00-18:00"}}},
        "work_hours.allowed.mondays",
        "'mondays' is unknown; did you mean monday?",
    ),
    "a key of hours that is none": (
        {**CITY, "work_hours": {"source": "law", "allowed": {"monday": "07:00-18:00"}, "grace": 30}},
        "work_hours.grace",
        "unknown key; use one of source, allowed, holidays, grace_minutes",
    ),
    "hours without their rule": (
        {**CITY, "work_hours": {"allowed": {"monday": "07:00-18:00"}}},
        "work_hours.source",
        "is missing; add it",
    ),
    "a variance that is no permit": (
        {
            **CITY,
            "work_hours": {
                "source": "law",
                "allowed": {"monday": "07:00-18:00"},
                "variance_types": ["noise_construction"],
            },
        },
        "work_hours.variance_types",
        "'noise_construction' is no type of permit",
    ),
    "default point": (
        {**CITY, "default_points": [[41.8, -187.6]]},
        "default_points[0]",
        "is not on the earth",
    ),
}


@pytest.mark.parametrize("case", WRONG_CITY)
def test_what_is_wrong_with_a_city(tmp_path, case):
    city, key, message = WRONG_CITY[case]
    [(found_key, found)] = problems(tmp_path, FEED, city)
    assert found_key == key
    assert message in found
    assert problems(tmp_path, FEED) == []


def test_all_problems_of_all_files_come_at_once_one_line_each(tmp_path):
    write_city(
        tmp_path,
        {**CITY, "time_zone": "Mars/Base"},
        requests={
            **without(FEED, "licence"),
            "event_type": "burglary",
            "crs": "x",
            "columns": {"source_id": "N"},
        },
        crimes={**FEED, "kind": "crime", "columns": {"source_id": "N", "occurred_at": "D"}},
    )
    write_city(tmp_path, name="other", requests={**FEED, "parts": [{"id": "A", "source": "a.csv"}]})
    with pytest.raises(DeclarationError) as raised:
        load_cities([tmp_path], {})
    lines = str(raised.value).splitlines()
    places = [tuple(line.removeprefix(str(tmp_path) + "/").split(": ")[:2]) for line in lines]
    assert sorted(places) == [
        ("other/requests.yaml", "parts[0].id"),
        ("testville/_city.yaml", "time_zone"),
        ("testville/crimes.yaml", "event_type"),
        ("testville/requests.yaml", "columns.requested_at"),
        ("testville/requests.yaml", "crs"),
        ("testville/requests.yaml", "event_type"),
        ("testville/requests.yaml", "licence"),
    ]


@pytest.mark.parametrize(
    ("one", "other", "overlaps"),
    [
        (("2010-01-01", "2012-01-01"), ("2011-12-31", "2013-01-01"), True),
        (("2010-01-01", "2012-01-01"), ("2012-01-01", "2013-01-01"), False),
        (("2010-01-01", None), ("2012-01-01", None), True),
        (("2010-01-01", "2012-01-01"), ("2012-01-01", None), False),
        (("2010-01-01", "2012-01-01"), (None, None), False),
        ((None, "2012-01-01"), ("2011-01-01", None), True),
    ],
)
def test_parts_may_meet_but_not_overlap(tmp_path, one, other, overlaps):
    parts = [
        {"id": part_id, "source": "a.csv", "valid_from": start, "valid_to": end}
        for part_id, (start, end) in (("a", one), ("b", other))
    ]
    found = problems(tmp_path, {**FEED, "parts": parts})
    assert [key for key, _ in found] == (["parts"] if overlaps else [])


def test_a_later_folder_replaces_a_city_whole(tmp_path):
    first = write_city(tmp_path / "first", requests=FEED, more=FEED)
    second = write_city(tmp_path / "second", {**CITY, "name": "Renamed"}, requests=FEED)
    write_city(first, name="other", requests=FEED)
    cities = load_cities([first, second], {})
    assert sorted(cities) == ["other", "testville"]
    assert cities["testville"].name == "Renamed"
    assert cities["testville"].folder == second / "testville"
    assert sorted(cities["testville"].feeds) == ["requests"]
    assert sorted(load_cities([second, first], {})["testville"].feeds) == ["more", "requests"]


def test_a_replaced_city_need_not_be_right(tmp_path):
    first = write_city(tmp_path / "first", {**CITY, "crs": "nonsense"}, requests=FEED)
    second = write_city(tmp_path / "second", requests=FEED)
    assert load_cities([first, second], {})["testville"].crs == "EPSG:26916"
    with pytest.raises(DeclarationError):
        load_cities([first], {})


def test_files_that_nothing_reads_are_problems(tmp_path):
    write_city(tmp_path, requests=FEED)
    (tmp_path / "testville" / "permits.yml").write_text("title: x", encoding="utf-8")
    (tmp_path / "testville" / "request.categories.csv").write_text("category,event_type\n", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    found = {Path(problem.file).name: problem.message for problem in read_cities([tmp_path], {})[1]}
    assert sorted(found) == ["permits.yml", "request.categories.csv"]
    assert "end in .yaml" in found["permits.yml"]


def test_a_folder_that_is_not_there_is_a_problem(tmp_path):
    with pytest.raises(
        DeclarationError, match="nowhere: the folder: is not there; correct CITYSIGNAL_CITIES"
    ):
        load_cities([tmp_path / "nowhere"], {})


def test_a_city_without_its_file_is_a_problem(tmp_path):
    write_city(tmp_path, requests=FEED)
    (tmp_path / "testville" / "_city.yaml").unlink()
    with pytest.raises(DeclarationError, match=r"_city\.yaml: the file: is not there"):
        load_cities([tmp_path], {})


HEADER = "category,subcategory,code,event_type,event_subtype,target_days\n"


def with_categories(folder: Path, text: str, said: dict | None = None):
    write_city(folder, requests=said or without(FEED, "event_type"))
    (folder / "testville" / "requests.categories.csv").write_text(text, encoding="utf-8")
    cities, found = read_cities([folder], {})
    return cities.get("testville"), [(Path(p.file).name, p.key, p.message) for p in found]


def test_categories_beside_the_feed_are_read(tmp_path):
    city, found = with_categories(
        tmp_path, HEADER + 'Pot – hole,"Deep, wet",PH,pothole,deep,7\nRats,,,rodent,,\n'
    )
    assert found == []
    first, second = city.feeds["requests"].categories
    assert (first.category, first.subcategory, first.code) == ("Pot – hole", "Deep, wet", "PH")
    assert (first.event_type, first.event_subtype, first.target_days) == ("pothole", "deep", 7.0)
    assert (second.subcategory, second.code, second.target_days) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        (HEADER + "Rats,,,rat,,\n", "row 2", "unknown event type 'rat'"),
        (HEADER + "Theft,,,theft,,\n", "row 2", "'theft' is of kind crime"),
        (HEADER + "Rats,,,,,\n", "row 2", "event_type is missing"),
        (HEADER + "Rats,,,rodent,,soon\n", "row 2", "target_days"),
        (HEADER + ",,,rodent,,\n", "row 2", "names no category and no code"),
        (HEADER + "Rats,,,rodent,,\n rats ,,,pothole,,\n", "row 3", "contradicts row 2 on rats"),
        (HEADER + "A,,X,rodent,,\nB,,x,pothole,,\n", "row 3", "contradicts row 2 on x"),
        (HEADER + "Rats,rodent\n", "line 2", "has 2 cells for 6 columns"),
        ("category,type\nRats,rodent\n", "type", "unknown column; use one of category"),
    ],
)
def test_what_is_wrong_with_categories(tmp_path, text, key, message):
    _, found = with_categories(tmp_path, text)
    assert [(file, found_key) for file, found_key, _ in found] == [("requests.categories.csv", key)]
    assert message in found[0][2]


def test_one_code_may_have_two_names(tmp_path):
    _, found = with_categories(
        tmp_path, HEADER + "Rats,,SGA,rodent,,\nRodents,,SGA,rodent,,\nRats,,SGB,insects_pests,,\n"
    )
    assert found == []


def test_a_constant_beside_categories_is_refused(tmp_path):
    _, found = with_categories(tmp_path, HEADER + "Rats,,,rodent,,\n", FEED)
    assert [(key, "keep one" in message) for _, key, message in found] == [("event_type", True)]


def test_mapping_quotes_names_and_keeps_contract_order(tmp_path):
    feed = load_feed(
        tmp_path,
        with_columns(category='a"b', address={"sql": 'trim("Street") -- where'}),
    )
    mapping = feed.mapping(feed.parts[0])
    assert list(mapping) == [name for name in column_names("service_request") if name in mapping]
    assert mapping["category"] == '"a""b"'
    [row] = duckdb.sql(
        f"select {mapping['category']}, {mapping['address']}"
        """ from (select 'c' as "a""b", ' s ' as "Street")"""
    ).fetchall()
    assert row == ("c", "s")


@settings(max_examples=60, deadline=None)
@given(name=st.text(min_size=1, max_size=20).filter(lambda text: "\0" not in text))
def test_no_source_column_name_becomes_sql(name):
    con = duckdb.connect()
    text = Source(column=name).expression()
    [(value,)] = con.execute(f"select {text} from (select 'kept' as {text})").fetchall()
    assert value == "kept"


def test_a_part_overrides_adds_and_leaves_out_columns(tmp_path):
    parts = [
        {"id": "old", "source": "old.csv", "columns": {"requested_at": "When", "x": None, "y": None}},
        {"id": "new", "source": "new.csv", "columns": {"channel": "How"}},
    ]
    feed = load_feed(tmp_path, {**FEED, "parts": parts})
    old, new = (feed.mapping(part) for part in feed.parts)
    assert old == {"source_id": '"Number"', "requested_at": '"When"'}
    assert new["channel"] == '"How"'
    assert new["x"] == '"Lon"'


def test_geometry_files_give_their_own_point_unless_told_otherwise(tmp_path):
    feed = load_feed(tmp_path, BOUNDARY)
    assert feed.mapping(feed.parts[0]) == {"source_id": '"ward"', "x": '"geometry_x"', "y": '"geometry_y"'}
    told = load_feed(tmp_path, {**BOUNDARY, "columns": {"source_id": "ward", "x": "lon", "y": "lat"}})
    assert told.mapping(told.parts[0])["x"] == '"lon"'


def test_the_validity_of_a_boundary_part_is_that_of_its_areas(tmp_path):
    part = {"id": "a", "source": "a.geojson", "valid_from": "2015-05-18"}
    feed = load_feed(tmp_path, {**BOUNDARY, "parts": [part]})
    mapping = feed.mapping(feed.parts[0])
    assert duckdb.sql(f"select {mapping['valid_from']}").fetchall() == [("2015-05-18",)]
    assert "valid_to" not in mapping


CHANGES = {
    "mapping": {"columns": {**FEED["columns"], "status_notes": "Notes"}},
    "crs": {"crs": "EPSG:3435"},
    "default points": {"default_points": [[-87.6, 41.8]]},
    "encoding": {"parts": [{"id": "all", "source": "requests.csv", "encoding": "cp1252"}]},
    "delimiter": {"parts": [{"id": "all", "source": "requests.csv", "delimiter": "|"}]},
    "skipped rows": {"parts": [{"id": "all", "source": "requests.csv", "skip_rows": 1}]},
    "header": {
        "parts": [{"id": "all", "source": "requests.csv", "header": ["Number", "Created", "Lon", "Lat"]}]
    },
    "format": {"parts": [{"id": "all", "source": "requests.csv", "format": "json"}]},
    "as_of": {"parts": [{"id": "all", "source": "requests.csv", "as_of": "2020-01-01"}]},
    "expectations": {"expect": {"min_rows": 5}},
}
NO_CHANGES = {
    "title": {"title": "Another"},
    "statuses in staging": {"times": "local"},
    "event type": {"event_type": "rodent"},
    "unmapped labels": {"expect": {"max_unmapped_share": 0.5}},
    "source": {"parts": [{"id": "all", "source": "moved/requests.csv"}]},
}


@pytest.mark.parametrize("change", [*CHANGES, *NO_CHANGES])
def test_the_fingerprint_changes_with_what_decides_what_lands_only(tmp_path, change):
    before = load_feed(tmp_path, FEED)
    after = load_feed(tmp_path, {**FEED, **{**CHANGES, **NO_CHANGES}[change]})
    is_same = before.fingerprint(before.parts[0]) == after.fingerprint(after.parts[0])
    assert is_same == (change in NO_CHANGES)


def test_the_fingerprint_knows_the_city_frame(tmp_path):
    prints = set()
    for name, city in enumerate(
        [
            CITY,
            {**CITY, "crs": "EPSG:26915"},
            {**CITY, "bbox": [-88, 41, -87, 42]},
            {**CITY, "default_points": [[-87, 41]]},
        ]
    ):
        feed = load_cities([write_city(tmp_path / str(name), city, requests=FEED)], {})["testville"].feeds[
            "requests"
        ]
        prints.add(feed.fingerprint(feed.parts[0]))
    assert len(prints) == 4


def test_as_of_is_utc_without_a_zone(tmp_path):
    parts = [
        {"id": "a", "source": "a.csv", "as_of": "2015-01-02"},
        {"id": "b", "source": "a.csv", "as_of": "2015-01-02T06:00:00-06:00"},
    ]
    feed = load_feed(tmp_path, {**FEED, "parts": parts})
    assert [part.as_of.isoformat() for part in feed.parts] == ["2015-01-02T00:00:00", "2015-01-02T12:00:00"]


@settings(max_examples=60, deadline=None)
@given(
    said=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.dates(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ),
    key=st.sampled_from([*FEED, "statuses", "expect", "default_points", "reach_m", "times"]),
)
def test_any_value_under_any_key_loads_or_is_a_problem_but_never_a_traceback(tmp_path_factory, said, key):
    folder = tmp_path_factory.mktemp("cities")
    write_city(folder, requests={**FEED, key: said})
    cities, found = read_cities([folder], {})
    assert bool(cities) != bool(found)
    assert all(len(str(problem).splitlines()) == 1 for problem in found)


def test_the_vocabulary_covers_every_event_kind():
    assert set(event_types().values()) >= set(EVENT_KINDS)
    assert {"open", "closed", "closed_duplicate", "unknown"} <= set(canonical_statuses())
    assert all(set(EVENT_TIME[kind]) <= set(column_names(kind)) for kind in EVENT_KINDS)
    assert set(EVENT_TIME) < set(KINDS)


def test_built_in_cities_load(tmp_path):
    variables = {"CITYSIGNAL_SIMULATED_PORTAL": "http://127.0.0.1"}
    for city in load_cities([BUILT_IN], variables).values():
        assert isinstance(city, City)
        assert city.folder.parent == BUILT_IN
