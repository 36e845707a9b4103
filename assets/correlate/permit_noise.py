"""Counts of sites from the build warehouse to the files that dbt shows; statistics are in `site_excess`."""

from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from assets.correlate.estimates import write_table
from assets.correlate.site_excess import JudgedSites, SiteCounts, judge_sites
from assets.ingest.lake import Lake

#: Columns of lake/derived/after_hours/<name>.parquet.
SCHEMAS = {
    "site_excess": pa.schema(
        [
            ("city", pa.string()),
            ("site_key", pa.string()),
            ("expected", pa.float64()),
            ("p_value", pa.float64()),
            ("q_value", pa.float64()),
            ("is_candidate", pa.bool_()),
        ]
    ),
    "site_fits": pa.schema(
        [
            ("city", pa.string()),
            ("is_fitted", pa.bool_()),
            ("n_sites", pa.int64()),
            ("n_fitted", pa.int64()),
            ("per_100_site_days", pa.float64()),
            ("per_daytime_complaint", pa.float64()),
            ("dispersion", pa.float64()),
        ]
    ),
}
SITES = """
    select
        city, site_key, n_site_days - n_variance_days as days,
        n_daytime as daytime, n_after_hours as after_hours, n_evenings as evenings
    from intermediate.int_work_site_counts
    where city = $city
    order by site_key
"""


def write_site_excess(lake: Lake) -> dict[str, int]:
    """Judge the sites of every city and replace the files of the excess; return how many rows say what.

    Raises:
        FileNotFoundError: The warehouse has not been built.
    """
    if not lake.build_warehouse.exists():
        raise FileNotFoundError(f"{lake.build_warehouse} does not exist: build the warehouse first.")
    excess, fits = [SCHEMAS["site_excess"].empty_table()], []
    with duckdb.connect(str(lake.build_warehouse), read_only=True) as con:
        cities = con.execute("select distinct city from intermediate.int_work_site_counts order by city")
        for (city,) in cities.fetchall():
            sites = con.execute(SITES, {"city": city}).to_arrow_table()
            names = ("days", "daytime", "after_hours", "evenings")
            judged = judge_sites(
                SiteCounts(*(sites.column(name).to_numpy().astype(np.float64) for name in names))
            )
            fits.append(_fit_row(city, judged))
            if judged.expectation is not None:
                excess.append(_excess_table(sites, judged))
    tables = {
        "site_excess": pa.concat_tables(excess),
        "site_fits": pa.Table.from_pylist(fits, schema=SCHEMAS["site_fits"]),
    }
    for name, table in tables.items():
        write_table(lake.derived / "after_hours" / f"{name}.parquet", table)
    candidates = tables["site_excess"].column("is_candidate").to_pylist().count(True)
    return {"dagster/row_count": len(tables["site_excess"]), "cities": len(fits), "candidates": candidates}


def write_no_site_excess(lake: Lake) -> None:
    """Write files without rows where none exist, so that dbt can read them before the first inference."""
    for name, schema in SCHEMAS.items():
        path = lake.derived / "after_hours" / f"{name}.parquet"
        if not path.exists():
            write_table(path, schema.empty_table())


def _excess_table(sites: pa.Table, judged: JudgedSites) -> pa.Table:
    columns = {"city": sites.column("city"), "site_key": sites.column("site_key")}
    figures = ("expected", "p_value", "q_value", "is_candidate")
    return pa.table(columns | {name: getattr(judged, name) for name in figures}, SCHEMAS["site_excess"])


def _fit_row(city: str, judged: JudgedSites) -> dict[str, Any]:
    fit = judged.expectation
    return {
        "city": city,
        "is_fitted": fit is not None,
        "n_sites": len(judged.is_candidate),
        "n_fitted": judged.n_fitted,
        "per_100_site_days": fit and 100 * fit.per_day,
        "per_daytime_complaint": fit and fit.per_daytime_complaint,
        "dispersion": fit and fit.dispersion,
    }
