"""A simulated city behind portals: which feed speaks which protocol, and what was known of it at a moment.

Read is what the city publishes (`portal/`), never its truth. A row's last state is the file's, value by
value; a line that is broken in the file no other protocol can show, so such feeds are offered as files too.
"""

import gzip
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache, partial
from pathlib import Path

import duckdb
import pyarrow as pa
import pyproj

from assets.simulate.portal.files import csv_bytes, json_objects
from assets.simulate.serving.lives import LAST, Life, State, local, versions, zoned
from assets.simulate.serving.published import (
    Published,
    read_csv,
    read_features,
    read_parquet,
    read_records,
)
from assets.simulate.serving.store import Column, Dataset, File, Store, quoted

#: Ids under which the feeds are asked for, where a protocol has its own form of them.
REQUESTS_IDS = {2024: "sr24-city", 2025: "sr25-city"}
CRIMES_ID = "5c1a4e2e-0311-4c1b-9a57-3f6d2b7c9e10"
#: When the copy of the first year is frozen and the second year's data set begins, UTC.
NEW_YEAR = datetime(2025, 1, 1)  # noqa: DTZ001 -- UTC without a zone, as everywhere in a store
TAIL = timedelta(days=90)
_INSTALLED = datetime(2023, 6, 1)  # noqa: DTZ001 -- UTC without a zone
_FEET = "EPSG:3435"
_GZIP_LEVEL = 4
_OPEN_STATUSES = "('Open', 'Open - Dup', 'In Progress', 'Reopened', 'Pending Vendor')"
#: Files of events: offered with what was known at the clock's time, or not at all.
_EVENT_FILES = (
    "service_requests_2024.csv.gz", "service_requests_2025.csv.gz", "crimes.csv.gz", "permits.csv.gz",
    "work_orders.geojson.gz", "flood_sensors.parquet", "outages.json.gz",
)  # fmt: skip

_CREATED, _MODIFIED, _DUE = (local(f'"{what}_DATE"') for what in ("CREATED", "LAST_MODIFIED", "DUE"))
#: The log begins when the request does.
_FRESH_REQUEST = {
    "STATUS": """if("DUPLICATE" = 'true', 'Open - Dup', 'Open')""",
    "OWNER_DEPARTMENT": """json_extract_string("STATUS_LOG", '$[0].agency')""",
    "LAST_MODIFIED_DATE": '"CREATED_DATE"',
    "CLOSED_DATE": "null",
    "STATUS_LOG": """'[' || json_extract("STATUS_LOG", '$[0]')::varchar || ']'""",
}


def _end_of_day(column: str) -> str:
    """Return the SQL of UTC for a column of days: offices show at five what they did."""
    return f"({local(column, '%m/%d/%Y')} + interval 17 hours)"


_LIVES = {
    "service_requests_2024.csv.gz": Life(
        "SR_NUMBER", _MODIFIED, (State(_CREATED, _FRESH_REQUEST),), frozen=NEW_YEAR
    ),
    # An older case comes into the second year's data set when it changes in that year.
    "service_requests_2025.csv.gz": Life(
        "SR_NUMBER",
        _MODIFIED,
        (State(f"if({_CREATED} >= timestamp '{NEW_YEAR}', {_CREATED}, null)", _FRESH_REQUEST),),
    ),
    "crimes.csv.gz": Life("INCIDENT NO", local('"UPDATED ON"', "%m/%d/%Y %I:%M:%S %p")),
    "permits.csv.gz": Life(
        "PERMIT#",
        f"""greatest({_end_of_day('"ISSUE_DATE"')}, {_end_of_day('"COMPLETED_DATE"')},
            if("STATUS" = 'EXPIRED', {_end_of_day('"EXPIRATION_DATE"')}, null))""",
        (
            State(
                _end_of_day('"APPLICATION_DATE"'),
                {"STATUS": "'IN REVIEW'", "ISSUE_DATE": "null", "COMPLETED_DATE": "null"},
            ),
            State(_end_of_day('"ISSUE_DATE"'), {"STATUS": "'ISSUED'", "COMPLETED_DATE": "null"}),
        ),
    ),
    "work_orders.geojson.gz": Life(
        "work_order",
        f"coalesce({zoned('finished')}, {zoned('started')})",
        (State(zoned("started"), {"finished": "null", "state": "'ACTIVE'"}),),
    ),
    "flood_sensors.parquet": Life(
        "event_id",
        "end_time::timestamp",
        (State("start_time::timestamp", {"end_time": "null", "peak_depth_mm": "null"}),),
    ),
    "outages.json.gz": Life(
        "outage_id",
        f"coalesce({zoned('restored_time')}, {zoned('start_time')})",
        (State(zoned("start_time"), {"restored_time": "null", "status": "'ACTIVE'"}),),
    ),
}


