import base64
from pathlib import Path

import duckdb

from assets.ingest.feed import Feed
from assets.ingest.lake import Lake
from assets.ingest.volume_plot import records_by_month, volume_plot
from tests.declared_feed import declared_feed

PNG = b"\x89PNG"


def calls(kind: str = "service_request") -> Feed:
    times = {} if kind == "asset" else {"requested_at": "at"}
    return declared_feed(
        kind=kind,
        columns={"source_id": "id", **times},
    )


def lake_with(tmp_path: Path, times: list[str]) -> Lake:
    lake = Lake(tmp_path)
    folder = lake.raw("service_request", "town", "calls")
    folder.mkdir(parents=True)
    duckdb.execute(
        f"copy (select unnest($1) as requested_at) to '{folder / 'one.parquet'}' (format parquet)", [times]
    )
    return lake


def test_counts_by_month_leave_out_what_has_no_plausible_time(tmp_path):
    times = ["2024-01-31T23:00:00", "01/05/2024 02:00:00 PM", "2024-03-01", "2115-01-01", "soon", ""]
    counts = records_by_month(lake_with(tmp_path, times), calls())
    assert [(str(month), count) for month, count in counts] == [("2024-01-01", 2), ("2024-03-01", 1)]


def test_the_plot_is_an_image_that_needs_no_network(tmp_path):
    plot = volume_plot(lake_with(tmp_path, ["2024-01-31"]), calls())
    start = "![records by month](data:image/png;base64,"
    assert plot.startswith(start)
    assert base64.b64decode(plot.removeprefix(start).removesuffix(")"))[:4] == PNG


def test_no_landing_and_no_time_give_no_plot(tmp_path):
    assert volume_plot(Lake(tmp_path), calls()) is None
    assert volume_plot(Lake(tmp_path), calls("asset")) is None
