"""Shows a run's events to a person while it is at work; what it left behind is shown by `run_summary.py`."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)


class RunProgress:
    """Counts the assets and checks of one run as they end.

    Args:
        console: Where to show it.
        total: Number of assets and checks that the run will give.
    """

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._bar = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=total)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the bar while the run is at work."""
        with self._bar:
            yield

    def on_event(self, event: dg.DagsterEvent) -> None:
        """Take one event of the run."""
        kind = event.event_type
        if kind == dg.DagsterEventType.STEP_START:
            self._bar.update(self._task, description=said(event.step_key or ""))
        elif kind == dg.DagsterEventType.ASSET_MATERIALIZATION and event.asset_key is not None:
            self._bar.update(self._task, advance=1, description=event.asset_key.to_user_string())
        elif kind == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            self._bar.update(self._task, advance=1)
        elif kind == dg.DagsterEventType.STEP_SUCCESS:
            seconds = event.step_success_data.duration_ms / 1000
            self._console.print(
                f"  [green]✓[/] {said(event.step_key or '')}  [dim]{seconds:.1f} s[/]", highlight=False
            )
        elif kind == dg.DagsterEventType.STEP_FAILURE:
            self._console.print(f"  [red]✗[/] {said(event.step_key or '')}", highlight=False)


def said(step: str) -> str:
    """Return a step's key as a person says it; asset steps join the parts of their key by two underscores."""
    return step.replace("__", "/")