class CityStore(Store):
    """A store whose data sets are read when they are first asked for, may begin later, and grow as files.

    Attributes:
        seed: Decides which rows vanish; nothing: none does.
    """

    def __init__(self, now: datetime, seed: str | None) -> None:
        super().__init__(now)
        self.seed = seed
        self._builders: dict[tuple[str, str], Callable[[], None]] = {}
        self._building = threading.RLock()
        self._begins: dict[str, datetime] = {}
        self._written: dict[str, Callable[[], bytes]] = {}
        self._grown: dict[str, tuple[datetime, File]] = {}

    def add_later(self, protocol: str, id: str, build: Callable[[], Dataset]) -> None:  # noqa: A002 -- as in find
        """Serve a data set that is built when it is first asked for."""
        self._builders[protocol, id] = lambda: self.add(build())

    def add(self, dataset: Dataset) -> Dataset:
        """Serve a data set, in place of one of the same protocol and id."""
        self._builders.pop((dataset.protocol, dataset.id), None)
        return super().add(dataset)

    def begin(self, name: str, at: datetime) -> None:
        """Let a data set or a file of this id or name be unknown before a time."""
        self._begins[name] = at

    def add_growing_file(self, name: str, write: Callable[[], bytes]) -> None:
        """Serve a file that is written anew when it is asked for at another time than before."""
        self._written[name] = write

    def find(self, protocol: str, id: str) -> Dataset | None:  # noqa: A002 -- what portals call it
        """Return a data set that has begun."""
        if not self._has_begun(id):
            return None
        self._build([(protocol, id)])
        return super().find(protocol, id)

    def datasets(self, protocol: str | None = None) -> list[Dataset]:
        """Return the data sets that have begun."""
        self._build([key for key in self._builders if protocol in (None, key[0])])
        return [dataset for dataset in super().datasets(protocol) if self._has_begun(dataset.id)]

    def find_file(self, name: str) -> File | None:
        """Return a file as it is at this time."""
        if name not in self._written:
            return super().find_file(name)
        if not self._has_begun(name):
            return None
        with self._building:
            now = self.now
            known = self._grown.get(name)
            if known is None or known[0] != now:
                content = self._written[name]()
                # A file that says the same as before has not changed.
                is_same = known is not None and known[1].content == content
                self._grown[name] = (now, known[1] if is_same else File(name, content, now))
            return self._grown[name][1]

    def _build(self, keys: Sequence[tuple[str, str]]) -> None:
        for key in keys:
            with self._building:
                # Whoever asks while it is built waits here, and then finds nothing left to build.
                build = self._builders.pop(key, None)
                if build is not None:
                    build()

    def _has_begun(self, name: str) -> bool:
        return name not in self._begins or self._begins[name] <= self.now


