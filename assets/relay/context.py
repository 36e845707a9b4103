"""What is known of the places of happenings, item by item, as of the time of the report; who needs it is not.

Every figure is a query over the published snapshot. Where a city publishes nothing to look an item up in, the
item says so instead of being empty: nothing near and nothing known are two things.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from math import ceil
from typing import Any

import duckdb

from assets.ingest.lake import Lake
from assets.relay.context_items import ITEMS, Item

Record = dict[str, Any]
#: Happenings by their first report, with the records of one item.
Told = dict[str, list[Record]]

NOTE = "note"
NOTHING_SUPPORTED = "nothing supported"
_CELL_M = 100
_BREAK = "infra_main_break"
_EVENT_CELL_M = 150

_SPOTS = """
    create or replace temp table spots as
    select
        happenings.first_key, happenings.report_keys, reports.city, reports.event_type, reports.event_subtype,
        reports.reported_at, reports.x_m, reports.y_m,
        cast(timezone(reports.time_zone, timezone('UTC', reports.reported_at)) as date) as reported_on
    from happenings
    inner join reports on happenings.first_key = reports.report_key
    where list_contains($first_keys, happenings.first_key)
"""

# As macros/places.sql: a piece of an item lies in every cell it passes through, so that the cells around a
# spot hold every piece that is near enough, whatever reach its inventory declares.
_CELLS = """
    select
        spots.first_key, spots.city, spots.x_m, spots.y_m,
        (cast(floor(spots.x_m / 100) as bigint) + step_x.step) * 4000000
            + cast(floor(spots.y_m / 100) as bigint) + step_y.step as cell
    from spots
    cross join unnest(range(-$steps, $steps + 1)) as step_x (step)
    cross join unnest(range(-$steps, $steps + 1)) as step_y (step)
"""

_DISTANCES = """
    with measured as (
        select
            cells.first_key, pieces.asset_key,
            cells.x_m - pieces.x1 as from_x, cells.y_m - pieces.y1 as from_y, pieces.dx, pieces.dy,
            least(greatest(
                ((cells.x_m - pieces.x1) * pieces.dx + (cells.y_m - pieces.y1) * pieces.dy)
                * pieces.inv_len2, 0
            ), 1) as along
        from cells
        inner join read_parquet($files, hive_partitioning = true, hive_types_autocast = false) as pieces
            on cells.city = pieces.city and cells.cell = pieces.cell
        where list_contains($asset_types, pieces.asset_type)
    )

    select
        first_key, asset_key,
        min(sqrt((from_x - along * dx) ** 2 + (from_y - along * dy) ** 2)) as distance_m
    from measured
    group by first_key, asset_key
"""

_NEAR_ASSETS = """
    create or replace temp table near_assets as
    select
        distances.first_key, distances.asset_key, distances.distance_m, assets.asset_type, assets.city,
        assets.asset_id, assets.asset_name, assets.material, assets.condition, assets.installed_on
    from distances
    inner join spots on distances.first_key = spots.first_key
    inner join core.dim_asset as assets on distances.asset_key = assets.asset_key
    where
        (assets.valid_from is null or spots.reported_on >= assets.valid_from)
        and (assets.valid_to is null or spots.reported_on < assets.valid_to)
"""

# One pass over all events for every item of records and permits.
_NEAR_EVENTS = """
    create or replace temp table near_events as
    with searching as (
        select
            spots.*,
            cast(floor(spots.x_m / {cell}) as bigint) + step_x.step as cell_x,
            cast(floor(spots.y_m / {cell}) as bigint) + step_y.step as cell_y
        from spots
        cross join (values (-1), (0), (1)) as step_x (step)
        cross join (values (-1), (0), (1)) as step_y (step)
    )

    select
        searching.first_key, searching.report_keys, searching.reported_at, searching.reported_on,
        md5(concat_ws(chr(31), events.city, coalesce(feeds.live_tail_of, events.feed), events.source_id))
            as report_key,
        events.event_key, events.city, events.feed, events.source_id, events.kind, events.event_type,
        events.event_group, events.event_at, events.event_on, events.is_open, events.closed_at,
        events.closed_local, events.is_canonical,
        sqrt((searching.x_m - events.x_m) ** 2 + (searching.y_m - events.y_m) ** 2) as distance_m
    from core.fct_events as events
    inner join searching
        on events.city = searching.city
        and cast(floor(events.x_m / {cell}) as bigint) = searching.cell_x
        and cast(floor(events.y_m / {cell}) as bigint) = searching.cell_y
    left join declared_feeds as feeds on events.city = feeds.city and events.feed = feeds.feed
    where
        list_contains($kinds, events.kind)
        and events.event_at < searching.reported_at
        and not (events.is_deleted or events.is_withdrawn or events.is_excluded or events.is_noise)
