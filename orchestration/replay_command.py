"""The `replay` subcommand: a feed's raw rows rebuilt from stored bytes; how is landing's business."""

from collections.abc import Sequence

from assets.ingest.receipts import Delivery
from assets.ingest.trouble import ARRIVED
from orchestration.console import make_console, named_table
from orchestration.declared_cities import load_declared
from orchestration.recorded import feed_record
from orchestration.settings import load_settings
from orchestration.usage import UsageError, pick


def replay_stored(city_id: str, feed_id: str, *, only_quarantined: bool) -> int:
    """Rebuild a feed's raw rows and say per part what changed.

    Args:
        city_id: Id of the city.
        feed_id: Id of the feed.
        only_quarantined: Do nothing where no row is quarantined.

    Returns:
        0, or 1 where a part has no rows now or its bytes could not be read.

    Raises:
        DeclarationError: The city is declared wrongly.
        UsageError: City or feed is not declared, or the feed has never been fetched.
    """
    from assets.ingest.landing import replay_feed
    from orchestration.run_job import alone

    settings = load_settings()
    console = make_console()
    city = load_declared(settings).pick([city_id])[0]
    feed = pick([feed_id], city.feeds, f"feed of {city.id}")[0]
    if not settings.lake.landing(city.id, feed.id).is_dir():
        raise UsageError(
            f"{city.id}/{feed.id} has never been fetched; run `citysignal run --city {city.id}` first"
        )
    in_use = feed_record(settings.lake, feed).in_use
    before = {part: delivery.rows_quarantined for part, delivery in in_use.items()}
    if only_quarantined and not sum(before.values()):
        console.print(f"no row of {city.id}/{feed.id} is quarantined")
        return 0
    with alone(settings), console.status(f"reading the stored deliveries of {city.id}/{feed.id}"):
        deliveries = replay_feed(settings.lake, city, feed, now=settings.clock.now())
    table = named_table("part", "outcome", title=f"{city.id}/{feed.id}")
    for column in ("rows in file", "raw", "quarantined", "quarantined before"):
        table.add_column(column, justify="right")
    for one in deliveries:
        table.add_row(
            one.part,
            one.outcome,
            f"{one.rows_in_file:,}",
            f"{one.rows_raw:,}",
            f"{one.rows_quarantined:,}",
            f"{before.get(one.part, 0):,}",
        )
    console.print(table)
    for one in deliveries:
        if one.message:
            console.print(f"{one.part}: {one.message}", markup=False, soft_wrap=True)
    console.print(f"`citysignal run --city {city.id}` takes the rows into the warehouse.")
    return 0 if is_rebuilt(deliveries) else 1


def is_rebuilt(deliveries: Sequence[Delivery]) -> bool:
    """Return whether every part has rows again; bytes that the gate refused before may be refused again."""
    arrived = {one.part for one in deliveries if one.outcome in ARRIVED}
    return all(one.part in arrived and one.outcome != "failed" for one in deliveries)
