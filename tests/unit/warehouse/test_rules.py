"""Every dbt unit test of the project, over the tables of an empty lake: rules against cases made by hand."""

from pathlib import Path

import duckdb
import pytest

from assets.correlate.estimates import write_no_estimates
from assets.correlate.outlooks import write_no_outlooks
from assets.correlate.permit_noise import write_no_site_excess
from assets.ingest.cover import write_no_places
from assets.ingest.declared import write_declared_tables
from assets.ingest.lake import Lake
from assets.ingest.landing import ensure_lake
from assets.ingest.receipts import write_receipts_table
from tests.unit.warehouse.conftest import dbt_at

PROJECT = Path(__file__).parents[3] / "dbt_project"


def make_empty_lake(home: Path) -> None:
    """Write what dbt reads, without a row."""
    lake = Lake(home)
    ensure_lake(lake)
    write_no_places(lake)
    write_no_estimates(lake)
    write_no_site_excess(lake)
    write_no_outlooks(lake)
    write_declared_tables(lake, {})
    write_receipts_table(lake)


def run(home: Path, *arguments: str, quiet: bool = True) -> dict[str, str]:
    """Run dbt over a home; return the status of each node by its name, with the message where it is not good.

    Raises:
        RuntimeError: dbt did not get as far as running nodes.
    """
    from dbt.cli.main import dbtRunner

    flags = ["--project-dir", PROJECT, "--profiles-dir", PROJECT, "--target-path", home / "dbt"]
    flags += ["--log-path", home / "dbt", "--log-level", "error" if quiet else "warn", "--threads", "1"]
    with dbt_at(home):
        result = dbtRunner().invoke([*arguments, *map(str, flags)])
    if result.result is None:
        raise RuntimeError(f"dbt did not run: {result.exception}")
    return {
        each.node.name: str(each.status)
        if each.status in ("success", "pass", "no-op")
        else f"{each.status}: {each.message}"
        for each in result.result
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("rules")
    make_empty_lake(home)
    built = run(home, "build", *(f"--exclude-resource-type={kind}" for kind in ("test", "unit_test")))
    assert {name: said for name, said in built.items() if said not in ("success", "no-op")} == {}
    return home


def test_every_rule_holds_for_its_case(home: Path) -> None:
    told = run(home, "test", "--select", "test_type:unit")
    assert told
    assert {name: said for name, said in told.items() if said != "pass"} == {}


def test_a_feature_later_than_its_forecast_time_stops_the_build(home: Path) -> None:
    """The twin of the rule: one day into the horizon, as its unit test counts it, is a row of the table."""
    guard = "no_feature_is_later_than_its_forecast_time"
    row = "('c', 'o', 1000, 0, null, 'break', true, 1, 1, 0, {latest_day})"
    for latest_day, said in ((1000, "pass"), (1001, "fail")):
        with duckdb.connect(str(Lake(home).build_warehouse)) as con:
            con.execute("delete from intermediate.int_outlook_counts")
            con.execute(
                f"insert into intermediate.int_outlook_counts values {row.format(latest_day=latest_day)}"
            )
        assert run(home, "test", "--select", guard)[guard].split(":")[0] == said
