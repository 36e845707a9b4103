"""The reports that rules ask for: built, landed since, or seen by a look; what follows is not told here.

A case that a live feed tells first and a bulk feed tells again is one report, under the key of the bulk feed.
What dbt's staging makes of a landed row is made of it here too, as far as an alert needs it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from assets.ingest.consistency import seed_rows
from assets.ingest.lake import Lake
from assets.warehouse.reader import literal

KIND = "service_request"
#: What the relay's own looks at portals have seen and may not have landed: below `lake/derived/alerts/seen`.
SEEN_FILES = "*/????-??-??.parquet"

# As in dbt_project/macros: source_values.sql, dialect/text_and_series.sql, dialect/timestamps.sql.
_MACROS = (
    r"""
    create or replace temp macro plain(told) as
        nullif(lower(trim(regexp_replace(told, '\s+', ' ', 'g'))), '')
    """,
    r"""
    create or replace temp macro has_offset(told) as
        regexp_matches(told, ':[0-9.]+ ?([zZ]|[+-][0-9]{2}(:?[0-9]{2})?)$')
    """,
    r"""
    create or replace temp macro wall(told) as coalesce(
        try_cast(regexp_replace(told, '(:[0-9.]+) ?([zZ]|[+-][0-9]{2}(:?[0-9]{2})?)$', '\1') as timestamp),
        try_strptime(
            regexp_replace(told, '(:[0-9.]+) ?([zZ]|[+-][0-9]{2}(:?[0-9]{2})?)$', '\1'),
            ['%m/%d/%Y %I:%M:%S %p', '%m/%d/%Y %H:%M:%S', '%m/%d/%Y %I:%M %p', '%m/%d/%Y %H:%M', '%m/%d/%Y',
             '%d-%b-%y', '%d-%b-%Y']
        )
    )
    """,
    """
    create or replace temp macro told_at(told, times, zone) as case
        when lower(told) in ('infinity', '-infinity', 'epoch') then null
        when times <> 'local' and has_offset(told) then timezone('UTC', try_cast(told as timestamptz))
        when times = 'utc' then wall(told)
        else timezone('UTC', timezone(zone, wall(told)))
    end
    """,
)

_SNAPSHOT = """
    select
        city, feed, source_id, event_type, event_subtype, event_at as reported_at,
        first_observed_at as first_seen_at, last_observed_at as seen_at, x_m, y_m, lon, lat,
        coalesce(is_open, true) as is_open,
        is_deleted or is_withdrawn or is_excluded or is_noise as is_left_out
    from core.fct_events
    where event_at >= $since and list_contains($event_types, event_type)
"""

# The label of a record: by its code, else by both levels, else by the first, else what the feed says.
_LABELS = """
    create or replace temp table labels as
    with levels as (
        select city, feed, 1 as level, plain(code) as rule_key, *  exclude (city, feed, code)
        from declared_categories where plain(code) is not null
        union all
        select city, feed, 2, plain(category) || chr(31) || plain(subcategory), * exclude (city, feed, code)
        from declared_categories where plain(category) is not null and plain(subcategory) is not null
        union all
        select city, feed, 3, plain(category), * exclude (city, feed, code)
        from declared_categories where plain(category) is not null and plain(subcategory) is null
    )
    select
        city, feed, level, rule_key,
        min(event_type) as event_type,
        min(event_subtype) as event_subtype,
        bool_or(coalesce(is_private, false) or coalesce(is_noise, false)) as is_left_out
    from levels
    group by city, feed, level, rule_key
    having count(distinct event_type || chr(31) || coalesce(event_subtype, '')) = 1
