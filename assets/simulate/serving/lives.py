"""How published rows came to be what they are: the states each went through, from its own times.

A published file holds the last state of a row. Earlier ones are that state without what was not yet known;
which columns those are is said per feed, in city.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import duckdb
import pyarrow as pa

#: Times before and after these are dirt; a row's place among its neighbours then says when it came.
FIRST, LAST = datetime(2022, 1, 1), datetime(2026, 1, 1)  # noqa: DTZ001 -- UTC without a zone
#: One row in so many vanishes, some days after it came.
ROWS_PER_VANISHED = 300
_DAYS_TO_VANISH = 45


@dataclass(frozen=True)
class State:
    """An earlier state of a row.

    Attributes:
        since: DuckDB SQL over the row's columns: from when it shows, UTC; null where a row had no such state.
        shows: DuckDB SQL of the columns that it shows otherwise than the last state does.
    """

    since: str
    shows: Mapping[str, str]


@dataclass(frozen=True)
class Life:
    """The states of a feed's rows.

    Attributes:
        key: The column that tells rows apart. A row that repeats one before it comes when that one is done.
        since: DuckDB SQL: from when the last state shows, UTC.
        earlier: In their order.
        frozen: From when on no row vanishes, UTC.
    """

    key: str
    since: str
    earlier: tuple[State, ...] = ()
    frozen: datetime = LAST


def local(text: str, form: str = "%Y-%m-%dT%H:%M:%S.000") -> str:
    """Return the SQL of UTC for a column of wall-clock times as text."""
    wall = f"try_strptime({text}, '{form}')"
    return f"timezone('UTC', timezone('America/Chicago', {wall}))"


def zoned(text: str) -> str:
    """Return the SQL of UTC for a column of times with a zone as text."""
    return f"timezone('UTC', try_cast({text} as timestamptz))"


def versions(rows: pa.Table, life: Life, vanishing_seed: str | None = None) -> pa.Table:
    """Return the states of all rows, with `_row`, `_created_at`, `_updated_at` and `_until`.

    Args:
        rows: In the order of the file; later rows hold where they repeat earlier ones.
        life: What their times say.
        vanishing_seed: Decides which rows vanish; nothing: none does.
    """
    names = rows.column_names
    own = ", ".join(f'"{name}"' for name in names)
    states = [*life.earlier, State(life.since, {})]
    marks = [f"_t{at}" for at in range(len(states))]
    selects = []
    for state, mark, later in zip(states, marks, [*marks[1:], None], strict=True):
        shown = ", ".join(
            f'{state.shows[name]} as "{name}"' if name in state.shows else f'"{name}"' for name in names
        )
        until = "null::timestamp" if later is None else f"coalesce({', '.join(marks[marks.index(later) :])})"
        selects.append(
            f"select {shown}, _row, _born as _created_at, {mark} as _updated_at, {until} as _until, _gone "  # noqa: S608
            f"from settled where {mark} is not null"
        )
    gone = "null::timestamp"
    if vanishing_seed is not None:
        chance = f"('0x' || md5(concat(\"{life.key}\", '{vanishing_seed}'))[1:8])::ubigint"
        days = f"(3 + {chance} // {ROWS_PER_VANISHED} % {_DAYS_TO_VANISH})::integer"
        is_chosen = f'"{life.key}" is not null and {chance} % {ROWS_PER_VANISHED} = 0'
        gone_at = f"_born + to_days({days})"
        gone = f"case when {is_chosen} and {gone_at} < $frozen then {gone_at} end"
    sql = f"""
        with timed as (select *, {_times(life)} from told),
        placed as (
            select *,
                coalesce({marks[-1]}, {_last_known([*marks, "_first"])}, $first) as _known,
                "{life.key}" is not null
                    and row_number() over (partition by "{life.key}" order by _n) > 1 as is_repeat
            from timed
        ),
        done as (
            select * replace (
                {"".join(f"if(is_repeat, null, {mark}) as {mark}, " for mark in marks[:-1])}
                case when is_repeat then least(_known + interval 1 minute, $last)
                    else greatest({", ".join(["_known", *marks[:-1], "coalesce(_first, _known)"])}) end
                    as {marks[-1]}
            )
            from placed
        ),
        born as (
            select *, if(is_repeat, {marks[-1]}, coalesce(_first, {", ".join(marks)})) as _born from done
        ),
        settled as (
            select *, row_number() over (order by _born, _n) as _row, {gone} as _gone from born
        )
        select {own}, _row, _created_at, _updated_at,
            case when _gone is null then _until else least(_gone, coalesce(_until, _gone)) end as _until
        from ({" union all ".join(selects)})
        where (_until is null or _updated_at < _until) and (_gone is null or _updated_at < _gone)
        order by _row, _updated_at"""  # noqa: S608
    numbered = rows.append_column("_n", pa.array(range(rows.num_rows), pa.int64()))
    with duckdb.connect() as con:
        con.register("told", numbered)
        bounds = {"first": FIRST, "last": LAST}
        if vanishing_seed is not None:
            bounds["frozen"] = life.frozen
        return con.execute(sql, bounds).to_arrow_table()


def _times(life: Life) -> str:
    """Return the SQL of every state's beginning, and of the first of them, without what cannot be."""
    valid = "if(({0}) between $first and $last, {0}, null)"
    earlier = [valid.format(state.since) for state in life.earlier]
    first = f"coalesce({', '.join([*earlier, 'null::timestamp'])}) as _first"
    states = [*earlier, valid.format(life.since)]
    return ", ".join([*(f"{sql} as _t{at}" for at, sql in enumerate(states)), first])


def _last_known(marks: list[str]) -> str:
    known = f"coalesce({', '.join(marks)})"
    so_far = "rows between unbounded preceding and current row"
    return f"last_value({known} ignore nulls) over (order by _n {so_far})"
