"""The `backfill` subcommand: a range of days of a feed, fetched again; how is landing's business."""

from datetime import date

from orchestration.backfill import is_backfilled, lost_lines
from orchestration.console import make_console, named_table
from orchestration.declared_cities import load_declared
from orchestration.settings import load_settings
from orchestration.simulated_portals import located, portals_for
from orchestration.usage import UsageError, pick


def backfill_days(city_id: str, feed_id: str, since: date, until: date) -> int:
    """Fetch the records of some days of a feed again and say per part what came.

    Args:
        city_id: Id of the city.
        feed_id: Id of the feed.
        since: First day, by event time.
        until: First day after them.

    Returns:
        0, or 1 where a part did not arrive.

    Raises:
        DeclarationError: The city is declared wrongly.
        UsageError: City or feed is not declared, the days are none, or the feed cannot be asked by day.
    """
    if since >= until:
        raise UsageError(
            f"--since {since} is not before --until {until}; --until is the first day that is not fetched"
        )
    settings = load_settings()
    city = load_declared(settings).pick([city_id])[0]
    feed = pick([feed_id], city.feeds, f"feed of {city.id}")[0]
    if not is_backfilled(feed):
        raise UsageError(
            f"{city.id}/{feed.id} cannot be asked by day; `citysignal run --city {city.id}` reads it whole"
        )
    from assets.ingest.landing import backfill_feed
    from orchestration.run_job import alone

    console = make_console()
    with alone(settings), portals_for([city], settings, console) as address:
        city = located({city.id: city}, address)[city.id]
        feed = city.feeds[feed.id]
        with console.status(f"fetching {city.id}/{feed.id} from {since} to before {until}") as shown:
            deliveries = backfill_feed(
                settings.lake,
                city,
                feed,
                since=since,
                until=until,
                now=settings.clock.now(),
                progress=lambda text: shown.update(text),
            )
    table = named_table("part", "outcome", title=f"{city.id}/{feed.id}, {since} to before {until}")
    for column in ("records", "new", "changed", "unchanged", "quarantined"):
        table.add_column(column, justify="right")
    for one in deliveries:
        figures = (one.rows_in_file, one.rows_new, one.rows_changed, one.rows_unchanged, one.rows_quarantined)
        table.add_row(one.part, one.outcome, *(f"{figure:,}" for figure in figures))
    console.print(table)
    lost = lost_lines(deliveries)
    for line in lost:
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"`citysignal run --city {city.id}` takes the rows into the warehouse.")
    return 1 if lost else 0
