"""Which connector speaks which protocol; a new protocol is a module here and a line in the table."""

from importlib import import_module

from assets.ingest.feed import Feed
from assets.ingest.part import Part
from assets.ingest.portals.page import Connector
from assets.ingest.portals.wire import Wire

#: Module and class of each protocol; a module is imported when a feed needs it.
_CLASSES = {
    "socrata": ("assets.ingest.portals.socrata", "Socrata"),
    "arcgis": ("assets.ingest.portals.arcgis", "ArcGIS"),
    "ckan": ("assets.ingest.portals.ckan", "Ckan"),
    "carto": ("assets.ingest.portals.carto", "Carto"),
    "opendatasoft": ("assets.ingest.portals.opendatasoft", "Opendatasoft"),
    "open311": ("assets.ingest.portals.open311", "Open311"),
    "outages": ("assets.ingest.portals.outages", "Outages"),
}


def connect_portal(feed: Feed, part: Part, wire: Wire) -> Connector:
    """Return the connector of a part.

    Raises:
        DeliveryError: The part's source is no address of that protocol.
    """
    module, name = _CLASSES[feed.portal_of(part)]
    return getattr(import_module(module), name)(feed, part, wire)
