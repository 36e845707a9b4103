"""The buildings portal: one CSV in windows-1252 with en dashes, quoted line breaks, dollars, US dates."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from assets.simulate.building import WORKS, contractor_licences, permit_times
from assets.simulate.calendar import CUT_2025
from assets.simulate.chance import stream
from assets.simulate.ground import CITY_HALL, Ground, to_lonlat
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
from assets.simulate.portal.files import csv_bytes, shaped, write_gzip

_DAY = "'%m/%d/%Y'"
_SQL = f"""
select
    source_id as "PERMIT#", category as "PERMIT_TYPE",
    concat('Work as on plan ', plan, chr(10), '“', work_class, '” – “', category, '”') as "WORK_DESCRIPTION",
    case
        when issued > cut then 'IN REVIEW' when completed <= cut then 'COMPLETE'
        when expires <= cut then 'EXPIRED' else 'ISSUED' end as "STATUS",
    work_class as "WORK_CLASS", strftime(applied, {_DAY}) as "APPLICATION_DATE",
    if(issued <= cut, strftime(issued, {_DAY}), null) as "ISSUE_DATE",
    if(completed <= cut, strftime(completed, {_DAY}), null) as "COMPLETED_DATE",
    strftime(expires, {_DAY}) as "EXPIRATION_DATE",
    concat('$', format('{{:,}}', cost::bigint), '.00') as "REPORTED_COST",
    concat('$', format('{{:,}}', (cost * 0.012 + 50)::bigint), '.00') as "TOTAL_FEE",
    licence as "CONTRACTOR_LICENSE", pin as "PIN", concat(house, ' ', street) as "ADDRESS",
    printf('%.7f', lon) as "LONGITUDE", printf('%.7f', lat) as "LATITUDE"
from permits
"""  # noqa: S608


def publish(folder: Path, permits: pd.DataFrame, ground: Ground, seed: int, ledger: Ledger) -> dict[str, int]:
    """Write permits.csv.gz; return rows per file."""
    rng = stream(seed, "permits portal")
    table = spoiled(_text(permits, ground, seed), "PERMIT#", _faults(), rng, ledger, "permits", "all")
    content = csv_bytes(table, delimiter=";").decode().encode("windows-1252")
    write_gzip(folder / "permits.csv.gz", content)
    return {"permits.csv.gz": table.num_rows}


def _text(permits: pd.DataFrame, ground: Ground, seed: int) -> pa.Table:
    lon, lat = to_lonlat(permits.x.to_numpy(), permits.y.to_numpy())
    spot = permits.spot.to_numpy()
    frame = permit_times(permits, seed).assign(
        source_id=permits.source_id,
        category=np.array([work.permit_type for work in WORKS], dtype=object)[permits.work],
        work_class=np.array([work.work_class for work in WORKS], dtype=object)[permits.work],
        plan=permits.site,
        cost=permits.cost,
        licence=contractor_licences(permits.site.max() + 1, stream(seed, "contractors"))[permits.site],
        pin=np.char.mod("99-%07d", spot).astype(object),
        house=ground.house[spot],
        street=ground.street_names[ground.street[spot]].astype(object),
        lon=lon,
        lat=lat,
        cut=CUT_2025,
    )
    # An application that came in after the copy is in no copy.
    return shaped(_SQL, permits=frame[frame.applied < CUT_2025])


def _faults() -> list[Fault]:
    lon, lat = (f"{value:.7f}" for value in to_lonlat(*CITY_HALL))
    return [
        *location_faults("LONGITUDE", "LATITUDE", ("-88.9000000", "39.5000000"), (lon, lat), factor=2.0),
        Fault("exact_repeat", 0.001, untouched, is_copy=True),
        Fault("changed_repeat", 0.0005, put_all(STATUS="REVOKED"), is_copy=True),
        Fault("unknown_category", 0.002, put("PERMIT_TYPE", "PERMIT – ROOFTOP OBSERVATORY")),
        Fault("odd_spelling", 0.003, odd_spelling("PERMIT_TYPE")),
        Fault("unmapped_status", 0.002, put("STATUS", "AWAITING FIRE MARSHAL")),
        Fault("blank_key", 0.0001, put("PERMIT#", None)),
        Fault("garbage_time", 0.0002, put_all(ISSUE_DATE="n/a", APPLICATION_DATE="n/a")),
        Fault("poison_time", 0.0002, put("ISSUE_DATE", "06/01/2115", "01/01/0001")),
    ]
