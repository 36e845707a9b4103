"""What the declarations say, as tables that dbt joins on; no row of a feed passes through here."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assets.ingest.contracts import EVENT_KINDS
from assets.ingest.feed import City, Feed
from assets.ingest.lake import Lake
from assets.ingest.work_hours import WEEKDAYS

_TEXT, _NUMBER, _FLAG = pa.string(), pa.float64(), pa.bool_()
_COUNT, _DAY = pa.int32(), pa.date32()

SCHEMAS: dict[str, pa.Schema] = {
    "cities": pa.schema(
        {
            "city": _TEXT,
            "city_name": _TEXT,
            "country": _TEXT,
            "state": _TEXT,
            "time_zone": _TEXT,
            "crs": _TEXT,
            "west": _NUMBER,
            "south": _NUMBER,
            "east": _NUMBER,
            "north": _NUMBER,
            "is_simulated": _FLAG,
        }
    ),
    "feeds": pa.schema(
        {
            "city": _TEXT,
            "feed": _TEXT,
            "kind": _TEXT,
            "title": _TEXT,
            "publisher": _TEXT,
            "landing_page": _TEXT,
            "licence": _TEXT,
            "owner_agency": _TEXT,
            "cadence": _TEXT,
            "portal": _TEXT,
            "is_verified": _FLAG,
            "one_case_in_parts": _FLAG,
            "live_tail_of": _TEXT,
            "times": _TEXT,
            "time_precision": _TEXT,
            "event_type": _TEXT,
            "event_subtype": _TEXT,
            "target_days": _NUMBER,
            "asset_type": _TEXT,
            "area_type": _TEXT,
            "reach_m": _NUMBER,
            "max_unmapped_share": _NUMBER,
        }
    ),
    "agencies": pa.schema({"city": _TEXT, "source_agency": _TEXT, "agency": _TEXT}),
    "work_hours": pa.schema(
        {
            "city": _TEXT,
            "weekday": _COUNT,
            "opens_minute": _COUNT,
            "closes_minute": _COUNT,
            "grace_minutes": _COUNT,
            "open_permit_days": _COUNT,
            "source": _TEXT,
        }
    ),
    "work_holidays": pa.schema({"city": _TEXT, "holiday_on": _DAY}),
    "variance_types": pa.schema({"city": _TEXT, "event_type": _TEXT}),
    "parts": pa.schema(
        {
            "city": _TEXT,
            "feed": _TEXT,
            "part": _TEXT,
            "position": _COUNT,
            "valid_from": _DAY,
            "valid_to": _DAY,
        }
    ),
    "categories": pa.schema(
        {
            "city": _TEXT,
            "feed": _TEXT,
            "category": _TEXT,
            "subcategory": _TEXT,
            "code": _TEXT,
            "event_type": _TEXT,
            "event_subtype": _TEXT,
            "target_days": _NUMBER,
            "is_private": _FLAG,
            "is_noise": _FLAG,
        }
    ),
    "statuses": pa.schema({"city": _TEXT, "feed": _TEXT, "source_status": _TEXT, "status": _TEXT}),
    "exclusions": pa.schema({"city": _TEXT, "feed": _TEXT, "since": _DAY, "until": _DAY, "reason": _TEXT}),
}


def write_declared_tables(lake: Lake, cities: Mapping[str, City]) -> dict[str, int]:
    """Write `lake/derived/declared/*.parquet` and return the row count of each table.

    Rows of cities that are not given stay as they are: what was ingested from them is still in the lake.
    """
    folder = lake.derived / "declared"
    folder.mkdir(parents=True, exist_ok=True)
    counts = {}
    for name, schema in SCHEMAS.items():
        path = folder / f"{name}.parquet"
        said = pa.Table.from_pylist(_rows(name, cities), schema=schema)
        table = pa.concat_tables([_kept(path, schema, cities), said])
        order = [(key, "ascending") for key in schema.names if key in ("city", "feed")]
        _write(table.sort_by(order), path)
        counts[name] = table.num_rows
    return counts


def _kept(path: Path, schema: pa.Schema, cities: Mapping[str, City]) -> pa.Table:
    """Return the rows of the cities that are not written now, in today's columns."""
    if not path.exists():
        return schema.empty_table()
    old = pq.read_table(path, partitioning=None)
    old = old.filter(pc.invert(pc.is_in(old["city"], pa.array(sorted(cities), _TEXT))))
    columns = [
        old[field.name].cast(field.type) if field.name in old.column_names else pa.nulls(len(old), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _write(table: pa.Table, path: Path) -> None:
    work = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        pq.write_table(table, work)
        work.replace(path)
    finally:
        work.unlink(missing_ok=True)


def _rows(name: str, cities: Mapping[str, City]) -> list[dict]:
    if name == "cities":
        return [_city_row(city) for city in cities.values()]
    if name in _ROWS_OF_CITY:
        return [{"city": city.id} | row for city in cities.values() for row in _ROWS_OF_CITY[name](city)]
    rows_of = {
        "feeds": lambda feed: [_feed_row(feed)],
        "parts": _part_rows,
        "categories": lambda feed: [rule.model_dump() for rule in feed.categories],
        "statuses": lambda feed: [
            {"source_status": source_status, "status": status}
            for source_status, status in feed.statuses.items()
        ],
        "exclusions": lambda feed: [exclusion.model_dump() for exclusion in feed.exclude],
    }[name]
    return [
        {"city": feed.city, "feed": feed.id} | row
        for city in cities.values()
        for feed in city.feeds.values()
        for row in rows_of(feed)
    ]


def _feed_row(feed: Feed) -> dict:
    said = feed.model_dump(include=set(SCHEMAS["feeds"].names))
    return said | {
        "feed": feed.id,
        "is_verified": feed.verified,
        "reach_m": feed.reach_m if feed.kind == "asset" else None,
        "max_unmapped_share": feed.expect.max_unmapped_share if feed.kind in EVENT_KINDS else None,
    }


def _part_rows(feed: Feed) -> list[dict]:
    return [
        {
            "part": part.id,
            "position": position,
            "valid_from": part.valid_from,
            "valid_to": part.valid_to,
        }
        for position, part in enumerate(feed.parts, start=1)
    ]


def _city_row(city: City) -> dict:
    said = city.model_dump(include={"country", "state", "time_zone", "crs", "is_simulated"})
    sides = dict(zip(("west", "south", "east", "north"), city.bbox, strict=True))
    return {"city": city.id, "city_name": city.name} | said | sides


def _agency_rows(city: City) -> list[dict]:
    return [
        {"source_agency": source_agency, "agency": agency} for source_agency, agency in city.agencies.items()
    ]


def _work_hours_rows(city: City) -> list[dict]:
    """Return a row for each weekday of a city that declares hours; no work is allowed where they are null."""
    if city.work_hours is None:
        return []
    shared = city.work_hours.model_dump(include={"grace_minutes", "open_permit_days", "source"})
    hours = [city.work_hours.allowed.get(day, (None, None)) for day in WEEKDAYS]
    return [
        {"weekday": number, "opens_minute": opens, "closes_minute": closes} | shared
        for number, (opens, closes) in enumerate(hours, start=1)
    ]


_ROWS_OF_CITY: dict[str, Callable[[City], list[dict]]] = {
    "agencies": _agency_rows,
    "work_hours": _work_hours_rows,
    "work_holidays": lambda city: [
        {"holiday_on": day} for day in (city.work_hours.holidays if city.work_hours else ())
    ],
    "variance_types": lambda city: [
        {"event_type": name} for name in (city.work_hours.variance_types if city.work_hours else ())
    ],
}
