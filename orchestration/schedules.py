"""When feeds are fetched: one schedule per cadence and time zone, in the city's own clock."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

import dagster as dg

from assets.ingest.feed import City, Feed
from orchestration.jobs import refresh_selection

#: In the city's wall clock. Portals write their nightly files before dawn; the odd minute avoids the rush.
CRON: Mapping[str, str] = {
    "hourly": "17 * * * *",
    "daily": "37 5 * * *",
    "weekly": "47 5 * * 1",
    "monthly": "57 5 2 * *",
    "quarterly": "7 6 2 1,4,7,10 *",
    "yearly": "17 6 2 1 *",
}


def build_schedules(cities: Mapping[str, City]) -> Iterator[dg.ScheduleDefinition]:
    """Yield the schedules; those of simulated cities are off until someone turns them on.

    Each takes its feeds all the way to the extracts. A feed of cadence `once` has none.
    """
    together: dict[tuple[str, str, bool], list[Feed]] = defaultdict(list)
    for city in cities.values():
        for feed in city.feeds.values():
            if feed.cadence in CRON:
                together[(feed.cadence, city.time_zone, city.is_simulated)].append(feed)
    for (cadence, zone, is_simulated), feeds in sorted(together.items()):
        name = "_".join([cadence, zone.lower(), *(["simulated"] if is_simulated else [])])
        name = name.replace("/", "_").replace("-", "_").replace("+", "_")
        status = dg.DefaultScheduleStatus.STOPPED if is_simulated else dg.DefaultScheduleStatus.RUNNING
        yield dg.ScheduleDefinition(
            name=name,
            job=dg.define_asset_job(f"refresh_{name}", selection=refresh_selection(feeds, cities)),
            cron_schedule=CRON[cadence],
            execution_timezone=zone,
            default_status=status,
            description=f"{cadence} feeds of {', '.join(sorted({feed.city for feed in feeds}))}",
        )
