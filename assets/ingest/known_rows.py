"""What is known of a part: id, content hash and month of every row it ever had; the rows are raw_files'.

A delivery is compared with it, so that only what is new, changed or gone becomes rows. The index lies in
small Parquet files sorted by month, one per delivery: a question about some months reads those months.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from assets.ingest.contracts import EVENT_TIME
from assets.ingest.feed import Feed
from assets.ingest.part import Part
from assets.ingest.sql_expression import literal, quoted

#: A month's rows are read without the other months' where row groups are small.
ROW_GROUP_ROWS = 20_480
#: Stands before the content hash of a row that has no id; such rows are told apart by their content only.
NO_ID = "chr(31)"
#: `misses` of a row that was found under another month since.
MOVED = -1


@dataclass
class Comparison:
    """How a delivery differs from what is known, in keys; `rows` count records.

    Attributes:
        gone: Keys found gone, for the first or second time.
        known: Live keys after the delivery.
        seen_share: Of the keys that were live before and could be seen, how many were.
        months: Live keys by month after the delivery.
        suspects: Keys found gone once, by month.
    """

    rows_new: int = 0
    rows_changed: int = 0
    rows_unchanged: int = 0
    gone: int = 0
    known: int = 0
    seen_share: float = 1.0
    months: dict[str, int] = field(default_factory=dict)
    suspects: dict[str, int] = field(default_factory=dict)


def event_time(feed: Feed, part: Part) -> str | None:
    """Return SQL for the first event time of a raw row as the source writes it, nothing where none is mapped.

    One column only: a portal groups by one, and rows without it are rows without a month on both sides.
    """
    mapped = feed.sources(part)
    names = [quoted(name) for name in EVENT_TIME.get(feed.kind, ()) if name in mapped]
    return f"trim({names[0]})" if names else None


def month_of(feed: Feed, part: Part) -> str:
    """Return SQL for the month of a raw row's event as the source writes it, the empty text where unknown."""
    told = event_time(feed, part)
    if told is None:
        return "''"
    # A thirteenth month can be in the text; a portal can be asked for none.
    is_month = f"regexp_matches({told}, '^[0-9]{{4}}-(0[1-9]|1[0-2])') and not starts_with({told}, '0000')"
    return f"case when {is_month} then left({told}, 7) else '' end"


def receive(con: duckdb.DuckDBPyConnection, relation: str, month: str, *, is_ordered: bool = True) -> None:
    """Make the table `received`: one row per key of a delivery, with month, content hash and record count.

    A key with several different records has the hash of all of them, so that the same file does not flap
    between them; a record that merely came twice (pages overlap) is one.

    Args:
        con: The delivery's connection.
        relation: Received rows with source_id, content_hash and source_row.
        month: SQL of a row's month.
        is_ordered: Whether the order of the records is the source's own; a portal may give them in any.
    """
    order = "source_row" if is_ordered else "content_hash"
    con.execute(
        f"""
        create or replace temp table received as
        select id, any_value(content_hash) as content_hash, max(month) as month, count(*) as n_records,
            min(content_hash) <> max(content_hash) as is_several
        from (
            select coalesce(source_id, {NO_ID} || content_hash) as id, content_hash, {month} as month
            from {relation}
        )
        group by id
        """  # noqa: S608
    )
    if con.execute("select 1 from received where is_several limit 1").fetchall():
        con.execute(
            f"""
            update received set content_hash = several.content_hash
            from (
                select source_id, md5(string_agg(content_hash, ',' order by {order})) as content_hash
                from {relation}
                where source_id in (select id from received where is_several)
                group by source_id
            ) as several
            where several.source_id = received.id
            """  # noqa: S608
        )


def compare(con: duckdb.DuckDBPyConnection, files: Sequence[Path], *, is_whole: bool) -> None:
    """Make the tables `latest` (what is known of it) and `compared` (id, month, verdict) of `received`.

    Args:
        con: Has the table `received`.
        files: The index of the part.
        is_whole: Compare with every known key; else with the months of the received ones only.
    """
    if is_whole:
        _latest(con, files, "misses >= 0")
    else:
        months = ", ".join(
            literal(month) for (month,) in con.execute("select distinct month from received").fetchall()
        )
        # Only the keys that came are looked up, and only in their months.
        wanted = f"month in ({months or 'null'}) and source_id in (select id from received)"  # noqa: S608
        _latest(con, files, wanted)
    con.execute(
        """
        create or replace temp table compared as
        select r.id, r.month, r.n_records, l.misses, l.month as month_before,
            case
                when l.source_id is null then 'new'
                when l.misses = 0 and l.content_hash = r.content_hash then 'unchanged'
                else 'changed'
            end as verdict
        from received r left join latest l on r.id = l.source_id
        """
    )
    if not is_whole:
        _find_elsewhere(con, files)


