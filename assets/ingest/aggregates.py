"""One row of figures about a delivery, made by DuckDB; what is expected of them is the gate's."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from assets.ingest.contracts import column_names
from assets.ingest.sql_expression import literal, quoted

if TYPE_CHECKING:
    import pandas as pd

    from assets.ingest.feed import Feed
    from assets.ingest.part import Exclusion, Part

_TIME_FORMATS = (
    "%m/%d/%Y %I:%M:%S %p",
    "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y %I:%M %p",
    "%m/%d/%Y %H:%M",
    "%m/%d/%Y",
    "%d-%b-%y",
    "%d-%b-%Y",
)


def aggregates(
    con: duckdb.DuckDBPyConnection,
    raw_parquet: Path,
    quarantine_parquet: Path,
    feed: "Feed",
    part: "Part",
    earliest: datetime | None,
    latest: datetime,
) -> "pd.DataFrame":
    """Return one row: counts, shares and extremes of a delivery, each under the name its expectation uses.

    Columns that are not there have no figures, and their expectations fail. Rows in a range that the steward
    says not to use are counted, but left out of null shares, values, places and times.
    """
    raw, quarantine = (f"read_parquet({literal(str(path))})" for path in (raw_parquet, quarantine_parquet))
    there = {row[0] for row in con.execute(f"describe select * from {raw}").fetchall()}  # noqa: S608
    expect = feed.expect
    columns = [name for name in feed.mapping(part) if name in there]
    counted = {f"count__{name}": f"count(nullif(trim({quoted(name)}), ''))" for name in columns}
    names = [quoted(name) for name in feed.event_time_columns if name in there]
    event_time = f"coalesce({', '.join(map(read_time, names))})" if names else "null::timestamp"
    time_text = f"coalesce({', '.join(names)})" if names else "null"
    outside = f"{event_time} > {literal(latest.isoformat())}::timestamp"
    if earliest is not None:
        outside += f" or {event_time} < {literal(earliest.isoformat())}::timestamp"
    judged = f"filter (where {_judged(event_time, feed.exclude)})"
    ranged = {}
    for name in expect.value_ranges:
        if name in there:
            number = f"try_cast({quoted(name)} as double)"
            ranged |= {
                f"least__{name}": f"min({number}) {judged}",
                f"most__{name}": f"max({number}) {judged}",
            }
    for name in expect.max_null_share:
        if name in columns:
            ranged[f"filled__{name}"] = f"count(nullif(trim({quoted(name)}), '')) {judged}"
    selected = {
        "row_count": "count(*)",
        "judged_rows": f"count(*) {judged}",
        "located": f"count(case when location_quality = 'ok' then 1 end) {judged}"
        if "location_quality" in there
        else "0",
        "timed": f"count({event_time}) {judged}",
        "told_times": f"count(nullif(trim({time_text}), '')) {judged}",
        "outside_times": f"count(case when {outside} then 1 end) {judged}",
        **counted,
        **ranged,
    }
    items = ", ".join(f"{sql} as {quoted(alias)}" for alias, sql in selected.items())
    frame = con.execute(
        f"select {items}, (select count(*) from {quarantine}) as quarantined from {raw}"  # noqa: S608
    ).df()
    row: dict[str, Any] = frame.iloc[0].to_dict()
    rows, judged_rows = row["row_count"], row["judged_rows"]
    derived = {
        "missing_columns": len([name for name in column_names(feed.kind) if name not in there]),
        "empty_columns": sum(1 for name in columns if rows and row[f"count__{name}"] == 0),
        "key_null_share": _share(rows - row.get("count__source_id", 0), rows),
        "quarantine_share": _share(row["quarantined"], rows + row["quarantined"]),
        # Of no rows none is misplaced: nothing is neither too few nor enough.
        "location_share": _share(row["located"], judged_rows) if judged_rows else float("nan"),
        "outside_time_share": _share(row["outside_times"], row["timed"]),
        "unreadable_time_share": _share(row["told_times"] - row["timed"], row["told_times"]),
        "accounted_rows": rows + row["quarantined"],
    }
    for name in expect.max_null_share:
        derived[f"null_share__{name}"] = _share(judged_rows - row.get(f"filled__{name}", 0), judged_rows)
    return frame.assign(**derived)


def _judged(event_time: str, excluded: Sequence["Exclusion"]) -> str:
    """Return SQL that is true for rows outside all excluded ranges; a row without a time is outside."""
    ranges = []
    for each in excluded:
        limits = [f"{event_time} >= {literal(each.since.isoformat())}::timestamp"] if each.since else []
        limits += [f"{event_time} < {literal(each.until.isoformat())}::timestamp"] if each.until else []
        ranges.append(" and ".join(limits) or "true")
    return f"not coalesce({' or '.join(f'({each})' for each in ranges)}, false)" if ranges else "true"


def read_time(text: str) -> str:
    """Return SQL that reads a text as a time to about a day, which is what a plausible range needs.

    The formats are those of the dbt macro `read_wall_time`.
    """
    text = f"trim({text})"
    formats = ", ".join(literal(each) for each in _TIME_FORMATS)
    return (
        f"case when lower({text}) in ('infinity', '-infinity', 'epoch') then null"
        f" else coalesce(try_cast({text} as timestamp), try_strptime({text}, [{formats}])) end"
    )


def _share(some: float, all_: float) -> float:
    return float(some) / float(all_) if all_ else 0.0
