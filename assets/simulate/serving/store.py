"""The data sets of simulated portals: rows that are added, edited, reloaded and removed as publishers do it.

How a protocol shows them is its module's. Every row is kept with the time from which it shows and the time
until which it does, so that a movable clock decides what a portal has at a moment.
"""

# ruff: noqa: S608 -- the SQL is made of quoted column names and of this package's own text; values are parameters

import json
import random
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from assets.simulate.serving.exchange import Request
from assets.simulate.serving.faults import Faults

#: Where a store's clock stands at first: fixed, so that the same edits give the same answers.
START = datetime(2026, 3, 2, 12)  # noqa: DTZ001 -- UTC without a zone, as everywhere in a store

#: How DuckDB holds a column. Whole numbers stay whole until a fraction comes in.
_HELD_AS = {
    "text": "VARCHAR",
    "number": "BIGINT",
    "flag": "BOOLEAN",
    "floating_timestamp": "TIMESTAMP",
    "fixed_timestamp": "TIMESTAMP",
    "point": "STRUCT(lon DOUBLE, lat DOUBLE)",
    "json": "VARCHAR",
}
#: Columns that every data set has beside its own.
SYSTEM_COLUMNS = ("_row", "_rid", "_created_at", "_updated_at")
_GIVEN_TIMES = ("_created_at", "_updated_at", "_until")
_LARGEST_WHOLE = 2**53
_RID_BITS = 60
_RID_LETTERS = "23456789abcdefghijkmnpqrstuvwxyz"
# A checkpoint compresses what was inserted; on a few rows it is only slow.
_WORTH_COMPRESSING = 50_000


@dataclass(frozen=True)
class Column:
    """One column of a data set.

    Attributes:
        type: `text`, `number`, `flag`, `floating_timestamp` (local time without a zone), `fixed_timestamp`
            (UTC), `point` (a struct of `lon` and `lat`) or `json` (JSON text).
    """

    name: str
    type: str = "text"

    def __post_init__(self) -> None:
        if self.type not in _HELD_AS:
            raise ValueError(f"column {self.name!r}: no type {self.type!r}; one of {', '.join(_HELD_AS)}")
        if self.name in (*SYSTEM_COLUMNS, "_until"):
            raise ValueError(f"column {self.name!r}: the name is the store's own; choose another")


def quoted(name: str) -> str:
    """Return a name as a DuckDB identifier."""
    return '"' + name.replace('"', '""') + '"'


def naive_utc(at: datetime) -> datetime:
    """Return a time in UTC without a zone, to the millisecond."""
    if at.tzinfo is not None:
        at = at.astimezone(UTC).replace(tzinfo=None)
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


