"""The dirt in the files is the dirt in truth/dirt.json, counted from the bytes by other means."""

import csv
import gzip
import io
import json

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.simulate.portal.dirt import Fault, Ledger, put, spoiled, untouched

CITY_HALL = ("-87.211988", "42.204466")


def told(city) -> dict:
    return json.loads((city.folder / "truth" / "dirt.json").read_text())


def records(city, name: str, encoding: str, delimiter: str = ",") -> tuple[pd.DataFrame, int]:
    text = gzip.decompress((city.folder / "portal" / name).read_bytes()).decode(encoding)
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    whole = [row for row in rows[1:] if len(row) == len(rows[0])]
    return pd.DataFrame(whole, columns=rows[0], dtype=object), len(rows) - 1 - len(whole)


def repeats(frame: pd.DataFrame, key: str) -> dict[str, int]:
    keyed = frame[frame[key] != ""]
    contents = keyed.drop_duplicates()
    return {
        "exact_repeat": len(keyed) - len(contents),
        "changed_repeat": len(contents) - contents[key].nunique(),
        "blank_key": int((frame[key] == "").sum()),
    }


@pytest.mark.parametrize("year", ["2024", "2025"])
def test_service_requests_hold_the_dirt_told(small_city, year):
    frame, ragged = records(small_city, f"service_requests_{year}.csv.gz", "utf-8")
    counted = repeats(frame, "SR_NUMBER") | {
        "ragged_line": ragged,
        "missing_point": (frame.LONGITUDE == "").sum(),
        "zero_point": (frame.LONGITUDE == "0").sum(),
        "outside_city": (frame.LONGITUDE == "-88.900000").sum(),
        "default_point": ((CITY_HALL[0] == frame.LONGITUDE) & (CITY_HALL[1] == frame.LATITUDE)).sum(),
        "swapped_point": frame.LONGITUDE.str.startswith("42.").sum(),
        "unknown_category": (frame.SR_SHORT_CODE == "").sum(),
        "odd_spelling": frame.SR_TYPE.str.startswith("  ").sum(),
        "unmapped_status": (frame.STATUS == "Pending Vendor").sum(),
        "garbage_time": frame.CREATED_DATE.isin(["see notes", "2025-13-45T99:00:00.000"]).sum(),
        "poison_time": frame.CREATED_DATE.str[:4].isin(["2115", "0001"]).sum(),
        "poison_closed": (frame.CLOSED_DATE.str[:4] == "2115").sum(),
        "closed_before_opened": (frame.CLOSED_DATE.str[:4] == "2023").sum(),
    }
    assert counted == told(small_city)["service_requests"][f"y{year}"]
    assert small_city.rows[f"service_requests_{year}.csv.gz"] == len(frame) + ragged


def test_crimes_hold_the_dirt_told(small_city):
    content = gzip.decompress((small_city.folder / "portal" / "crimes.csv.gz").read_bytes())
    assert content.startswith(b"\xef\xbb\xbf")
    assert content.count(b"\r\n") == content.count(b"\n")
    frame, ragged = records(small_city, "crimes.csv.gz", "utf-8-sig")
    x = frame["X COORDINATE"]
    counted = repeats(frame, "INCIDENT NO") | {
        "ragged_line": ragged,
        "missing_point": (x == "").sum(),
        "zero_point": (x == "0").sum(),
        "outside_city": (x == "1100000").sum(),
        "default_point": ((x == "1288070") & (frame["Y COORDINATE"] == "2019097")).sum(),
        "unknown_category": (frame["NIBRS CODE"] == "99X").sum(),
        "odd_spelling": frame.OFFENSE.str.startswith("  ").sum(),
        "garbage_time": (frame["OCCURRED ON"] == "UNKNOWN").sum(),
        "poison_time": frame["OCCURRED ON"].str.contains("/2115|/0001").sum(),
    }
    assert counted == told(small_city)["crimes"]["all"]


def test_permits_hold_the_dirt_told_and_quoted_line_breaks(small_city):
    frame, ragged = records(small_city, "permits.csv.gz", "windows-1252", ";")
    assert ragged == 0
    assert frame.WORK_DESCRIPTION.str.contains("\n").all()
    counted = repeats(frame, "PERMIT#") | {
        "missing_point": (frame.LONGITUDE == "").sum(),
        "zero_point": (frame.LONGITUDE == "0").sum(),
        "outside_city": (frame.LONGITUDE == "-88.9000000").sum(),
        "default_point": frame.LONGITUDE.str.startswith("-87.2119876").sum(),
        "swapped_point": frame.LONGITUDE.str.startswith("42.").sum(),
        "unknown_category": (frame.PERMIT_TYPE == "PERMIT – ROOFTOP OBSERVATORY").sum(),
        "odd_spelling": frame.PERMIT_TYPE.str.startswith("  ").sum(),
        "unmapped_status": (frame.STATUS == "AWAITING FIRE MARSHAL").sum(),
        "garbage_time": (frame.APPLICATION_DATE == "n/a").sum(),
        "poison_time": frame.ISSUE_DATE.isin(["06/01/2115", "01/01/0001"]).sum(),
    }
    assert counted == told(small_city)["permits"]["all"]


