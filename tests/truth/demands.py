"""What the figures of the correlation engine must be; counting them is in `figures`."""

from collections.abc import Mapping
from math import inf, nan

from tests.truth.figures import Figures

Bounds = Mapping[str, tuple[float, float]]

#: Whatever the number of cities.
ALWAYS: Bounds = {
    "coverage": (0.90, 1.0),
    "bias_of": (-0.07, 0.07),
    "null_fpr": (0.02, 0.07),
    "bh_found": (2.5, 3.0),
    "gate_found": (2.2, 3.0),
    "gate_fdr": (0.0, 0.05),
    "reverse_supported": (0.0, 0.0),
    "reverse_flagged": (0.95, 1.0),
    "naive_null_fpr": (0.95, 1.0),
    "naive_bias_of": (0.50, inf),
}
#: Two dozen cities know the false-discovery rate to within .02 to .03 only; their seeds are fixed.
POOLED_OF_FEW: Bounds = {**ALWAYS, "bh_fdr": (0.0, 0.05)}
POOLED_OF_MANY: Bounds = {**ALWAYS, "coverage": (0.92, 1.0), "bh_fdr": (0.0, 0.05)}
#: One scenario of 40 cities knows the coverage to within .02, and the false-discovery rate not well enough.
SCENARIO_OF_MANY: Bounds = {**ALWAYS, "coverage": (0.88, 1.0)}


def unmet(figures: Figures, bounds: Bounds) -> dict[str, float]:
    """Return the figures out of bounds, those by true ratio as 'bias_of 1.50'; NaN is out of all bounds."""
    out = {}
    for name, (low, high) in bounds.items():
        value = getattr(figures, name)
        by_ratio = (value or {"": nan}) if isinstance(value, dict) else {"": value}
        parts = {f"{name} {ratio}".rstrip(): number for ratio, number in by_ratio.items()}
        out |= {part: number for part, number in parts.items() if not low <= number <= high}
    return out
