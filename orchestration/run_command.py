"""The `run` subcommand from its arguments to its exit code; its steps are in modules of their own."""

import gc
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from assets.ingest.declaration_text import DeclarationError
from assets.ingest.feed import City
from assets.ingest.lake import Lake
from orchestration import interruption
from orchestration.console import make_console
from orchestration.declared_cities import Declared, load_declared
from orchestration.settings import Settings, load_settings
from orchestration.simulated_portals import located, portals_for
from orchestration.usage import UsageError

if TYPE_CHECKING:
    import dagster as dg

    from orchestration.run_job import RunReport

#: How rarely Python looks for garbage. Dagster and dbt hold 0.7 million objects to the end of a run; looking
#: through them as often as Python does takes 5 of the 43 CPU seconds of a run over a
#: tiny city, like this 2, in the same memory.
COLLECTION = (5_000, 10, 50)


def run_pipeline(wanted: Sequence[str], select: str | None, *, full: bool, debug: bool) -> int:
    """Run the pipeline for some cities and say what came of it.

    Args:
        wanted: Ids of cities; none means every city in use that is not simulated.
        select: Dagster selection that narrows the assets, or None.
        full: Read every stored delivery again and rebuild every table.
        debug: Let Dagster print its log.

    Returns:
        0 when everything went through; 1 when a step or an error check failed, a delivery was refused, or a
        city that was meant is declared wrongly.
    """
    gc.set_threshold(*COLLECTION)
    console = make_console()
    settings = load_settings()
    declared = load_declared(settings)
    cities = choose(wanted, declared, settings.lake)
    declared.warn()

    from orchestration.instance import prepare_dagster_home
    from orchestration.run_job import held

    prepare_dagster_home(settings)
    with held(settings), portals_for(cities, settings, console) as address:
        known = located(declared.cities, address)
        cities = [known[city.id] for city in cities]
        if full:
            replay_all(settings, cities, console)
        report = run_assets(settings, cities, known, select, full=full, debug=debug, console=console)

    if report.was_interrupted:
        raise KeyboardInterrupt

    from orchestration.run_summary import show_summary

    show_summary(settings, cities, report, console)
    # Without names every city in use is meant, so one that had to be left out is not done.
    is_whole = bool(wanted) or not any(settings.lake.is_in_use(city) for city in declared.broken)
    is_good = report.succeeded and not any(check.is_error for check in report.failed_checks)
    return 0 if is_good and is_whole else 1


def choose(wanted: Sequence[str], declared: Declared, lake: Lake) -> list[City]:
    """Return the cities to run: those named, else the real ones in use.

    Raises:
        DeclarationError: A city that is to run is declared wrongly, and no other is left to run.
        UsageError: A city is not declared, or none was named and none is in use.
    """
    if wanted:
        return declared.pick(wanted)
    real = [city for city in declared.cities.values() if not city.is_simulated]
    used = [city for city in real if lake.is_in_use(city.id)]
    if used:
        return used
    # Shipped cities are in order; one that is not is being declared right now, and meant.
    if declared.broken:
        raise DeclarationError([problem for found in declared.broken.values() for problem in found])
    if not real:
        raise UsageError(
            "no real city is in use and none is declared; try `citysignal run --city simulated`, "
            "or set CITYSIGNAL_CITIES to a folder that holds <city>/_city.yaml"
        )
    raise UsageError(
        f"no real city is in use; begin with one, like `citysignal run --city {example_of(real)}`; "
        f"declared: {', '.join(sorted(city.id for city in real))}"
    )


def example_of(cities: Sequence[City]) -> str:
    """Return the city to name in an example."""
    ids = [city.id for city in cities]
    return "chicago" if "chicago" in ids else ids[0]


def replay_all(settings: Settings, cities: Sequence[City], console: Console) -> None:
    """Rebuild the raw rows of every feed that has stored bytes, before anything is fetched."""
    from assets.ingest.landing import replay_feed

    for city in cities:
        for feed in city.feeds.values():
            if settings.lake.landing(city.id, feed.id).is_dir():
                with console.status(f"reading the stored deliveries of {city.id}/{feed.id} again"):
                    replay_feed(settings.lake, city, feed, now=settings.clock.now())


def run_assets(
    settings: Settings,
    cities: Sequence[City],
    declared: Mapping[str, City],
    select: str | None,
    *,
    full: bool,
    debug: bool,
    console: Console,
) -> "RunReport":
    """Run the assets of some cities, and everything built from feeds, as one Dagster run."""
    with console.status("loading"):
        import dagster as dg

        from orchestration.definitions import build_definitions
        from orchestration.history import kept_open
        from orchestration.jobs import PIPELINE
        from orchestration.run_job import run_job, settle
        from orchestration.run_progress import RunProgress

        definitions = build_definitions(settings, declared)
        keys = selected_keys(definitions, cities, declared, select)
    if interruption.is_noted():  # something that was being imported took the Ctrl-C
        raise KeyboardInterrupt
    with kept_open(), dg.DagsterInstance.get() as instance:
        for run_id in settle(settings, instance):
            console.print(f"  [yellow]![/] run {run_id} was killed earlier; it is marked failed now")
        progress = RunProgress(console, total_of(definitions, keys))
        with progress.shown():
            return run_job(
                definitions,
                instance,
                PIPELINE,
                keys,
                run_config=full_refresh_config(definitions, keys) if full else None,
                log_level="INFO" if debug else "CRITICAL",
                on_event=progress.on_event,
            )


def selected_keys(
    definitions: "dg.Definitions", cities: Sequence[City], declared: Mapping[str, City], select: str | None
) -> "set[dg.AssetKey]":
    """Return the assets to run.

    Raises:
        UsageError: The selection cannot be read or selects nothing of these cities.
    """
    import dagster as dg

    from orchestration.jobs import refresh_selection

    graph = definitions.resolve_asset_graph()
    feeds = [feed for city in cities for feed in city.feeds.values()]
    keys = set(refresh_selection(feeds, declared).resolve(graph))
    if select is None:
        return keys
    try:
        chosen = keys & set(dg.AssetSelection.from_string(select).resolve(graph))
    except dg.DagsterError as error:
        raise UsageError(f"--select {select!r} cannot be read: {str(error).splitlines()[0]}") from None
    if not chosen:
        raise UsageError(
            f"--select {select!r} selects nothing of {', '.join(city.id for city in cities)}; "
            "write for example 'key:\"raw/*\"', 'group:publish' or '+key:\"core/fct_events\"'"
        )
    return chosen


def total_of(definitions: "dg.Definitions", keys: "set[dg.AssetKey]") -> int:
    """Return how many assets and checks a run of some assets gives."""
    checks = definitions.resolve_asset_graph().asset_check_keys
    return len(keys) + sum(check.asset_key in keys for check in checks)


def full_refresh_config(definitions: "dg.Definitions", keys: "set[dg.AssetKey]") -> dict[str, Any]:
    """Return the run configuration that makes dbt rebuild incremental tables."""
    from assets.warehouse.dbt_assets import PASSES

    assets = definitions.resolve_asset_graph().assets_defs
    steps = {asset.op.name for asset in assets if asset.is_executable and set(asset.keys) & keys}
    return {"ops": {step: {"config": {"full_refresh": True}} for step in PASSES if step in steps}}
