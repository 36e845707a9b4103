"""When feeds are fetched: one schedule per city and cadence, in the city's own clock."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from zlib import crc32

import dagster as dg

from assets.ingest.feed import City, Feed
from assets.ingest.lake import Lake
from orchestration.jobs import refresh_selection

#: In the city's wall clock, less the minute. Portals write their nightly files before dawn.
RHYTHM: Mapping[str, str] = {
    "hourly": "* * * *",
    "daily": "5 * * *",
    "weekly": "5 * * 1",
    "monthly": "5 2 * *",
    "quarterly": "6 2 1,4,7,10 *",
    "yearly": "6 2 1 *",
}


def build_schedules(cities: Mapping[str, City], lake: Lake) -> Iterator[dg.ScheduleDefinition]:
    """Yield the schedules; those of simulated cities are off until someone turns them on.

    Each takes its feeds all the way to the extracts, while their city is in use. A feed of cadence `once`
    has none.
    """
    for city in cities.values():
        together: dict[str, list[Feed]] = defaultdict(list)
        for feed in city.feeds.values():
            if feed.cadence in RHYTHM:
                together[feed.cadence].append(feed)
        for cadence, feeds in sorted(together.items()):
            yield refresh_schedule(city, cadence, feeds, cities, lake)


def refresh_schedule(
    city: City, cadence: str, feeds: Sequence[Feed], cities: Mapping[str, City], lake: Lake
) -> dg.ScheduleDefinition:
    """Return the schedule of a city's feeds of one cadence."""
    name = f"{cadence}_{city.id}"
    status = dg.DefaultScheduleStatus.STOPPED if city.is_simulated else dg.DefaultScheduleStatus.RUNNING

    @dg.schedule(
        name=name,
        job=dg.define_asset_job(f"refresh_{name}", selection=refresh_selection(feeds, cities)),
        cron_schedule=f"{minute_of(city.id, cadence)} {RHYTHM[cadence]}",
        execution_timezone=city.time_zone,
        default_status=status,
        description=f"{city.name}, {cadence}: {', '.join(sorted(feed.id for feed in feeds))}",
    )
    def refresh(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        # Asked at each tick: a city comes into use while Dagster runs.
        if lake.is_in_use(city.id):
            return dg.RunRequest()
        return dg.SkipReason(f"{city.name} is not in use; `citysignal run --city {city.id}` begins with it.")

    return refresh


def minute_of(city: str, cadence: str) -> int:
    """Return the minute of the hour of a schedule: always the same, and spread over all of them.

    The feeds of one schedule land one after the other, so the schedules are what must not begin together.
    """
    return crc32(f"{city}/{cadence}".encode()) % 60
