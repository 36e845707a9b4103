"""The index against a plain model: any sequence of whole reads and deltas leaves the same live keys."""

import shutil
import tempfile
from pathlib import Path

import duckdb
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.ingest import known_rows

MONTH = "coalesce(left(happened, 7), '')"
KEYS = st.sampled_from("abcdefgh")
ROW = st.tuples(KEYS, st.sampled_from("xyz"), st.sampled_from(["2026-01-03", "2026-02-04", None]))
READS = st.lists(
    st.tuples(st.sampled_from(["full", "delta"]), st.lists(ROW, max_size=8, unique_by=lambda row: row[0])),
    min_size=1,
    max_size=7,
)


def receive(con: duckdb.DuckDBPyConnection, rows: list[tuple]) -> None:
    con.execute(
        "create or replace temp table rows"
        " (source_id varchar, content_hash varchar, happened varchar, source_row bigint)"
    )
    # The time of the event is part of the content.
    told = [(key, f"{what} {happened}", happened, n) for n, (key, what, happened) in enumerate(rows)]
    if told:
        con.executemany("insert into rows values (?, ?, ?, ?)", told)
    known_rows.receive(con, "rows", MONTH)


@settings(max_examples=60, deadline=None)
@given(READS, st.booleans())
def test_reads_of_any_kind_leave_what_a_plain_model_says(reads, is_merged):
    folder = Path(tempfile.mkdtemp())
    live: dict[str, tuple] = {}
    misses: dict[str, int] = {}
    files: list[Path] = []
    months: dict[str, int] = {}
    suspects: dict[str, int] = {}
    try:
        for sequence, (mode, rows) in enumerate(reads, start=1):
            is_whole = mode == "full"
            with duckdb.connect() as con:
                receive(con, rows)
                known_rows.compare(con, files, is_whole=is_whole)
                con.execute(
                    "create or replace temp table gone"
                    " (source_id varchar, month varchar, misses int, reason varchar)"
                )
                if is_whole:
                    known_rows.find_gone(con, ends_at_once=False)
                found = known_rows.summarise(
                    con, is_whole=is_whole, months_before=months, suspects_before=suspects
                )
                path = folder / f"{sequence}.parquet"
                known_rows.write_known(con, sequence, path, files if is_merged else ())
            files = [path] if is_merged else [*files, path]
            months, suspects = found.months, found.suspects

            came = {row[0]: row[1:] for row in rows}
            if is_whole:
                # What lies in another month is found in a whole read only.
                gone = {key for key in {*live, *(k for k, n in misses.items() if n == 1)} if key not in came}
                assert found.gone == len(gone)
                for key in gone:
                    misses[key] = misses.get(key, 0) + 1
                    live.pop(key, None)
            for key, said in came.items():
                live[key], misses[key] = said, 0
        # A whole read of what is there says that nothing is new: the index holds what the model holds.
        with duckdb.connect() as con:
            receive(con, [(key, *said) for key, said in live.items()])
            known_rows.compare(con, files, is_whole=True)
            verdicts = con.execute("select distinct verdict from compared").fetchall()
            known_rows.find_gone(con, ends_at_once=False)
            waiting = con.execute("select source_id from gone order by 1").fetchall()
        assert verdicts in ([], [("unchanged",)])
        assert [key for (key,) in waiting] == sorted(k for k, n in misses.items() if n == 1 and k not in live)
    finally:
        shutil.rmtree(folder)


def test_a_delta_reads_the_months_it_touches_only(tmp_path):
    with duckdb.connect() as con:
        con.execute(
            "create temp table rows"
            " (source_id varchar, content_hash varchar, happened varchar, source_row bigint)"
        )
        con.execute(
            "insert into rows select 'k' || lpad(n::varchar, 6, '0'), 'x',"
            " (2010 + n // 20000)::varchar || '-01-02', n from range(200000) t(n)"
        )
        known_rows.receive(con, "rows", MONTH)
        known_rows.compare(con, (), is_whole=True)
        con.execute(
            "create or replace temp table gone (source_id varchar, month varchar, misses int, reason varchar)"
        )
        known_rows.write_known(con, 1, tmp_path / "1.parquet")
    groups = duckdb.execute(
        "select distinct row_group_id, stats_min_value, stats_max_value"
        f" from parquet_metadata('{tmp_path}/1.parquet') where path_in_schema = 'month'"
    ).fetchall()
    touching = [group for group in groups if group[1] <= "2019-01" <= group[2]]
    assert len(groups) >= 9
    assert len(touching) <= 2
