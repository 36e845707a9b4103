"""The tables that inference hands to dbt and their columns; no figures are made here."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from assets.correlate.inference import Estimate
from assets.correlate.lag_curves import LagCurve
from assets.correlate.scan import Half, ScanResult
from assets.correlate.splits import SplitPart
from assets.correlate.wording import Question, reason, scan_reason, split_reason

#: Columns of lake/derived/correlations/<name>.parquet, in this order.
SCHEMAS = {
    "estimates": pa.schema(
        [
            ("city", pa.string()),
            ("question_id", pa.string()),
            ("band", pa.int32()),
            ("radius_m", pa.float64()),
            ("window_days", pa.int32()),
            ("estimator", pa.string()),
            ("control_level", pa.string()),
            ("n_anchor", pa.int64()),
            ("n_block", pa.int32()),
            ("d0", pa.int64()),
            ("d1", pa.int64()),
            ("mean_c0", pa.float64()),
            ("rr", pa.float64()),
            ("ci_low", pa.float64()),
            ("ci_high", pa.float64()),
            ("p_value", pa.float64()),
            ("p_adjusted", pa.float64()),
            ("n_tests", pa.int32()),
            ("df", pa.float64()),
            ("placebo_rr", pa.float64()),
            ("placebo_p", pa.float64()),
            ("guarded_rr", pa.float64()),
            ("guarded_ci_low", pa.float64()),
            ("guarded_ci_high", pa.float64()),
            ("isolated_rr", pa.float64()),
            ("first_half_rr", pa.float64()),
            ("second_half_rr", pa.float64()),
            ("case_crossover_rr", pa.float64()),
            ("naive_ratio", pa.float64()),
            ("raw_after_before_ratio", pa.float64()),
            ("extra_per_100_signals", pa.float64()),
            ("minimal_detectable_rr", pa.float64()),
            ("n_negative_controls", pa.int32()),
            ("n_negative_controls_positive", pa.int32()),
            ("verdict", pa.string()),
            ("reason", pa.string()),
        ]
    ),
    "splits": pa.schema(
        [
            ("city", pa.string()),
            ("question_id", pa.string()),
            ("split", pa.string()),
            ("part", pa.string()),
            ("estimator", pa.string()),
            ("n_anchor", pa.int64()),
            ("d0", pa.int64()),
            ("d1", pa.int64()),
            ("rr", pa.float64()),
            ("ci_low", pa.float64()),
            ("ci_high", pa.float64()),
            ("p_value", pa.float64()),
            ("reason", pa.string()),
        ]
    ),
    "lag_curves": pa.schema(
        [
            ("city", pa.string()),
            ("question_id", pa.string()),
            ("unit", pa.string()),
            ("lag", pa.int32()),
            ("d", pa.int64()),
            ("rr", pa.float64()),
            ("ci_low", pa.float64()),
            ("ci_high", pa.float64()),
            ("band_low", pa.float64()),
            ("band_high", pa.float64()),
            ("n_block", pa.int32()),
        ]
    ),
    "scan": pa.schema(
        [
            ("city", pa.string()),
            ("signal_type", pa.string()),
            ("outcome_type", pa.string()),
            ("n_anchor", pa.int64()),
            ("first_until", pa.date32()),
            ("found_d0", pa.int64()),
            ("found_d1", pa.int64()),
            ("found_rr", pa.float64()),
            ("found_ci_low", pa.float64()),
            ("found_ci_high", pa.float64()),
            ("found_p_adjusted", pa.float64()),
            ("found_placebo_rr", pa.float64()),
            ("found_placebo_p", pa.float64()),
            ("n_tests", pa.int32()),
            ("held_d0", pa.int64()),
            ("held_d1", pa.int64()),
            ("held_rr", pa.float64()),
            ("held_ci_low", pa.float64()),
            ("held_ci_high", pa.float64()),
            ("held_p_adjusted", pa.float64()),
            ("held_placebo_rr", pa.float64()),
            ("held_placebo_p", pa.float64()),
            ("n_held_tests", pa.int32()),
            ("status", pa.string()),
            ("reason", pa.string()),
        ]
    ),
}
#: Figures of one part of the months that the scan's table shows under found_ and held_.
HALF_FIGURES = ("d0", "d1", "rr", "ci_low", "ci_high", "p_adjusted", "placebo_rr", "placebo_p")


def estimates_table(estimates: Sequence[Estimate], questions: Mapping[str, Question]) -> pa.Table:
    """Return the estimates with their sentences, one row per city, question and ring."""
    rows = [
        asdict(e)
        | {
            "radius_m": questions[e.question_id].radius_m,
            "window_days": questions[e.question_id].window_days,
            "reason": reason(e, questions[e.question_id]),
        }
        for e in estimates
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMAS["estimates"])


def splits_table(parts: Sequence[SplitPart], questions: Mapping[str, Question]) -> pa.Table:
    """Return the parts with their sentences, one row per city, question, split and part."""
    together = defaultdict(list)
    for part in parts:
        together[part.city, part.question_id, part.split].append(part)
    rows = [
        asdict(part) | {"reason": split_reason(part, of_split, questions[part.question_id])}
        for of_split in together.values()
        for part in of_split
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMAS["splits"])


def lag_curves_table(curves: Sequence[LagCurve]) -> pa.Table:
    """Return the curves, one row per city, question, unit and lag; NaN becomes null."""
    schema = SCHEMAS["lag_curves"]
    tables = [
        pa.table(
            [
                pa.array(
                    np.broadcast_to(getattr(one, field.name), one.lag.shape), field.type, from_pandas=True
                )
                for field in schema
            ],
            schema=schema,
        )
        for one in curves
    ]
    return pa.concat_tables([schema.empty_table(), *tables])


def scan_table(results: Sequence[ScanResult]) -> pa.Table:
    """Return the pairs with their sentences, one row per city, signal type and outcome type."""
    rows = [
        {
            **{name: getattr(result, name) for name in ("city", "signal_type", "outcome_type", "n_anchor")},
            "first_until": result.first_until.astype("datetime64[D]").item(),
            **_half_columns("found", result.found),
            **_half_columns("held", result.held),
            **{name: getattr(result, name) for name in ("n_tests", "n_held_tests", "status")},
            "reason": scan_reason(result),
        }
        for result in results
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMAS["scan"])


def _half_columns(part: str, half: Half | None) -> dict[str, Any]:
    return {f"{part}_{name}": None if half is None else getattr(half, name) for name in HALF_FIGURES}
