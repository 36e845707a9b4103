"""Makes writing the run history cheap for a process that writes much of it; what it holds is Dagster's.

With `run_job.py` the one module that uses private names of Dagster (1.13).
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

from dagster._core.storage.event_log.sqlite import sqlite_event_log
from sqlalchemy import event
from sqlalchemy.engine import Engine


@contextlib.contextmanager
def kept_open() -> Iterator[None]:
    """Keep every SQLite file of the history open from its first use to the end of the block.

    Dagster opens and closes the file for each event, and the last one to close folds the write-ahead log
    into it: 31 ms an event, 4 ms with the files held open and the log not synced at each commit (200 events,
    2 shared cores). A run has over a thousand events. A crash of the process loses nothing; a power cut may
    lose the last events, never the file.
    """
    keepers: dict[str, sqlite3.Connection] = {}

    def keep(connection: Any, record: Any) -> None:
        path = connection.execute("pragma database_list").fetchall()[0][2]
        if not path:
            return
        connection.execute("pragma synchronous = normal")
        if path not in keepers:
            keepers[path] = sqlite3.connect(path, check_same_thread=False)
        # A connection counts as an open one of the log once it has read.
        with contextlib.suppress(sqlite3.OperationalError):
            keepers[path].execute("select count(*) from sqlite_master").fetchall()

    event.listen(Engine, "connect", keep)
    try:
        with made_once():
            yield
    finally:
        event.remove(Engine, "connect", keep)
        for keeper in keepers.values():
            keeper.close()


@contextlib.contextmanager
def made_once() -> Iterator[None]:
    """Give the event log one engine for each of its files.

    Dagster makes an engine for every connection, and a new engine has compiled no statement yet: that is two
    thirds of the CPU of writing an event.
    """
    engines: dict[str, Engine] = {}
    make = sqlite_event_log.create_engine

    def engine_of(address: str, **said: Any) -> Engine:
        if address not in engines:
            engines[address] = make(address, **said)
        return engines[address]

    sqlite_event_log.create_engine = engine_of
    try:
        yield
    finally:
        sqlite_event_log.create_engine = make