def _find_elsewhere(con: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> None:
    """Find what is new to its month and known under another one: its event was dated anew.

    New keys lie beyond the known ones in most row groups, so few of them are read.
    """
    if not con.execute("select 1 from compared where verdict = 'new' limit 1").fetchall():
        return
    wanted = "misses >= 0 and source_id in (select id from compared where verdict = 'new')"
    _latest(con, files, wanted, table="elsewhere")
    con.execute(
        """
        update compared set verdict = 'changed', misses = e.misses, month_before = e.month
        from elsewhere e where e.source_id = compared.id and compared.verdict = 'new'
        """
    )


def _latest(
    con: duckdb.DuckDBPyConnection, files: Sequence[Path], where: str, *, table: str = "latest"
) -> None:
    if not files:
        con.execute(
            f"create or replace temp table {table} (source_id varchar, content_hash varchar, misses integer,"
            " month varchar)"
        )
        return
    # Numbers are compared and texts joined after: an aggregate cannot put texts on disk. Of one delivery's
    # two entries of a row whose event was dated anew, the one that lives is the newer.
    con.execute(
        f"""
        create or replace temp table {table} as
        with listed as (
            select source_id, content_hash, misses, month, 2 * sequence + (misses >= 0)::integer as age
            from {_read(files)} where {where}
        )
        select source_id, content_hash, misses, month
        from listed
        join (select source_id, max(age) as age from listed group by source_id) using (source_id, age)
        where misses >= 0
        """  # noqa: S608
    )


def find_gone(con: duckdb.DuckDBPyConnection, *, ends_at_once: bool) -> None:
    """Make the table `gone` (source_id, month, misses, reason) of the known live keys that did not come."""
    misses = "2" if ends_at_once else "misses + 1"
    con.execute(
        f"""
        create or replace temp table gone as
        select source_id, month, cast({misses} as integer) as misses,
            {"'ended'" if ends_at_once else "'missing'"} as reason
        from latest anti join received on received.id = latest.source_id
        where misses in (0, 1) and not starts_with(source_id, {NO_ID})
        """  # noqa: S608
    )


def find_gone_of_months(
    con: duckdb.DuckDBPyConnection, files: Sequence[Path], months: Sequence[str] | None
) -> list[str]:
    """Make `gone` of some months, or of all, from the table `swept` (id, month) of what the portal still has.

    What the delivery itself brought (`received`) is there, though the index does not know it yet.

    Returns:
        The months in which the portal has keys that are not known.
    """
    where = "misses >= 0" if months is None else f"month in ({', '.join(map(literal, months))})"
    _latest(con, files, where)
    con.execute(
        f"""
        create or replace temp table gone as
        select source_id, month, cast(misses + 1 as integer) as misses, 'missing' as reason
        from latest
        anti join swept on swept.id = latest.source_id
        anti join received on received.id = latest.source_id
        where misses in (0, 1) and not starts_with(source_id, {NO_ID})
        """  # noqa: S608
    )
    if months is not None and con.execute("select 1 from gone limit 1").fetchall():
        # A row whose event was dated anew lies under another month; it is not gone.
        con.execute(
            f"""
            update gone set misses = {MOVED}
            where source_id in (
                select source_id from (
                    select source_id, max_by(month, sequence) as month, max_by(misses, sequence) as misses
                    from {_read(files)}
                    where source_id in (select source_id from gone) and misses >= 0
                    group by source_id
                ) as now
                where now.month <> (select g.month from gone g where g.source_id = now.source_id)
            )
            """  # noqa: S608
        )
    unknown = con.execute(
        "select distinct coalesce(month, '') from swept"
        " anti join (select source_id as id from latest where misses = 0) l using (id)"
        " anti join received r on r.id = swept.id where id is not null order by 1"
    ).fetchall()
    return [month for (month,) in unknown]


def summarise(
    con: duckdb.DuckDBPyConnection,
    *,
    is_whole: bool,
    months_before: dict[str, int],
    suspects_before: dict[str, int],
) -> Comparison:
    """Return what `compared` and `gone` say, in counts."""
    found = Comparison()
    for verdict, records in con.execute(
        "select verdict, sum(n_records)::bigint from compared group by verdict"
    ).fetchall():
        setattr(found, f"rows_{verdict}", records)
    if is_whole:
        found.months = _counts(con, "select month from compared")
        # What did not come and is not held to be gone is still there (a half-loaded portal).
        kept = (
            "select month from latest anti join received on received.id = latest.source_id"
            " anti join gone on gone.source_id = latest.source_id where misses = 0"
        )
        found.months = _added(found.months, _counts(con, kept))
        waiting = (
            "select month from latest anti join received on received.id = latest.source_id"
            " anti join gone on gone.source_id = latest.source_id where misses = 1"
        )
        found.suspects = _counts(con, waiting)
    else:
        came = "select month from compared where verdict = 'new' or misses > 0"
        found.months = _added(months_before, _counts(con, came))
        moved = "from compared where verdict = 'changed' and misses = 0 and month_before <> month"
        found.months = _added(found.months, _counts(con, f"select month {moved}"))
        found.months = _added(found.months, _counts(con, f"select month_before as month {moved}"), -1)
        back = _counts(con, "select month_before as month from compared where misses = 1")
        found.suspects = _added(suspects_before, back, -1)
    _take_gone(con, found, is_whole=is_whole)
    found.known = sum(found.months.values())
    return found


def _take_gone(con: duckdb.DuckDBPyConnection, found: Comparison, *, is_whole: bool) -> None:
    found.gone = con.execute(f"select count(*) from gone where misses <> {MOVED}").fetchone()[0]  # noqa: S608
    lost = _counts(con, f"select month from gone where misses in (1, {MOVED})")  # noqa: S608
    # A snapshot's row ends at once, without having been a suspect.
    gone_for_good = "select gone.month from gone join latest using (source_id) where gone.misses = 2"
    ended = _counts(con, f"{gone_for_good} and latest.misses = 0")
    once = _counts(con, "select month from gone where misses = 1")
    twice = _counts(con, f"{gone_for_good} and latest.misses = 1")
    if not is_whole:
        found.months = _added(_added(found.months, lost, -1), ended, -1)
        found.suspects = _added(found.suspects, twice, -1)
    found.suspects = _added(found.suspects, once)


def write_known(
    con: duckdb.DuckDBPyConnection, sequence: int, path: Path, older: Sequence[Path] = ()
) -> None:
    """Write what a delivery changes in the index; with `older`, those files merged into it."""
    merged = (
        f"""
        union all
        select month, source_id, content_hash, misses, sequence from {_read(older)}
        qualify row_number() over (partition by source_id, month order by sequence desc) = 1
        """  # noqa: S608
        if older
        else ""
    )
    con.execute(
        f"""
        copy (
            select month, source_id, content_hash, misses, sequence from (
                select r.month, r.id as source_id, r.content_hash, cast(0 as integer) as misses,
                    cast({sequence} as integer) as sequence
                from received r join compared c on c.id = r.id
                where c.verdict <> 'unchanged'
                union all
                select c.month_before, c.id, null, {MOVED}, {sequence}
                from compared c where c.month_before <> c.month
                union all
                select month, source_id, null, misses, {sequence} from gone
                {merged}
            )
            order by month, source_id
        ) to {literal(str(path))} (format parquet, compression zstd, row_group_size {ROW_GROUP_ROWS})
        """  # noqa: S608
    )


def _read(files: Sequence[Path]) -> str:
    return f"read_parquet([{', '.join(literal(str(file)) for file in files)}])"


def _counts(con: duckdb.DuckDBPyConnection, months: str) -> dict[str, int]:
    counted = con.execute(
        f"select coalesce(month, '') as month, count(*) from ({months}) group by all order by all"  # noqa: S608
    )
    return dict(counted.fetchall())


def _added(some: dict[str, int], others: dict[str, int], sign: int = 1) -> dict[str, int]:
    keys = sorted({*some, *others})
    sums = {key: some.get(key, 0) + sign * others.get(key, 0) for key in keys}
    return {key: number for key, number in sums.items() if number > 0}
