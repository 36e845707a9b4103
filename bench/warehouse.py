"""Measures what a day's delta costs the warehouse, against building it whole, on the simulated city.

The city is landed as it was a day before its end, the warehouse is built whole, a day passes, and what is
new is landed and built. Then the same lake is built whole in another home: both must hold the same rows.
"""

import argparse
import shutil
import sys
import tempfile
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.wire import measured

#: Events of the simulated city at scale 1.
EVENTS = 302_000
MOST_SHARE = 0.15
SLOWEST = 20
#: Nodes of the evidence, by how their names begin.
EVIDENCE = (
    "int_anchor", "int_block", "int_control", "int_correlation", "int_crossover", "int_evidence", "int_lag",
    "int_outcome", "int_ring", "int_scan", "int_signal", "mart_correlation",
)  # fmt: skip


def land(home: str, simulated: str, now: datetime) -> dict[str, Any]:
    """Land every feed of the simulated city as it is at a time; return its rows."""
    from assets.ingest import cover
    from assets.ingest.declared import write_declared_tables
    from assets.ingest.feed import BUILT_IN, load_cities
    from assets.ingest.lake import Lake
    from assets.ingest.landing import ensure_lake, land_feed
    from assets.ingest.receipts import write_receipts_table
    from assets.simulate.serving.city import open_city
    from assets.simulate.serving.server import serve

    lake, rows = Lake(Path(home)), 0
    with serve(open_city(Path(simulated), now=now.replace(tzinfo=None))) as address:
        variables = {"CITYSIGNAL_SIMULATED_PORTAL": address, "CITYSIGNAL_HOME": home}
        city = load_cities([BUILT_IN], variables)["simulated"]
        for feed in city.feeds.values():
            for delivery in land_feed(lake, city, feed, now=now):
                if delivery.outcome not in ("landed", "unchanged"):
                    print(f"  {feed.id}/{delivery.part}: {delivery.outcome}: {delivery.message}")
                rows += delivery.rows_raw or 0
            if feed.kind in ("boundary", "asset"):
                cover.write_places(lake, city, feed)
        ensure_lake(lake)
        cover.write_no_places(lake)
        write_declared_tables(lake, {"simulated": city})
        write_receipts_table(lake)
    return {"rows": rows}


def build(home: str) -> dict[str, Any]:
    """Build on what is there, both passes; return seconds by model and what was written."""
    from assets.correlate.estimates import write_no_estimates
    from assets.correlate.outlooks import write_no_outlooks
    from assets.correlate.permit_noise import write_no_site_excess
    from assets.ingest.lake import Lake
    from assets.warehouse.build_state import project_state
    from assets.warehouse.dbt_assets import VERDICT
    from assets.warehouse.dbt_build import DbtBuild, release_warehouse
    from assets.warehouse.generation import Generation
    from orchestration.settings import DBT_PROJECT, load_settings, tell_dbt

    settings = load_settings({"CITYSIGNAL_HOME": home})
    lake = Lake(Path(home))
    lake.build_warehouse.parent.mkdir(parents=True, exist_ok=True)
    write_no_estimates(lake)
    write_no_outlooks(lake)
    write_no_site_excess(lake)
    dbt = DbtBuild(
        DBT_PROJECT, lake.home / "dbt" / "target", lake.home / "dbt" / "logs",
        lambda generation: tell_dbt(settings, generation),
    )  # fmt: skip
    generation = Generation("bench", "bench", datetime.now(UTC))
    seconds, broken = {}, []
    for arguments in (["--exclude", VERDICT], ["--select", VERDICT]):
        for outcome in dbt.run(arguments, generation):
            seconds[outcome.unique_id] = outcome.seconds
            if not outcome.is_good:
                broken.append(f"{outcome.unique_id}: {outcome.message}")
        if broken:
            raise RuntimeError("\n".join(broken))
        if "--exclude" in arguments:
            dbt.note_loaded(project_state(DBT_PROJECT))
        release_warehouse()
    return {"by_node": seconds}


