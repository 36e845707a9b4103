"""The subcommands that only look: cities, feeds, status and check.

What they print comes from declarations and from what landing and the warehouse recorded.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from assets.ingest.feed import BUILT_IN, City, Problem
from orchestration.console import make_console, named_table
from orchestration.declared_cities import load_declared
from orchestration.settings import Settings, load_settings

if TYPE_CHECKING:
    from assets.warehouse.summary import FeedStatus
    from orchestration.recorded import FeedRecord

BAD_VERDICTS = ("never landed", "failed", "blocked")


def chosen(settings: Settings, wanted: Sequence[str]) -> list[City]:
    """Return the named cities, by default all that are declared rightly."""
    declared = load_declared(settings)
    cities = declared.pick(wanted) if wanted else list(declared.cities.values())
    declared.warn()
    return cities


def show_cities() -> None:
    """Print the declared cities and where each comes from."""
    table = named_table("city", "name", "time zone", "feeds", "declared in")
    for city in chosen(load_settings(), []):
        origin = "built in" if city.folder.parent == BUILT_IN else str(city.folder)
        name = f"{city.name} (simulated)" if city.is_simulated else city.name
        table.add_row(city.id, escape(name), city.time_zone, str(len(city.feeds)), escape(origin))
    make_console().print(table)


def show_feeds(wanted: Sequence[str]) -> None:
    """Print the declared feeds with publisher and licence."""
    table = named_table("feed", "kind", "title", "publisher", "licence", "cadence")
    for city in chosen(load_settings(), wanted):
        for feed in city.feeds.values():
            table.add_row(
                f"{city.id}/{feed.id}",
                feed.kind,
                escape(feed.title),
                escape(feed.publisher),
                escape(feed.licence),
                feed.cadence,
            )
    make_console().print(table)


def show_status(wanted: Sequence[str]) -> None:
    """Print per feed when it was tried and landed, what is newest, and how it is doing."""
    from assets.warehouse.summary import feed_status
    from orchestration.recorded import feed_records

    settings = load_settings()
    cities = chosen(settings, wanted)
    published = settings.lake.published_warehouse
    built = {(one.city, one.feed): one for one in feed_status(published)} if published.exists() else {}
    table = named_table("feed", "verdict")
    table.add_column("rows", justify="right")
    table.add_column("quarantined", justify="right")
    # What matters least comes last: a narrow terminal cuts it.
    for column in ("newest record", "last success", "last attempt"):
        table.add_column(column, min_width=len("2026-01-02"))
    for record in feed_records(settings.lake, cities):
        state = built.get((record.feed.city, record.feed.id))
        said = verdict(record, state)
        table.add_row(
            f"{record.feed.city}/{record.feed.id}",
            f"[red]{said}[/]" if said in BAD_VERDICTS else said,
            f"{record.rows_raw:,}",
            f"{state.rows_quarantined if state else record.quarantined.total():,}",
            minute(state.newest_event_at if state else None),
            minute(record.last_success),
            minute(record.last_attempt),
        )
    make_console().print(table)


def verdict(record: "FeedRecord", state: "FeedStatus | None") -> str:
    """Return how a feed is doing: what its receipts say of the last attempt, else what the warehouse says."""
    if record.last_success is None:
        return "never landed" if record.last_attempt else "never tried"
    outcomes = {one.outcome for one in record.latest.values()}
    for outcome in ("failed", "blocked"):
        if outcome in outcomes:
            return outcome
    return state.verdict if state else "not built yet"


def minute(moment: datetime | None) -> str:
    """Return a UTC time to the minute."""
    return f"{moment:%Y-%m-%d %H:%M}" if moment else ""


def check_declarations() -> int:
    """Print every problem of every declaration; return 1 where there is one."""
    from assets.ingest.check import check_cities

    settings = load_settings()
    console = make_console()
    problems = [
        problem
        for problem in check_cities(settings.city_folders, settings.variables)
        if not waits_for_the_generator(problem, settings)
    ]
    for problem in problems:
        console.print(
            f"{shown_path(problem.file)}: {problem.key}: {problem.message}", markup=False, soft_wrap=True
        )
    if problems:
        console.print(f"{len(problems)} problem{'s' if len(problems) > 1 else ''}")
        return 1
    cities = load_declared(settings).cities
    noun = "city" if len(cities) == 1 else "cities"
    feeds = sum(len(city.feeds) for city in cities.values())
    console.print(f"{feeds} feeds of {len(cities)} {noun} are declared without a problem")
    return 0


def waits_for_the_generator(problem: Problem, settings: Settings) -> bool:
    """Return whether all that is wrong is that the first run of the simulated city is still to come."""
    from assets.simulate.city import MARKER

    return str(settings.simulated) in problem.message and not (settings.simulated / MARKER).exists()


def shown_path(file: str) -> str:
    """Return a file's path from the working folder where it lies below it."""
    path = Path(file)
    return (
        str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else file
    )
