"""Figures of merit of the correlation engine over many cities; running them is in `trials`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Figures:
    """What came out over some cities; shares and ratios, NaN where nothing was there to count.

    Attributes:
        name: Of the scenario, or of what was pooled.
        cities: Number of them.
        coverage: Share of planted effects inside the 95 % interval; one without an interval is not covered.
        coverage_of: The same by true ratio.
        bias_of: Mean estimate over the truth, less 1, by true ratio; the mean is of logarithms.
        guarded_bias_of: The same of the guarded estimate.
        naive_bias_of: The same of the naive ratio.
        mean_rr_of: Mean estimate by true ratio.
        null_fpr: Share of null pairs with p < .05, two-sided; one without an estimate is not significant.
        null_supported: Number of null pairs with the verdict `supported`, of all cities.
        bh_fdr: Mean over cities of the share of false ones among the pairs with a Benjamini-Hochberg p of at
            most .05, whatever their sign.
        bh_found: Planted pairs a city found by it, with the right sign.
        gate_fdr: Mean share of false ones among the pairs with the verdict `supported`.
        gate_found: Planted pairs a city with that verdict.
        reverse_supported: Share of cities whose reverse pair is `supported`.
        reverse_flagged: Share of cities in which the placebo rises before the signal of the reverse pair.
        null_flagged: The same share of the null pairs.
        naive_null_median: Median naive ratio of the null pairs.
        naive_null_fpr: Share of null pairs that the naive Poisson test calls significant.
        rings_supported: Rings with the verdict `supported` where nothing was planted, of all cities.
        ring_excludes_1: Share of cities whose interval there lies on the right side of 1.
    """

    name: str
    cities: int
    coverage: float
    coverage_of: dict[str, float]
    bias_of: dict[str, float]
    guarded_bias_of: dict[str, float]
    naive_bias_of: dict[str, float]
    mean_rr_of: dict[str, float]
    null_fpr: float
    null_supported: int
    bh_fdr: float
    bh_found: float
    gate_fdr: float
    gate_found: float
    reverse_supported: float
    reverse_flagged: float
    null_flagged: float
    naive_null_median: float
    naive_null_fpr: float
    rings_supported: int
    ring_excludes_1: float


def measure(name: str, answers: pd.DataFrame) -> Figures:
    """Return the figures of some cities.

    Args:
        name: What to call them.
        answers: Rows of `trials.answers`, of one scenario or of several that share the planted ratios.
    """
    planted, null, reverse = (answers[answers.role == role] for role in ("planted", "null", "reverse"))
    by_ratio = dict(list(planted.groupby(planted.true_rr.map("{:.2f}".format))))
    # An outcome that falls short after its signal in the reverse pair is no false alarm: it does fall.
    is_false = (answers.role == "null") | ((answers.role == "reverse") & (answers.rr > 1))
    is_true = (answers.role == "planted") & ((answers.rr > 1) == (answers.true_rr > 1))
    is_bh, is_supported = answers.p_bh <= 0.05, answers.verdict == "supported"
    ring = answers[answers.ring_true_rr.notna()]
    ring_edge = np.where(ring.ring_true_rr > 1, ring.ring_ci_low - 1, 1 - ring.ring_ci_high)
    return Figures(
        name=name,
        cities=int(answers.city.nunique()),
        coverage=float(covered(planted).mean()),
        coverage_of={ratio: float(covered(rows).mean()) for ratio, rows in by_ratio.items()},
        bias_of={ratio: _bias(rows, "rr") for ratio, rows in by_ratio.items()},
        guarded_bias_of={ratio: _bias(rows, "guarded_rr") for ratio, rows in by_ratio.items()},
        naive_bias_of={ratio: _bias(rows, "naive_ratio") for ratio, rows in by_ratio.items()},
        mean_rr_of={ratio: float(rows.rr.mean()) for ratio, rows in by_ratio.items()},
        null_fpr=float((null.p_value < 0.05).mean()),
        null_supported=int((null.verdict == "supported").sum()),
        bh_fdr=_false_share(answers.city, is_bh & is_false, is_bh & is_true),
        bh_found=float((is_bh & is_true).groupby(answers.city).sum().mean()),
        gate_fdr=_false_share(answers.city, is_supported & is_false, is_supported & is_true),
        gate_found=float((is_supported & is_true).groupby(answers.city).sum().mean()),
        reverse_supported=float((reverse.verdict == "supported").mean()),
        reverse_flagged=float(_is_flagged(reverse).mean()),
        null_flagged=float(_is_flagged(null).mean()),
        naive_null_median=float(null.naive_ratio.median()),
        naive_null_fpr=float((null.naive_p < 0.05).mean()),
        rings_supported=int(answers.rings_supported.sum()),
        ring_excludes_1=float((ring_edge > 0).mean()) if len(ring) else float("nan"),
    )


def covered(planted: pd.DataFrame) -> pd.Series:
    """Return whether each interval holds the truth."""
    return (planted.ci_low <= planted.true_rr) & (planted.true_rr <= planted.ci_high)


def as_text(figures: Sequence[Figures]) -> str:
    """Return the figures as a table, one column a scenario."""
    columns = {}
    for f in figures:
        column: dict[str, str] = {}
        for name, value in asdict(f).items():
            parts = value if isinstance(value, dict) else {"": value}
            column |= {f"{name} {part}".rstrip(): _shown(number) for part, number in parts.items()}
        columns[column.pop("name")] = column
    return pd.DataFrame(columns).fillna("").to_string()


def write(figures: Mapping[str, Sequence[Figures]], folder: Path) -> str:
    """Write the figures as JSON and as text, one table for each title; return the text."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {title: [_finite(asdict(f)) for f in some] for title, some in figures.items()}
    (folder / "truth.json").write_text(json.dumps(told, indent=2) + "\n")
    text = "\n".join(f"{title}\n{as_text(some)}\n" for title, some in figures.items())
    (folder / "truth.txt").write_text(text)
    return text


def _bias(planted: pd.DataFrame, estimator: str) -> float:
    return float(np.exp(np.log(planted[estimator] / planted.true_rr).mean()) - 1)


def _false_share(city: pd.Series, is_false: pd.Series, is_true: pd.Series) -> float:
    n_false, n_true = (flags.groupby(city).sum() for flags in (is_false, is_true))
    return float((n_false / np.maximum(n_false + n_true, 1)).mean())


def _is_flagged(pairs: pd.DataFrame) -> pd.Series:
    return (pairs.placebo_rr > 1) & (pairs.placebo_p < 0.01)


def _shown(value: float | str) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if np.isfinite(value) else ""
    return str(value)


def _finite(value: object) -> object:
    """Return the value with None in the place of NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value
