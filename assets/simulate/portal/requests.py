"""The 311 portal: two yearly copies as CSV; the later one repeats older cases that changed since."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from assets.simulate.calendar import CUT_2024, CUT_2025
from assets.simulate.casework import known_at_2024, new_in_2025, state_at, steps_until
from assets.simulate.catalogue import REQUEST_SUBTYPES
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
from assets.simulate.portal.files import csv_bytes, shaped, with_lines, write_gzip

_TIME = "'%Y-%m-%dT%H:%M:%S.000'"
_SQL = f"""
select
    source_id as "SR_NUMBER", category as "SR_TYPE", nullif(subcategory, '') as "SR_DETAIL",
    code as "SR_SHORT_CODE", agency as "OWNER_DEPARTMENT", status as "STATUS", channel as "ORIGIN",
    strftime(requested, {_TIME}) as "CREATED_DATE", strftime(updated, {_TIME}) as "LAST_MODIFIED_DATE",
    strftime(due, {_TIME}) as "DUE_DATE", strftime(closed, {_TIME}) as "CLOSED_DATE",
    parent as "PARENT_SR_NUMBER", is_labelled::varchar as "DUPLICATE",
    concat(house, ' ', street) as "STREET_ADDRESS", zip as "ZIP_CODE", asset as "ASSET_NUMBER",
    ward as "WARD", neighbourhood as "NEIGHBOURHOOD", district as "POLICE_DISTRICT",
    printf('%.6f', lon) as "LONGITUDE", printf('%.6f', lat) as "LATITUDE", note as "STATUS_NOTE",
    log as "STATUS_LOG"
from requests
"""  # noqa: S608


def publish(
    folder: Path, requests: pd.DataFrame, ground: Ground, seed: int, ledger: Ledger
) -> dict[str, int]:
    """Write service_requests_2024.csv.gz and service_requests_2025.csv.gz; return rows per file."""
    rows = {}
    copies = {"y2024": (known_at_2024(requests), CUT_2024), "y2025": (new_in_2025(requests), CUT_2025)}
    for part, (copy, cut) in copies.items():
        rng = stream(seed, f"requests portal {part}")
        table = spoiled(
            _text(copy, cut, ground, seed), "SR_NUMBER", _faults(cut), rng, ledger, "service_requests", part
        )
        if part == "y2025":
            # The portal renamed a column between the two copies.
            table = table.rename_columns(
                ["CHANNEL" if name == "ORIGIN" else name for name in table.column_names]
            )
        ragged = _ragged_lines(max(2, round(0.0001 * table.num_rows)))
        ledger.add("service_requests", part, "ragged_line", [""] * len(ragged))
        name = f"service_requests_{part[1:]}.csv.gz"
        write_gzip(folder / name, with_lines(csv_bytes(table), ragged, rng))
        rows[name] = table.num_rows + len(ragged)
    return rows


def _text(requests: pd.DataFrame, cut: np.datetime64, ground: Ground, seed: int) -> pa.Table:
    x, y = requests.x.to_numpy(), requests.y.to_numpy()
    lon, lat = to_lonlat(x, y)
    subtype = requests.subtype.to_numpy()
    neighbourhood = ground.neighbourhoods.index_of(x, y)
    redrawn = (requests.requested >= np.datetime64("2025-01-01")).to_numpy()
    ward = np.where(redrawn, ground.wards[1].index_of(x, y), ground.wards[0].index_of(x, y))
    spot = requests.spot.to_numpy()
    # Notes can hold what must never be published; the number is from the range kept for fiction.
    is_personal = stream(seed, "notes").random(len(requests)) < 0.05
    frame = requests[["source_id", "channel", "requested", "due", "parent", "is_labelled"]].assign(
        **{
            name: np.array([getattr(row, name) for row in REQUEST_SUBTYPES], dtype=object)[subtype]
            for name in ("category", "subcategory", "code")
        },
        house=ground.house[spot],
        street=ground.street_names[ground.street[spot]].astype(object),
        zip=np.char.mod("000%02d", 1 + neighbourhood // 4).astype(object),
        asset=_asset_ids(requests),
        ward=ground.wards[0].ids[ward].astype(object),
        neighbourhood=ground.neighbourhoods.ids[neighbourhood].astype(object),
        district=ground.police_districts.ids[ground.police_districts.index_of(x, y)].astype(object),
        lon=lon,
        lat=lat,
        note=np.where(
            is_personal, "Caller asks to be phoned at 555-0142, bell at the side door", "See work log"
        ),
        log=_logs(requests, cut),
    )
    return shaped(_SQL, requests=pd.concat([frame, state_at(requests, cut)], axis=1))


def _logs(requests: pd.DataFrame, cut: np.datetime64) -> pd.Series:
    """Return each request's steps as JSON, oldest first; a step tells the time and what it changed."""
    steps = steps_until(requests, cut)
    is_first = (steps.place != steps.place.shift()).to_numpy()
    at = pa.array(steps["at"].to_numpy().astype("datetime64[ms]")).cast(pa.string())
    texts: list[pa.Array | str] = ['{"at":"', pc.utf8_replace_slice(at, 10, 11, "T"), '"']
    for name in ("status", "agency"):
        codes = steps[name].cat.codes.to_numpy()
        said = pa.array(["", *(f',"{name}":{json.dumps(value)}' for value in steps[name].cat.categories)])
        texts.append(said.take(pa.array(np.where(is_first | (codes != np.roll(codes, 1)), codes + 1, 0))))
    records = pc.binary_join_element_wise(*texts, "}", "")
    offsets = np.append(np.flatnonzero(is_first), len(steps)).astype(np.int32)
    joined = pc.binary_join(pa.ListArray.from_arrays(offsets, records), ",")
    logs = pc.binary_join_element_wise("[", joined, "]", "")
    return pd.Series(pd.array(logs, dtype="str"), index=requests.index)


