"""Files of alerts: what holds now and nothing else, whole after any kill, and without personal data."""

import json
from datetime import timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest

from assets.publish.privacy import PersonalDataError, refuse_personal_text
from assets.relay import alert_files
from assets.relay.alert_files import publish_alerts

ATOM = "{http://www.w3.org/2005/Atom}"


def personal_data_in(name: str, text: str) -> str | None:
    try:
        refuse_personal_text(name, text)
    except PersonalDataError as error:
        return str(error)
    return None


@pytest.fixture
def publish(lake):
    def publish(*alerts, at, acknowledged=None, inspect=personal_data_in):
        return publish_alerts(lake.home, alerts, acknowledged or {}, at=at, inspect=inspect)

    return publish


@pytest.fixture
def files(lake):
    def files() -> dict[str, bytes]:
        root = lake.home / "alerts"
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    return files


def test_what_holds_is_published_per_city_and_agency_and_every_link_leads_to_a_file(publish, files, alert):
    fire, police = alert("fire"), alert("police", agency="police")
    over = alert("over", at=fire.alerted_at - timedelta(hours=7))
    gone = [alert("gone"), alert("gone", revision=2, message="Cancel")]
    publish(fire, police, over, *gone, alert("far", city="village"), at=fire.alerted_at)
    told = files()
    assert {name for name in told if not name.endswith(".cap.xml")} == {
        "town/alerts.geojson",
        "town/fire/alerts.atom",
        "town/police/alerts.atom",
        "village/alerts.geojson",
        "village/fire/alerts.atom",
    }
    assert len(json.loads(told["town/alerts.geojson"])["features"]) == 2
    for name in told:
        if name.endswith(".atom"):
            place = name.rpartition("/")[0]
            links = ElementTree.fromstring(told[name]).findall(f"{ATOM}entry/{ATOM}link")
            assert {f"{place}/{link.get('href')}" for link in links} == {
                other for other in told if other.startswith(place) and other.endswith(".cap.xml")
            }


def test_an_update_replaces_its_message_and_an_end_empties_the_feed_at_the_time_of_the_end(
    publish, files, alert
):
    first, second = alert("it"), alert("it", revision=2, message="Update")
    publish(first, at=first.alerted_at)
    publish(first, second, at=first.alerted_at)
    assert [name for name in files() if name.endswith(".cap.xml")] == [
        f"town/fire/{first.alert_id}.2.cap.xml"
    ]
    publish(first, second, at=first.expires_at + timedelta(minutes=9))
    told = files()
    assert not [name for name in told if name.endswith(".cap.xml")]
    feed = ElementTree.fromstring(told["town/fire/alerts.atom"])
    assert feed.find(f"{ATOM}updated").text == "2026-03-01T18:00:00Z"


def test_the_same_alerts_give_the_same_files_and_touch_none(publish, files, alert, lake):
    alerts = [alert(str(number)) for number in range(4)]
    publish(*alerts, at=alerts[0].alerted_at)
    before = {path: path.stat().st_mtime_ns for path in lake.home.rglob("*.*") if path.is_file()}
    publish(*reversed(alerts), at=alerts[0].alerted_at + timedelta(minutes=1))
    assert {path: path.stat().st_mtime_ns for path in lake.home.rglob("*.*") if path.is_file()} == before


def test_a_kill_after_any_file_leaves_no_dead_link_and_the_next_round_finishes(
    publish, files, alert, monkeypatch, lake
):
    alerts = [alert(str(number)) for number in range(3)]
    whole = None
    for allowed in range(9):
        written = []

        def put(path, body, written=written, allowed=allowed, real=alert_files.put):
            if len(written) == allowed:
                raise KeyboardInterrupt
            written.append(path)
            real(path, body)

        with monkeypatch.context() as patched:
            patched.setattr(alert_files, "put", put)
            try:
                publish(*alerts, at=alerts[0].alerted_at)
                whole = files()
            except KeyboardInterrupt:
                for name, body in files().items():
                    if name.endswith(".atom"):
                        for link in ElementTree.fromstring(body).findall(f"{ATOM}entry/{ATOM}link"):
                            assert f"{name.rpartition('/')[0]}/{link.get('href')}" in files()
        for path in sorted((lake.home / "alerts").rglob("*.*")) if allowed < 4 else ():
            path.unlink()
    assert whole is not None
    assert len(whole) == 5


def test_personal_data_stays_out_of_every_file_and_takes_no_other_alert_with_it(publish, files, alert):
    bad = alert("bad", context={"note": [{"said": "call 312-555-0100 or jo@example.org"}]})
    good = alert("good")
    done = publish(bad, good, at=good.alerted_at)
    assert list(done.withheld) == [bad.alert_id]
    assert "312-555" not in done.withheld[bad.alert_id]
    assert not [name for name, body in files().items() if b"312-555" in body or b"jo@" in body]
    assert [one.alert_id for one in done.current] == [good.alert_id]


def test_without_the_inspection_it_would_be_published(publish, files, alert):
    bad = alert("bad", context={"note": [{"said": "jo@example.org"}]})
    publish(bad, at=bad.alerted_at, inspect=lambda name, text: None)
    assert [name for name, body in files().items() if b"jo@" in body]


def test_every_file_that_was_published_passes_the_inspection_itself(publish, files, alert):
    alerts = [alert(str(n), lon=-87.2 - n / 777, lat=42.1 + n / 333, radius_m=100 + n) for n in range(60)]
    done = publish(*alerts, at=alerts[0].alerted_at)
    assert done.withheld == {}
    assert [found for name, body in files().items() if (found := personal_data_in(name, body.decode()))] == []


def test_the_folder_of_operational_alerts_is_left_alone(publish, alert, lake):
    log = lake.home / "alerts" / "2026-03-01.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text("{}\n", encoding="utf-8")
    publish(alert(), at=alert().alerted_at)
    publish(at=alert().alerted_at)
    assert Path(log).read_text("utf-8") == "{}\n"