class Dataset:
    """One data set behind one protocol. Safe to use from several threads.

    Attributes:
        key: The business id, a column.
        created: The business creation time, a column; nothing where there is none.
        is_retired: Whether the portal says that it no longer exists.
        compares_ids: Whether the portal lets row ids be compared (Socrata).
        traits: What one protocol wants to know of it, such as a server's version.
        version: Grows with every change.
    """

    def __init__(
        self,
        protocol: str,
        id: str,  # noqa: A002 -- what portals call it
        title: str = "",
        columns: Iterable[Column] = (),
        key: str = "",
        created: str | None = None,
        *,
        is_retired: bool = False,
        compares_ids: bool = True,
        traits: Mapping[str, Any] | None = None,
    ) -> None:
        self.protocol, self.id, self.title = protocol, id, title or id
        self.columns = list(columns)
        self.key, self.created = key, created
        self.is_retired, self.compares_ids = is_retired, compares_ids
        self.traits = dict(traits or {})
        self.version = 0
        for named in filter(None, (key, created)):
            self.column(named)
        self._clock: Callable[[], datetime] | None = None
        self._changed: Callable[[], None] = lambda: None
        self._next_row = 1
        self._removed_at: datetime | None = None
        self._random = random.Random(f"{protocol}/{id}")  # noqa: S311 -- the same ids in every run
        self._salt = self._new_salt()
        self._writing = threading.RLock()
        # Rows lie as their protocol's readers ask for them; then a page is read from few places.
        self._laid_by = "_rid" if protocol == "socrata" else "_row"
        self._con = duckdb.connect()
        self._con.create_function("double_hex", _double_hex, ["DOUBLE"], "VARCHAR", type="arrow")
        # Compressed: millions of wide rows are held in memory beside the client under test.
        self._con.execute("attach ':memory:' as held (compress)")
        own = [f"{quoted(column.name)} {_HELD_AS[column.type]}" for column in self.columns]
        system = [
            "_row bigint",
            "_rid varchar",
            "_created_at timestamp",
            "_updated_at timestamp",
            "_until timestamp",
        ]
        self._con.execute(f"create table held.rows ({', '.join(own + system)})")

    def column(self, name: str) -> Column:
        """Return a column by its name.

        Raises:
            KeyError: There is none.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"data set {self.id}: no column {name!r}")

    @property
    def now(self) -> datetime:
        """The clock of the store it is in; before it is in one, where clocks start."""
        return self._clock() if self._clock else START

    def is_whole(self, name: str) -> bool:
        """Tell whether a column of numbers holds whole ones only."""
        return self._held_type(name) == "BIGINT"

    def enter(self, clock: Callable[[], datetime], changed: Callable[[], None]) -> None:
        """Take a store's clock; rows that were inserted before without a time get its time."""
        with self._writing:
            self._clock, self._changed = clock, changed
            self._con.execute(
                "update held.rows set _created_at = coalesce(_created_at, $now), _updated_at = $now "
                "where _updated_at is null",
                {"now": clock()},
            )
            self._note_change()

    # --- edits -----------------------------------------------------------------------------------------

    def insert(self, rows: list[dict[str, Any]] | pa.Table, at: datetime | None = None) -> None:
        """Add rows.

        Args:
            rows: By column name; what is left out is null. A point is `(lon, lat)`, GeoJSON, or a struct of
                both. They may say `_created_at` and `_updated_at` (UTC) themselves, and `_until`: then rows
                of one key are versions of one row, and each shows from its `_updated_at` until then. A table
                may say `_row` (1 and on) too, where keys are missing or repeat.
            at: When, UTC; nothing: now. Later than now: they show when the clock has come there.

        Raises:
            ValueError: A row has a column that the data set has not.
        """
        table = rows if isinstance(rows, pa.Table) else _as_table(rows, self.columns)
        known = {*(column.name for column in self.columns), *_GIVEN_TIMES, "_row"}
        unknown = set(table.column_names) - known
        if unknown:
            raise ValueError(f"data set {self.id}: rows have unknown columns {', '.join(sorted(unknown))}")
        with self._writing:
            for column in self.columns:
                if column.type == "number" and column.name in table.column_names:
                    self._widen(column.name, table.column(column.name))
            self._add(table, naive_utc(at) if at else None)
            if table.num_rows >= _WORTH_COMPRESSING:
                self._con.execute("checkpoint held")
            self._note_change()

    def update(self, keys: Sequence[str], changes: Mapping[str, Any], at: datetime | None = None) -> None:
        """Change columns of the rows of some keys; `_updated_at` follows.

        Args:
            keys: Business ids; those that have no row are passed over.
            changes: New values by column name, written as `insert` takes them.
            at: When, UTC; nothing: now. Later than now: the old row shows until then, the new from then on.
        """
        time = naive_utc(at) if at else self.now
        given = _as_table([dict(changes)], [self.column(name) for name in changes])
        with self._writing:
            for name in changes:
                if self.column(name).type == "number":
                    self._widen(name, given.column(name))
            self._change(keys, given, time)
            self._note_change()

    def delete(self, keys: Sequence[str], at: datetime | None = None) -> None:
        """Remove the rows of some keys without a trace, as portals do; later than now: from then on."""
        time = naive_utc(at) if at else self.now
        which = {"keys": [str(key) for key in keys], "at": max(time, self.now)}
        with self._writing:
            if time > self.now:
                sql = f"update held.rows set _until = $at where {self._of_keys} and {_SHOWN_AT}"
            else:
                self._removed_at = time
                sql = f"delete from held.rows where {self._of_keys} and {_SHOWN_AT}"
            self._con.execute(sql, which)
            self._note_change()

    def reload(self, at: datetime | None = None) -> None:
        """Empty the data set and fill it with the same content, as a publisher's nightly job does.

        Every row gets a new number, a new row id and new system times; nothing else changes.
        """
        time = naive_utc(at) if at else self.now
        own = ", ".join(f"held.rows.{quoted(column.name)}" for column in self.columns)
        with self._writing, self._transaction() as con:
            self._salt = self._new_salt()
            con.execute(
                "create or replace temp table renumbered as select _row as was, "
                "row_number() over (order by hash(_row, $salt)) as _row "
                "from (select distinct _row from held.rows)",
                {"salt": self._salt[1]},
            )
            con.execute(
                f"create or replace table held.reloaded as select {own}, renumbered._row, "
                f"{self._rid_of('renumbered._row')} as _rid, $at::timestamp as _created_at, "
                "greatest(held.rows._updated_at, $at) as _updated_at, held.rows._until "
                "from held.rows join renumbered on held.rows._row = renumbered.was "
                f"order by {self._laid_by}",
                {"at": time},
            )
            con.execute("drop table held.rows")
            con.execute("alter table held.reloaded rename to rows")
            self._next_row = 1 + con.execute("select count(*) from renumbered").fetchone()[0]
            self._note_change()

    def add_column(self, column: Column, value: Any = None) -> None:
        """Add a column, the same value in every row."""
        with self._writing:
            name = quoted(column.name)
            self._con.execute(f"alter table held.rows add column {name} {_HELD_AS[column.type]}")
            self.columns.append(column)
            if value is not None:
                given = _as_table([{column.name: value}], [column])
                if column.type == "number":
                    self._widen(column.name, given.column(column.name))
                self._con.register("given", given)
                self._con.execute(
                    f"update held.rows set {name} = (select {self._taken(column.name)} from given)"
                )
                self._con.unregister("given")
            self._note_change()

    def rename_column(self, old: str, new: str) -> None:
        """Give a column another name."""
        with self._writing:
            renamed = Column(new, self.column(old).type)
            self._con.execute(f"alter table held.rows rename column {quoted(old)} to {quoted(new)}")
            self.columns[self.columns.index(self.column(old))] = renamed
            self.key = new if self.key == old else self.key
            self.created = new if self.created == old else self.created
            self._note_change()

    def drop_column(self, name: str) -> None:
        """Take a column away; the business key stays the store's handle on the rows and cannot go."""
        if name == self.key:
            raise ValueError(f"data set {self.id}: {name!r} is its key; rename it instead")
        with self._writing:
            dropped = self.column(name)
            self._con.execute(f"alter table held.rows drop column {quoted(name)}")
            self.columns.remove(dropped)
            self.created = None if self.created == name else self.created
            self._note_change()

    def retype_column(self, name: str, type: str) -> None:  # noqa: A002 -- a column's type
        """Give a column another type; values that do not fit become null."""
        with self._writing:
            retyped, before = Column(name, type), self.column(name)
            held = _HELD_AS[type]
            text = (
                f"to_json({quoted(name)})::varchar" if before.type == "point" else f"{quoted(name)}::varchar"
            )
            if type == "number":
                held = self._narrowest(f"select try_cast({text} as double) as x from held.rows")
            self._con.execute(
                f"alter table held.rows alter column {quoted(name)} set data type {held} "
                f"using try_cast({text} as {held})"
            )
            self.columns[self.columns.index(before)] = retyped
            self._note_change()

    # --- questions -------------------------------------------------------------------------------------

    def query(
        self,
        select: str,
        where: str = "true",
        order: str = "",
        limit: int | None = None,
        offset: int = 0,
        parameters: Sequence[Any] = (),
    ) -> pa.Table:
        """Answer DuckDB SQL over the rows that show now.

        The rows have all columns of the data set plus `_row` (1 and on), `_rid` (`row-xxxx.xxxx.xxxx`, in no
        order), `_created_at` and `_updated_at` (UTC).

        Args:
            select: Select list, and after it a `group by` may not stand: that goes to the end of `where`.
            where: Condition.
            order: Order list; without one the order is undefined.
            limit: Rows at most.
            offset: Rows passed over.
            parameters: Values of the `?` in `select`, `where` and `order`, as they follow.
        """
        rows = _question(select, where, order, limit, offset)
        return self._ask(f"with served as ({self._served()}) {rows}", parameters)

    def render(
        self,
        text: str,
        where: str = "true",
        order: str = "",
        limit: int | None = None,
        offset: int = 0,
        parameters: Sequence[Any] = (),
        between: str = ",\n",
    ) -> tuple[bytes, int]:
        """Return the rows that a question has, each as the text of a SQL expression, and how many they are.

        Millions of rows go out this way without becoming Python objects.

        Args:
            text: Of type VARCHAR and never null, over the columns that `query` tells and without
                parameters, such as `to_json(served)::varchar`.
            where: As in `query`, and so the rest.
            order: Order list.
            limit: Rows at most.
            offset: Rows passed over.
            parameters: Values of the `?` in `where` and `order`.
            between: What stands between two rows.
        """
        # Chosen by few columns first, and then only the rows of the page are read in whole and written.
        chosen = f"with served as ({self._served('rowid as _place, ')}) "
        chosen += _question("_place", where, order, limit, offset)
        now = self.now
        between = between.replace("'", "''")
        with self._con.cursor() as con, _Transaction(con):
            places = con.execute(chosen, [now, now, *parameters]).to_arrow_table().column("_place").to_numpy()
            if len(places) == 0:
                return b"", 0
            table = con.execute(*self._page(f"({text}) || '{between}' as text", places, con)).to_arrow_table()
        return joined(table.column("text"), len(between.encode())), table.num_rows

    def _page(
        self, select: str, places: np.ndarray, con: duckdb.DuckDBPyConnection
    ) -> tuple[str, dict[str, int]]:
        """Return the question for the rows at some places, in the order of these."""
        reach = {"low": int(places.min()), "high": int(places.max())}
        rows = f"select {self._names} from held.rows where rowid between $low and $high"
        if np.array_equal(places, np.arange(reach["low"], reach["high"] + 1)):
            # They lie side by side: a scan brings them in their order.
            return f"select {select} from ({rows}) as served", reach
        con.register("places", pa.table({"_place": places, "_rank": np.arange(len(places))}))
        rows = rows.replace("select ", "select rowid as _place, ", 1)
        rows = f"select {self._names}, _rank from ({rows}) join places using (_place)"
        return (
            f"select {select} from (select * exclude (_rank) from ({rows}) order by _rank) as served",
            reach,
        )

    def count(self, where: str = "true", parameters: Sequence[Any] = ()) -> int:
        """Return how many of the rows that show now meet a condition."""
        return self.query("count(*) as rows", where, parameters=parameters).column("rows")[0].as_py()

    @property
    def changed_at(self) -> datetime:
        """When rows last came, changed or went; never later than now."""
        written = "case when _updated_at <= $now then _updated_at end"
        gone = "case when _until <= $now then _until end"
        with self._con.cursor() as con:
            sql = f"select max({written}), max({gone}) from held.rows"
            newest = con.execute(sql, {"now": self.now}).fetchone()
        return max((at for at in (*newest, self._removed_at) if at), default=self.now)

    def truth(self) -> dict[str, dict[str, Any]]:
        """Return the rows that show now, by key, each by column name."""
        names = ", ".join(quoted(column.name) for column in self.columns)
        rows = self.query(names, order="_row").to_pylist()
        return {str(row[self.key]): row for row in rows}

    # --- inside ----------------------------------------------------------------------------------------

    def _change(self, keys: Sequence[str], given: pa.Table, time: datetime) -> None:
        which = {"keys": [str(key) for key in keys], "at": time}
        with self._transaction() as con:
            con.register("given", given)
            fresh = {name: f"(select {self._taken(name)} from given)" for name in given.column_names}
            if time > self.now:
                shown = ", ".join(quoted(column.name) for column in self.columns)
                put = ", ".join(fresh.get(column.name, quoted(column.name)) for column in self.columns)
                con.execute(
                    f"insert into held.rows ({shown}, _row, _rid, _created_at, _updated_at, _until) "
                    f"select {put}, _row, _rid, _created_at, $at, _until "
                    f"from held.rows where {self._of_keys} and {_SHOWN_AT}",
                    which,
                )
                con.execute(
                    f"update held.rows set _until = $at where {self._of_keys} and {_SHOWN_AT} "
                    "and _updated_at < $at",
                    which,
                )
            else:
                sets = "".join(f"{quoted(name)} = {value}, " for name, value in fresh.items())
                con.execute(
                    f"update held.rows set {sets}_updated_at = $at where {self._of_keys} "
                    f"and {_SHOWN_AT.replace('$at', '$now')}",
                    which | {"now": self.now},
                )
            con.unregister("given")

    def _ask(self, sql: str, parameters: Sequence[Any]) -> pa.Table:
        now = self.now
        with self._con.cursor() as con:
            return con.execute(sql, [now, now, *parameters]).to_arrow_table()

    @property
    def _names(self) -> str:
        return ", ".join([*(quoted(column.name) for column in self.columns), *SYSTEM_COLUMNS])

    def _served(self, more: str = "") -> str:
        return f"select {more}{self._names} from held.rows where {_SHOWN_AT.replace('$at', '?')}"

    @property
    def _of_keys(self) -> str:
        return f"{quoted(self.key)} in (select unnest($keys::varchar[])::{self._held_type(self.key)})"

    def _held_type(self, name: str) -> str:
        if self.column(name).type != "number":
            return _HELD_AS[self.column(name).type]
        with self._con.cursor() as con:
            return con.execute(
                "select data_type from duckdb_columns() "
                "where database_name = 'held' and table_name = 'rows' and column_name = ?",
                [name],
            ).fetchone()[0]

    def _taken(self, name: str) -> str:
        """Return the SQL that takes a column of a given table as the rows hold it."""
        if self.column(name).type == "point":
            given = quoted(name)
            return (
                f"case when {given} is not null then struct_pack(lon := {given}.lon, lat := {given}.lat) end"
            )
        return f"{quoted(name)}::{self._held_type(name)}"

    def _widen(self, name: str, values: pa.ChunkedArray) -> None:
        if pa.types.is_integer(values.type) or not self.is_whole(name):
            return
        with self._con.cursor() as con:
            con.register("given", pa.table({"x": values}))
            held = _narrowest(con, "select x::double as x from given")
        if held == "DOUBLE":
            self._con.execute(f"alter table held.rows alter column {quoted(name)} set data type double")

    def _narrowest(self, rows: str) -> str:
        with self._con.cursor() as con:
            return _narrowest(con, rows)

    def _add(self, table: pa.Table, at: datetime | None) -> None:
        given = set(table.column_names)
        own = [column.name for column in self.columns if column.name in given]
        fallback = at if at is not None else (self.now if self._clock else None)
        of_row = "coalesce(date_trunc('millisecond', {}::timestamp), {})"
        updated = of_row.format("_updated_at", "$at") if "_updated_at" in given else "$at::timestamp"
        created = of_row.format("_created_at", updated) if "_created_at" in given else updated
        until = "_until::timestamp" if "_until" in given else "null::timestamp"
        place = "row_number() over ()"
        if "_until" in given:
            place = f"dense_rank() over (order by {quoted(self.key)})"
        if "_row" in given:
            place = "_row::bigint"
        taken = ", ".join(f"{self._taken(name)} as {quoted(name)}" for name in own)
        names = ", ".join(quoted(name) for name in own)
        with self._transaction() as con:
            con.register("given", table)
            con.execute(
                f"insert into held.rows ({names}, _row, _rid, _created_at, _updated_at, _until) "
                f"select {names}, _row, {self._rid_of('_row')} as _rid, _c, _u, _t "
                f"from (select {taken}, "
                f"{place} + $before as _row, {created} as _c, {updated} as _u, {until} as _t from given) "
                f"order by {self._laid_by}",
                {"before": self._next_row - 1, "at": fallback},
            )
            con.unregister("given")
            self._next_row = 1 + con.execute("select coalesce(max(_row), 0) from held.rows").fetchone()[0]

    def _new_salt(self) -> tuple[int, int]:
        return self._random.getrandbits(_RID_BITS) | 1, self._random.getrandbits(_RID_BITS)

    def _rid_of(self, row: str) -> str:
        """Return the SQL of a row id: no two rows share one, and their order tells nothing of the rows'."""
        factor, shift = self._salt
        whole = f"((({row})::hugeint * {factor} + {shift}) % {1 << _RID_BITS})::bigint"
        letters = [
            f"substr('{_RID_LETTERS}', (({whole} >> {at}) & 31)::integer + 1, 1)"
            for at in range(_RID_BITS - 5, -1, -5)
        ]
        groups = [" || ".join(letters[at : at + 4]) for at in (0, 4, 8)]
        return "'row-' || " + " || '.' || ".join(groups)

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._con)

    def _note_change(self) -> None:
        self.version += 1
        self._changed()


