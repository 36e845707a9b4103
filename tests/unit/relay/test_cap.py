"""Alerts as CAP, Atom and GeoJSON: valid by the standards, and no text of a feed is markup in them.

No library of the lock file validates XML against a schema; Java's own does, where there is a JDK.
"""

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assets.ingest.consistency import event_types
from assets.relay import cap
from assets.relay.alert import Alert
from assets.relay.atom import atom_feed
from assets.relay.cap import cap_message, categories
from assets.relay.geojson import feature_collection

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROOT = Path(__file__).parents[3]
REAL_DATA = Path(os.environ.get("CITYSIGNAL_REAL_DATA", ROOT.parent / "shared" / "data")).resolve()
SCHEMA = REAL_DATA.parent / "schemas" / "cap-1.2" / "CAP-v1.2.xsd"
CAP = "{urn:oasis:names:tc:emergency:cap:1.2}"
ATOM = "{http://www.w3.org/2005/Atom}"

HOSTILE = st.text(max_size=60) | st.sampled_from(
    [
        "</headline><severity>Extreme</severity>",
        "]]><!ENTITY x SYSTEM 'file:///etc/passwd'>",
        "&amp;&lt;script&gt;",
        "<script>alert(1)</script>",
        "quote \" and ' and \x00\x08\x1b\ufffe",
        "line\r\nbreak\rand\ttab",
        "-->\u2028\u202e",
    ]
)
RECORDS = st.lists(
    st.dictionaries(HOSTILE, HOSTILE | st.integers() | st.floats() | st.none() | st.booleans(), max_size=3),
    max_size=3,
)


def refused(folder: Path, messages: dict[str, bytes]) -> dict[str, str]:
    """Return what the schema says against each message that it refuses."""
    absent = "no JDK, so nothing validates XML" if not shutil.which("javac") else ""
    absent = absent if SCHEMA.is_file() else f"{SCHEMA} is not there"
    if absent:
        (pytest.fail if os.environ.get("CITYSIGNAL_REQUIRE_REAL") else pytest.skip)(absent)
    for name, body in messages.items():
        (folder / name).write_bytes(body)
    files = [str(folder / name) for name in messages]
    done = subprocess.run(
        ["java", "-Xshare:auto", str(Path(__file__).with_name("ValidateCap.java")), str(SCHEMA), *files],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**os.environ, "JAVA_TOOL_OPTIONS": ""},
    )
    told = [line.split("\t", 1) for line in done.stdout.splitlines()]
    return {Path(file).name: said for file, said in told}


def hostile_alerts(alert) -> dict[str, Alert]:
    first = alert("plain")
    return {
        "plain": first,
        "markup": alert(
            headline="</headline><x>&lt; ]]> <!--", context={"<a>": [{"</value>": "&"}], "b": []}
        ),
        "control": alert(headline="a\x00b\x1b\ufffe\ud7ff", context={"\x08": [{"\x0b": float("nan")}]}),
        "far": alert(lon=-0.0000001, lat=-89.9999999, radius_m=0.4),
        "zone": alert(alerted_at=NOW.astimezone(timezone(timedelta(hours=5, minutes=45)))),
        "real": alert(is_simulated=False, severity="Minor", event_type="pothole"),
    }


def test_messages_of_every_kind_are_valid_cap(tmp_path, alert):
    messages = {name: cap_message(one) for name, one in hostile_alerts(alert).items()}
    first, second = alert("it"), alert("it", revision=2, message="Update")
    messages["update"] = cap_message(second, [first])
    messages["cancel"] = cap_message(alert("it", revision=3, message="Cancel"), [first, second])
    broken = {
        "broken-order": messages["plain"].replace(b"<urgency>Immediate</urgency>", b""),
        "broken-time": messages["plain"].replace(b"-00:00</sent>", b"Z</sent>"),
        "broken-word": messages["plain"].replace(b">Exercise<", b">Simulated<"),
    }
    assert set(refused(tmp_path, messages | broken)) == set(broken)


def test_a_message_says_what_the_alert_says(alert):
    first, second = alert("it"), alert("it", revision=2, message="Update", event_keys=("k1", "k2"))
    root = ElementTree.fromstring(cap_message(second, [first]))
    told = {child.tag.removeprefix(CAP): child.text for child in root}
    assert told["identifier"] == f"{second.alert_id}.2"
    assert told["status"] == "Exercise"
    assert told["msgType"] == "Update"
    assert told["references"] == f"citysignal.town,{first.alert_id}.1,2026-03-01T12:00:00-00:00"
    info = {child.tag.removeprefix(CAP): child.text for child in root.find(f"{CAP}info")}
    assert info["category"] == "Met"
    assert info["certainty"] == "Likely", "a report that nobody checked is not observed"
    assert info["expires"] == "2026-03-01T18:00:00-00:00"
    assert root.find(f".//{CAP}circle").text == "41.881230,-87.623450 0.150"
    pairs = [(pair[0].text, pair[1].text) for pair in root.iter(f"{CAP}parameter")]
    assert pairs == [
        ("reports", "2"),
        ("schools", "none"),
        ("signals", '{"asset_id": "S 12", "distance_m": 8.5}'),
    ]


