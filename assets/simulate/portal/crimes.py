"""The police portal: one CSV as an old desktop program writes it (BOM, CRLF), points in state-plane feet."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from assets.simulate.catalogue import CRIME_SUBTYPES
from assets.simulate.chance import pick, stream
from assets.simulate.ground import CITY_HALL, Ground, to_feet
from assets.simulate.portal.dirt import (
    Fault,
    Ledger,
    location_faults,
    odd_spelling,
    put,
    put_all,
    spoiled,
    untouched,
)
from assets.simulate.portal.files import csv_bytes, shaped, with_lines, write_gzip

_TIME = "'%m/%d/%Y %I:%M:%S %p'"
_SQL = f"""
select
    source_id as "INCIDENT NO", category as "OFFENSE", subcategory as "DESCRIPTION", code as "NIBRS CODE",
    strftime(occurred, {_TIME}) as "OCCURRED ON", strftime(reported, {_TIME}) as "REPORTED ON",
    concat(house // 100 * 100, ' block of ', street) as "BLOCK", location_type as "LOCATION DESCRIPTION",
    if(is_arrest, 'Y', 'N') as "ARREST", if(is_domestic, 'Y', 'N') as "DOMESTIC", district as "DISTRICT",
    printf('%.0f', x_ft) as "X COORDINATE", printf('%.0f', y_ft) as "Y COORDINATE",
    strftime(updated, {_TIME}) as "UPDATED ON"
from crimes
"""  # noqa: S608
_LOCATIONS = np.array(["STREET", "RESIDENCE", "ALLEY", "STORE", "PARKING LOT"], dtype=object)


def publish(folder: Path, crimes: pd.DataFrame, ground: Ground, seed: int, ledger: Ledger) -> dict[str, int]:
    """Write crimes.csv.gz; return rows per file."""
    rng = stream(seed, "crimes portal")
    table = spoiled(_text(crimes, ground, rng), "INCIDENT NO", _faults(), rng, ledger, "crimes", "all")
    ragged = [b"CR9999999,LARCENY,FROM BUILD\r\n"] * max(1, round(0.00005 * table.num_rows))
    ledger.add("crimes", "all", "ragged_line", [""] * len(ragged))
    content = with_lines(csv_bytes(table, eol="\r\n"), ragged, rng)
    write_gzip(folder / "crimes.csv.gz", b"\xef\xbb\xbf" + content)
    return {"crimes.csv.gz": table.num_rows + len(ragged)}


def subtypes_of(crimes: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """Return the row of CRIME_SUBTYPES under which each crime is filed."""
    filed_as = np.zeros(len(crimes), dtype=int)
    for event_type in crimes.event_type.unique():
        rows = [row for row, subtype in enumerate(CRIME_SUBTYPES) if subtype.event_type == event_type]
        mine = (crimes.event_type == event_type).to_numpy()
        shares = np.array([CRIME_SUBTYPES[row].share for row in rows])
        filed_as[mine] = np.array(rows)[pick(rng, shares, int(mine.sum()))]
    return filed_as


def _text(crimes: pd.DataFrame, ground: Ground, rng: np.random.Generator) -> pa.Table:
    x, y = crimes.x.to_numpy(), crimes.y.to_numpy()
    x_ft, y_ft = to_feet(x, y)
    spot, filed_as = crimes.spot.to_numpy(), subtypes_of(crimes, rng)
    district = ground.police_districts.index_of(x, y)
    frame = crimes[["source_id", "occurred", "reported"]].assign(
        **{
            name: np.array([getattr(row, name) for row in CRIME_SUBTYPES], dtype=object)[filed_as]
            for name in ("category", "subcategory", "code")
        },
        updated=crimes.reported,
        house=ground.house[spot],
        street=ground.street_names[ground.street[spot]].astype(object),
        location_type=_LOCATIONS[pick(rng, np.array([5.0, 4, 1, 3, 2]), len(crimes))],
        is_arrest=rng.random(len(crimes)) < 0.12,
        is_domestic=(rng.random(len(crimes)) < 0.3) & (crimes.event_type == "assault_simple"),
        district=ground.police_districts.ids[district].astype(object),
        x_ft=x_ft,
        y_ft=y_ft,
    )
    return shaped(_SQL, crimes=frame)


def _faults() -> list[Fault]:
    x, y = (f"{value:.0f}" for value in to_feet(*CITY_HALL))
    return [
        *location_faults("X COORDINATE", "Y COORDINATE", ("1100000", "1800000"), (x, y), can_swap=False),
        Fault("exact_repeat", 0.001, untouched, is_copy=True),
        Fault(
            "changed_repeat",
            0.0005,
            put_all(ARREST="Y", **{"UPDATED ON": "12/31/2025 05:59:00 PM"}),
            is_copy=True,
        ),
        Fault("unknown_category", 0.001, put_all(OFFENSE="CYBER MISCHIEF", **{"NIBRS CODE": "99X"})),
        Fault("odd_spelling", 0.002, odd_spelling("OFFENSE")),
        Fault("blank_key", 0.00005, put("INCIDENT NO", None)),
        Fault("garbage_time", 0.0001, put_all(**{"OCCURRED ON": "UNKNOWN", "REPORTED ON": None})),
        Fault("poison_time", 0.0001, put("OCCURRED ON", "06/01/2115 09:00:00 AM", "01/01/0001 12:00:00 AM")),
    ]
