"""What receipts say of each feed, built into a warehouse or not; the rest is `warehouse/summary.py`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from assets.ingest.feed import City, Feed
from assets.ingest.lake import Lake
from assets.ingest.receipts import Delivery, read_receipts
from assets.ingest.trouble import ARRIVED, Trouble, troubles


@dataclass
class FeedRecord:
    """One feed as its receipts tell it.

    Attributes:
        last_attempt: When landing last tried, UTC without a zone.
        last_success: When a part last arrived, UTC without a zone.
        latest: The last attempt at each part.
        in_use: The last delivery of each part that arrived.
        troubles: What is wrong with its parts, the worst first.
    """

    feed: Feed
    last_attempt: datetime | None = None
    last_success: datetime | None = None
    latest: dict[str, Delivery] = field(default_factory=dict)
    in_use: dict[str, Delivery] = field(default_factory=dict)
    troubles: list[Trouble] = field(default_factory=list)

    @property
    def rows_in_file(self) -> int:
        """Records in the deliveries in use."""
        return sum(one.rows_in_file for one in self.in_use.values())

    @property
    def rows_raw(self) -> int:
        """Raw rows of these: what was new or had changed."""
        return sum(one.rows_raw for one in self.in_use.values())

    @property
    def rows_unchanged(self) -> int:
        """Records of these that were known as they are."""
        return sum(one.rows_unchanged for one in self.in_use.values())

    @property
    def rows_known(self) -> int:
        """Rows that the feed has now, as far as its parts were read."""
        return sum(one.rows_known for one in self.in_use.values())

    @property
    def rows_missing(self) -> int:
        """Rows that these found gone."""
        return sum(one.rows_missing for one in self.in_use.values())

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
    receipts = read_receipts(lake.landing(feed.city, feed.id))
    record.troubles = troubles(receipts, [part.id for part in feed.parts])
    for receipt in receipts:
        record.last_attempt = receipt.attempted_at
        record.latest[receipt.part] = receipt
        if receipt.outcome in ARRIVED:
            record.last_success = receipt.attempted_at
            record.in_use[receipt.part] = receipt
    return record
