"""The subcommands that only look: cities, feeds, status and check.

What they print comes from declarations and from what landing and the warehouse recorded.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.markup import escape

from assets.ingest.declaration_text import DeclarationError
from assets.ingest.feed import BUILT_IN, City, Problem
from orchestration.console import make_console, named_table
from orchestration.declared_cities import load_declared
from orchestration.settings import Settings, load_settings

BAD_VERDICTS = ("never landed", "failing", "blocked", "late")
#: Verdicts that ask nothing of anybody.
GOOD_VERDICTS = ("current", "finished")


def chosen(settings: Settings, wanted: Sequence[str], *, only_in_use: bool = False) -> list[City]:
    """Return the named cities, else all that are declared rightly, or of these those in use."""
    declared = load_declared(settings)
    cities = declared.pick(wanted) if wanted else list(declared.cities.values())
    declared.warn()
    if only_in_use and not wanted:
        cities = [city for city in cities if settings.lake.is_in_use(city.id)]
    return cities


def show_cities() -> None:
    """Print the declared cities and where each comes from."""
    table = named_table("city", "name", "time zone", "feeds", "declared in")
    for city in chosen(load_settings(), []):
        origin = "built in" if city.folder.parent == BUILT_IN else str(city.folder)
        name = f"{city.name} (simulated)" if city.is_simulated else city.name
        table.add_row(city.id, escape(name), city.time_zone, str(len(city.feeds)), escape(origin))
    make_console().print(table)


def show_feeds(wanted: Sequence[str], *, only_unverified: bool) -> None:
    """Print the declared feeds with portal, publisher and licence, and whether a real answer proved them.

    Args:
        wanted: Ids of cities; none means all.
        only_unverified: Leave out the feeds whose ids and columns were seen in a real answer.
    """
    table = named_table("feed", "kind", "title", "publisher", "licence", "cadence", "portal", "verified")
    for city in chosen(load_settings(), wanted):
        for feed in city.feeds.values():
            if only_unverified and feed.verified:
                continue
            portals = dict.fromkeys(feed.portal_of(part) for part in feed.parts)
            table.add_row(
                f"{city.id}/{feed.id}",
                feed.kind,
                escape(feed.title),
                escape(feed.publisher),
                escape(feed.licence),
                feed.cadence,
                ", ".join(portals),
                "yes" if feed.verified else "[yellow]no[/]",
            )
    console = make_console()
    if only_unverified and not table.row_count:
        console.print("every declared feed was verified against a real answer of its portal")
        return
    console.print(table)


def show_status(wanted: Sequence[str], *, is_all: bool) -> None:
    """Print how each feed is doing, and under the table what is wrong and what to do.

    Args:
        wanted: Ids of cities; none means those in use.
        is_all: Without names, every declared city.
    """
    from orchestration.feed_state import feed_states

    settings = load_settings()
    console = make_console()
    cities = chosen(settings, wanted, only_in_use=not is_all)
    if not cities:
        console.print(
            "no city is in use; `citysignal run --city simulated` begins with one, "
            "`citysignal status --all` shows every declared feed",
            soft_wrap=True,
        )
        return
    table = named_table("feed", "verdict")
    for column in ("since", "last success", "newest record"):
        table.add_column(column, min_width=len("2026-01-02"))
    for column in ("rows", "missing", "quarantined"):
        table.add_column(column, justify="right")
    states = feed_states(settings.lake, cities)
    for state in states:
        style = "red" if state.verdict in BAD_VERDICTS else None
        table.add_row(
            state.name,
            f"[{style}]{state.verdict}[/]" if style else state.verdict,
            minute(state.since),
            minute(state.last_success),
            minute(state.newest_record),
            f"{state.rows:,}",
            f"{state.rows_missing:,}",
            f"{state.rows_quarantined:,}",
        )
    console.print(table)
    for state in states:
        if state.verdict not in GOOD_VERDICTS:
            console.print(state.line, markup=False, soft_wrap=True)


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
    try:
        settings.subscribers()
    except DeclarationError as error:
        problems += error.problems
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
