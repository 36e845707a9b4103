"""Records of days that passed, fetched again: one job per feed, partitioned by month; how is landing's.

A job per feed, because the UI's backfill of a range of months takes no configuration. It lands only; the next
refresh takes the rows into the warehouse. For the command line there is `backfill_command.py`.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any

import dagster as dg

from assets.ingest.clock import Clock
from assets.ingest.contracts import EVENT_KINDS
from assets.ingest.feed import City, Feed
from assets.ingest.lake import Lake
from assets.ingest.part import Portal
from assets.ingest.raw_tables import pool_of, raw_key
from assets.ingest.receipts import Delivery
from assets.ingest.trouble import ARRIVED, explained

#: Protocols that can be asked for a range of days; a file is read whole, and an outage map knows only now.
ASKED_BY_DAY: frozenset[Portal] = frozenset({"socrata", "arcgis", "ckan", "carto", "opendatasoft", "open311"})
#: Where a feed does not say since when it has records.
FIRST_MONTH = date(2010, 1, 1)


def is_backfilled(feed: Feed) -> bool:
    """Return whether a feed can be asked for days: of events, behind a protocol that answers by day."""
    return feed.kind in EVENT_KINDS and any(feed.portal_of(part) in ASKED_BY_DAY for part in feed.parts)


def backfill_job(city: City, feed: Feed) -> dg.JobDefinition:
    """Return the job that fetches the records of one month of a feed again."""
    name = f"backfill_{city.id}__{feed.id}"
    first = (feed.expect.earliest or FIRST_MONTH).replace(day=1)
    months = dg.MonthlyPartitionsDefinition(start_date=first.isoformat(), end_offset=1)

    @dg.op(name=f"{name}_month", pool=pool_of(feed), out=dg.Out(dg.Nothing))
    def fetch_month(
        context: dg.OpExecutionContext, lake: dg.ResourceParam[Lake], clock: dg.ResourceParam[Clock]
    ) -> Any:
        from assets.ingest.landing import backfill_feed

        month = context.partition_time_window
        since, until = month.start.date(), month.end.date()
        deliveries = backfill_feed(
            lake, city, feed, since=since, until=until, now=clock.now(), progress=context.log.info
        )
        if lost := lost_lines(deliveries):
            raise dg.Failure("; ".join(lost), allow_retries=False)
        context.log_event(
            dg.AssetMaterialization(
                raw_key(city.id, feed.id),
                description=f"Records of {since:%Y-%m}, fetched again.",
                metadata={
                    "since": since.isoformat(),
                    "until": until.isoformat(),
                    "rows_raw": sum(one.rows_raw for one in deliveries),
                    "quarantined": sum(one.rows_quarantined for one in deliveries),
                },
            )
        )

    @dg.job(
        name=name,
        partitions_def=months,
        description=f"Fetches months of {feed.title} ({city.name}) again, as far as the lake.",
    )
    def backfill() -> None:
        fetch_month()

    return backfill


def lost_lines(deliveries: Sequence[Delivery]) -> list[str]:
    """Return one line for each part that did not arrive."""
    lost = []
    for one in deliveries:
        if one.outcome not in ARRIVED:
            what, remedy = explained(one)
            lost.append(f"{one.part} {one.outcome}: {what} -> {remedy}")
    return lost
