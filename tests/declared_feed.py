"""A made-up town and a feed of it, for tests that need declarations but not their files."""

from pathlib import Path
from typing import Any

from assets.ingest.feed import City, Feed

BOX = (-88, 41, -87, 43)


def declared_feed(**said: Any) -> Feed:
    """Return a feed `town/calls`; what is said replaces or adds to its declaration."""
    return Feed(
        **{
            "city": "town",
            "id": "calls",
            "file": Path("calls.yaml"),
            "city_crs": "EPSG:26916",
            "city_bbox": BOX,
            "title": "Calls",
            "kind": "service_request",
            "publisher": "Town",
            "landing_page": "https://town.example",
            "licence": "CC0",
            "owner_agency": "Streets",
            "cadence": "daily",
            "portal": "files",
            "parts": [{"id": "one", "source": "one.csv"}],
            **said,
        }
    )


def declared_town(folder: Path, *feeds: Feed) -> City:
    """Return the town, with some feeds."""
    return City(
        id="town",
        folder=folder,
        name="Town",
        country="US",
        state="IL",
        time_zone="America/Chicago",
        crs="EPSG:26916",
        bbox=BOX,
        feeds={feed.id: feed for feed in feeds},
    )
