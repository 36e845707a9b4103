"""Poisson regression with a ridge penalty on features of units; picks are in `outlook_backtest`."""

from dataclasses import dataclass

import numpy as np

from assets.correlate.outlook_panel import YEAR_DAYS, Panel

#: Weight of the penalty on a standardised coefficient: as if a prior of variance 1 / 5 stood behind each.
RIDGE = 5.0
#: Rows of training beyond which older forecast times are left out.
MAX_TRAINING_ROWS = 100_000
#: Without so many forecast times and failures to learn from there is no model.
MIN_TRAINING_ORIGINS = 4
MIN_TRAINING_FAILURES = 50
MAX_STEPS = 25
#: So many rows are multiplied at once that the library takes one thread. It takes more for larger products,
#: and where others are at work, threads that wait for each other cost four times the CPU (11 s, not 2.5).
BLOCK_ROWS = 256


@dataclass(frozen=True)
class Model:
    """A fitted regression: log of a unit's failures over those expected in the whole city.

    Attributes:
        mean: Mean of each feature in training, after `transformed`, shape (f,).
        scale: Standard deviation, infinite for a feature that did not vary, shape (f,).
        coefficient: Of the intercept and of each standardised feature, shape (1 + f,).
    """

    mean: np.ndarray
    scale: np.ndarray
    coefficient: np.ndarray

    def contributions(self, values: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
        """Return what each feature adds to the log of expected failures, shape of `values`."""
        return self.standardised(transformed(values, names)) * self.coefficient[1:]

    def standardised(self, features: np.ndarray) -> np.ndarray:
        """Return features in standard deviations from their mean; unknown ones are at the mean."""
        return np.nan_to_num((features - self.mean) / self.scale)

    def expected(self, panel: Panel, origin: int) -> np.ndarray:
        """Return expected failures of each unit in the horizon of a forecast time, 0 for units not there."""
        added = self.contributions(panel.values[origin], panel.feature_names).sum(axis=1)
        return rounded(
            np.where(
                panel.is_in[origin], np.exp(city_level(panel, origin) + self.coefficient[0] + added), 0.0
            )
        )


def transformed(values: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Return features as the regression takes them: counts and lengths by their logarithm."""
    is_linear = np.array([name.startswith(("age_", "material ")) for name in names], bool)
    return np.where(is_linear, values, np.log1p(np.where(is_linear, 0, values))).astype(float)


def rounded(expected: np.ndarray) -> np.ndarray:
    """Return expected failures to 9 digits: the last ones of a product depend on how many threads made it."""
    return np.round(expected, 9)


def city_level(panel: Panel, origin: int) -> float:
    """Return the log of the failures expected in the whole city.

    Not of those per unit: where other places come to be known, a place expects no less.
    """
    return float(np.log(max(panel.expected_total[origin], 0.5)))


def train(panel: Panel, origin: int) -> Model | None:
    """Fit on forecast times whose horizon had ended at another one, by what was known then.

    Args:
        panel: All forecast times.
        origin: Number of the forecast time at which the model is wanted.

    Returns:
        The model, None where there is too little to learn from.
    """
    past, known = _learned_from(panel, origin)
    if len(past) < MIN_TRAINING_ORIGINS or known[past].sum() < MIN_TRAINING_FAILURES:
        return None
    is_in = panel.is_in[past]
    features = transformed(panel.values[past][is_in], panel.feature_names)
    offset = np.repeat([city_level(panel, one) for one in past], is_in.sum(axis=1))
    mean, scale = np.nanmean(features, axis=0), np.nanstd(features, axis=0)
    model = Model(mean, np.where(scale > 1e-9, scale, np.inf), np.zeros(1 + features.shape[1]))
    design = np.column_stack([np.ones(len(features)), model.standardised(features)])
    return Model(model.mean, model.scale, fit_poisson(design, offset, known[past][is_in]))


def expected_by_count(panel: Panel, origin: int, count: np.ndarray) -> np.ndarray:
    """Return expected failures of each unit at a forecast time by one count of past failures alone.

    A regression on the logarithm of one plus the count, trained as the model is, so that failures of a year
    are not taken for those of the next: where few failed by chance, most do not fail again.

    Args:
        panel: All forecast times.
        origin: Number of the one that is asked about.
        count: Past failures as known at each forecast time, shape (m, n).
    """
    past, known = _learned_from(panel, origin)
    if len(past) < MIN_TRAINING_ORIGINS or not panel.is_in[past].any():
        return np.where(panel.is_in[origin], count[origin] * (panel.horizon_days / YEAR_DAYS), 0.0)
    is_in = panel.is_in[past]
    # Units of one count at one forecast time are alike: a row for each such group is enough.
    most = int(count.max()) + 1
    group = (np.arange(len(past))[:, None] * most + count[past].astype(int))[is_in]
    n, failed = np.bincount(group), np.bincount(group, known[past][is_in])
    at = np.flatnonzero(n)
    offset = np.array([city_level(panel, one) for one in past])[at // most] + np.log(n[at])
    design = np.column_stack([np.ones(len(at)), np.log1p(at % most)])
    fitted = fit_poisson(design, offset, failed[at])
    added = fitted[0] + fitted[1] * np.log1p(count[origin])
    return rounded(np.where(panel.is_in[origin], np.exp(city_level(panel, origin) + added), 0.0))


def _learned_from(panel: Panel, origin: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the forecast times that one learns from, and failures (m, n) as known at that one."""
    known = panel.failures(known_by=int(panel.origin_day[origin]))
    past = panel.before(origin)
    rows = panel.is_in[past][::-1].sum(axis=1).cumsum()
    n_kept = max(int((rows <= MAX_TRAINING_ROWS).sum()), MIN_TRAINING_ORIGINS)
    return past[max(len(past) - n_kept, 0) :], known


def fit_poisson(
    design: np.ndarray, offset: np.ndarray, count: np.ndarray, ridge: float = RIDGE
) -> np.ndarray:
    """Return the coefficients of a penalised Poisson regression, by Newton's method with halved steps.

    Args:
        design: Intercept (not penalised) and standardised features, shape (rows, 1 + f).
        offset: Logarithm of what is expected without features, shape (rows,).
        count: Observed counts, shape (rows,).
        ridge: Weight of the penalty.
    """
    penalty = np.full(design.shape[1], ridge)
    penalty[0] = 0.0
    blocks = _in_blocks(design)

    def linear(coefficient: np.ndarray) -> np.ndarray:
        return np.minimum(offset + np.einsum("ij,j->i", design, coefficient), 30.0)

    def loss(coefficient: np.ndarray) -> float:
        at = linear(coefficient)
        return float(np.exp(at).sum() - (count * at).sum() + (penalty * coefficient**2).sum() / 2)

    coefficient = np.zeros(design.shape[1])
    coefficient[0] = np.log(max(count.sum(), 0.5) / np.exp(offset).sum())
    current = loss(coefficient)
    for _ in range(MAX_STEPS):
        expected = np.exp(linear(coefficient))
        gradient = np.einsum("ij,i->j", design, count - expected) - penalty * coefficient
        weighted = blocks * _in_blocks(expected[:, None])
        curvature = np.matmul(weighted.transpose(0, 2, 1), blocks).sum(axis=0) + np.diag(penalty + 1e-9)
        step = np.linalg.solve(curvature, gradient)
        while (following := loss(coefficient + step)) > current and np.abs(step).max() > 1e-7:
            step = step / 2
        coefficient, improved = coefficient + step, current - following
        current = following
        if improved < 1e-6 * (1 + abs(current)):
            break
    return coefficient


def _in_blocks(rows: np.ndarray) -> np.ndarray:
    """Return rows in blocks, shape (blocks, BLOCK_ROWS, columns), the last filled up with zeros."""
    filled = np.zeros((-len(rows) % BLOCK_ROWS, rows.shape[1]))
    return np.concatenate([rows, filled]).reshape(-1, BLOCK_ROWS, rows.shape[1])