def open_city(folder: Path, *, now: datetime | None = None) -> Store:
    """Return the portals of a simulated city.

    Args:
        folder: What `assets.simulate.city.simulate` wrote.
        now: Where the clock stands, UTC. Nothing: at the end of what was simulated, where every feed has the
            rows of its file. Only where it is said do rows vanish.
    """
    portal = folder / "portal"
    marker = json.loads((folder / "simulated.json").read_text(encoding="utf-8"))
    store = CityStore(now or LAST, str(marker["seed"]) if now else None)
    _add_requests(store, portal)
    _add_outages(store, portal / "outages.json.gz")
    crimes = portal / "crimes.csv.gz"
    store.add_later("ckan", CRIMES_ID, partial(_crimes, store, crimes))
    _offer(store, crimes, ("ckan", CRIMES_ID), bom=b"\xef\xbb\xbf", eol="\r\n")
    store.add_later("carto", "permits", partial(_permits, store, portal / "permits.csv.gz"))
    store.add_later("arcgis", "work_orders", partial(_work_orders, store, portal / "work_orders.geojson.gz"))
    store.add_later("arcgis", "street_lights", partial(_street_lights, portal / "street_lights.csv.gz"))
    sensors = portal / "flood_sensors.parquet"
    store.add_later("opendatasoft", "flood_sensors", partial(_flood_sensors, store, sensors))
    for path in sorted(portal.iterdir()):
        if path.name not in _EVENT_FILES:
            store.add_file(path.name, path, at=_INSTALLED)
    return store


# --- feeds -------------------------------------------------------------------------------------------------


def _add_requests(store: CityStore, portal: Path) -> None:
    """Serve service requests: a Socrata data set and a file a year, and the newest 90 days as Open311."""
    paths = {year: portal / f"service_requests_{year}.csv.gz" for year in REQUESTS_IDS}
    # Both the year's data set and the tail of all years are made of them.
    states = {year: cache(partial(_states, store, path, read_csv)) for year, path in paths.items()}
    for year, dataset_id in REQUESTS_IDS.items():
        store.add_later("socrata", dataset_id, partial(_requests, dataset_id, year, states[year]))
        _offer(store, paths[year], ("socrata", dataset_id))
    store.begin(REQUESTS_IDS[2025], NEW_YEAR)
    store.begin(paths[2025].name, NEW_YEAR)
    store.add_later("open311", "requests", partial(_tail, store, states))


def _requests(dataset_id: str, year: int, states: Callable[[], pa.Table]) -> Dataset:
    """Return a year's service requests as Socrata has them: field names in lower case, all text."""
    rows = states()
    rows = rows.rename_columns([name.lower() for name in rows.column_names])
    return _filled("socrata", dataset_id, f"Service requests {year}", "sr_number", rows)


def _tail(store: CityStore, states: Mapping[int, Callable[[], pa.Table]]) -> Dataset:
    """Return the requests of both years as one history each, every one for its newest 90 days.

    What has no number or no time such a service cannot show; a repeat is a later state of the same request.
    """
    oldest = store.now - TAIL
    years = [told() for year, told in states.items() if year == 2025 or oldest < NEW_YEAR]
    with duckdb.connect() as con:
        con.register("told", pa.concat_tables(years, promote_options="default"))
        rows = con.execute(_TAIL_SQL, {"oldest": oldest, "last": LAST}).to_arrow_table()
    return _filled("open311", "requests", "Service requests", "service_request_id", rows, _OPEN311_COLUMNS)


def _crimes(store: CityStore, path: Path) -> Dataset:
    """Return crimes as a CKAN resource, its fields named as in the file."""
    dataset = _filled("ckan", CRIMES_ID, "Reported crimes", "INCIDENT NO", _states(store, path, read_csv))
    dataset.traits["has_range_filters"] = True
    return dataset


def _permits(store: CityStore, path: Path) -> Dataset:
    """Return permits as a CARTO table whose geometry is what the coordinates say, wrong or right."""
    rows = _states(store, path, partial(read_csv, delimiter=";", encoding="windows-1252"))
    rows = rows.rename_columns([_CARTO_NAMES.get(name, name.lower()) for name in rows.column_names])
    rows = _shaped(f"*, {_point('longitude', 'latitude')} as the_geom", rows)
    return _filled("carto", "permits", "Permits", "permit_number", rows, [Column("the_geom", "point")])


def _work_orders(store: CityStore, path: Path) -> Dataset:
    """Return work orders as a layer of points; times stay text, as they hold what is no time."""
    rows = _states(store, path, read_features)
    rows = _shaped(f"* exclude (lon, lat), {_point('lon', 'lat')} as geometry", rows)
    return _filled("arcgis", "work_orders", "Work orders", "work_order", rows, [Column("geometry", "point")])