"""

_INVENTORY = """
    select first_key, asset_id, asset_name as name, condition, round(distance_m) as distance_m
    from near_assets
    where asset_type = $asset_type and distance_m <= $within_m and distance_m > $beyond_m
    order by first_key, near_assets.distance_m, asset_id
"""

_MAINS = """
    with breaks as (
        select
            bridge.asset_key, spots.first_key, count(*) as past_breaks, max(events.event_on) as last_break_on
        from core.bridge_event_asset as bridge
        inner join core.fct_events as events on bridge.event_key = events.event_key
        inner join near_assets on bridge.asset_key = near_assets.asset_key
        inner join spots
            on near_assets.first_key = spots.first_key
            and events.event_at < spots.reported_at
            and not list_contains(spots.report_keys, events.event_key)
        where
            bridge.asset_type = $asset_type and events.event_type = $break and events.is_canonical
        group by bridge.asset_key, spots.first_key
    ),

    recorded as (
        select city, min(event_on) as recorded_from
        from core.fct_events where event_type = $break group by city
    )

    select
        near_assets.first_key,
        near_assets.asset_id as main_id,
        near_assets.asset_name as name,
        near_assets.material,
        near_assets.installed_on,
        -- Of a main whose year alone is told this is right to the year.
        cast(floor(date_diff('day', near_assets.installed_on, spots.reported_on) / 365.25) as integer)
            as age_years,
        case when recorded.city is not null then coalesce(breaks.past_breaks, 0) end as past_breaks,
        breaks.last_break_on,
        recorded.recorded_from as breaks_recorded_from,
        round(near_assets.distance_m) as distance_m
    from near_assets
    inner join spots on near_assets.first_key = spots.first_key
    left join breaks
        on near_assets.asset_key = breaks.asset_key and near_assets.first_key = breaks.first_key
    left join recorded on near_assets.city = recorded.city
    where near_assets.asset_type = $asset_type and near_assets.distance_m <= $within_m
    order by near_assets.first_key, near_assets.distance_m, near_assets.asset_id
"""

# Open on the day of the report: issued by then, and neither run out nor finished before it.
_PERMITS = """
    select
        near.first_key,
        near.event_type as permit_type,
        near.source_id as permit_id,
        cast(permits.issued_local as date) as issued_on,
        cast(permits.expires_local as date) as expires_on,
        round(near.distance_m) as distance_m
    from near_events as near
    inner join core.fct_permits as permits on near.event_key = permits.event_key
    where
        list_contains($event_types, near.event_type)
        and near.distance_m <= $within_m
        and near.is_canonical
        and cast(permits.issued_local as date) <= near.reported_on
        and (permits.expires_local is null or cast(permits.expires_local as date) >= near.reported_on)
        and (permits.completed_local is null or cast(permits.completed_local as date) >= near.reported_on)
        and (near.is_open is distinct from false or cast(near.closed_local as date) >= near.reported_on)
    order by near.first_key, near.distance_m, near.source_id
"""

# How many of each type, not which: a record of one case is not needed to send a crew. What a live feed tells
# first is left out by is_canonical once the bulk feed has it.
_RECORDS = """
    select
        first_key,
        event_type,
        count(*) as cases,
        count(*) filter (where is_open or closed_at >= reported_at) as open_cases,
        max(event_on) as last_on
    from near_events
    where
        kind = $kind
        and event_group <> 'sensor'
        and distance_m <= $within_m
        and event_at >= reported_at - to_days($days)
        and is_canonical
        and not list_contains(report_keys, report_key)
        and (not $is_ongoing or is_open or closed_at >= reported_at)
    group by first_key, event_type
    order by first_key, event_type
"""

_CATALOGUE = """
    select
        spots.first_key, found.question_id, found.outcome_type, found.from_m, found.to_m, found.window_days,
        found.rr, found.ci_low, found.ci_high, found.reason as says
    from spots
    inner join correlation.mart_correlations as found
        on spots.city = found.city
        and spots.event_type = found.signal_type
        and (found.signal_subtype is null or found.signal_subtype = spots.event_subtype)
    where found.verdict = 'supported' and not found.is_negative_control and found.signal_cluster_size = 1
    order by spots.first_key, found.question_id, found.from_m
