"""Runs made-up cities through dbt and inference and sets the answers beside the truth; no assertions here."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np
import pandas as pd
from scipy import stats

from assets.correlate.estimates import read_blocks
from assets.correlate.inference import BlockSums, Estimate, estimate
from assets.simulate.scenarios import KINDS, OUTCOMES, SIGNALS, City, scenario, truth
from tests.correlation_evidence import build_evidence, events, question

START = 16_800
#: A build of up to about so many events stays under 3 GB; one city a build takes half as much time again.
EVENTS_PER_BUILD = 1_000_000
_OF_DISC = (
    "rr",
    "ci_low",
    "ci_high",
    "p_value",
    "placebo_rr",
    "placebo_p",
    "guarded_rr",
    "naive_ratio",
)
PAIR_OF = {f"{signal}_{outcome}": (signal, outcome) for signal in SIGNALS for outcome in OUTCOMES}


class Evidence(NamedTuple):
    """The block sums of one city, as the product makes them and without their correction."""

    seed: int
    blocks: BlockSums
    uncorrected: BlockSums


def evidence(
    folder: Path, name: str, seeds: Sequence[int], change: Callable[[City], City] = lambda city: city
) -> Iterator[Evidence]:
    """Yield the evidence of each seed of a scenario; several cities share a build.

    Args:
        folder: An empty folder; it keeps the dbt projects, without events and warehouse.
        name: The scenario.
        seeds: Seeds of its cities.
        change: What is done to a city before the product sees it.
    """
    waiting: dict[int, pd.DataFrame] = {}
    for seed in seeds:
        waiting[seed] = reported(f"{name}_{seed}", change(scenario(name, seed)))
        mean_size = sum(map(len, waiting.values())) / len(waiting)
        if mean_size * (len(waiting) + 1) > EVENTS_PER_BUILD:
            yield from _built(folder / f"until_{seed}", name, waiting)
            waiting = {}
    if waiting:
        yield from _built(folder / "last", name, waiting)


def answers(name: str, seed: int, blocks: BlockSums) -> pd.DataFrame:
    """Return one row per pair of a city: what the product says of it, and what is true.

    The city is its own family of tests. What the product does not publish is missing.

    Columns: scenario, city, signal, outcome; role ('planted', 'reverse', 'null') and true_rr; of the disc rr,
    ci_low, ci_high, p_value, verdict, placebo_rr, placebo_p, guarded_rr, naive_ratio; p_bh, adjusted over the
    discs of the city; naive_p, of a Poisson test against an even city; of the ring from 100 m to 200 m
    ring_true_rr, ring_ci_low, ring_ci_high; rings_supported, of the rings in which nothing was planted.
    """
    told = truth(name)
    found: dict[tuple[str, int], Estimate] = {(e.question_id, e.band): e for e in estimate(blocks)}
    n_after = _outcomes_after(blocks)
    rows = []
    for question_id, pair in PAIR_OF.items():
        disc, ring, outer = (found[question_id, band] for band in (1, 2, 3))
        unplanted = [outer] if pair in told.displaced else [ring, outer]
        role = "planted" if pair in told.planted else "reverse" if pair == told.reverse else "null"
        rows.append(
            {
                "scenario": name,
                "city": f"{name}_{seed}",
                "signal": pair[0],
                "outcome": pair[1],
                "role": role,
                "true_rr": told.planted.get(pair),
                "verdict": disc.verdict,
                **{column: getattr(disc, column) for column in _OF_DISC},
                "naive_p": _poisson_p(n_after[question_id], disc.naive_ratio),
                "ring_true_rr": told.displaced.get(pair),
                "ring_ci_low": ring.ci_low,
                "ring_ci_high": ring.ci_high,
                "rings_supported": sum(e.verdict == "supported" for e in unplanted),
            }
        )
    table = pd.DataFrame(rows)
    numbers = table.columns.difference(["scenario", "city", "signal", "outcome", "role", "verdict"])
    table[numbers] = table[numbers].astype(float)
    table["p_bh"] = stats.false_discovery_control(table["p_value"].fillna(1.0), method="bh")
    return table


def reported(city_name: str, city: City) -> pd.DataFrame:
    """Return a city as rows of fct_events."""
    kinds = [(kind, city.reports(kind)) for kind in KINDS]
    return pd.concat(
        [
            events(city=city_name, event_type=kind, x_m=at.x_m, y_m=at.y_m, day=START + at.day)
            for kind, at in kinds
        ],
        ignore_index=True,
    )


def with_signals_renamed(city: City) -> City:
    """Return the city with each signal under the name of the next: what was planted stands elsewhere."""
    name = np.arange(len(KINDS), dtype=np.int8)
    rows = [KINDS.index(signal) for signal in SIGNALS]
    name[rows] = np.roll(rows, -1)
    kind = name[city.kind]
    order = np.argsort(kind, kind="stable")
    return replace(
        city, kind=kind[order], **{axis: getattr(city, axis)[order] for axis in ("x_m", "y_m", "day")}
    )


def without_correction(blocks: BlockSums, before: np.ndarray, after: np.ndarray) -> BlockSums:
    """Return the blocks as they were if no earlier episode reached into a reference window.

    The strata are blocks in the place of episodes, because the terms of an episode are not kept.

    Args:
        blocks: Block sums, in any order.
        before: Outcomes in the rest of the control areas in the reference windows, one per block.
        after: The same in the windows after the episodes.
    """
    n = np.maximum(blocks.d0 + blocks.d1 + before + after, 1).astype(float)
    is_ours = blocks.variant != "case_crossover"
    return replace(
        blocks,
        num=np.where(is_ours, blocks.d1 * before / n, blocks.num),
        den=np.where(is_ours, blocks.d0 * after / n, blocks.den),
        c0_sum=np.zeros(len(blocks)),
    )


def _built(folder: Path, name: str, cities: dict[int, pd.DataFrame]) -> Iterator[Evidence]:
    folder.mkdir(parents=True)
    questions = [question(question_id, *pair) for question_id, pair in PAIR_OF.items()]
    all_events = pd.concat(cities.values(), ignore_index=True)
    built = build_evidence(folder, all_events, questions, select=["+mart_correlation_blocks"])
    with duckdb.connect(str(built), read_only=True) as con:
        for seed in cities:
            city = f"{name}_{seed}"
            blocks = read_blocks(con, city)
            rest = con.execute(
                "select d0, r0, r1 from correlation.mart_correlation_blocks where city = $city "
                "order by city, question_id, band, variant, h3_7, month",
                {"city": city},
            ).fetchnumpy()
            if not np.array_equal(rest["d0"], blocks.d0):
                raise AssertionError("The blocks are read in another order than these columns of them.")
            yield Evidence(seed, blocks, without_correction(blocks, rest["r0"], rest["r1"]))
    for file in (built, *folder.glob("*.parquet")):
        file.unlink()


def _outcomes_after(blocks: BlockSums) -> dict[str, float]:
    """Return the outcomes in the disc and the window after an episode, of all episodes, by question."""
    is_disc = (blocks.variant == "primary") & (blocks.band == 1)
    question_id, of_block = np.unique(blocks.question_id[is_disc].astype(str), return_inverse=True)
    return dict(zip(question_id.tolist(), np.bincount(of_block, blocks.d1[is_disc]).tolist(), strict=True))


def _poisson_p(n: float, ratio: float | None) -> float | None:
    """Return the two-sided p value of a count against `n / ratio` expected ones."""
    if ratio is None:
        return None
    expected = n / ratio
    return min(1.0, 2 * min(stats.poisson.cdf(n, expected), stats.poisson.sf(n - 1, expected)))
