"""A loopback server that replays recorded answers by rule; portals that are made up are assets.simulate's.

What was not recorded is said where it is added: a portal's row ids and change times, and counts, which are
counted in what was recorded. Filters and orders are SQLite's work, so that no answer is guessed.
"""

import json
import re
import sqlite3
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Records = list[dict[str, Any]]


@dataclass(frozen=True)
class Asked:
    """One question; `said` holds the values of its query or form."""

    path: str
    said: dict[str, str]
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Told:
    """One answer."""

    body: bytes
    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)


def told_json(said: Any, status: int = 200, **headers: str) -> Told:
    """Return an answer of JSON."""
    more = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Told(json.dumps(said).encode(), status, (("Content-Type", "application/json"), *more))


@contextmanager
def serve(answer: Callable[[Asked], Told]) -> Iterator[str]:
    """Answer on the loopback interface; gives the base address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            self._answer(Asked(parts.path, dict(parse_qsl(parts.query)), self.headers))

        def do_POST(self) -> None:
            form = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._answer(Asked(urlsplit(self.path).path, dict(parse_qsl(form)), self.headers))

        def _answer(self, asked: Asked) -> None:
            told = answer(asked)
            self.send_response(told.status)
            for name, value in told.headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(told.body)))
            self.end_headers()
            self.wfile.write(told.body)
            self.wfile.flush()

        def log_message(self, *said: Any) -> None:
            """Say nothing."""

        # Body and headers go out at once, not after the client's delayed acknowledgement.
        wbufsize = -1

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


class RecordedTable:
    """Recorded records that a portal's questions can be asked of."""

    def __init__(self, records: Records) -> None:
        self.columns: list[str] = []
        self._con = sqlite3.connect(":memory:", check_same_thread=False)
        self._lock = threading.Lock()
        self._con.create_function("date_trunc_ym", 1, lambda said: said and f"{said[:7]}-01T00:00:00.000")
        self._records: Records = []
        self.add(records)

    def add(self, records: Records) -> None:
        """Let the portal hold more records."""
        self._records += records
        self.columns = list(dict.fromkeys(key for record in self._records for key in record))
        names = ", ".join(f'"{name}"' for name in self.columns)
        marks = ", ".join("?" for _ in self.columns)
        rows = [
            [_kept(record.get(name)) for name in self.columns] + [json.dumps(record)]
            for record in self._records
        ]
        with self._lock:
            self._con.execute("drop table if exists recorded")
            self._con.execute(f"create table recorded ({names}, whole_record)")
            self._con.executemany(f"insert into recorded values ({marks}, ?)", rows)

    def query(self, select: str, rest: str = "") -> Records:
        """Return rows of a SELECT over the records, without their nulls."""
        with self._lock:
            found = self._con.execute(f"select {select} from recorded {rest}")
            names = [column[0] for column in found.description]
            rows = found.fetchall()
        return [
            {name: value for name, value in zip(names, row, strict=True) if value is not None} for row in rows
        ]

    def records(self, rest: str = "") -> Records:
        """Return whole records."""
        return [json.loads(row["whole_record"]) for row in self.query("whole_record", rest)]


def _kept(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list) else value


