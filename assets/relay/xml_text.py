"""Text and times as XML takes them; which elements there are belongs to cap and atom."""

import re
from datetime import UTC, datetime
from xml.etree.ElementTree import Element, SubElement, indent, tostring

# What XML 1.0 cannot hold, escaped or not. ElementTree writes it all the same, and no reader takes the file.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_REPLACEMENT = "\ufffd"


def xml_text(text: str) -> str:
    """Return a text without the characters that no XML file may hold; markup in it stays text."""
    # A carriage return would come back as a line feed: it is told as one.
    return _NOT_XML.sub(_REPLACEMENT, text).replace("\r\n", "\n").replace("\r", "\n")


def add(parent: Element, name: str, text: str | None = None, **attributes: str) -> Element:
    """Add an element with some text and return it."""
    element = SubElement(parent, name, {key: xml_text(value) for key, value in attributes.items()})
    if text is not None:
        element.text = xml_text(text)
    return element


def xml_bytes(root: Element) -> bytes:
    """Return a document as UTF-8, the same bytes for the same content."""
    indent(root)
    return tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def cap_time(at: datetime) -> str:
    """Return an aware time as CAP 1.2 wants it: whole seconds, and UTC as -00:00, never Z."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}-00:00"


def atom_time(at: datetime) -> str:
    """Return an aware time as RFC 3339 in UTC, whole seconds."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}Z"