"""

_LANDED = """
    select
        landed.city, landed.feed, landed.source_id,
        coalesce(by_code.event_type, by_both.event_type, by_first.event_type, feeds.event_type) as event_type,
        case
            when by_code.event_type is not null then by_code.event_subtype
            when by_both.event_type is not null then by_both.event_subtype
            when by_first.event_type is not null then by_first.event_subtype
            else feeds.event_subtype
        end as event_subtype,
        told_at(trim(landed.requested_at), feeds.times, cities.time_zone) as reported_at,
        landed.first_seen_at, landed.seen_at, landed.x_m, landed.y_m, landed.lon, landed.lat,
        -- A closing time that cannot be is none.
        coalesce(
            statuses.is_open,
            told_at(landed.closed_at, feeds.times, cities.time_zone)
                between timestamp '1900-01-01' and landed.seen_at + interval 2 year is not true
        ) as is_open,
        case
            when by_code.event_type is not null then by_code.is_left_out
            when by_both.event_type is not null then by_both.is_left_out
            else coalesce(by_first.is_left_out, false)
        end as is_left_out
    from landed
    inner join declared_feeds as feeds on landed.city = feeds.city and landed.feed = feeds.feed
    inner join declared_cities as cities on landed.city = cities.city
    left join labels as by_code
        on landed.city = by_code.city and landed.feed = by_code.feed and by_code.level = 1
        and plain(landed.code) = by_code.rule_key
    left join labels as by_both
        on landed.city = by_both.city and landed.feed = by_both.feed and by_both.level = 2
        and plain(landed.category) || chr(31) || plain(landed.subcategory) = by_both.rule_key
    left join labels as by_first
        on landed.city = by_first.city and landed.feed = by_first.feed and by_first.level = 3
        and plain(landed.category) = by_first.rule_key
    left join (
        select said.city, said.feed, plain(said.source_status) as status_key,
            case when count(distinct said.status) = 1 then any_value(known.is_open) end as is_open
        from declared_statuses as said
        left join canonical_statuses as known on said.status = known.status
        group by all
    ) as statuses
        on landed.city = statuses.city and landed.feed = statuses.feed
        and plain(landed.status) = statuses.status_key
"""

_REPORTS = """
    create or replace temp table reports as
    with told as (
        select * from snapshot_reports
        union all
        select * from landed_reports
    ),

    one_case as (
        select
            told.*,
            md5(told.city || chr(31) || coalesce(feeds.live_tail_of, told.feed) || chr(31) || told.source_id)
                as report_key,
            feeds.live_tail_of is not null as is_live
        from told
        left join declared_feeds as feeds on told.city = feeds.city and told.feed = feeds.feed
    ),

    newest as (
        select
            * exclude (first_seen_at),
            min(first_seen_at) over (partition by report_key) as available_at
        from one_case
        qualify row_number() over (
            partition by report_key order by seen_at desc, is_live, event_type, reported_at, x_m, y_m, is_open
        ) = 1
    )

    select
        newest.report_key, newest.city, newest.event_type, newest.event_subtype, newest.reported_at,
        newest.available_at, newest.x_m, newest.y_m, newest.lon, newest.lat, newest.is_open,
        cities.is_simulated, cities.time_zone
    from newest
    inner join declared_cities as cities on newest.city = cities.city
    where
        not newest.is_left_out
        and newest.x_m is not null
        and list_contains($event_types, newest.event_type)
        and newest.reported_at between $since and $now
        and newest.available_at <= $now
