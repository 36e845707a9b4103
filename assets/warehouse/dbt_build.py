"""One `dbt build` in the calling process, told node by node; Dagster's side of it is in `dbt_assets.py`.

In-process because a dbt program per step costs about eight times the CPU and a second process cannot open the
DuckDB file while the first one reads row counts from it.
"""

import json
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from assets.warehouse.generation import Generation

#: dbt's words for a node that is good enough to build on.
GOOD = frozenset({"success", "pass", "warn", "no-op"})


@dataclass(frozen=True)
class NodeOutcome:
    """What became of one node.

    Attributes:
        unique_id: dbt's id of the model, seed or test.
        status: success, pass, warn, fail, error or skipped.
        message: dbt's message; for a failed test, how many rows failed.
        failures: Rows that a test found, or None.
        seconds: How long it took.
    """

    unique_id: str
    status: str
    message: str
    failures: int | None
    seconds: float

    @property
    def is_good(self) -> bool:
        """Whether what depends on the node may be built."""
        return self.status in GOOD


class DbtBuildError(Exception):
    """dbt ended without building: the project does not compile, or the warehouse file cannot be opened."""


@dataclass(frozen=True)
class DbtBuild:
    """How to build the project, which is read once, as it stands when the first build begins.

    Attributes:
        project: Folder of dbt_project.yml and profiles.yml.
        target: Folder for dbt's own artefacts.
        logs: Folder for dbt.log.
        announce: Called with the generation before dbt starts; sets the variables the project reads.
    """

    project: Path
    target: Path
    logs: Path
    announce: Callable[[Generation], None]

    def run(self, arguments: Sequence[str], generation: Generation) -> Iterator[NodeOutcome]:
        """Run `dbt build` with some selection arguments and yield each node as it ends.

        Args:
            arguments: Selection and flags, as on dbt's command line.
            generation: The generation that is being built.

        Raises:
            DbtBuildError: dbt ended with something else than node results.
        """
        self.announce(generation)
        told: queue.Queue[Any] = queue.Queue()

        def on_event(event: Any) -> None:
            if event.info.name == "NodeFinished":
                told.put(outcome_of_event(event.data))

        def build() -> None:
            try:
                told.put(self._invoke([*self._command(), *arguments], on_event))
            except Exception as error:  # whoever waits must hear of it
                told.put(error)

        worker = threading.Thread(target=build, name="dbt", daemon=True)
        worker.start()
        seen = set()
        while isinstance(item := told.get(), NodeOutcome):
            seen.add(item.unique_id)
            yield item
        worker.join()
        if isinstance(item, Exception):
            raise item
        if item.exception is not None or item.result is None:
            raise DbtBuildError(f"dbt did not build: {item.exception or 'it gave no result'}")
        # A node that dbt skipped because of another one never starts, so it never finishes.
        for result in item.result.results:
            if result.node.unique_id not in seen:
                yield NodeOutcome(
                    result.node.unique_id,
                    str(result.status),
                    result.message or "",
                    result.failures,
                    result.execution_time,
                )

    def note_loaded(self, state: str) -> None:
        """Let the warehouse know that what it was built from is loaded.

        Args:
            state: The state of the project it was built with.

        Raises:
            DbtBuildError: dbt could not write it.
        """
        arguments = ["mark_loaded", "--args", json.dumps({"project": state})]
        outcome = self._invoke(["run-operation", *arguments, *self._settings()])
        if not outcome.success:
            raise DbtBuildError(f"dbt did not note what it loaded: {outcome.exception or outcome.result}")

    def _invoke(self, arguments: Sequence[str], *callbacks: Callable[[Any], None]) -> Any:
        """Return dbt's result of a command; where the project cannot be read, of reading it."""
        from dbt.cli.main import dbtRunner

        if not self._parsed.success:
            return self._parsed
        return dbtRunner(manifest=self._parsed.result, callbacks=list(callbacks)).invoke([*arguments])

    @cached_property
    def _parsed(self) -> Any:
        """What dbt read the project to be; each of the three commands of a run would spend a second on it."""
        from dbt.cli.main import dbtRunner

        return dbtRunner().invoke(["parse", *self._settings()])

    def _command(self) -> list[str]:
        return ["build", "--exclude-resource-type", "unit_test", *self._settings()]

    def _settings(self) -> list[str]:
        return [
            "--project-dir", str(self.project),
            "--profiles-dir", str(self.project),
            "--target-path", str(self.target),
            "--log-path", str(self.logs),
            "--log-level", "none",
            "--log-level-file", "info",
            "--no-use-colors",
        ]  # fmt: skip


def outcome_of_event(data: Any) -> NodeOutcome:
    """Return what dbt's NodeFinished event says."""
    result = data.run_result
    is_test = data.node_info.resource_type == "test"
    return NodeOutcome(
        unique_id=data.node_info.unique_id,
        status=str(result.status),
        message=result.message or "",
        failures=int(result.num_failures) if is_test else None,
        seconds=float(result.execution_time),
    )


class RowCounter:
    """Counts rows through the connection that dbt holds open in this process.

    It keeps one handle from its first question to its end, so that dbt-duckdb, told to keep no file open,
    does not close and open the file between any two models.
    """

    def __init__(self) -> None:
        self._handle: Any = None

    def rows(self, relation: str) -> int:
        """Return the rows of a relation, named as the manifest quotes it."""
        from dbt.adapters.duckdb.connections import DuckDBConnectionManager

        if self._handle is None:
            self._handle = DuckDBConnectionManager.env().handle()
        return int(self._handle.cursor().execute(f"select count(*) from {relation}").fetchall()[0][0])  # noqa: S608

    def close(self) -> None:
        """Give the handle back."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None


def release_warehouse() -> None:
    """Close the connection dbt leaves open, so that this process and others can open the file."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    try:
        environment = DuckDBConnectionManager.env()
    except Exception:  # dbt-duckdb raises the bare class where nothing was opened
        return
    environment.close()
    DuckDBConnectionManager.close_all_connections()