class Socrata:
    """One data set of a Socrata portal; it gives no more rows at once than `most`."""

    def __init__(self, records: Records, at: str, *, most: int = 300, token: str | None = None) -> None:
        self._most, self._token = most, token
        self._rows = 0
        self.table = RecordedTable(self._with_system_columns(records, at))

    def add(self, records: Records, at: str) -> None:
        """Let the publisher load more records at a time."""
        self.table.add(self._with_system_columns(records, at))

    def _with_system_columns(self, records: Records, at: str) -> Records:
        # They were not asked for when the answers were recorded. A daily load gives all its rows one time.
        first, self._rows = self._rows, self._rows + len(records)
        return [
            {":id": f"row-{number:06d}", ":created_at": at, ":updated_at": at, **record}
            for number, record in enumerate(records, start=first)
        ]

    def __call__(self, asked: Asked) -> Told:
        """Answer a question in SoQL; the metadata was not recorded, so that the headers tell the columns."""
        if asked.path.startswith("/api/views/"):
            return told_json({"code": "not_found", "message": "Cannot find view"}, 404)
        if self._token and asked.headers.get("X-App-Token") != self._token:
            return told_json({"code": "permission_denied", "message": "Invalid app_token specified"}, 403)
        said = {name: _as_sql(value) for name, value in asked.said.items()}
        rest = "".join(
            f" {word} {said[name]}"
            for name, word in (("$where", "where"), ("$group", "group by"), ("$order", "order by"))
            if name in said
        )
        limit = min(int(said.get("$limit", 1000)), self._most)
        rest += f" limit {limit} offset {said.get('$offset', 0)}"
        if asked.said["$select"] == ":*,*":
            rows = self.table.records(rest)
        else:
            rows = self.table.query(said["$select"], rest)
            # Numbers are texts in an answer.
            rows = [{name: str(value) for name, value in row.items()} for row in rows]
        columns = self.table.columns
        types = json.dumps(["text"] * len(columns))
        return told_json(rows, X_SODA2_Fields=json.dumps(columns), X_SODA2_Types=types)


def _as_sql(soql: str) -> str:
    """Return SoQL as SQL: names of system columns are quoted, texts are left alone."""
    return re.sub(
        r"'(?:[^']|'')*'|:[a-z_]+", lambda found: found[0] if found[0][0] == "'" else f'"{found[0]}"', soql
    )


class ArcGIS:
    """One layer; `meta` is its description, `page` the envelope of its features.

    Where `ids` are given, which were recorded apart, the layer lists and counts these and has the features.
    """

    def __init__(
        self, meta: Mapping[str, Any], page: Mapping[str, Any], ids: Sequence[float] | None = None
    ) -> None:
        self._meta, self._page, self._ids = meta, page, ids
        attributes = [feature["attributes"] for feature in page["features"]]
        self._table = RecordedTable([{**each, "feature": number} for number, each in enumerate(attributes)])

    def __call__(self, asked: Asked) -> Told:
        """Answer with the description, a count, ids or features."""
        if not asked.path.endswith("/query"):
            return told_json(self._meta)
        said = asked.said
        where = f"where {said.get('where', '1=1')}"
        listed = self._ids
        if "objectIds" in said:
            where = f"where OBJECTID in ({said['objectIds']})"
            listed = self._ids and said["objectIds"].split(",")
        found = self._table.query("feature, OBJECTID", where)
        ids = listed or [row["OBJECTID"] for row in found]
        if "returnCountOnly" in said:
            return told_json({"count": len(ids)})
        if "returnIdsOnly" in said:
            return told_json({"objectIdFieldName": "OBJECTID", "objectIds": ids})
        features = [self._page["features"][row["feature"]] for row in found]
        return told_json({**self._page, "features": features})


class Open311:
    """The requests of one endpoint, by time of request, fifty to a page; page 0 is page 1."""

    def __init__(self, records: Records, page_rows: int = 50) -> None:
        # A recorded request without a time is shown where it was last changed.
        dated = sorted(
            (
                (datetime.fromisoformat(record.get("requested_datetime") or record["updated_datetime"]), n)
                for n, record in enumerate(records)
            )
        )
        self._times = [at for at, _ in dated]
        self._records = [records[number] for _, number in dated]
        self._page_rows = page_rows

    def __call__(self, asked: Asked) -> Told:
        """Answer with a page of a range."""
        since, until = (datetime.fromisoformat(asked.said[name]) for name in ("start_date", "end_date"))
        rows = self._records[bisect_left(self._times, since) : bisect_right(self._times, until)]
        size = min(int(asked.said["page_size"]), self._page_rows)
        first = max(int(asked.said.get("page", 1)) - 1, 0) * size
        return told_json(rows[first : first + size])