"""


def gather_reports(
    con: duckdb.DuckDBPyConnection,
    lake: Lake,
    *,
    event_types: Sequence[str],
    since: datetime,
    now: datetime,
) -> None:
    """Create the temporary table `reports`: one row per case of some types that has a place.

    Its columns are report_key, city, event_type, event_subtype, reported_at and available_at (UTC without a
    zone), x_m, y_m, lon, lat, is_open (also where that cannot be told), is_simulated, time_zone. Private,
    deleted and excluded records are not among them, nor what tells of no demand.

    Args:
        con: The snapshot.
        lake: Where what landed since lies.
        event_types: The types asked for.
        since: Reports from then on, UTC without a zone.
        now: And until then.
    """
    built_until = con.execute("select city, feed, as_of_at from core.dim_feed").fetchall()
    stage_landed(con, lake, {(city, feed): at for city, feed, at in built_until})
    given = {"since": since, "event_types": list(event_types)}
    con.execute(f"create or replace temp table snapshot_reports as {_SNAPSHOT}", given)
    con.execute(_REPORTS, given | {"now": now})


def stage_landed(
    con: duckdb.DuckDBPyConnection, lake: Lake, built_until: Mapping[tuple[str, str], datetime | None]
) -> None:
    """Create the temporary table `landed_reports`: the newest state of each case that landed or was seen.

    What is declared is registered besides, as declared_cities, declared_feeds and so on.

    Args:
        con: Where to.
        lake: Where it landed.
        built_until: By city and feed up to when its deliveries need not be read; UTC without a zone.
    """
    for macro in _MACROS:
        con.execute(macro)
    declared = lake.derived / "declared"
    for name in ("cities", "feeds", "categories", "statuses"):
        con.register(f"declared_{name}", pq.read_table(declared / f"{name}.parquet", partitioning=None))
    flags = {"true": True, "false": False}
    statuses = [(row["status"], flags.get(row["is_open"])) for row in seed_rows("statuses.csv")]
    con.register(
        "canonical_statuses", pa.table(list(zip(*statuses, strict=True)), names=["status", "is_open"])
    )
    con.execute(_LABELS)
    # The connection of the snapshot may open no other file.
    with duckdb.connect() as files:
        con.register("landed", files.execute(_landed_rows(con, lake, built_until)).to_arrow_table())
    con.execute(f"create or replace temp table landed_reports as {_LANDED}")


def _landed_rows(
    con: duckdb.DuckDBPyConnection, lake: Lake, built_until: Mapping[tuple[str, str], datetime | None]
) -> str:
    """Return the query of the newest row of each case in looks and in deliveries since the snapshot.

    The files of a feed are filtered by a constant, which their statistics answer without reading rows.
    """
    feeds = con.execute("select city, feed from declared_feeds where kind = ? order by all", [KIND])
    texts = ("source_id", "category", "subcategory", "code", "status", "requested_at", "closed_at")
    trimmed = ", ".join(f"nullif(trim({name}), '') as {name}" for name in texts)
    queries = []
    seen = lake.derived / "alerts" / "seen"
    if any(seen.glob(SEEN_FILES)):
        queries.append(f"""
            select city, feed, {trimmed}, x_m, y_m, lon, lat, seen_at, '' as delivery_id, 0 as source_row
            from read_parquet({literal(str(seen / SEEN_FILES))}, hive_partitioning = false)
        """)  # noqa: S608
    for city, feed in feeds.fetchall():
        folder: Path = lake.raw(KIND, city, feed)
        if not any(folder.glob("*.parquet")):
            continue
        built = built_until.get((city, feed))
        fresh = f"delivered_at > {literal(built.isoformat())}::timestamp" if built else "true"
        queries.append(f"""
            select
                {literal(city)} as city, {literal(feed)} as feed, {trimmed}, x_m, y_m, lon, lat,
                delivered_at as seen_at, delivery_id, source_row
            from read_parquet({literal(str(folder / "*.parquet"))}, hive_partitioning = false)
            where {fresh}
        """)  # noqa: S608
    if not queries:
        columns = [f"null::varchar as {name}" for name in ("city", "feed", *texts, "delivery_id")]
        columns += [f"null::double as {name}" for name in ("x_m", "y_m", "lon", "lat")]
        queries = [f"select {', '.join(columns)}, null::timestamp as seen_at, 0 as source_row limit 0"]
    return f"""
        select *, min(seen_at) over (partition by city, feed, source_id) as first_seen_at
        from ({" union all ".join(queries)})
        where source_id is not null
        qualify row_number() over (
            partition by city, feed, source_id order by seen_at desc, delivery_id desc, source_row desc
        ) = 1
    """  # noqa: S608
