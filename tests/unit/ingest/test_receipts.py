from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from assets.ingest.gate import CheckResult
from assets.ingest.lake import Lake
from assets.ingest.receipts import (
    PENDING,
    Delivery,
    read_receipt,
    read_receipts,
    write_receipt,
    write_receipts_table,
)

AT = datetime.fromisoformat("2026-03-01T12:30")


def a_delivery(fetch_id="f1", **changed) -> Delivery:
    said = {
        "city": "town",
        "feed": "calls",
        "part": "one",
        "kind": "crime",
        "fetch_id": fetch_id,
        "outcome": "landed",
        "action": "fetch",
        "source": "https://town.example/é",
        "attempted_at": AT,
        "delivered_at": AT,
        "rows_in_file": 3,
        "rows_raw": 2,
        "rows_quarantined": 1,
        "quarantine_reasons": {"missing_columns": 1},
        "checks": [CheckResult("volume", True, True, "rows: 2", "rows >= 1", "")],
    }
    return Delivery(**said | changed)


def written(lake: Lake, delivery: Delivery) -> Path:
    folder = lake.landing(delivery.city, delivery.feed) / delivery.fetch_id
    folder.mkdir(parents=True)
    write_receipt(delivery, folder)
    return folder / "receipt.json"


def test_a_receipt_reads_as_it_was_written(tmp_path):
    delivery = a_delivery()
    assert read_receipt(written(Lake(tmp_path), delivery)) == delivery


def test_a_receipt_of_a_newer_version_is_still_read(tmp_path):
    path = written(Lake(tmp_path), a_delivery())
    path.write_text(path.read_text().replace('"city"', '"unknown_key": 1, "city"'))
    assert read_receipt(path) == a_delivery()


def test_receipts_come_oldest_first_and_pending_ones_not_at_all(tmp_path):
    lake = Lake(tmp_path)
    written(lake, a_delivery("f2"))
    written(lake, a_delivery("f9", attempted_at=AT - timedelta(days=9)))
    pending = lake.landing("town", "calls") / "f3"
    pending.mkdir()
    write_receipt(a_delivery("f3"), pending, PENDING)
    assert [r.fetch_id for r in read_receipts(lake.landing("town", "calls"))] == ["f9", "f2"]


def test_the_tables_hold_every_receipt_and_check(tmp_path):
    lake = Lake(tmp_path)
    written(lake, a_delivery())
    written(lake, a_delivery("f2", city="other", outcome="failed", checks=[], delivered_at=None))
    write_receipts_table(lake)
    write_receipts_table(lake)
    rows = duckdb.execute(
        "select city, outcome, rows_raw, quarantine_reasons, delivered_at"
        f" from '{lake.derived}/fetches/receipts.parquet' order by 1 desc"
    ).fetchall()
    reasons = '{"missing_columns": 1}'
    assert rows == [("town", "landed", 2, reasons, AT), ("other", "failed", 2, reasons, None)]
    checks = duckdb.execute(
        f"select * exclude checked_at from '{lake.derived}/check_results/deliveries.parquet'"
    ).fetchall()
    assert checks == [
        ("town", "calls", "one", "f1", "volume", "great_expectations", True, True, "rows: 2", "rows >= 1", "")
    ]


@pytest.mark.parametrize("table", ["fetches/receipts", "check_results/deliveries"])
def test_without_receipts_the_tables_are_empty_but_typed(tmp_path, table):
    lake = Lake(tmp_path)
    write_receipts_table(lake)
    described = duckdb.execute(f"describe from '{lake.derived}/{table}.parquet'").fetchall()
    assert {"city", "feed", "part", "fetch_id"} <= {row[0] for row in described}
    assert duckdb.execute(f"select count(*) from '{lake.derived}/{table}.parquet'").fetchone() == (0,)
