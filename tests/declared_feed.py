"""A feed of a made-up town, for tests that need a declaration but not its file."""

from pathlib import Path
from typing import Any

from assets.ingest.feed import Feed

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
