"""Reads what a method card tells from the correlation marts of a warehouse; words are `card_text`'s."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import duckdb

from assets.warehouse.reader import GENERATION_TABLE


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A row of `mart_correlations`: one question in one city and ring."""

    city: str
    city_name: str
    question_id: str
    title: str
    signal_type: str
    signal_subtype: str | None
    signal_cluster_size: int | None
    outcome_type: str
    is_negative_control: bool
    hypothesis: str | None
    mechanism: str | None
    source: str | None
    expected_sign: str | None
    band: int
    from_m: float
    to_m: float
    window_days: int
    verdict: str
    reason: str
    estimator: str
    control_level: str
    n_anchor: int
    n_block: int
    d0: int
    d1: int
    mean_c0: float | None
    rr: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    p_adjusted: float | None
    n_tests: int
    df: float | None
    placebo_rr: float | None
    placebo_p: float | None
    guarded_rr: float | None
    guarded_ci_low: float | None
    guarded_ci_high: float | None
    isolated_rr: float | None
    first_half_rr: float | None
    second_half_rr: float | None
    case_crossover_rr: float | None
    naive_ratio: float | None
    raw_after_before_ratio: float | None
    extra_per_100_signals: float | None
    minimal_detectable_rr: float | None
    n_negative_controls: int
    n_negative_controls_positive: int


@dataclass(frozen=True, kw_only=True)
class Part:
    """A row of `mart_correlation_splits`."""

    city: str
    question_id: str
    split: str
    part: str
    n_anchor: int
    d0: int
    d1: int
    rr: float | None
    ci_low: float | None
    ci_high: float | None


@dataclass(frozen=True, kw_only=True)
class Lag:
    """A row of `mart_lag_curves`: one week or day before (negative) or after the first report."""

    city: str
    question_id: str
    unit: str
    lag: int
    d: int
    rr: float | None
    ci_low: float | None
    ci_high: float | None
    band_low: float | None
    band_high: float | None


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A row of `mart_correlation_contrasts`: what counting alone would say."""

    city: str
    question_id: str
    n_signal: int
    n_outcome: int
    n_cell: int
    across_cells_r: float | None
    n_month: int
    across_months_r: float | None
    month_to_month_r: float | None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """An H3-7 cell with first reports of a question's signal, over all months."""

    city: str
    question_id: str
    h3_7: int
    n_anchor: int


@dataclass(frozen=True, kw_only=True)
class Dossier:
    """Everything one card tells: a question in a city.

    Attributes:
        generation: The build it comes from.
        is_simulated: Whether the city is invented.
        disc: The ring from 0 to one radius, on which the verdict of the card stands.
        rings: All rings, the disc first.
        parts: Parts of the disc, in the order of the mart.
        weeks: The weekly lag curve, by lag; empty where there is none.
        days: The daily one.
        cells: Cells with first reports.
        contrast: What counting alone would say, if the warehouse knows.
    """

    generation: str
    is_simulated: bool
    disc: Answer
    rings: tuple[Answer, ...]
    parts: tuple[Part, ...]
    weeks: tuple[Lag, ...]
    days: tuple[Lag, ...]
    cells: tuple[Cell, ...]
    contrast: Contrast | None


ANSWERS = "select {columns} from correlation.mart_correlations where {asked} order by city, question_id, band"
PARTS = """
    select {columns} from correlation.mart_correlation_splits where {asked}
    order by city, question_id, split,
        list_position(['first', 'second', 'day', 'night', 'slow', 'middle', 'fast'], part)
"""
LAGS = "select {columns} from correlation.mart_lag_curves where {asked} order by city, question_id, unit, lag"
CONTRASTS = """
    select {columns} from correlation.mart_correlation_contrasts where {asked} order by city, question_id
"""
# The cells of the estimator that is reported, so that their first reports add up to the card's.
CELLS = """
    select city, question_id, h3_7, sum(n_anchor)::bigint as n_anchor
    from correlation.mart_correlation_blocks as blocks
    inner join (
        select
            city, question_id,
            case estimator when 'isolated_episodes' then 'isolated' else 'primary' end as variant
        from correlation.mart_correlations where band = 1
    ) using (city, question_id, variant)
    where blocks.band = 1 and {asked}
    group by city, question_id, h3_7 having sum(n_anchor) > 0
    order by city, question_id, h3_7
"""

Row = TypeVar("Row")


def read_dossiers(
    connection: duckdb.DuckDBPyConnection, questions: Collection[str] | None = None
) -> list[Dossier]:
    """Return the dossiers of a warehouse, by city and question.

    Args:
        connection: A warehouse with the correlation marts.
        questions: Ids of the questions asked for. None: all.
    """
    parts = _by_question(_rows(connection, Part, PARTS, questions))
    lags = _by_question(_rows(connection, Lag, LAGS, questions))
    cells = _by_question(_rows(connection, Cell, CELLS, questions))
    contrasts = _by_question(_rows(connection, Contrast, CONTRASTS, questions))
    simulated = dict(connection.execute("select city, is_simulated from core.dim_city").fetchall())
    generation = str(connection.execute(f"select max(generation) from {GENERATION_TABLE}").fetchall()[0][0])  # noqa: S608
    dossiers = []
    for key, rings in _by_question(_rows(connection, Answer, ANSWERS, questions)).items():
        disc = next((ring for ring in rings if ring.band == 1), None)
        if disc is None:
            continue
        dossiers.append(
            Dossier(
                generation=generation,
                is_simulated=bool(simulated.get(disc.city)),
                disc=disc,
                rings=tuple(rings),
                parts=tuple(parts.get(key, ())),
                weeks=tuple(lag for lag in lags.get(key, ()) if lag.unit == "week"),
                days=tuple(lag for lag in lags.get(key, ()) if lag.unit == "day"),
                cells=tuple(cells.get(key, ())),
                contrast=next(iter(contrasts.get(key, ())), None),
            )
        )
    return dossiers


def _rows(
    connection: duckdb.DuckDBPyConnection, kind: type[Row], sql: str, questions: Collection[str] | None
) -> list[Row]:
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    asked = "true" if questions is None else "list_contains(?, question_id)"
    given: list[Any] = [] if questions is None else [sorted(questions)]
    found = connection.execute(sql.format(columns=", ".join(names), asked=asked), given).fetchall()
    return [kind(**dict(zip(names, row, strict=True))) for row in found]


def _by_question(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        found[row.city, row.question_id].append(row)  # type: ignore[attr-defined]
    return found