"""

_PUBLISHED_KINDS = "select city, kind from core.dim_feed group by city, kind"
_PUBLISHED_ASSETS = "select city, asset_type from core.dim_asset group by city, asset_type"


def gather_context(
    con: duckdb.DuckDBPyConnection, lake: Lake, first_keys: Iterable[str], items: Iterable[str]
) -> dict[str, Told]:
    """Return the records of items of context at some happenings.

    Args:
        con: The snapshot with the tables `reports`, `happenings` and `declared_feeds`.
        lake: Where the cover of inventories lies.
        first_keys: The happenings asked for.
        items: Names in ITEMS.

    Returns:
        By item and by happening a list of flat JSON-able records, nearest or earliest first, in full. Empty
        where nothing is near; one record with only a `note` where nothing can be told or is supported.
    """
    asked, names = sorted(set(first_keys)), sorted(set(items))
    if not asked:
        return {}
    con.execute(_SPOTS, {"first_keys": asked})
    cities = dict(con.execute("select first_key, city from spots").fetchall())
    _gather_assets(con, lake, [ITEMS[name] for name in names])
    _gather_events(con, [ITEMS[name] for name in names])
    kinds = set(con.execute(_PUBLISHED_KINDS).fetchall())
    assets = set(con.execute(_PUBLISHED_ASSETS).fetchall())
    told = {}
    for name in names:
        item = ITEMS[name]
        found = _QUERIES[item.source](con, item)
        told[name] = {
            key: found.get(key) or _unless_published(item, cities[key], kinds, assets) for key in asked
        }
    return told


def holds(records: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether an item of context holds something beside a note."""
    return any(NOTE not in record for record in records)


def _gather_assets(con: duckdb.DuckDBPyConnection, lake: Lake, items: Iterable[Item]) -> None:
    """Create the temporary table `near_assets`, where an item asks for assets."""
    wanted = [item for item in items if item.asset_type]
    if not wanted:
        return
    steps = ceil(max(item.within_m for item in wanted) / _CELL_M)
    cells = con.execute(_CELLS, {"steps": steps}).to_arrow_table()
    given = {
        "files": str(lake.derived / "places" / "asset_cover" / "**" / "*.parquet"),
        "asset_types": sorted({item.asset_type for item in wanted}),
    }
    # The connection of the snapshot may open no other file.
    with duckdb.connect() as files:
        files.register("cells", cells)
        con.register("distances", files.execute(_DISTANCES, given).to_arrow_table())
    con.execute(_NEAR_ASSETS)


def _gather_events(con: duckdb.DuckDBPyConnection, items: Iterable[Item]) -> None:
    kinds = {"permits": "permit"}
    wanted = {kinds.get(item.source, item.kind) for item in items if item.source in ("permits", "records")}
    if wanted:
        con.execute(_NEAR_EVENTS.format(cell=_EVENT_CELL_M), {"kinds": sorted(wanted)})


def _unless_published(item: Item, city: str, kinds: set, assets: set) -> list[Record]:
    if item.source == "catalogue":
        return [{NOTE: NOTHING_SUPPORTED}]
    if item.asset_type and (city, item.asset_type) not in assets:
        return [{NOTE: f"not told: {city} has no inventory of type {item.asset_type}"}]
    kind = "permit" if item.source == "permits" else item.kind
    if kind and (city, kind) not in kinds:
        return [{NOTE: f"not told: {city} has no feed of kind {kind}"}]
    return []


def _inventory(con: duckdb.DuckDBPyConnection, item: Item) -> Told:
    beyond_m = -1.0 if item.beyond_m is None else item.beyond_m
    given = {"asset_type": item.asset_type, "within_m": item.within_m, "beyond_m": beyond_m}
    return _told(con, _INVENTORY, given)


def _mains(con: duckdb.DuckDBPyConnection, item: Item) -> Told:
    given = {"asset_type": item.asset_type, "within_m": item.within_m, "break": _BREAK}
    return _told(con, _MAINS, given)


def _permits(con: duckdb.DuckDBPyConnection, item: Item) -> Told:
    return _told(con, _PERMITS, {"event_types": list(item.event_types), "within_m": item.within_m})


def _records(con: duckdb.DuckDBPyConnection, item: Item) -> Told:
    given = {"kind": item.kind, "within_m": item.within_m, "days": item.days, "is_ongoing": item.is_ongoing}
    return _told(con, _RECORDS, given)


def _catalogue(con: duckdb.DuckDBPyConnection, item: Item) -> Told:
    return _told(con, _CATALOGUE, {})


_QUERIES: dict[str, Callable[[duckdb.DuckDBPyConnection, Item], Told]] = {
    "inventory": _inventory,
    "mains": _mains,
    "permits": _permits,
    "records": _records,
    "catalogue": _catalogue,
}


def _told(con: duckdb.DuckDBPyConnection, query: str, given: Mapping[str, Any]) -> Told:
    told: Told = {}
    for row in con.execute(query, given).to_arrow_table().to_pylist():
        told.setdefault(row.pop("first_key"), []).append({name: _plain(each) for name, each in row.items()})
    return told


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date | datetime) else value