#: A row shows from its last change on until it is replaced or removed. Rows without a time always show.
_SHOWN_AT = "(_updated_at is null or _updated_at <= $at) and (_until is null or _until > $at)"


class _Transaction:
    """Edits of several statements that other threads see all or none of."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self._con = con

    def __enter__(self) -> duckdb.DuckDBPyConnection:
        self._con.begin()
        return self._con

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure:
            self._con.rollback()
        else:
            self._con.commit()


def joined(texts: pa.ChunkedArray, tail: int) -> bytes:
    """Return texts without nulls as one, without the last bytes of the last of them."""
    pieces = []
    for chunk in texts.chunks:
        if len(chunk) == 0:
            continue
        offsets, data = chunk.buffers()[1:]
        width = "q" if pa.types.is_large_string(chunk.type) else "i"
        marks = memoryview(offsets).cast(width)
        pieces.append(memoryview(data)[marks[chunk.offset] : marks[chunk.offset + len(chunk)]])
    return b"".join([*pieces[:-1], pieces[-1][: len(pieces[-1]) - tail]]) if pieces else b""


@dataclass(frozen=True)
class File:
    """One file that a portal offers."""

    name: str
    content: bytes | Path
    changed_at: datetime

    def read(self) -> bytes:
        """Return its bytes."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


