"""The current alerts of one agency as an Atom feed (RFC 4287) that links to their CAP files."""

from collections.abc import Sequence
from datetime import datetime
from uuid import NAMESPACE_URL, UUID, uuid5
from xml.etree.ElementTree import Element

from assets.relay.alert import Alert
from assets.relay.cap import CONTENT_TYPE, message_id
from assets.relay.xml_text import add, atom_time, xml_bytes

NAMESPACE = "http://www.w3.org/2005/Atom"


def atom_feed(city: str, agency: str, current: Sequence[Alert], *, updated_at: datetime) -> bytes:
    """Return the feed, newest alert first, UTF-8.

    Args:
        city: City.
        agency: Whose alerts these are.
        current: The newest revision of each alert that has not ended.
        updated_at: When anything of it changed last, the end of an alert included.
    """
    root = Element("feed", {"xmlns": NAMESPACE})
    # The same on every machine and in every build, as RFC 4287 asks of an id.
    add(root, "id", uuid5(NAMESPACE_URL, f"citysignal/alerts/{city}/{agency}").urn)
    add(root, "title", f"Alerts of {city} for {agency}")
    add(root, "updated", atom_time(updated_at))
    add(add(root, "author"), "name", "Citysignal")
    add(root, "link", rel="self", href="alerts.atom", type="application/atom+xml")
    for alert in sorted(current, key=lambda one: (one.alerted_at, one.alert_id), reverse=True):
        entry = add(root, "entry")
        add(entry, "id", UUID(hex=alert.alert_id).urn)
        add(entry, "title", alert.headline)
        add(entry, "published", atom_time(alert.reported_at))
        add(entry, "updated", atom_time(alert.alerted_at))
        add(entry, "category", term=alert.event_type)
        add(
            entry,
            "summary",
            f"{alert.severity.value}; reports: {len(alert.event_keys)}; until {atom_time(alert.expires_at)}",
        )
        add(entry, "link", rel="alternate", href=cap_file(alert), type=CONTENT_TYPE)
    return xml_bytes(root)


def cap_file(alert: Alert) -> str:
    """Return the name of an alert's CAP file, beside the feed that links to it."""
    return f"{message_id(alert)}.cap.xml"