def told(name: str, found: dict[str, Any], home: Path) -> dict[str, float]:
    """Print what a build took; return its seconds by group of nodes."""
    groups: dict[str, float] = defaultdict(float)
    for node, seconds in found["by_node"].items():
        kind = node.split(".", 1)[0]
        is_evidence = node.split(".")[-1].startswith(EVIDENCE)
        groups["tests" if kind == "test" else "evidence" if is_evidence else "models"] += seconds
    size = (home / "warehouse" / "build" / "warehouse.duckdb").stat().st_size
    parts = ", ".join(f"{group} {seconds:.1f} s" for group, seconds in sorted(groups.items()))
    print(
        f"  {name:<12}{found['seconds']:8.1f} s ({found['cpu_seconds']:.1f} s of processor; {parts})"
        f"  peak memory {found['peak_bytes'] / 1e6:,.0f} MB  file {size / 1e6:,.0f} MB"
    )
    slowest = sorted(found["by_node"].items(), key=lambda item: -item[1])[:SLOWEST]
    print("    " + ", ".join(f"{node.split('.')[-1]} {seconds:.1f}" for node, seconds in slowest), flush=True)
    return groups


def differences(one: Path, other: Path) -> list[str]:
    """Return the public tables whose rows differ between two homes."""
    import duckdb

    names, con = [], duckdb.connect()
    for name, home in (("one", one), ("other", other)):
        con.execute(f"attach '{home}/warehouse/build/warehouse.duckdb' as {name} (read_only)")
    tables = con.execute(
        "select schema_name, table_name from duckdb_tables() where database_name = 'one'"
        " and schema_name in ('core', 'correlation', 'operations') order by all"
    ).fetchall()
    for schema, table in tables:
        hashes = [
            con.execute(f"select count(*), bit_xor(hash(t)) from {name}.{schema}.{table} as t").fetchone()  # noqa: S608
            for name in ("one", "other")
        ]
        if hashes[0] != hashes[1]:
            names.append(f"{schema}.{table} {hashes[0][0]:,} and {hashes[1][0]:,} rows")
    return names


def main() -> int:
    """Measure; 1 where a bound does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m bench.warehouse --events 300000",
    )
    parser.add_argument("--events", type=int, default=2_000_000, help="about so many (default 2,000,000)")
    parser.add_argument("--keep", type=Path, help="a folder in which to leave the homes")
    said = parser.parse_args()
    folder = said.keep or Path(tempfile.mkdtemp(prefix="warehouse-"))
    folder.mkdir(exist_ok=True)
    try:
        return compare(folder, said.events)
    finally:
        if said.keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def compare(folder: Path, events: int) -> int:
    """Build whole, by delta, and whole again; return 1 where a bound does not hold."""
    from assets.simulate.city import simulate
    from assets.simulate.serving.lives import LAST

    simulate(folder / "city", scale=events / EVENTS)
    end = LAST.replace(tzinfo=UTC)
    grown, whole = folder / "grown", folder / "whole"
    print(f"about {events:,} events; a day's delta")
    landed = measured(land, str(grown), str(folder / "city"), end - timedelta(days=1))
    print(f"  landed {landed['rows']:,} rows in {landed['seconds']:.1f} s", flush=True)
    told("first build", measured(build, str(grown)), grown)
    landed = measured(land, str(grown), str(folder / "city"), end)
    print(f"  landed {landed['rows']:,} rows in {landed['seconds']:.1f} s", flush=True)
    small = told("delta", measured(build, str(grown)), grown)
    shutil.copytree(grown / "lake", whole / "lake")
    large = told("whole", measured(build, str(whole)), whole)
    others = differences(grown, whole)
    checks = {
        f"{what}: {share:.1%} of a whole build, at most {MOST_SHARE:.0%}": share <= MOST_SHARE
        for what, share in {
            "seconds of models": small["models"] / large["models"],
            "seconds of evidence": small["evidence"] / large["evidence"],
        }.items()
    } | {
        f"the same rows by delta as whole {others or ''}": not others,
    }
    for what, holds in checks.items():
        print(f"  {'ok' if holds else 'NOT'}: {what}")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
