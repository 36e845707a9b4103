"""Recorded answers of real portals, by the part of a shipped feed that asks for them, and how mappings fare.

Tests of the simulated portals have no place here.
"""

import csv
import gzip
import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from assets.ingest.feed import Feed
from assets.ingest.part import Part
from assets.ingest.sql_expression import quoted

ROOT = Path(__file__).parents[1]
REAL_DATA = Path(os.environ.get("CITYSIGNAL_REAL_DATA", ROOT.parent / "shared" / "data")).resolve()

Records = list[dict[str, Any]]


def _json(path: Path) -> Any:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return json.load(file)


def _json_records(path: Path) -> Records:
    return _json(path)


def _attributes(path: Path) -> Records:
    return [feature["properties"] for feature in _json(path)["features"]]


def _portal_csv(path: Path) -> Records:
    """Return the rows of a portal's CSV under the names its JSON uses: lower case, `_` for other signs."""
    with gzip.open(path) as packed, io.TextIOWrapper(packed, encoding="utf-8-sig", newline="") as text:
        rows = csv.reader(text)
        names = [re.sub(r"\W+", "_", name.strip().lower()) for name in next(rows)]
        return [dict(zip(names, row, strict=True)) for row in rows]


@dataclass(frozen=True)
class Recorded:
    """An answer on disk: of which part, in which files under the real data, and how they are read."""

    city: str
    feed: str
    part: str
    files: tuple[str, ...]
    read: Callable[[Path], Records]

    def records(self) -> Records:
        return [record for name in self.files for record in self.read(REAL_DATA / name)]


RECORDED = (
    Recorded(
        "new_york_city",
        "service_requests",
        "y2020",
        (
            "api_fixtures/socrata/nyc_311_soda_response.json.gz",
            "api_fixtures/socrata/nyc_311_soda_response_20260228.json.gz",
        ),
        _json_records,
    ),
    Recorded(
        "boston",
        "requests_live",
        "live",
        tuple(
            f"api_fixtures/open311/boston_georeport_v2_{name}.json.gz"
            for name in (
                "other--cx",
                "responses--2000-2700--bb",
                "responses--abandoned-vehicle--ak",
                "responses--sidewalk-not-shovelled--ab",
            )
        ),
        _json_records,
    ),
    Recorded(
        "san_francisco",
        "outages_pge",
        "now",
        ("api_fixtures/outages/pge_outages_snapshot.json.gz",),
        _json_records,
    ),
    Recorded("chicago", "crimes", "from_2001", ("chicago/homicides_2001_2018.csv.gz",), _portal_csv),
    Recorded(
        "chicago",
        "community_areas",
        "all_years",
        ("chicago/boundaries/community_areas.geojson.gz",),
        _attributes,
    ),
    Recorded("chicago", "wards", "y2015", ("chicago/boundaries/wards_2015.geojson.gz",), _attributes),
)


def missing_columns(feed: Feed, part: Part, names: Iterable[str]) -> list[str]:
    """Return the source columns a part maps that an answer does not hold; geometry comes from the reader."""
    there = {*names, "geometry_x", "geometry_y"}
    mapped = [name for source in feed.sources(part).values() for name in source.columns()]
    return sorted({name for name in mapped if name not in there})


def keys_of(records: Records) -> set[str]:
    """Return every key some record holds: nulls are left out of Socrata's objects."""
    return {key for record in records for key in record}


def mapped_rows(feed: Feed, part: Part, records: Records) -> list[dict[str, str | None]]:
    """Return the canonical columns of records, by the mapping that landing uses, over text columns."""
    names = sorted(keys_of(records))
    source = pa.table(
        {name: pa.array([_text(record.get(name)) for record in records], pa.string()) for name in names}
    )
    mapping = feed.mapping(part)
    selected = ", ".join(f"{expression} as {quoted(name)}" for name, expression in mapping.items())
    with duckdb.connect() as con:
        con.register("source", source)
        return con.execute(f"select {selected} from source").to_arrow_table().to_pylist()


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value)


def unmapped_labels(feed: Feed, labels: Iterable[Sequence[str | None]]) -> Counter[Sequence[str | None]]:
    """Return how often each (category, subcategory, code) finds no rule by code, pair or category."""
    rules = set()
    for rule in feed.categories:
        category, subcategory, code = map(_plain, (rule.category, rule.subcategory, rule.code))
        rules |= {("code", code)} if code else set()
        rules |= {(category, subcategory)} if category else set()
    return Counter(
        label
        for label in labels
        if not {
            ("code", _plain(label[2])),
            (_plain(label[0]), _plain(label[1])),
            (_plain(label[0]), ""),
        }
        & rules
    )


def unmapped_statuses(feed: Feed, statuses: Iterable[str | None]) -> Counter[str]:
    """Return how often each status is none of the declared ones."""
    known = {_plain(status) for status in feed.statuses}
    return Counter(status for status in statuses if status and _plain(status) not in known)


def _plain(text: str | None) -> str:
    return " ".join((text or "").lower().split())
