"""An outage map's feed as utilities serve it: `/{id}.json`, all that is out at this moment and nothing else.

There is no filter, no page and no history: an outage that is over is not in the next answer. A time is epoch
milliseconds, a column of type `json` is nested as it is. Traits of a data set: `provider`, and `started` and
`ended`, the columns of type `fixed_timestamp` that say when an outage is on (by default the creation column,
and none).
"""

import json
import re
from datetime import UTC, datetime
from typing import Any

from assets.simulate.serving.exchange import Request, Response
from assets.simulate.serving.store import Dataset, Store, quoted

RECORDS = "/outages"
_PATH = re.compile(r"^/(?P<id>[^/]+)\.json$")


def kind_of(request: Request) -> str:
    """Return what is asked: it is always the one `page`."""
    return "page"


def answer(store: Store, request: Request) -> Response:
    """Answer with the outages of this moment; where nothing is out, with an empty list of them."""
    fault = store.faults.take("error_in_200", "outages", kind_of(request))
    if fault is not None:
        error = {"code": fault.get("code", 500), "message": fault.get("message", "backend not available")}
        return _told({"error": error})
    found = _PATH.match(request.path)
    dataset = store.find("outages", found["id"]) if found else None
    if dataset is None or dataset.is_retired:
        return Response(404, b'{"message": "Not Found"}')
    rows = _open(store, dataset)
    if store.faults.take("empty_page", "outages", "page") is not None:
        rows = []
    return _told(
        {
            "metadata": {
                "provider": dataset.traits.get("provider", dataset.title),
                "generated_at": _epoch_ms(store.now),
            },
            "summary": {"outage_count": len(rows)},
            "outages": [_outage(dataset, row) for row in rows],
        }
    )


def _open(store: Store, dataset: Dataset) -> list[dict[str, Any]]:
    started, ended = dataset.traits.get("started", dataset.created), dataset.traits.get("ended")
    conditions, parameters = ["true"], []
    for name, condition in ((started, "<= ?"), (ended, "> ?")):
        if name is not None and dataset.column(name).type == "fixed_timestamp":
            conditions.append(f"({quoted(name)} is null or {quoted(name)} {condition})")
            parameters.append(store.now)
    names = ", ".join(quoted(column.name) for column in dataset.columns)
    # A map's list has no order.
    order = f"hash(_row, {len(store.requests)})"
    return dataset.query(names, " and ".join(conditions), order, parameters=parameters).to_pylist()


def _outage(dataset: Dataset, row: dict[str, Any]) -> dict[str, Any]:
    nested = {column.name for column in dataset.columns if column.type == "json"}
    return {
        name: json.loads(value) if name in nested and value is not None else _value(value)
        for name, value in row.items()
    }


def _value(value: Any) -> Any:
    return _epoch_ms(value) if isinstance(value, datetime) else value


def _epoch_ms(moment: datetime) -> int:
    return round(moment.replace(tzinfo=UTC).timestamp() * 1000)


def _told(answered: dict[str, Any]) -> Response:
    return Response(200, json.dumps(answered, ensure_ascii=False).encode())
