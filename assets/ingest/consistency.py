"""Whether a feed's declaration fits together and fits the vocabulary; values belong to declared_values."""

import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from assets.ingest.contracts import ASSET_TYPES, EVENT_KINDS, EVENT_TIME, column_names
from assets.ingest.declaration_text import one_of
from assets.ingest.sql_expression import ExpressionError

if TYPE_CHECKING:
    from assets.ingest.feed import City, Feed
    from assets.ingest.part import CategoryRule, Part

SEEDS = Path(__file__).parents[2] / "dbt_project" / "seeds"

#: Formats that a protocol answers in besides JSON, and how its parts may be kept up to date.
_FORMATS = {"arcgis": ("json", "geojson"), "open311": ("json", "xml")}
_MODES = {
    "files": ("full", "snapshot"),
    "socrata": ("incremental", "full", "snapshot"),
    "arcgis": ("full", "incremental", "snapshot"),
    "ckan": ("full", "incremental", "snapshot"),
    "carto": ("full", "incremental", "snapshot"),
    "opendatasoft": ("full", "incremental", "snapshot"),
    "open311": ("tail",),
    "outages": ("snapshot", "full"),
}

#: What is wrong: the key it is said under, and `<what is wrong>; <remedy>`.
Finding = tuple[str, str]


@lru_cache
def event_types() -> dict[str, str]:
    """Return the canonical event types and the kind each belongs to."""
    return {row["event_type"]: row["kind"] for row in seed_rows("event_types.csv")}


@lru_cache
def late_after() -> Mapping[str, timedelta]:
    """Return after how long without a landing a feed is late, by cadence; one without a rhythm is absent."""
    days = {row["cadence"]: row.get("late_after_days") for row in seed_rows("cadences.csv")}
    return {cadence: timedelta(days=float(late)) for cadence, late in days.items() if late}


@lru_cache
def canonical_statuses() -> tuple[str, ...]:
    """Return the canonical statuses."""
    return tuple(row["status"] for row in seed_rows("statuses.csv"))


@lru_cache
def canonical_agencies() -> tuple[str, ...]:
    """Return the canonical owners that names of agencies stand for."""
    return tuple(row["agency"] for row in seed_rows("agencies.csv"))