class Store:
    """All that one server serves: data sets, files, faults, the clock, and what was asked of it.

    Attributes:
        now: The clock, UTC without a zone; rows of a later time do not show.
        faults: What is to go wrong.
        requests: Every request seen, in its order.
        version: Grows with every change of a data set, a file or the clock.
    """

    def __init__(self, now: datetime = START) -> None:
        self.faults = Faults()
        self.requests: list[Request] = []
        self.version = 0
        self._now = naive_utc(now)
        self._datasets: dict[tuple[str, str], Dataset] = {}
        self._files: dict[str, File] = {}

    @property
    def now(self) -> datetime:  # noqa: D102 -- an attribute of the class
        return self._now

    @now.setter
    def now(self, now: datetime) -> None:
        self._now = naive_utc(now)
        self._note_change()

    def advance(self, by: timedelta) -> None:
        """Move the clock."""
        self.now = self._now + by

    def add(self, dataset: Dataset) -> Dataset:
        """Serve a data set, in place of one of the same protocol and id."""
        dataset.enter(lambda: self._now, self._note_change)
        self._datasets[dataset.protocol, dataset.id] = dataset
        self._note_change()
        return dataset

    def find(self, protocol: str, id: str) -> Dataset | None:  # noqa: A002 -- what portals call it
        """Return a data set, nothing where there is none."""
        return self._datasets.get((protocol, id))

    def datasets(self, protocol: str | None = None) -> list[Dataset]:
        """Return the data sets, of one protocol or of all, as they were added."""
        return [dataset for dataset in self._datasets.values() if protocol in (None, dataset.protocol)]

    def add_file(self, name: str, content: bytes | str | Path, at: datetime | None = None) -> None:
        """Serve a file, in place of one of the same name.

        Args:
            name: What follows `/files/` in its address.
            content: Bytes, or the path of a file that is read at every request.
            at: When it was last changed, UTC; nothing: now.
        """
        held = content if isinstance(content, bytes) else Path(content)
        self._files[name] = File(name, held, naive_utc(at) if at else self._now)
        self._note_change()

    def find_file(self, name: str) -> File | None:
        """Return a file, nothing where there is none."""
        return self._files.get(name)

    def _note_change(self) -> None:
        self.version += 1