def test_features_and_outages_hold_the_dirt_told(small_city):
    portal, said = small_city.folder / "portal", told(small_city)
    features = json.loads(gzip.decompress((portal / "work_orders.geojson.gz").read_bytes()))["features"]
    orders = pd.DataFrame([feature["properties"] for feature in features])
    # A blank key still has its repeats left out, so compare what tells itself apart.
    assert orders.work_order.isna().sum() == said["work_orders"]["all"]["blank_key"]
    assert (
        sum(feature["geometry"] is None for feature in features)
        == said["work_orders"]["all"]["missing_point"]
    )
    assert (orders.activity == "FOUNTAIN POLISH").sum() == said["work_orders"]["all"]["unknown_category"]
    assert orders.started.str.startswith("2115").sum() == said["work_orders"]["all"]["poison_time"]
    assert set(orders.started[orders.started.str.startswith("20")].str[-6:]) == {"-06:00", "-05:00"}

    outages = json.loads(gzip.decompress((portal / "outages.json.gz").read_bytes()))
    assert all(value is not None and isinstance(value, str) for row in outages for value in row.values())
    assert sum("outage_id" not in row for row in outages) == said["outages"]["all"]["blank_key"]
    assert (
        sum(row.get("customers_out") == "about 50" for row in outages) == said["outages"]["all"]["odd_number"]
    )

    peaks = duckdb.sql(f"from '{portal / 'flood_sensors.parquet'}'").df().peak_depth_mm
    assert (peaks == -9999).sum() == said["flood_sensors"]["all"]["negative_reading"]


def test_older_cases_that_changed_come_again_in_another_state(small_city):
    first, _ = records(small_city, "service_requests_2024.csv.gz", "utf-8")
    second, _ = records(small_city, "service_requests_2025.csv.gz", "utf-8")
    assert "ORIGIN" in first
    assert "CHANNEL" in second
    first, second = (frame[frame.SR_NUMBER != ""].set_index("SR_NUMBER") for frame in (first, second))
    again = first.index.intersection(second.index)
    assert len(again) >= 20
    assert again.str.startswith("SR24").all()
    before, after = (frame.loc[again].LAST_MODIFIED_DATE.groupby(level=0).min() for frame in (first, second))
    assert (before < after).all()
    assert second.index.str.startswith("SR25").sum() > 2_000


@given(rows=st.integers(20, 200), shares=st.tuples(*[st.floats(0, 0.2)] * 3), seed=st.integers(0, 2**32 - 1))
def test_every_fault_gets_rows_of_its_own_and_copies_follow_their_originals(rows, shares, seed):
    table = pa.table({"key": [f"k{n}" for n in range(rows)], "value": ["clean"] * rows})
    faults = [
        Fault("bad", shares[0], put("value", "bad")),
        Fault("repeat", shares[1], untouched, is_copy=True),
        Fault("changed", shares[2], put("value", "changed"), is_copy=True),
    ]
    ledger = Ledger()
    frame = spoiled(table, "key", faults, np.random.default_rng(seed), ledger, "feed", "part").to_pandas()
    counts = ledger.counts()["feed"]["part"]
    assert counts == {fault.kind: max(1, round(fault.share * rows)) for fault in faults}
    assert len({key for *_, key in ledger.rows}) == sum(counts.values())
    assert len(frame) == rows + counts["repeat"] + counts["changed"]
    assert (frame.value == "bad").sum() == counts["bad"]
    assert frame.duplicated().sum() == counts["repeat"]
    for _, part in frame[frame.key.isin(frame.key[frame.value == "changed"])].groupby("key"):
        assert part.value.tolist() == ["clean", "changed"]


def test_too_few_rows_for_the_faults_is_said():
    table = pa.table({"key": ["a", "b"], "value": ["x", "y"]})
    faults = [Fault(kind, 0.1, untouched) for kind in ("one", "two", "three")]
    with pytest.raises(ValueError, match="too few for 3 faults"):
        spoiled(table, "key", faults, np.random.default_rng(0), Ledger(), "feed", "part")