def _flood_sensors(store: CityStore, path: Path) -> Dataset:
    """Return flood sensors as an Opendatasoft data set with types."""
    rows = _shaped(_SENSOR_SQL, _states(store, path, read_parquet, can_vanish=False))
    return _filled("opendatasoft", "flood_sensors", "Flood sensor events", "event_id", rows, _SENSOR_COLUMNS)


def _street_lights(path: Path) -> Dataset:
    """Return street lights as a layer of points, beside the plane coordinates of the inventory."""
    rows = read_csv(path).rows
    x, y = (rows.column(name).cast(pa.float64()).to_numpy() for name in ("X", "Y"))
    lon, lat = pyproj.Transformer.from_crs(_FEET, "EPSG:4326", always_xy=True).transform(x, y)
    points = pa.StructArray.from_arrays([pa.array(lon), pa.array(lat)], ["lon", "lat"])
    installed = pa.array([_INSTALLED] * rows.num_rows, pa.timestamp("us"))
    rows = rows.append_column("geometry", points).append_column("_updated_at", installed)
    return _filled("arcgis", "street_lights", "Street lights", "POLE", rows, [Column("geometry", "point")])


def _add_outages(store: CityStore, path: Path) -> None:
    """Serve outages: their history as a file, and what is out at the moment as a map's snapshot."""
    states = cache(partial(_states, store, path, read_records, can_vanish=False))
    store.add_later("files", path.name, lambda: _filled("files", path.name, "Outages", "outage_id", states()))
    store.add_later("outages", "live", lambda: _live(states()))

    def written() -> bytes:
        if store.now >= LAST:
            return path.read_bytes()
        history = store.find("files", path.name)
        names = ", ".join(quoted(column.name) for column in history.columns)
        body = ",\n".join(json_objects(history.query(names, order="_row"), without_nulls=True))
        return gzip.compress(f"[{body}]\n".encode(), _GZIP_LEVEL, mtime=0)

    store.add_growing_file(path.name, written)


def _live(states: pa.Table) -> Dataset:
    """Return outages as a map shows them: while they last, once each."""
    rows = _shaped(_LIVE_SQL, states, f"where status = 'ACTIVE' and {_IS_ON_MAP}")
    dataset = _filled("outages", "live", "Outages now", "outage_id", rows, _LIVE_COLUMNS)
    dataset.traits["provider"] = "Simulated City Utilities Desk"
    return dataset


def _offer(
    store: CityStore, path: Path, dataset: tuple[str, str], *, bom: bytes = b"", eol: str = "\n"
) -> None:
    """Offer the rows of a data set as the CSV they were read from, its broken lines at the end."""

    def written() -> bytes:
        if store.now >= LAST and store.seed is None:
            return path.read_bytes()
        published, found = read_csv(path), store.find(*dataset)
        columns = zip(found.columns, published.rows.column_names, strict=True)
        names = ", ".join(f"{quoted(column.name)} as {quoted(name)}" for column, name in columns)
        lines = "".join(f"{line}{eol}" for line in published.broken)
        content = bom + csv_bytes(found.query(names, order="_row"), eol=eol) + lines.encode()
        return gzip.compress(content, _GZIP_LEVEL, mtime=0)

    store.add_growing_file(path.name, written)


# --- shapes ------------------------------------------------------------------------------------------------