def seed_rows(name: str) -> list[dict[str, str]]:
    """Return the rows of a seed of the dbt project; what is a table there is read from there."""
    with (SEEDS / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def city_findings(city: "City") -> Iterator[Finding]:
    """Yield what does not fit in a city whose single values are all in order."""
    owners: dict[str, tuple[str, str]] = {}
    for name, agency in city.agencies.items():
        if agency not in canonical_agencies():
            said = f"{agency!r} is no canonical agency; {one_of(agency, canonical_agencies())}"
            yield f"agencies.{name}", said
        earlier, told = owners.setdefault(_plain(name), (name, agency))
        if told != agency:
            yield f"agencies.{name}", f"contradicts {earlier!r}, which is the same name; keep one"
    permits = {name for name, kind in event_types().items() if kind == "permit"}
    for name in city.work_hours.variance_types if city.work_hours else ():
        if name not in permits:
            yield "work_hours.variance_types", f"{name!r} is no type of permit; {one_of(name, permits)}"


def findings(feed: "Feed") -> Iterator[Finding]:
    """Yield what does not fit in a feed whose single values are all in order."""
    yield from _columns(feed)
    yield from _expectations(feed)
    yield from _parts(feed)
    yield from _portals(feed)
    yield from _places(feed)
    yield from _statuses(feed)
    if feed.kind in EVENT_KINDS:
        yield from _event_type("event_type", feed.event_type, feed)
        if feed.event_type is None and not feed.categories:
            yield (
                "event_type",
                f"is missing; add it, or a {feed.id}.categories.csv that maps the source's categories",
            )
        if feed.event_type is not None and feed.categories:
            yield "event_type", f"is said beside {feed.id}.categories.csv; keep one of the two"
        if feed.event_subtype is not None and feed.event_type is None:
            yield (
                "event_subtype",
                "is said without event_type; add event_type, or put both into the categories",
            )
    else:
        for key in ("event_type", "event_subtype", "statuses", "target_days", "time_precision"):
            if key in feed.model_fields_set:
                yield key, f"says nothing for a feed of kind {feed.kind}; remove it"
        if feed.categories:
            yield "kind", f"a feed of kind {feed.kind} has no categories; remove {feed.id}.categories.csv"


def _columns(feed: "Feed") -> Iterator[Finding]:
    known = column_names(feed.kind)
    said = {"columns": feed.columns} | {
        f"parts[{index}].columns": part.columns for index, part in enumerate(feed.parts) if part.columns
    }
    for key, columns in said.items():
        for name, source in columns.items():
            if name not in known:
                yield f"{key}.{name}", f"unknown column of kind {feed.kind}; {one_of(name, known)}"
            if source is None or source.sql is None:
                continue
            try:
                source.columns()
            except ExpressionError as error:
                yield f"{key}.{name}", str(error)


def _expectations(feed: "Feed") -> Iterator[Finding]:
    known = column_names(feed.kind)
    expected = {"max_null_share": feed.expect.max_null_share, "value_ranges": feed.expect.value_ranges}
    for key, names in expected.items():
        for name in names:
            if name not in known:
                yield f"expect.{key}.{name}", f"unknown column of kind {feed.kind}; {one_of(name, known)}"
    for name, (low, high) in feed.expect.value_ranges.items():
        if low > high:
            yield f"expect.value_ranges.{name}", f"{low} is above {high}; write [lowest, highest]"
    if "max_unmapped_share" in feed.expect.model_fields_set and feed.kind not in EVENT_KINDS:
        yield "expect.max_unmapped_share", f"says nothing for a feed of kind {feed.kind}; remove it"
    first, last = feed.expect.earliest, feed.expect.latest
    if first is not None and last is not None and first > last:
        yield "expect.latest", f"{last} is before earliest {first}; exchange them"


def _parts(feed: "Feed") -> Iterator[Finding]:
    for part_id, count in Counter(part.id for part in feed.parts).items():
        if count > 1:
            yield "parts", f"{count} parts have the id {part_id!r}; give each its own"
    for index, part in enumerate(feed.parts):
        yield from _required_columns("columns" if not part.columns else f"parts[{index}].columns", part, feed)
        if part.header is not None and len(set(part.header)) < len(part.header):
            yield f"parts[{index}].header", "names a column twice; give each its own name"
        if part.valid_from and part.valid_to and part.valid_from >= part.valid_to:
            said = f"{part.valid_to} is not after valid_from {part.valid_from}"
            yield f"parts[{index}].valid_to", f"{said}; correct them"
    for one, other in combinations(feed.parts, 2):
        if _overlap(one, other):
            yield (
                "parts",
                f"the validity of {one.id} and {other.id} overlaps;"
                " end one where the next begins (valid_to is the first day that is not in it)",
            )


def _portals(feed: "Feed") -> Iterator[Finding]:
    for index, part in enumerate(feed.parts):
        key = f"parts[{index}]"
        if feed.portal_of(part) != "files":
            yield from _answers(key, part, feed)
        yield from _keeping_up(feed, part)
    for index, exclusion in enumerate(feed.exclude):
        if exclusion.since is None and exclusion.until is None:
            yield f"exclude[{index}]", "names no day; say since, until, or both"
        elif exclusion.since and exclusion.until and exclusion.since >= exclusion.until:
            yield f"exclude[{index}].until", f"{exclusion.until} is not after {exclusion.since}; correct them"
    if feed.live_tail_of == feed.id:
        yield "live_tail_of", "is the feed itself; name the feed that tells the same cases in bulk"


def _answers(key: str, part: "Part", feed: "Feed") -> Iterator[Finding]:
    portal = feed.portal_of(part)
    formats = _FORMATS.get(portal, ("json",))
    if portal != "outages" and not part.is_remote:
        yield f"{key}.source", f"{portal} is asked over http(s); write the address of the data set"
    if part.format not in formats:
        said = f"{portal} does not answer in {part.format}; write {' or '.join(formats)}, or remove it"
        yield f"{key}.format", said
    for name in ("header", "delimiter", "skip_rows", "encoding"):
        if name in part.model_fields_set:
            yield f"{key}.{name}", f"says nothing of what {portal} answers; remove it"


def _keeping_up(feed: "Feed", part: "Part") -> Iterator[Finding]:
    portal, sync = feed.portal_of(part), part.sync or feed.sync
    if sync.mode is not None and sync.mode not in _MODES[portal]:
        yield "sync.mode", f"{portal} cannot be kept up by {sync.mode}; {one_of(sync.mode, _MODES[portal])}"
    elif sync.mode == "incremental" and portal != "socrata" and sync.cursor is None:
        yield "sync.cursor", f"is missing; name the column of {portal} that says when a row changed"
    by_month = feed.sync_of(part).deletions == "by_month"
    if by_month and sync.created is not None and sync.created not in _event_time_columns(feed, part):
        said = f"{sync.created!r} does not give the event time, whose months are compared"
        yield "sync.created", f"{said}; name its column, or say `deletions: by_id`"
    if portal != "outages" and (part.request or feed.request).records:
        yield "request.records", f"says nothing for {portal}; remove it"


def _event_time_columns(feed: "Feed", part: "Part") -> tuple[str, ...]:
    sources = feed.sources(part)
    mapped = [sources[name] for name in EVENT_TIME.get(feed.kind, ()) if name in sources]
    return mapped[0].columns() if mapped else ()


def _required_columns(key: str, part: "Part", feed: "Feed") -> Iterator[Finding]:
    mapped = feed.sources(part)
    times = EVENT_TIME.get(feed.kind, ())
    if "source_id" not in mapped:
        yield f"{key}.source_id", "is missing; map the id the source gives a case, or an expression for it"
    if times and not any(name in mapped for name in times):
        yield f"{key}.{times[0]}", f"is missing; map the time of the event to {' or '.join(times)}"
    if ("x" in mapped) != ("y" in mapped):
        yield f"{key}.{'y' if 'x' in mapped else 'x'}", "is missing beside the other coordinate; map it"


def _overlap(one: "Part", other: "Part") -> bool:
    spans = [(part.valid_from, part.valid_to) for part in (one, other)]
    if any(span == (None, None) for span in spans):
        return False
    (start, end), (other_start, other_end) = ((a or date.min, b or date.max) for a, b in spans)
    return start < other_end and other_start < end


def _places(feed: "Feed") -> Iterator[Finding]:
    only_of = {"asset_type": "asset", "reach_m": "asset", "area_type": "boundary"}
    for key, kind in only_of.items():
        if key in feed.model_fields_set and feed.kind != kind:
            yield key, f"says nothing for a feed of kind {feed.kind}; remove it"
    if feed.kind == "asset" and feed.asset_type not in ASSET_TYPES:
        said = "is missing" if feed.asset_type is None else f"{feed.asset_type!r} is unknown"
        yield "asset_type", f"{said}; {one_of(feed.asset_type, ASSET_TYPES)}"
    if feed.kind == "boundary" and feed.area_type is None:
        yield "area_type", "is missing; say what an area is, such as ward"
    for index, part in enumerate(feed.parts):
        has_geometry = part.format in ("geojson", "shapefile")
        if feed.kind == "boundary" and not has_geometry:
            yield f"parts[{index}].format", f"{part.format} holds no areas; use geojson or shapefile"
        if feed.kind == "asset" and not has_geometry and "x" not in feed.sources(part):
            yield "columns.x", "is missing; an asset needs a place: map x and y, or use geojson or shapefile"


def _statuses(feed: "Feed") -> Iterator[Finding]:
    for source_status, status in feed.statuses.items():
        if status not in canonical_statuses():
            yield (
                f"statuses.{source_status}",
                f"{status!r} is no canonical status; {one_of(status, canonical_statuses())}",
            )
    if feed.kind not in EVENT_KINDS:
        return
    is_mapped = any("status" in feed.sources(part) for part in feed.parts)
    if is_mapped and not feed.statuses:
        yield "statuses", "is missing; say which canonical status each value of the status column is"
    if feed.statuses and not is_mapped:
        yield "columns.status", "is missing; map the column that the statuses speak of, or remove them"


def _event_type(key: str, event_type: str | None, feed: "Feed") -> Iterator[Finding]:
    if event_type is None:
        return
    of_kind = [name for name, kind in event_types().items() if kind == feed.kind]
    if event_type not in event_types():
        yield key, f"unknown event type {event_type!r}; {one_of(event_type, of_kind)}"
    elif event_type not in of_kind:
        actual = event_types()[event_type]
        yield key, f"{event_type!r} is of kind {actual}, the feed of kind {feed.kind}; correct one of them"


def category_findings(feed: "Feed") -> Iterator[Finding]:
    """Yield what does not fit in a feed's category table; keys are its rows, the header being row 1."""
    seen: dict[tuple[str, ...], tuple[str, tuple]] = {}
    for number, rule in enumerate(feed.categories, start=2):
        row, outcome = f"row {number}", (rule.event_type, rule.event_subtype, rule.target_days)
        yield from _event_type(row, rule.event_type, feed)
        if rule.code is None and rule.category is None:
            yield row, "names no category and no code; fill one of them or remove the row"
            continue
        lookup = _lookup(rule)
        earlier, told = seen.setdefault(lookup, (row, outcome))
        if told != outcome:
            yield row, f"contradicts {earlier} on {' / '.join(filter(None, lookup[1:]))}; keep one"


def _lookup(rule: "CategoryRule") -> tuple[str, ...]:
    """Return what a rule is found by first; two rules that are found by the same must say the same.

    A code may go with many categories, as one category with many codes does: the code decides.
    """
    if rule.code is not None:
        return "code", _plain(rule.code)
    return "category", _plain(rule.category or ""), _plain(rule.subcategory or "")


def _plain(text: str) -> str:
    """Return a text without the differences the warehouse overlooks: case and runs of spaces."""
    return " ".join(text.lower().split())