def _asset_ids(requests: pd.DataFrame) -> np.ndarray:
    ids = np.full(len(requests), None, dtype=object)
    for event_type, pattern in (("streetlight_outage", "L%06d"), ("pothole", "S%05d")):
        told = (requests.event_type == event_type).to_numpy()
        ids[told] = np.char.mod(pattern, requests.asset.to_numpy()[told])
    return ids


def _faults(cut: np.datetime64) -> list[Fault]:
    just_before = f"{cut - np.timedelta64(60, 's')}.000"
    lon, lat = (f"{value:.6f}" for value in to_lonlat(*CITY_HALL))
    return [
        *location_faults("LONGITUDE", "LATITUDE", ("-88.900000", "39.500000"), (lon, lat)),
        Fault("exact_repeat", 0.0015, untouched, is_copy=True),
        Fault(
            "changed_repeat",
            0.001,
            put_all(STATUS="Canceled", LAST_MODIFIED_DATE=just_before),
            is_copy=True,
        ),
        Fault("unknown_category", 0.002, _unknown_category),
        Fault("odd_spelling", 0.004, odd_spelling("SR_TYPE")),
        Fault("unmapped_status", 0.001, put("STATUS", "Pending Vendor")),
        Fault("blank_key", 0.0001, put("SR_NUMBER", None)),
        Fault("garbage_time", 0.0002, put("CREATED_DATE", "see notes", "2025-13-45T99:00:00.000")),
        Fault(
            "poison_time", 0.0002, put("CREATED_DATE", "2115-06-01T09:00:00.000", "0001-01-01T00:00:00.000")
        ),
        Fault("poison_closed", 0.0003, put_all(CLOSED_DATE="2115-06-01T09:00:00.000", STATUS="Completed")),
        Fault(
            "closed_before_opened", 0.001, put_all(CLOSED_DATE="2023-06-15T09:00:00.000", STATUS="Completed")
        ),
    ]


def _unknown_category(frame: pd.DataFrame, rng: np.random.Generator) -> None:
    put("SR_TYPE", "Drone Nuisance", "Sidewalk Robot Blocked", "Fountain Colour")(frame, rng)
    put_all(SR_DETAIL=None, SR_SHORT_CODE=None)(frame, rng)


def _ragged_lines(count: int) -> list[bytes]:
    cut_off, torn = b"SR99-00000001,Pothole in Street,,PHS,Roads Bur\n", b"SR99-00000002" + b",x" * 40 + b"\n"
    return [cut_off if index % 2 == 0 else torn for index in range(count)]