def _double_hex(numbers: pa.Array) -> pa.Array:
    """Return numbers as WKB has them: eight bytes, the lowest first, as hexadecimal text."""
    text = numbers.to_numpy(zero_copy_only=False).astype("<f8").tobytes().hex().upper()
    return pa.array([text[at : at + 16] for at in range(0, len(text), 16)], pa.string())


def _question(select: str, where: str, order: str, limit: int | None, offset: int) -> str:
    sql = f"select {select} from served where {where}"
    if order:
        sql += f" order by {order}"
    if limit is not None:
        sql += f" limit {int(limit)}"
    if offset:
        sql += f" offset {int(offset)}"
    return sql


def _narrowest(con: duckdb.DuckDBPyConnection, rows: str) -> str:
    """Return the type that holds the numbers `x` of a question: BIGINT, or DOUBLE where it must be."""
    has_fractions = con.execute(
        f"select coalesce(bool_or(x <> trunc(x) or abs(x) > {_LARGEST_WHOLE} or not isfinite(x)), false) "
        f"from ({rows})"
    ).fetchone()[0]
    return "DOUBLE" if has_fractions else "BIGINT"


def _as_table(rows: list[dict[str, Any]], columns: Sequence[Column]) -> pa.Table:
    names = list(dict.fromkeys(name for row in rows for name in row))
    of_name = {column.name: column for column in columns}
    arrays = []
    for name in names:
        values = [row.get(name) for row in rows]
        column = of_name.get(name)
        if column is None:  # a time of the store's own, or unknown: then `insert` says so
            kept = [naive_utc(value) if isinstance(value, datetime) else None for value in values]
            arrays.append(pa.array(kept, pa.timestamp("us")))
        else:
            arrays.append(_as_array(values, column))
    return pa.table(dict(zip(names, arrays, strict=True)))


