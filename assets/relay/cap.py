"""An alert as a CAP 1.2 message; where the message is put and how it travels is elsewhere.

What CAP asks and an alert does not know is said as carefully as CAP allows: a report that nobody checked is
`Likely`, never `Observed`; an alert is for one agency, so its scope is `Restricted`; a simulated city's are
`Exercise`. Text of a feed reaches the file as text only.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from assets.relay.alert import Alert, Message, Severity
from assets.relay.xml_text import add, cap_time, xml_bytes

NAMESPACE = "urn:oasis:names:tc:emergency:cap:1.2"
CONTENT_TYPE = "application/cap+xml"
#: CAP category of each type of event; of a type that is not in it, `Infra`.
CATEGORIES = Path(__file__).parent / "cap_categories.csv"
OTHERWISE = "Infra"

_URGENT = (Severity.EXTREME, Severity.SEVERE)


def message_id(alert: Alert) -> str:
    """Return what names one revision of an alert everywhere: in CAP, in file names, in webhooks."""
    return f"{alert.alert_id}.{alert.revision}"


def cap_message(alert: Alert, earlier: Sequence[Alert] = ()) -> bytes:
    """Return a revision of an alert as a CAP 1.2 document, UTF-8.

    Args:
        alert: The revision.
        earlier: The revisions before it, which an update or a cancellation refers to.
    """
    root = Element("alert", {"xmlns": NAMESPACE})
    add(root, "identifier", message_id(alert))
    add(root, "sender", sender_of(alert))
    add(root, "sent", cap_time(alert.alerted_at))
    add(root, "status", "Exercise" if alert.is_simulated else "Actual")
    add(root, "msgType", alert.message.value)
    add(root, "scope", "Restricted")
    add(root, "restriction", f"For {alert.agency} of {alert.city}")
    add(root, "code", f"rule:{alert.rule}")
    if alert.message is not Message.ALERT and earlier:
        add(root, "references", " ".join(map(reference_to, earlier)))
    add(root, "incidents", alert.event_key)
    _add_info(root, alert)
    return xml_bytes(root)


def sender_of(alert: Alert) -> str:
    """Return who sends, without the spaces and commas that would break a reference."""
    return f"citysignal.{alert.city}"


def reference_to(alert: Alert) -> str:
    """Return how a later message names this one."""
    return f"{sender_of(alert)},{message_id(alert)},{cap_time(alert.alerted_at)}"


def _add_info(root: Element, alert: Alert) -> None:
    info = add(root, "info")
    add(info, "language", "en-US")
    add(info, "category", categories().get(alert.event_type, OTHERWISE))
    add(info, "event", alert.event_type.replace("_", " "))
    is_over = alert.message is Message.CANCEL
    if is_over:
        add(info, "responseType", "AllClear")
    add(info, "urgency", "Past" if is_over else "Immediate" if alert.severity in _URGENT else "Expected")
    add(info, "severity", alert.severity.value)
    add(info, "certainty", "Likely")
    add(info, "audience", alert.agency)
    _add_pair(info, "eventCode", "citysignal.event_type", alert.event_type)
    add(info, "effective", cap_time(alert.alerted_at))
    add(info, "onset", cap_time(alert.reported_at))
    add(info, "expires", cap_time(alert.expires_at))
    add(info, "senderName", "Citysignal")
    add(info, "headline", alert.headline)
    _add_pair(info, "parameter", "reports", str(len(alert.event_keys)))
    for name, records in sorted(alert.context.items()):
        # An item that was looked for and not found is told too: silence would look like not looked for.
        for value in map(record_text, records) if records else ("none",):
            _add_pair(info, "parameter", name, value)
    area = add(info, "area")
    add(area, "areaDesc", f"{alert.radius_m:.0f} m around {alert.lat:.6f}, {alert.lon:.6f} (WGS 84)")
    add(area, "circle", f"{alert.lat:.6f},{alert.lon:.6f} {alert.radius_m / 1000:.3f}")


def _add_pair(parent: Element, kind: str, name: str, value: str) -> None:
    pair = add(parent, kind)
    add(pair, "valueName", name)
    add(pair, "value", value)


def record_text(record: Mapping[str, Any]) -> str:
    """Return a record of the context as JSON, its keys in order."""
    return json.dumps(record, ensure_ascii=False, sort_keys=True, default=str)


@cache
def categories() -> dict[str, str]:
    """Return the CAP category of each type of event that is not simply `Infra`."""
    with CATEGORIES.open(encoding="utf-8", newline="") as file:
        return {row["event_type"]: row["category"] for row in csv.DictReader(file)}
