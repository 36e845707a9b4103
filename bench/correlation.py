"""Measures what the evidence of 36 questions costs, item by item, on a city of a million events or ten.

Each model's compiled SQL runs once in one connection, and the processor's seconds are what counts: dbt
itself, which costs the same for any city, is left out. The primary estimate is measured by itself, then what
more the other variants, the rings, the lag curves, the cross-check and inference take.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.wire import measured

#: Processor seconds of the primary estimate that the statistics page measured, by events.
MARKS = {1_040_000: 6, 10_600_000: 150}
#: Ten million events need more than the 2 GB that profiles.yml gives (CITYSIGNAL_DUCKDB_MEMORY).
MEMORY = "3GB"
MOST_BYTES = 4.0e9
COMMON = (
    "int_evidence_cell_days",
    "int_outcome_periods",
    "int_correlation_pairs",
    "int_evidence_months",
    "int_evidence_reach",
    "int_signal_episodes",
    "int_correlation_outcomes",
    "int_anchor_exposure",
)
DISC = ("int_control_windows", "int_anchor_disc_counts", "int_anchors_counted", "int_block_sums")
ITEMS = {
    "rings": ("int_anchor_ring_counts", "int_ring_sums"),
    "lag curves": ("int_control_weeks", "int_lag_blocks"),
    "cross-check": ("int_crossover_blocks",),
}


def prepare(folder: str, n_events: int, days: int) -> dict[str, Any]:
    """Make the city and compile the models, once with all variants and once with the primary one."""
    import numpy as np
    from dbt.cli.main import dbtRunner

    from assets.simulate.scenarios import KINDS, OUTCOMES, SIGNALS, large_city
    from tests.correlation_evidence import events, question, write_project

    city = large_city(n_events, 1, days=days)
    rows = events(
        city="large",
        event_type="x",
        x_m=city.x_m,
        y_m=city.y_m,
        day=16_800 + city.day,
        hour=(city.day * 7) % 24,
    ).assign(event_type=np.array(KINDS, dtype=object)[city.kind])
    asked = [question(f"{s}_{o}", s, o, splits_by_hour=True) for s in SIGNALS for o in OUTCOMES]
    project = Path(folder)
    write_project(project, rows, asked)
    places = ["--project-dir", folder, "--profiles-dir", folder]
    runner = dbtRunner()
    for arguments in (
        ["seed"],
        ["run", "--select", "core", "int_correlation_questions"],
        ["compile", "--target-path", f"{folder}/all"],
        [
            "compile",
            "--target-path",
            f"{folder}/primary",
            "--vars",
            json.dumps({"correlation_variants": ["primary"]}),
        ],
    ):
        if not (outcome := runner.invoke(["--quiet", *arguments, *places])).success:
            raise RuntimeError(outcome.exception or [r.message for r in outcome.result.results])
    return {"events": len(rows)}


def run_models(folder: str) -> dict[str, Any]:
    """Run every model in order; return processor seconds by model, and by model again with all variants."""
    import duckdb

    spent: dict[str, float] = {}
    config = {"memory_limit": MEMORY, "threads": 2, "temp_directory": f"{folder}/spill"}
    with duckdb.connect(f"{folder}/warehouse.duckdb", config=config) as con:
        con.execute("set preserve_insertion_order = false")

        def run(name: str, compiled: str, schema: str = "intermediate") -> float:
            (path,) = Path(folder, compiled, "compiled").rglob(f"{name}.sql")
            started = time.process_time()
            con.execute(f"create or replace table {schema}.{name} as {path.read_text(encoding='utf-8')}")
            return time.process_time() - started

        for name in (*COMMON, *DISC):
            spent[name] = run(name, "primary")
        for name in DISC:
            spent[f"all {name}"] = run(name, "all")
        for names in ITEMS.values():
            for name in names:
                spent[name] = run(name, "all")
        con.execute("create schema if not exists correlation")
        run("mart_correlation_blocks", "all", "correlation")
    return {"spent": spent}


def infer(folder: str) -> dict[str, Any]:
    """Estimate from the block sums."""
    import duckdb

    from assets.correlate.estimates import question_groups, read_blocks
    from assets.correlate.inference import judge, measure

    measured, n_blocks = [], 0
    with duckdb.connect(f"{folder}/warehouse.duckdb", read_only=True) as con:
        for questions in question_groups(con, "correlation.mart_correlation_blocks", "large"):
            blocks = read_blocks(con, "large", questions)
            n_blocks += len(blocks)
            measured += measure(blocks)
    found = {(e.question_id, e.band): e for e in judge(measured)}
    planted = ("light_out_theft", "garbage_rodent", "pothole_main_break")
    return {
        "blocks": n_blocks,
        "planted": {q: (found[q, 1].rr, found[q, 1].ci_low, found[q, 1].ci_high) for q in planted},
    }


def main() -> int:
    """Measure; 1 where a bound does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m bench.correlation --events 1040000",
    )
    parser.add_argument("--events", type=int, default=1_040_000, help="about so many (default 1,040,000)")
    parser.add_argument("--days", type=int, default=730, help="in so many days (default 730)")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="correlation-") as folder:
        made = measured(prepare, folder, said.events, said.days)
        ran = measured(run_models, folder)
        told = measured(infer, folder)
    return report(made["events"], ran, told)


def report(n_events: int, ran: dict[str, Any], told: dict[str, Any]) -> int:
    """Print the items; return 1 where a bound does not hold."""
    spent = ran["spent"]
    primary = sum(spent[name] for name in (*COMMON, *DISC))
    items = {
        "primary estimate": primary,
        "placebo, guarded, isolated, night and day": sum(spent[f"all {n}"] - spent[n] for n in DISC),
        **{item: sum(spent[name] for name in names) for item, names in ITEMS.items()},
        "inference": told["cpu_seconds"],
    }
    print(f"{n_events:,} events, 36 questions, {told['blocks']:,} blocks; processor seconds")
    for item, seconds in items.items():
        print(f"  {item:<44}{seconds:8.1f}")
    for name in (*COMMON, *DISC):
        print(f"    of the primary estimate: {name:<28}{spent[name]:7.2f}")
    for name, (ratio, low, high) in told["planted"].items():
        print(f"  {name}: {ratio:.3f} [{low:.3f}, {high:.3f}]")
    peak = max(ran["peak_bytes"], told["peak_bytes"])
    mark = next((most for events, most in MARKS.items() if n_events <= 1.1 * events), None)
    print(
        f"  peak memory: models {ran['peak_bytes'] / 1e9:.2f} GB, inference {told['peak_bytes'] / 1e9:.2f} GB"
    )
    checks = {f"peak memory {peak / 1e9:.2f} GB, at most {MOST_BYTES / 1e9:.0f}": peak <= MOST_BYTES}
    if mark is not None:
        checks[f"primary estimate {primary:.1f} s, at most {mark}"] = primary <= mark
    for what, holds in checks.items():
        print(f"  {'ok' if holds else 'NOT'}: {what}")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
