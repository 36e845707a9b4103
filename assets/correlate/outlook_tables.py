"""The tables of outlooks that dbt reads and their columns; figures are made in `outlook_backtest`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from assets.correlate.outlook_backtest import Backtest, Look, Scores, pooled_model_looks
from assets.correlate.outlook_model import Model
from assets.correlate.outlook_panel import Panel

#: Features named beside a unit, those that raise it most.
SHOWN_FEATURES = 3
INTERVALS = (
    "precision",
    "recall",
    "lift",
    "gain_over_heuristic",
    "lift_over_heuristic",
    "lift_over_past_count",
)
FIGURES = ("base_rate", "pai", "pei", "expected_failures", "calibration_ratio")
COUNTS = ("n_origin", "n_unit", "n_failure", "n_failure_in_units", "n_caught")

#: Columns of lake/derived/outlooks/<name>.parquet, in this order.
SCHEMAS = {
    "ranks": pa.schema(
        [
            ("city", pa.string()),
            ("outlook", pa.string()),
            ("origin_on", pa.date32()),
            ("horizon_days", pa.int32()),
            ("unit_key", pa.string()),
            ("rank", pa.int32()),
            ("method", pa.string()),
            ("score", pa.float64()),
            ("expected_failures", pa.float64()),
            ("model_expected_failures", pa.float64()),
            ("failures_365d", pa.int64()),
            ("failures_earlier", pa.int64()),
            ("contributing_features", pa.string()),
            ("reason", pa.string()),
        ]
    ),
    "backtests": pa.schema(
        [
            ("city", pa.string()),
            ("outlook", pa.string()),
            ("horizon_days", pa.int32()),
            ("origin", pa.string()),
            ("part", pa.string()),
            ("method", pa.string()),
            ("picked", pa.string()),
            ("k", pa.float64()),
            *((name, pa.int64()) for name in COUNTS),
            *((f"{name}{end}", pa.float64()) for name in INTERVALS for end in ("", "_ci_low", "_ci_high")),
            *((name, pa.float64()) for name in FIGURES),
            ("is_shipped", pa.bool_()),
        ]
    ),
    "calibration": pa.schema(
        [
            ("city", pa.string()),
            ("outlook", pa.string()),
            ("method", pa.string()),
            ("decile", pa.int32()),
            ("n_unit", pa.int64()),
            ("expected_failures", pa.float64()),
            ("observed_failures", pa.int64()),
        ]
    ),
}


@dataclass(frozen=True)
class Outcome:
    """What is said of one city's outlook.

    Attributes:
        panel: What is known of its units.
        unit_key: Keys of the units, shape (n,).
        backtest: How past forecast times did.
        scores: What each method says at the newest forecast time.
        model: The model of the newest forecast time, None where there is too little to learn from.
    """

    panel: Panel
    unit_key: np.ndarray
    backtest: Backtest
    scores: dict[str, Scores]
    model: Model | None

    @property
    def method(self) -> str:
        """The method that is shipped: the model where it passed the gate, else the heuristic."""
        return "model" if self.backtest.is_passed and self.model is not None else "heuristic"


def ranks_table(outcomes: Sequence[Outcome]) -> pa.Table:
    """Return the units of the newest forecast times, best first, a row per city, outlook and unit."""
    return pa.concat_tables([SCHEMAS["ranks"].empty_table(), *(_ranks(outcome) for outcome in outcomes)])


def backtests_table(outcomes: Sequence[Outcome]) -> pa.Table:
    """Return the looks back, a row per city, outlook, forecast time, part, method and number picked."""
    rows = [_look_row(outcome, look) for outcome in outcomes for look in outcome.backtest.looks]
    return pa.Table.from_pylist(rows, SCHEMAS["backtests"])


def calibration_table(outcomes: Sequence[Outcome]) -> pa.Table:
    """Return expected and observed failures, a row per city, outlook, method and decile."""
    rows = [
        {
            "city": outcome.panel.city,
            "outlook": outcome.panel.outlook,
            "method": decile.method,
            "decile": decile.decile,
            "n_unit": decile.n_unit,
            "expected_failures": decile.expected,
            "observed_failures": decile.observed,
        }
        for outcome in outcomes
        for decile in outcome.backtest.deciles
    ]
    return pa.Table.from_pylist(rows, SCHEMAS["calibration"])


def reason(outcome: Outcome) -> str:
    """Return why the method is shipped, with the figures of the gate."""
    looks = pooled_model_looks(outcome.backtest.looks)
    if not looks:
        return "The heuristic ranks: there are too few past periods and failures to train and judge a model."
    said = " and at ".join(
        f"{look.k:.0f} picks {_figure(look.precision.value)} against {_figure(look.heuristic_precision)}, "
        f"a gain of {_figure(look.gain_over_heuristic.value)} [{_figure(look.gain_over_heuristic.low)}, "
        f"{_figure(look.gain_over_heuristic.high)}]"
        for look in looks
    )
    compared = (
        f"over {looks[0].n_origin} periods that no training saw, the precision of the model and of the "
        f"heuristic is at {said}"
    )
    if outcome.method == "model":
        return f"The model ranks: {compared}; both gains lie over 0."
    return f"The heuristic ranks: {compared}; a gain over 0 is not shown for both."


def _figure(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.4f}"


def _look_row(outcome: Outcome, look: Look) -> dict[str, Any]:
    panel = outcome.panel
    named = ("part", "method", "picked", "k", *COUNTS, *FIGURES)
    intervals = {
        f"{name}{end}": getattr(getattr(look, name), at)
        for name in INTERVALS
        for end, at in (("", "value"), ("_ci_low", "low"), ("_ci_high", "high"))
    }
    return {
        "city": panel.city,
        "outlook": panel.outlook,
        "horizon_days": panel.horizon_days,
        "origin": "pooled" if look.origin_day is None else str(np.datetime64(look.origin_day, "D")),
        **{name: getattr(look, name) for name in named},
        **intervals,
        "is_shipped": look.method == outcome.method,
    }


def _ranks(outcome: Outcome) -> pa.Table:
    panel, newest = outcome.panel, outcome.panel.newest
    shipped = outcome.scores[outcome.method]
    order = shipped.order(panel.is_in[newest])
    n = len(order)
    model = outcome.scores.get("model")
    columns = [
        pa.repeat(panel.city, n),
        pa.repeat(panel.outlook, n),
        pa.array(np.full(n, panel.origin_day[newest], "datetime64[D]")),
        np.full(n, panel.horizon_days),
        outcome.unit_key[order],
        np.arange(1, n + 1),
        pa.repeat(outcome.method, n),
        shipped.rank_by[0][order],
        shipped.expected[order],
        pa.nulls(n, pa.float64()) if model is None else model.expected[order],
        panel.n_year[newest][order].astype(int),
        panel.n_earlier[newest][order].astype(int),
        _contributing(outcome, order),
        pa.repeat(reason(outcome), n),
    ]
    schema = SCHEMAS["ranks"]
    arrays = [
        column.cast(field.type) if isinstance(column, pa.Array) else pa.array(column, field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.table(arrays, schema=schema)


def _contributing(outcome: Outcome, order: np.ndarray) -> pa.Array:
    """Return what raised each unit as `name=value` joined by commas, the most first; empty for nothing."""
    panel, newest = outcome.panel, outcome.panel.newest
    values = panel.values[newest][order]
    names = panel.feature_names
    if outcome.method == "model" and outcome.model is not None:
        raised = outcome.model.contributions(values, names)
    else:
        values = np.column_stack([panel.n_year[newest], panel.n_earlier[newest]])[order]
        names = ("failure_365d", "failure_earlier")
        raised = values.astype(float)
    most = np.argsort(-raised, axis=1, kind="stable")[:, :SHOWN_FEATURES]
    text = np.full(len(order), "", object)
    for place in most.T:
        at = np.arange(len(order)), place
        value = np.round(values[at].astype(float), 1).astype(str).astype(object)
        said = np.where(raised[at] > 0, np.array(names, object)[place] + "=" + value, "")
        text = text + np.where((text != "") & (said != ""), ", ", "") + said
    return pa.array(text, pa.string())
