"""The Dagster assets of ingest: raw rows, places, declarations; how a feed lands belongs in `landing.py`.

A delivery that is blocked or cannot be fetched fails its checks, not its step: what landed last still builds.
So does an error in a step: Dagster skips all that depends on a failed step, and that is the whole warehouse.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import dagster as dg

from assets.ingest.clock import Clock
from assets.ingest.consistency import late_after
from assets.ingest.feed import City, Feed
from assets.ingest.lake import Lake
from assets.ingest.receipts import read_receipts
from assets.ingest.trouble import trouble_line, troubles

if TYPE_CHECKING:
    from assets.ingest.landing import Delivery

GATE_CHECKS = ("schema", "key", "volume", "null_share", "value_range", "time_range")
DELIVERY_CHECK = "delivery"
PLACES_CHECK = "places_written"
PLACED_KINDS = ("boundary", "asset")

CHECK_MEANING = {
    "schema": "The delivery has the columns that the declaration maps.",
    "key": "Every record has a key.",
    "volume": "The delivery is no smaller than expected, by the declaration and by the delivery before.",
    "null_share": "No mapped column is emptier than declared, and quarantine stays small.",
    "value_range": "Declared ranges of values and of located records hold.",
    "time_range": "Event times lie between the declared first day and the day of the copy.",
    "delivery": "Every part was fetched and passed, now or as the same bytes before.",
    "places_written": "The tables were written from what landed last.",
}


def group_of(city: str) -> str:
    """Return the Dagster group of a city's ingest."""
    return f"ingest_{city}"


def raw_key(city: str, feed: str) -> dg.AssetKey:
    """Return the asset key of a feed."""
    return dg.AssetKey(["raw", city, feed])


def pool_of(feed: Feed) -> str | None:
    """Return the Dagster pool of the host that a feed is fetched from, None where it lies on this machine.

    Two runs do not land from one host at once. A part on another host than the first is not counted: a step
    has one pool, and the wire limits the questions to every host anyway.
    """
    hosts = [urlsplit(part.source).hostname for part in feed.parts if part.is_remote]
    return f"portal_{hosts[0]}" if hosts else None


def places_key(city: str, feed: str) -> dg.AssetKey:
    """Return the asset key of a feed's cover tables."""
    return dg.AssetKey(["places", city, feed])


def build_ingest_assets(cities: Mapping[str, City]) -> list[dg.AssetsDefinition]:
    """Return every ingest asset of the declared cities."""
    assets = [declared_asset(cities)]
    for city in cities.values():
        for feed in city.feeds.values():
            assets.append(raw_asset(city, feed))
            if feed.kind in PLACED_KINDS:
                assets.append(places_asset(city, feed))
    return assets


def raw_asset(city: City, feed: Feed) -> dg.AssetsDefinition:
    """Return the asset of a feed's raw rows."""
    key = raw_key(city.id, feed.id)
    late = late_after().get(feed.cadence)
    spec = dg.AssetSpec(
        key,
        description=f"{feed.title}. {feed.publisher}.",
        group_name=group_of(city.id),
        kinds={*sorted({part.format for part in feed.parts})[:2], "parquet"},
        owners=[owner_team(feed.owner_agency)],
        tags={"cadence": feed.cadence, "kind": feed.kind, "city": city.id},
        metadata={
            "landing_page": dg.MetadataValue.url(feed.landing_page),
            "licence": feed.licence,
            "declaration": dg.MetadataValue.path(str(feed.file)),
        },
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=late) if late else None,
    )
    checks = [
        dg.AssetCheckSpec(name, asset=key, description=CHECK_MEANING[name])
        for name in (*GATE_CHECKS, DELIVERY_CHECK)
    ]

    # can_subset lets a check go unreported: a fetch that failed says nothing about the volume.
    @dg.multi_asset(
        specs=[spec], check_specs=checks, name="__".join(key.path), can_subset=True, pool=pool_of(feed)
    )
    def land(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], clock: dg.ResourceParam[Clock]
    ) -> Iterator[Any]:
        from assets.ingest.landing import land_feed

        try:
            deliveries = land_feed(lake, city, feed, now=clock.now(), progress=context.log.info)
            for delivery in deliveries:
                context.log.info(f"{delivery.part}: {delivery.outcome}. {delivery.message}")
            state = trouble_line(
                troubles(read_receipts(lake.landing(city.id, feed.id)), [part.id for part in feed.parts])
            )
            metadata = delivery_metadata(deliveries, state) | volume_metadata(lake, feed)
            results = list(delivery_checks(key, deliveries, state))
        except Exception as error:
            context.log.exception(f"{city.id}/{feed.id} could not be landed")
            state = error_line(city.id, feed.id, error)
            metadata = {"state": state}
            results = [failed_check(key, DELIVERY_CHECK, state)]
        yield dg.MaterializeResult(key, metadata=metadata)
        for result in results:
            if dg.AssetCheckKey(key, result.check_name) in context.selected_asset_check_keys:
                yield result

    return land


