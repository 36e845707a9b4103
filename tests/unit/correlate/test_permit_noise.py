"""What inference reads of sites of work and writes for dbt; the statistics have tests of their own."""

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from assets.correlate.permit_noise import SCHEMAS, write_no_site_excess, write_site_excess
from assets.ingest.lake import Lake
from tests.unit.correlate.test_site_excess import made_up


def counts(city: str, n: int) -> pd.DataFrame:
    """Return n made-up sites as rows of int_work_site_counts, the first never without a variance."""
    sites, _ = made_up(11, n)
    rows = pd.DataFrame(
        {
            "site_key": [f"{city}-{i:05d}" for i in range(n)],
            "city": city,
            "n_site_days": sites.days.astype(int) + 7,
            "n_variance_days": 7,
            "n_daytime": sites.daytime.astype(int),
            "n_after_hours": sites.after_hours.astype(int),
            "n_evenings": sites.evenings,
        }
    )
    rows.loc[0, ["n_variance_days", "n_daytime", "n_after_hours", "n_evenings"]] = (
        rows.n_site_days[0],
        0,
        0,
        0,
    )
    return rows


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Lake:
    """A lake of a city with sites enough and one with too few, in no order."""
    lake = Lake(tmp_path_factory.mktemp("sites"))
    lake.build_warehouse.parent.mkdir(parents=True)
    rows = pd.concat([counts("aville", 1_200), counts("bburg", 30)]).sample(frac=1, random_state=1)
    with duckdb.connect(str(lake.build_warehouse)) as con:
        con.register("rows", rows)
        con.execute("create schema intermediate")
        con.execute("create table intermediate.int_work_site_counts as from rows")
    return lake


def told(lake: Lake, name: str) -> list[dict]:
    table = pq.read_table(lake.derived / "after_hours" / f"{name}.parquet")
    assert table.schema.equals(SCHEMAS[name])
    return table.to_pylist()


def test_a_city_with_too_few_sites_has_a_row_that_says_so_and_no_excess(lake):
    said = write_site_excess(lake)
    excess, fits = told(lake, "site_excess"), {row["city"]: row for row in told(lake, "site_fits")}
    assert {row["city"] for row in excess} == {"aville"}
    assert said == {
        "dagster/row_count": 1_200,
        "cities": 2,
        "candidates": sum(row["is_candidate"] for row in excess),
    }
    assert said["candidates"] > 10
    assert fits["aville"]["is_fitted"]
    assert fits["aville"]["per_daytime_complaint"] == pytest.approx(0.35, rel=0.3)
    assert not fits["bburg"]["is_fitted"]
    assert fits["bburg"]["per_100_site_days"] is None
    assert (fits["bburg"]["n_sites"], fits["aville"]["n_sites"]) == (30, 1_200)


def test_days_under_a_variance_are_not_compared(lake):
    """The twin: with the seven days of each site counted in, every expectation is larger."""
    write_site_excess(lake)
    rows = counts("aville", 1_200)
    fit = next(row for row in told(lake, "site_fits") if row["city"] == "aville")
    of_site = {row["site_key"]: row["expected"] for row in told(lake, "site_excess")}
    per_day, per_daytime = fit["per_100_site_days"] / 100, fit["per_daytime_complaint"]
    expected = per_day * (rows.n_site_days - rows.n_variance_days) + per_daytime * rows.n_daytime
    assert np.array([of_site[key] for key in rows.site_key]) == pytest.approx(expected.to_numpy(), abs=1e-8)


def test_a_second_run_writes_the_same_bytes(lake):
    write_site_excess(lake)
    first = (lake.derived / "after_hours" / "site_excess.parquet").read_bytes()
    with duckdb.connect(str(lake.build_warehouse)) as con:
        con.execute(
            "create or replace table intermediate.int_work_site_counts as "
            "from intermediate.int_work_site_counts order by hash(site_key)"
        )
    write_site_excess(lake)
    assert (lake.derived / "after_hours" / "site_excess.parquet").read_bytes() == first


def test_what_dbt_reads_is_there_before_the_first_inference_and_survives_it(lake, tmp_path):
    empty = Lake(tmp_path)
    write_no_site_excess(empty)
    assert told(empty, "site_excess") == told(empty, "site_fits") == []
    with pytest.raises(FileNotFoundError, match="build the warehouse first"):
        write_site_excess(empty)
    write_site_excess(lake)
    write_no_site_excess(lake)
    assert told(lake, "site_excess")