#: CARTO makes identifiers of what a file calls its columns.
_CARTO_NAMES = {"PERMIT#": "permit_number"}
_OPEN311_COLUMNS = [
    *(Column(f"{what}_datetime", "fixed_timestamp") for what in ("requested", "updated", "expected")),
    *(Column(name, "number") for name in ("lat", "long")),
]
_OPEN311_SQL = f"""
    "SR_NUMBER" as service_request_id, if("STATUS" in {_OPEN_STATUSES}, 'open', 'closed') as status,
    "STATUS_NOTE" as status_notes, "SR_TYPE" as service_name, "SR_SHORT_CODE" as service_code,
    "SR_DETAIL" as description, "OWNER_DEPARTMENT" as agency_responsible, null::varchar as service_notice,
    {_CREATED} as requested_datetime, {_MODIFIED} as updated_datetime, {_DUE} as expected_datetime,
    "STREET_ADDRESS" as address, null::varchar as address_id, "ZIP_CODE" as zipcode,
    "LATITUDE"::double as lat, "LONGITUDE"::double as long, null::varchar as media_url,
    _created_at, _updated_at, _until
"""
_LIVE_COLUMNS = [
    *(Column(name, "fixed_timestamp") for name in ("started", "estimated_restoration")),
    *(Column(name, "json") for name in ("impact", "location")),
]
#: A map shows an outage once, and only one that has an id and a beginning.
_IS_ON_MAP = f"outage_id is not null and {zoned('start_time')} is not null"
_LIVE_SQL = f"""
    outage_id, outage_type as type, provider, {zoned("start_time")} as started,
    {zoned("etr")} as estimated_restoration,
    json_object('customers', coalesce(try_cast(customers_out as integer)::json, to_json(customers_out)),
        'cause', cause)::varchar as impact,
    json_object('latitude', latitude::double, 'longitude', longitude::double)::varchar as location,
    _row, _created_at, _updated_at,
    least(_until, lead(_updated_at) over (partition by outage_id order by _updated_at, _row)) as _until
"""


_TAIL_SQL = f"""
    with states as (
        select {_OPEN311_SQL}, _row as place from told where _created_at >= $oldest
    ),
    placed as (
        select * replace (
            least(
                lead(_updated_at, 1, timestamp '9999-01-01') over of_request,
                min(requested_datetime) over (partition by service_request_id) + interval {TAIL.days} days
            ) as _until
        )
        from states
        where service_request_id is not null and requested_datetime between $oldest and $last
        window of_request as (partition by service_request_id order by _updated_at, place)
    )
    select * exclude (place) from placed where _updated_at < _until
"""  # noqa: S608
_SENSOR_COLUMNS = [
    *(Column(name, "fixed_timestamp") for name in ("start_time", "end_time")),
    *(Column(name, "number") for name in ("peak_depth_mm", "longitude", "latitude")),
    Column("geo_point_2d", "point"),
]
_SENSOR_SQL = """
    event_id, sensor_id, start_time::timestamp as start_time, end_time::timestamp as end_time,
    peak_depth_mm::double as peak_depth_mm, longitude::double as longitude, latitude::double as latitude,
    case when longitude is not null then struct_pack(lon := longitude::double, lat := latitude::double) end
        as geo_point_2d,
    _row, _created_at, _updated_at, _until
"""


def _states(
    store: CityStore, path: Path, read: Callable[[Path], Published], *, can_vanish: bool = True
) -> pa.Table:
    # The same row may vanish from one data set and stay in another.
    seed = f"{store.seed} {path.name}" if store.seed and can_vanish else None
    return versions(read(path).rows, _LIVES[path.name], seed)


def _filled(
    protocol: str,
    id: str,  # noqa: A002 -- what portals call it
    title: str,
    key: str,
    rows: pa.Table,
    typed: Sequence[Column] = (),
) -> Dataset:
    """Return a data set of these rows; its columns are text where no type is said."""
    types = {column.name: column for column in typed}
    names = [name for name in rows.column_names if not name.startswith("_")]
    dataset = Dataset(protocol, id, title, [types.get(name, Column(name)) for name in names], key)
    dataset.insert(rows)
    return dataset


def _point(lon: str, lat: str) -> str:
    return (
        f"case when {lon} is not null and {lat} is not null "
        f"then struct_pack(lon := {lon}::double, lat := {lat}::double) end"
    )


def _shaped(select: str, rows: pa.Table, rest: str = "") -> pa.Table:
    with duckdb.connect() as con:
        con.register("rows", rows)
        return con.execute(f"select {select} from rows {rest}").to_arrow_table()  # noqa: S608
