"""Current alerts as a GeoJSON FeatureCollection (RFC 7946), a point each."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from assets.relay.alert import Alert


def feature_collection(current: Sequence[Alert], acknowledged: Mapping[str, datetime]) -> bytes:
    """Return the collection, ordered by alert id, UTF-8.

    Args:
        current: The newest revision of each alert that has not ended.
        acknowledged: When an agency said that it has seen an alert, by alert id.
    """
    features = [
        {
            "type": "Feature",
            "id": alert.alert_id,
            "geometry": {"type": "Point", "coordinates": [round(alert.lon, 7), round(alert.lat, 7)]},
            "properties": {
                **told(alert),
                "acknowledged_at": _told(acknowledged.get(alert.alert_id)),
            },
        }
        for alert in sorted(current, key=lambda one: one.alert_id)
    ]
    collection = {"type": "FeatureCollection", "features": features}
    # RFC 7946 is JSON, which has no NaN.
    return json.dumps(collection, ensure_ascii=False, sort_keys=True, allow_nan=False, indent=1).encode()


def told(alert: Alert) -> dict[str, Any]:
    """Return what an alert says beside its place, as JSON values; a number that is none is null."""
    return json.loads(alert.model_dump_json(exclude={"lon", "lat"}))


def _told(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
