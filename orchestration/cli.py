"""The `citysignal` command: what each subcommand takes and how it ends; the work is in the modules it calls.

Exit codes: 0 done, 1 a problem with data, declarations or the run, 2 wrong usage. Imports are inside the
commands: `citysignal --help` answers without Dagster or dbt.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated

import typer

from orchestration import interruption
from orchestration.usage import UsageError

STOPPED = "stopped; run the command again to go on"

app = typer.Typer(
    name="citysignal",
    help="A signal layer over a city's 311, permit, crime, infrastructure and utility records.",
    epilog="Example: citysignal run --city simulated",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

CityOption = Annotated[
    list[str] | None, typer.Option("--city", "-c", metavar="CITY", help="A declared city; may be repeated.")
]


@app.callback()
def configure(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Take the options that stand before the subcommand."""
    context.obj = debug


@contextmanager
def told_plainly(debug: bool) -> Iterator[None]:
    """Turn whatever goes wrong into its message and an exit code."""
    try:
        yield
    except typer.Exit:
        raise
    except UsageError as error:
        end(str(error), 2)
    except KeyboardInterrupt:
        interruption.note()
        end(STOPPED, 1)
    except Exception as error:
        if debug:
            raise
        if interruption.is_noted():
            end(STOPPED, 1)
        said = str(error).strip() or type(error).__name__
        end(
            said
            if is_expected(error)
            else f"{type(error).__name__}: {said} (citysignal --debug … shows more)",
            1,
        )


def is_expected(error: Exception) -> bool:
    """Return whether an error is one of ours, whose message was written for the person who reads it."""
    return type(error).__module__.split(".")[0] in ("assets", "orchestration")


def end(message: str, code: int) -> None:
    """Print an error, one line for each thing that is wrong, and leave."""
    for line in message.splitlines():
        typer.echo(f"citysignal: {line}", err=True)
    raise typer.Exit(code)


@app.command(
    epilog="Examples: citysignal run --city simulated · citysignal run -c chicago --select 'group:publish'"
)
def run(
    context: typer.Context,
    city: CityOption = None,
    select: Annotated[
        str | None,
        typer.Option("--select", metavar="S", help="Only these assets, in Dagster's selection syntax."),
    ] = None,
    full: Annotated[
        bool,
        typer.Option("--full", help="Read every stored delivery again and rebuild every table from nothing."),
    ] = False,
) -> None:
    """Run the main job: fetch, land, check, build, infer, publish. Without --city, every real city in use."""
    with told_plainly(context.obj):
        from orchestration.run_command import run_pipeline

        raise typer.Exit(run_pipeline(city or [], select, full=full, debug=context.obj))


@app.command(epilog="Example: citysignal status --city chicago")
def status(
    context: typer.Context,
    city: CityOption = None,
    is_all: Annotated[
        bool, typer.Option("--all", help="Every declared feed, of cities that were never run too.")
    ] = False,
) -> None:
    """Say how each feed of the cities in use is doing, since when, why and what to do."""
    with told_plainly(context.obj):
        from orchestration.listings import show_status

        show_status(city or [], is_all=is_all)


@app.command(epilog="Example: citysignal cities")
def cities(context: typer.Context) -> None:
    """List the declared cities and where each declaration lies."""
    with told_plainly(context.obj):
        from orchestration.listings import show_cities

        show_cities()


@app.command(epilog="Example: citysignal feeds --city chicago")
def feeds(
    context: typer.Context,
    city: CityOption = None,
    unverified: Annotated[
        bool,
        typer.Option("--unverified", help="Only feeds that no real answer of their portal proved yet."),
    ] = False,
) -> None:
    """List the declared feeds with publisher, licence, cadence, portal and whether they were verified."""
    with told_plainly(context.obj):
        from orchestration.listings import show_feeds

        show_feeds(city or [], only_unverified=unverified)


@app.command(epilog="Example: citysignal check")
def check(context: typer.Context) -> None:
    """Check every declaration without fetching anything; name file, key and reason of whatever is wrong."""
    with told_plainly(context.obj):
        from orchestration.listings import check_declarations

        raise typer.Exit(check_declarations())