def test_a_cancellation_is_past_and_all_clear_and_a_real_city_is_no_exercise(alert):
    root = ElementTree.fromstring(cap_message(alert(message="Cancel", revision=2, is_simulated=False)))
    assert root.find(f"{CAP}status").text == "Actual"
    assert root.find(f"{CAP}info/{CAP}urgency").text == "Past"
    assert root.find(f"{CAP}info/{CAP}responseType").text == "AllClear"


def test_every_category_is_of_a_type_that_there_is():
    assert set(categories()) <= set(event_types())


hostile = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@hostile
@given(headline=HOSTILE.filter(bool), context=st.dictionaries(HOSTILE, RECORDS, max_size=3))
def test_text_of_a_feed_never_becomes_markup(alert, headline, context):
    one = alert(headline=headline, context=context)
    plain = alert(headline="x", context={f"{n}": [{}] * len(said) for n, said in enumerate(context.values())})
    root = ElementTree.fromstring(cap_message(one))
    assert shape(root) == shape(ElementTree.fromstring(cap_message(plain)))
    said = root.find(f"{CAP}info/{CAP}headline").text
    assert [a for a in said if a in "<>&\"'"] == [a for a in headline if a in "<>&\"'"]
    feed = ElementTree.fromstring(atom_feed("town", "fire", [one], updated_at=NOW))
    assert shape(feed) == shape(ElementTree.fromstring(atom_feed("town", "fire", [plain], updated_at=NOW)))
    [feature] = json.loads(feature_collection([one], {}))["features"]
    assert feature["properties"]["headline"] == headline


def shape(root: ElementTree.Element) -> list[tuple[str, list[str]]]:
    return sorted((element.tag, sorted(element.attrib)) for element in root.iter())


def test_text_that_is_pasted_in_would_become_markup(alert, monkeypatch):
    def pasted(parent, name, text=None, **attributes):
        element = ElementTree.fromstring(f"<{name}>{text or ''}</{name}>")
        parent.append(element)
        return element

    monkeypatch.setattr(cap, "add", pasted)
    root = ElementTree.fromstring(cap_message(alert(headline="<b>flood</b>", context={})))
    assert shape(root) != shape(ElementTree.fromstring(cap_message(alert(headline="flood", context={}))))


def test_the_atom_feed_has_what_rfc_4287_asks_for(alert):
    old = alert("old")
    new = alert("new", at=NOW + timedelta(minutes=1))
    root = ElementTree.fromstring(atom_feed("town", "fire", [old, new], updated_at=new.alerted_at))
    for name in ("id", "title", "updated"):
        assert len(root.findall(f"{ATOM}{name}")) == 1
    assert root.find(f"{ATOM}author/{ATOM}name").text
    entries = root.findall(f"{ATOM}entry")
    assert [entry.find(f"{ATOM}updated").text for entry in entries] == [
        "2026-03-01T12:01:00Z",
        "2026-03-01T12:00:00Z",
    ]
    ids = [root.find(f"{ATOM}id").text, *(entry.find(f"{ATOM}id").text for entry in entries)]
    assert len(set(ids)) == 3
    assert all(one.startswith("urn:uuid:") for one in ids)
    link = entries[0].find(f"{ATOM}link")
    assert link.attrib == {
        "rel": "alternate",
        "href": f"{new.alert_id}.1.cap.xml",
        "type": "application/cap+xml",
    }


def test_an_entry_keeps_its_id_when_the_alert_is_revised(alert):
    feeds = [atom_feed("town", "fire", [alert("it", revision=number)], updated_at=NOW) for number in (1, 2)]
    ids = [ElementTree.fromstring(feed).find(f"{ATOM}entry/{ATOM}id").text for feed in feeds]
    assert ids[0] == ids[1]


def test_the_collection_is_geojson_with_longitude_first(alert):
    said = json.loads(feature_collection([alert()], {alert().alert_id: NOW}))
    assert said["type"] == "FeatureCollection"
    [feature] = said["features"]
    assert feature["geometry"] == {"type": "Point", "coordinates": [-87.62345, 41.88123]}
    assert feature["properties"]["acknowledged_at"] == "2026-03-01T12:00:00+00:00"
    assert feature["properties"]["context"]["schools"] == []
    assert json.loads(feature_collection([], {})) == {"type": "FeatureCollection", "features": []}
