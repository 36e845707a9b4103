"""Which assets run together; when they run belongs in `schedules.py`, `sensors.py` and `fast_lane.py`."""

from collections.abc import Collection, Mapping
from typing import Any

import dagster as dg

from assets.ingest.feed import City, Feed
from assets.ingest.raw_tables import PLACED_KINDS, group_of, places_key, raw_key
from orchestration.backfill import backfill_job, is_backfilled

PIPELINE = "city_pipeline"


def ingest_keys(feeds: Collection[Feed]) -> set[dg.AssetKey]:
    """Return the ingest assets of some feeds."""
    raw = {raw_key(feed.city, feed.id) for feed in feeds}
    return raw | {places_key(feed.city, feed.id) for feed in feeds if feed.kind in PLACED_KINDS}


def refresh_selection(feeds: Collection[Feed], cities: Mapping[str, City]) -> dg.AssetSelection:
    """Return some feeds and everything that is built from feeds, but no other feed."""
    others = [group_of(city) for city in cities]
    shared = (
        dg.AssetSelection.all() - dg.AssetSelection.groups(*others) if others else dg.AssetSelection.all()
    )
    return shared | dg.AssetSelection.assets(*ingest_keys(feeds))


def build_jobs(cities: Mapping[str, City]) -> list[Any]:
    """Return the pipeline over everything, one ingest job per city and one backfill job per feed."""
    pipeline = dg.define_asset_job(
        PIPELINE,
        selection=dg.AssetSelection.all(),
        description="Every feed from its portal to the published extracts.",
    )
    ingests = [
        dg.define_asset_job(
            f"ingest_{city.id}",
            selection=dg.AssetSelection.groups(group_of(city.id)),
            description=f"The feeds of {city.name}, as far as the lake.",
        )
        for city in cities.values()
        if city.feeds
    ]
    backfills = [
        backfill_job(city, feed)
        for city in cities.values()
        for feed in city.feeds.values()
        if is_backfilled(feed)
    ]
    return [pipeline, *ingests, *backfills]