@app.command(epilog="Example: citysignal replay chicago service_requests --quarantine")
def replay(
    context: typer.Context,
    city: Annotated[str, typer.Argument(help="The city.", metavar="CITY")],
    feed: Annotated[str, typer.Argument(help="The feed.", metavar="FEED")],
    quarantine: Annotated[
        bool,
        typer.Option("--quarantine", help="Only where rows are quarantined, and say how many got through."),
    ] = False,
) -> None:
    """Rebuild a feed's raw rows from the stored bytes, without its portal."""
    with told_plainly(context.obj):
        from orchestration.replay_command import replay_stored

        raise typer.Exit(replay_stored(city, feed, only_quarantined=quarantine))


@app.command(epilog="Examples: citysignal alerts --city chicago · citysignal alerts --replay")
def alerts(
    context: typer.Context,
    city: CityOption = None,
    replay: Annotated[
        bool, typer.Option("--replay", help="Send what was given up again, in its old order, to everyone.")
    ] = False,
    acknowledge: Annotated[
        str | None,
        typer.Option("--acknowledge", metavar="ID", help="Note that the agency has taken this alert up."),
    ] = None,
) -> None:
    """Show current agency alerts, deliveries that wait and dead letters; 1 where one needs somebody."""
    with told_plainly(context.obj):
        from orchestration.alerts_command import show_alerts

        raise typer.Exit(show_alerts(city or [], is_replayed=replay, acknowledged=acknowledge))


@app.command(epilog="Example: citysignal backfill chicago crimes --since 2025-01-01 --until 2025-02-01")
def backfill(
    context: typer.Context,
    city: Annotated[str, typer.Argument(help="The city.", metavar="CITY")],
    feed: Annotated[str, typer.Argument(help="The feed.", metavar="FEED")],
    since: Annotated[
        datetime,
        typer.Option("--since", metavar="DAY", formats=["%Y-%m-%d"], help="First day, by event time."),
    ],
    until: Annotated[
        datetime,
        typer.Option("--until", metavar="DAY", formats=["%Y-%m-%d"], help="First day after them."),
    ],
) -> None:
    """Fetch the records of some days again and land what differs from what is known."""
    with told_plainly(context.obj):
        from orchestration.backfill_command import backfill_days

        raise typer.Exit(backfill_days(city, feed, since.date(), until.date()))


@app.command(epilog="Example: citysignal portals --now 2025-06-01")
def portals(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any.")] = 8311,
    now: Annotated[
        str | None,
        typer.Option("--now", metavar="TIME", help="ISO time that the portals take for now."),
    ] = None,
) -> None:
    """Serve the simulated city's portals on 127.0.0.1 until Ctrl-C; Enter moves their clock a day on."""
    with told_plainly(context.obj):
        from orchestration.portals_command import show_portals
        from orchestration.settings import instant

        raise typer.Exit(show_portals(port, instant(now, "--now")))


@app.command(epilog="Example: citysignal ui --port 3001")
def ui(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 3000,
) -> None:
    """Serve the Dagster UI, its daemon and the simulated portals on 127.0.0.1 until Ctrl-C."""
    with told_plainly(context.obj):
        from orchestration.settings import load_settings
        from orchestration.user_interface import serve

        typer.echo(f"Dagster on http://127.0.0.1:{port} (Ctrl-C ends it)")
        raise typer.Exit(serve(load_settings(), "127.0.0.1", port))


def main() -> None:
    """Run the command line."""
    # What Dagster says of its own interfaces' age is nothing the person at the terminal can act on.
    if not sys.warnoptions:
        import warnings

        warnings.simplefilter("ignore")
        # For helper processes: Python's own tracker would tell of what a Ctrl-C left for it to clean up.
        os.environ["PYTHONWARNINGS"] = "ignore"
    # One question to the network less; GX and dbt would otherwise report usage.
    for name, value in {"DO_NOT_TRACK": "1", "GX_ANALYTICS_ENABLED": "false"}.items():
        os.environ.setdefault(name, value)
    interruption.watch()
    try:
        app()
    except SystemExit as error:
        if interruption.is_noted():
            interruption.leave(error.code if isinstance(error.code, int) else 1)
        raise


if __name__ == "__main__":
    main()
