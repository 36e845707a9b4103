"""Current alerts as files under `alerts/<city>/`, made anew from the stored ones; formats have modules.

    alerts/<city>/alerts.geojson                 all that holds now
    alerts/<city>/<agency>/alerts.atom           the same per agency, with links to
    alerts/<city>/<agency>/<id>.<revision>.cap.xml

Each file appears whole, by a rename, and one that says the same stays as it is. A feed is replaced after the
CAP files that it links to are there and before those that it no longer links to are taken away.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from assets.relay.alert import Alert
from assets.relay.atom import atom_feed, cap_file
from assets.relay.cap import cap_message
from assets.relay.durable import put
from assets.relay.geojson import feature_collection

#: Given the name of a file and its text, says why it must not be published, where it must not.
Inspect = Callable[[str, str], str | None]


@dataclass
class Published:
    """What is in the files now.

    Attributes:
        current: The newest revision of each alert that has not ended.
        withheld: Why an alert that holds is in no file, by alert id.
    """

    current: list[Alert] = field(default_factory=list)
    withheld: dict[str, str] = field(default_factory=dict)


def current_alerts(alerts: Iterable[Alert], at: datetime) -> list[Alert]:
    """Return the newest revision of each alert that has not ended, by alert id."""
    newest: dict[str, Alert] = {}
    for alert in alerts:
        if alert.alert_id not in newest or alert.revision > newest[alert.alert_id].revision:
            newest[alert.alert_id] = alert
    return sorted(
        (one for one in newest.values() if not one.is_over(at)), key=lambda one: (one.city, one.alert_id)
    )


def publish_alerts(
    home: Path,
    alerts: Iterable[Alert],
    acknowledged: Mapping[str, datetime],
    *,
    at: datetime,
    inspect: Inspect,
) -> Published:
    """Make the files of every city say what holds now.

    Args:
        home: CITYSIGNAL_HOME.
        alerts: Every stored revision, of every city.
        acknowledged: When an alert was acknowledged, by alert id.
        at: Now.
        inspect: What it refuses stays out of the files; other alerts do not.
    """
    alerts = sorted(alerts, key=lambda one: (one.alert_id, one.revision))
    published = Published()
    messages: dict[str, bytes] = {}
    for alert in current_alerts(alerts, at):
        earlier = [one for one in alerts if one.alert_id == alert.alert_id and one.revision < alert.revision]
        message = cap_message(alert, earlier)
        refusal = inspect(cap_file(alert), message.decode() + alert.model_dump_json())
        if refusal is not None:
            published.withheld[alert.alert_id] = refusal
            continue
        published.current.append(alert)
        messages[alert.alert_id] = message
    for city in sorted({one.city for one in alerts}):
        _publish_city(home / "alerts" / city, city, alerts, published.current, messages, acknowledged, at)
    return published


def _publish_city(
    folder: Path,
    city: str,
    alerts: list[Alert],
    current: list[Alert],
    messages: Mapping[str, bytes],
    acknowledged: Mapping[str, datetime],
    at: datetime,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    told = [one for one in current if one.city == city]
    for agency in sorted({one.agency for one in alerts if one.city == city}):
        place = folder / agency
        place.mkdir(exist_ok=True)
        its = [one for one in told if one.agency == agency]
        for alert in its:
            _put_if_other(place / cap_file(alert), messages[alert.alert_id])
        ever = [one for one in alerts if one.city == city and one.agency == agency]
        feed = atom_feed(city, agency, its, updated_at=_changed_at(ever, at))
        _put_if_other(place / "alerts.atom", feed)
        linked = {cap_file(one) for one in its}
        for path in place.glob("*.cap.xml"):
            if path.name not in linked:
                path.unlink()
    _put_if_other(folder / "alerts.geojson", feature_collection(told, acknowledged))


def _changed_at(alerts: list[Alert], at: datetime) -> datetime:
    """Return when an agency's feed changed last: an alert came, changed, or ended by itself."""
    times = [one.alerted_at for one in alerts] + [one.expires_at for one in alerts if one.expires_at <= at]
    return max(times)


def _put_if_other(path: Path, body: bytes) -> None:
    if not path.is_file() or path.read_bytes() != body:
        put(path, body)
