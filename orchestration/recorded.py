"""What receipts say of each feed, built into a warehouse or not; the rest is `warehouse/summary.py`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from assets.ingest.feed import City, Feed
from assets.ingest.lake import Lake
from assets.ingest.receipts import Delivery, read_receipts

#: Outcomes after which the raw rows are those of the delivery.
ARRIVED = ("landed", "unchanged")


@dataclass
class FeedRecord:
    """One feed as its receipts tell it.

    Attributes:
        last_attempt: When landing last tried, UTC without a zone.
        last_success: When a part last arrived, UTC without a zone.
        latest: The last attempt at each part.
        in_use: The last delivery of each part that arrived; the raw rows are theirs.
    """

    feed: Feed
    last_attempt: datetime | None = None
    last_success: datetime | None = None
    latest: dict[str, Delivery] = field(default_factory=dict)
    in_use: dict[str, Delivery] = field(default_factory=dict)

    @property
    def rows_in_file(self) -> int:
        """Records in the deliveries in use."""
        return sum(one.rows_in_file for one in self.in_use.values())

    @property
    def rows_raw(self) -> int:
        """Raw rows of these."""
        return sum(one.rows_raw for one in self.in_use.values())

    @property
    def distinct_keys(self) -> int:
        """Distinct keys of these, counted within each part."""
        return sum(one.distinct_keys for one in self.in_use.values())

    @property
    def quarantined(self) -> Counter[str]:
        """Rows of these that were quarantined, by reason."""
        return sum((Counter(one.quarantine_reasons) for one in self.in_use.values()), Counter())


def feed_records(lake: Lake, cities: Sequence[City]) -> list[FeedRecord]:
    """Return every feed of some cities with what its receipts say."""
    return [feed_record(lake, feed) for city in cities for feed in city.feeds.values()]


def feed_record(lake: Lake, feed: Feed) -> FeedRecord:
    """Return a feed with what its receipts say."""
    record = FeedRecord(feed)
    for receipt in read_receipts(lake.landing(feed.city, feed.id)):
        record.last_attempt = receipt.attempted_at
        record.latest[receipt.part] = receipt
        if receipt.outcome in ARRIVED:
            record.last_success = receipt.attempted_at
            record.in_use[receipt.part] = receipt
    return record
