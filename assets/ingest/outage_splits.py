"""Outages that left a snapshot because others took their place: they split, and service is not back.

Utilities give the halves new ids and keep the start; an outage whose start and neighbourhood new ones share
is not over.
"""

from collections.abc import Sequence
from pathlib import Path

import duckdb

from assets.ingest.feed import Feed
from assets.ingest.known_rows import event_time
from assets.ingest.part import Part
from assets.ingest.sql_expression import literal

#: How far from the outage its halves may be shown, in degrees; about 2 km.
NEAR_DEGREES = 0.02


def note_splits(
    con: duckdb.DuckDBPyConnection, received: str, raw: Sequence[Path], feed: Feed, part: Part
) -> None:
    """Set the reason of the rows in `gone` that split to `split`.

    Args:
        con: Has the tables `gone` and `compared`.
        received: Relation of the received rows.
        raw: The raw files of the part.
        feed: The feed.
        part: The part.
    """
    time = event_time(feed, part)
    is_possible = con.execute(
        "select exists (from gone) and exists (from compared where verdict = 'new')"
    ).fetchone()[0]
    if time is None or not raw or not is_possible:
        return
    files = ", ".join(literal(str(path)) for path in raw)
    con.execute(
        f"""
        update gone set reason = 'split' where source_id in (
            select before.source_id
            from (
                select source_id, {time} as started, lon, lat from read_parquet([{files}])
                where source_id in (select source_id from gone)
                qualify row_number() over (
                    partition by source_id order by delivery_id desc, source_row desc
                ) = 1
            ) before
            join (
                select {time} as started, lon, lat from {received}
                where source_id in (select id from compared where verdict = 'new')
            ) since on since.started = before.started
            where before.lon is null or since.lon is null or (
                abs(before.lon - since.lon) <= {NEAR_DEGREES}
                and abs(before.lat - since.lat) <= {NEAR_DEGREES}
            )
        )
        """  # noqa: S608
    )
