"""What is told of one place, as plain rows of a warehouse file; printing them is up to the command line."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import date

import duckdb
import numpy as np

from assets.ingest.locate import h3_cells

_POINT = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*,\s*(-?\d+(?:\.\d+)?)\s*")
#: Resolution of the cells of the dossier.
CELL = 10
#: How many addresses are named where none is the one asked for.
SUGGESTIONS = 5


class UnknownPlaceError(Exception):
    """Nothing is told of a place, or nobody knows where it is."""


@dataclass(frozen=True)
class Entry:
    """One row of `correlation.mart_place_dossier`, where every column is described."""

    place_type: str
    section: str
    label: str
    distance_m: float | None
    n: int | None
    n_open: int | None
    n_recent: int | None
    newest_on: date | None
    oldest_open_on: date | None
    n_expired: int | None
    n_in_inspection: int | None
    withheld_reason: str | None
    asset_id: str | None
    asset_name: str | None
    material: str | None
    age_years: float | None
    n_failure: int | None
    last_failure_on: date | None
    n_work: int | None
    last_work_on: date | None
    unit: str | None
    newest_quantity: float | None
    n_reading_day: int | None
    trend: float | None
    trend_low: float | None
    trend_high: float | None
    trend_verdict: str | None
    told_until_on: date | None


@dataclass(frozen=True)
class Dossier:
    """A place with the wider ones around it and all that is told of them.

    Attributes:
        city: City.
        names: What each place is called, by its type: address, segment, cell; the finest first.
        entries: All rows of these places.
    """

    city: str
    names: dict[str, str]
    entries: tuple[Entry, ...] = field(repr=False)


def read_dossier(connection: duckdb.DuckDBPyConnection, city: str, at: str) -> Dossier:
    """Return what is told of a place and of the wider places it names.

    Args:
        connection: A warehouse file.
        city: City.
        at: An address as the city's sources write it, "lon,lat", the id of a road segment, or an H3-10 cell.

    Raises:
        UnknownPlaceError: No place of the city is called so; the message names some that are alike.
    """
    found = _find(connection, city, at)
    if found is None:
        raise UnknownPlaceError(_explain(connection, city, at))
    place_key, segment_key, h3_10 = found
    places = connection.execute(
        """
        select place_key, place_type, place_id, place_name from correlation.mart_place_dossier
        where city = $city and (
            place_key = $place or place_key = $segment or (place_type = 'cell' and h3_10 = $cell)
        )
        group by place_key, place_type, place_id, place_name
        order by min(list_position(['address', 'segment', 'cell'], place_type))
        """,
        {"city": city, "place": place_key, "segment": segment_key, "cell": h3_10},
    ).fetchall()
    names = [one.name for one in fields(Entry)]
    rows = connection.execute(
        f"select {', '.join(names)} from correlation.mart_place_dossier "  # noqa: S608
        "where place_key in (select unnest($keys)) "
        "order by section, label, n desc nulls last, distance_m, item, place_type",
        {"keys": [key for key, *_ in places]},
    ).fetchall()
    return Dossier(
        city=city,
        names={
            type_: place_id
            if type_ == "cell"
            else f"{name or ''} ({place_id})".strip()
            if type_ == "segment"
            else name
            for _, type_, place_id, name in places
        },
        entries=tuple(Entry(*row) for row in rows),
    )


def _find(
    connection: duckdb.DuckDBPyConnection, city: str, at: str
) -> tuple[str, str | None, int | None] | None:
    """Return key, segment and cell of the place, the finest where several are called so."""
    ids = [_normalised(at), at.strip()]
    if point := _POINT.fullmatch(at):
        lon, lat = map(float, point.groups())
        if abs(lon) > 180 or abs(lat) > 90:
            return None
        ids = [str(int(h3_cells(np.array([lon]), np.array([lat]), CELL)[0]))]
    return connection.execute(
        """
        select place_key, segment_key, h3_10 from correlation.mart_place_dossier
        where city = $city and place_id in (select unnest($ids))
        group by all
        order by min(list_position(['address', 'segment', 'cell'], place_type)), place_key
        limit 1
        """,
        {"city": city, "ids": ids},
    ).fetchone()


def _normalised(text: str) -> str:
    """Return an address as the macro normalised_text writes it."""
    return " ".join(text.split()).lower()


def _explain(connection: duckdb.DuckDBPyConnection, city: str, at: str) -> str:
    cities = connection.execute("select city from core.dim_city order by city").fetchall()
    if (city,) not in cities:
        return f"the warehouse knows no city {city!r}, but {_listed([name for (name,) in cities])}"
    if _POINT.fullmatch(at):
        return f"{city}: nothing is told of the cell at {at} (write lon,lat, in degrees)"
    alike = connection.execute(
        """
        select place_name from correlation.mart_place_dossier
        where city = $city and place_type = 'address'
        group by place_id, place_name
        order by jaro_winkler_similarity(place_id, $asked) desc, place_id
        limit $most
        """,
        {"city": city, "asked": _normalised(at), "most": SUGGESTIONS},
    ).fetchall()
    said = f"; alike are {_listed([name for (name,) in alike])}" if alike else ""
    return f"{city}: no record, segment or cell is called {at!r}{said}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