def _as_array(values: list[Any], column: Column) -> pa.Array:
    plain = [None if value is None else _PLAIN_OF[column.type](value) for value in values]
    if column.type == "number":
        is_whole = all(value is None or isinstance(value, int) for value in plain)
        return pa.array(plain, pa.int64() if is_whole else pa.float64())
    return pa.array(plain, _ARROW_TYPE_OF[column.type])


def _number(value: Any) -> int | float:
    if isinstance(value, bool | int):
        return int(value)
    number = float(value)
    if isinstance(value, str | Decimal) and number.is_integer() and abs(number) <= _LARGEST_WHOLE:
        return int(number)
    return number


def _time(value: Any) -> datetime:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime) and isinstance(value, date):
        value = datetime(value.year, value.month, value.day)  # noqa: DTZ001 -- a day has no zone
    return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value


def _point(value: Any) -> dict[str, float]:
    if isinstance(value, Mapping):
        value = value["coordinates"] if "coordinates" in value else (value["lon"], value["lat"])
    lon, lat = value
    return {"lon": float(lon), "lat": float(lat)}


_PLAIN_OF: dict[str, Callable[[Any], Any]] = {
    "text": str,
    "number": _number,
    "flag": bool,
    "floating_timestamp": _time,
    "fixed_timestamp": _time,
    "point": _point,
    "json": lambda value: value if isinstance(value, str) else json.dumps(value),
}
_ARROW_TYPE_OF = {
    "text": pa.string(),
    "flag": pa.bool_(),
    "floating_timestamp": pa.timestamp("us"),
    "fixed_timestamp": pa.timestamp("us"),
    "point": pa.struct([("lon", pa.float64()), ("lat", pa.float64())]),
    "json": pa.string(),
}