def places_asset(city: City, feed: Feed) -> dg.AssetsDefinition:
    """Return the asset of the tables that say where a boundary set or an inventory lies."""
    key = places_key(city.id, feed.id)

    @dg.asset(
        key=key,
        deps=[raw_key(city.id, feed.id)],
        description=f"Where {feed.title} lies, as grid cells that SQL joins on.",
        group_name=group_of(city.id),
        kinds={"python", "parquet"},
        owners=[owner_team(feed.owner_agency)],
        tags={"city": city.id},
        check_specs=[dg.AssetCheckSpec(PLACES_CHECK, asset=key, description=CHECK_MEANING[PLACES_CHECK])],
    )
    def cover(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult:
        from assets.ingest.cover import write_places

        try:
            rows = write_places(lake, city, feed)
        except Exception as error:
            context.log.exception(f"where {city.id}/{feed.id} lies could not be written")
            line = error_line(city.id, feed.id, error)
            return dg.MaterializeResult(
                metadata={"state": line}, check_results=[failed_check(key, PLACES_CHECK, line)]
            )
        return dg.MaterializeResult(
            metadata={f"{table}_rows": count for table, count in rows.items()},
            check_results=[dg.AssetCheckResult(passed=True, check_name=PLACES_CHECK)],
        )

    return cover


def declared_asset(cities: Mapping[str, City]) -> dg.AssetsDefinition:
    """Return the asset of what declarations and receipts say; it comes after every landing of the run."""
    feeds = [(city.id, feed) for city in cities.values() for feed in city.feeds.values()]

    @dg.asset(
        key=dg.AssetKey(["lake", "declared"]),
        deps=[
            *(raw_key(city, feed.id) for city, feed in feeds),
            *(places_key(city, feed.id) for city, feed in feeds if feed.kind in PLACED_KINDS),
        ],
        description="One row per declared city, feed, category and status, and one per fetch.",
        group_name="lake",
        kinds={"python", "parquet"},
        owners=["team:warehouse"],
    )
    def declared(lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult:
        from assets.ingest.cover import write_no_places
        from assets.ingest.declared import write_declared_tables
        from assets.ingest.landing import ensure_lake
        from assets.ingest.receipts import write_receipts_table

        # Cities that nobody ever fetched would stand in every table as cities whose feeds never came.
        used = {name: city for name, city in cities.items() if lake.is_in_use(name)}
        ensure_lake(lake)
        write_no_places(lake)
        write_declared_tables(lake, used)
        write_receipts_table(lake)
        count = sum(len(city.feeds) for city in used.values())
        return dg.MaterializeResult(metadata={"cities": len(used), "feeds": count})

    return declared


def owner_team(agency: str) -> str:
    """Return an agency's name as a Dagster team."""
    return "team:" + re.sub(r"[^a-z0-9]+", "-", agency.lower()).strip("-")


def error_line(city: str, feed: str, error: Exception) -> str:
    """Return what an error that nobody expected did to a feed, and what to do."""
    said = " ".join(str(error).split())
    return (
        f"{city}/{feed} failing ({type(error).__name__}): {said} -> "
        "report it with the traceback in the log of this step; what landed before stays in use"
    )


def failed_check(key: dg.AssetKey, name: str, line: str) -> dg.AssetCheckResult:
    """Return the result of a check that a step's error failed."""
    return dg.AssetCheckResult(
        passed=False, asset_key=key, check_name=name, severity=severity(True), description=line
    )


def delivery_metadata(deliveries: "Sequence[Delivery]", state: str) -> dict[str, Any]:
    """Return how the feed is doing, the counts of one landing, and a table of its parts."""
    header = "| part | outcome | rows in file | raw | quarantined | distinct keys | seconds | |"
    lines = [header, "|---|---|--:|--:|--:|--:|--:|---|"]
    for one in deliveries:
        said = one.message.replace("|", "/").replace("\n", " ")
        rows = f"{one.rows_in_file:,} | {one.rows_raw:,} | {one.rows_quarantined:,} | {one.distinct_keys:,}"
        lines.append(f"| {one.part} | {one.outcome} | {rows} | {one.seconds:.1f} | {said} |")
    # A part may have several deliveries in one landing; what it has then is what its last one left.
    last = {one.part: one for one in deliveries}
    return {
        "state": state or "every part arrived",
        "dagster/row_count": sum(one.rows_known for one in last.values()),
        # One that brought nothing repeats the counts of the one before it.
        "new_or_changed": sum(one.rows_raw for one in deliveries if one.outcome == "landed"),
        "missing": sum(one.rows_missing for one in deliveries),
        "quarantined": sum(one.rows_quarantined for one in deliveries),
        "distinct_keys": sum(one.distinct_keys for one in deliveries),
        "delivery_seconds": round(float(sum(one.seconds for one in deliveries)), 1),
        "parts": dg.MetadataValue.md("\n".join(lines)),
    }


def volume_metadata(lake: Lake, feed: Feed) -> dict[str, Any]:
    """Return the plot of a feed's records by month, where they have a time."""
    from assets.ingest.volume_plot import volume_plot

    plot = volume_plot(lake, feed)
    return {"records_by_month": dg.MetadataValue.md(plot)} if plot else {}


def delivery_checks(
    key: dg.AssetKey, deliveries: "Sequence[Delivery]", state: str
) -> Iterator[dg.AssetCheckResult]:
    """Yield each gate check over all parts, then whether the delivery as a whole arrived.

    Args:
        key: The feed's asset.
        deliveries: What became of each part.
        state: What is wrong with the feed in one line, empty where nothing is.
    """
    for name in GATE_CHECKS:
        found = [(one.part, check) for one in deliveries for check in one.checks if check.name == name]
        if not found:
            continue
        failed = [(part, check) for part, check in found if not check.passed]
        yield dg.AssetCheckResult(
            passed=not failed,
            asset_key=key,
            check_name=name,
            severity=severity(any(check.blocking for _, check in failed)),
            description="; ".join(f"{part}: {check.message}" for part, check in failed) or None,
            metadata={
                part: f"observed {check.observed}; expected {check.expected}"
                for part, check in failed or found
            },
        )
    lost = [one for one in deliveries if one.outcome not in ("landed", "unchanged")]
    yield dg.AssetCheckResult(
        passed=not lost,
        asset_key=key,
        check_name=DELIVERY_CHECK,
        severity=severity(True),
        description=state or None,
        metadata={one.part: one.outcome for one in deliveries},
    )


def severity(is_error: bool) -> dg.AssetCheckSeverity:
    """Return Dagster's word for it."""
    return dg.AssetCheckSeverity.ERROR if is_error else dg.AssetCheckSeverity.WARN
