"""Looks back on an outlook: what would have been picked at past forecast times, against what failed then.

The regression is in `outlook_model`, words and tables in `outlook_tables`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from assets.correlate.outlook_model import Model, expected_by_count, train
from assets.correlate.outlook_panel import Panel
from assets.correlate.ratios import known

#: The model, the failures of the last 365 days (the yardstick), and all failures known.
METHODS = ("model", "heuristic", "past_count")
#: How many units are picked: one in a hundred, and as many as a crew can visit.
PICKS = ("share", "crew")
PICKED_SHARE = 0.01
STRATA = ("slow", "middle", "fast")
BOOTSTRAP_DRAWS = 1_000
#: A share of draws without a value beyond which no interval is told.
MAX_UNDEFINED = 0.025
#: With fewer failures in the periods looked back upon no method can be told from another.
MIN_FAILURES = 20


@dataclass(frozen=True)
class Scores:
    """What a method says of each unit at one forecast time: what it ranks by, and failures expected."""

    rank_by: tuple[np.ndarray, ...]
    expected: np.ndarray

    def order(self, is_in: np.ndarray) -> np.ndarray:
        """Return the units that are there, best first; ties by their number, which follows no place."""
        units = np.flatnonzero(is_in)
        keys = [-score[units] for score in self.rank_by]
        return units[np.lexsort((units, *reversed(keys)))]


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval by resampling units; None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a method's picks did, at one forecast time or over all; see mart_outlook_backtests."""

    origin_day: int | None
    part: str
    method: str
    picked: str
    k: float
    n_origin: int
    n_unit: int
    n_failure: int
    n_failure_in_units: int
    n_caught: int
    precision: Interval
    recall: Interval
    base_rate: float | None
    lift: Interval
    gain_over_heuristic: Interval
    lift_over_heuristic: Interval
    lift_over_past_count: Interval
    pai: float | None
    pei: float | None
    expected_failures: float
    calibration_ratio: float | None

    @property
    def heuristic_precision(self) -> float:
        """Precision of the heuristic for the same number of picks."""
        return (self.precision.value or 0.0) - (self.gain_over_heuristic.value or 0.0)


@dataclass(frozen=True)
class Decile:
    """Failures expected and observed in a tenth of the units by a method's rank; 1 is the highest."""

    method: str
    decile: int
    n_unit: int
    expected: float
    observed: int


@dataclass(frozen=True)
class Backtest:
    """All looks back on a panel, and whether the model may be shipped."""

    looks: list[Look]
    deciles: list[Decile]
    is_passed: bool


@dataclass(frozen=True)
class _Period:
    """The forecast times looked back upon: what was there, failed and was picked, each (t, n)."""

    origin: np.ndarray
    is_in: np.ndarray
    failures: np.ndarray
    in_all: np.ndarray
    picks: dict[tuple[str, str], np.ndarray]
    expected: dict[str, np.ndarray]
    decile: dict[str, np.ndarray]


def method_scores(panel: Panel, origin: int, model: Model | None) -> dict[str, Scores]:
    """Return the scores of every method at a forecast time; without a model those of the counts."""
    year, in_all = panel.n_year, panel.n_year + panel.n_earlier
    scores = {
        # Ties of the last year by what came before, else most of the list would be drawn by lot.
        "heuristic": Scores((year[origin], in_all[origin]), expected_by_count(panel, origin, year)),
        "past_count": Scores((in_all[origin], year[origin]), expected_by_count(panel, origin, in_all)),
    }
    if model is not None:
        expected = model.expected(panel, origin)
        scores["model"] = Scores((expected,), expected)
    return scores


def backtest(panel: Panel, since_day: int | None = None) -> Backtest:
    """Look back on every forecast time at which a model could be trained on what was known then.

    Args:
        panel: All forecast times; those before are trained on.
        since_day: Forecast times before it are not looked back upon.
    """
    period = _period(panel, since_day)
    if period is None:
        return Backtest([], [], False)
    looks = list(_looks(panel, period))
    return Backtest(looks, list(_deciles(period)), is_passed(looks))


def is_passed(looks: list[Look]) -> bool:
    """Return whether the model's picks were better than the heuristic's, whatever the number picked.

    The gate: over all periods, which no training saw, the lower end of the interval of the gain in precision
    lies over 0 for each number of picks.
    """
    gated = [look for look in pooled_model_looks(looks) if look.n_failure >= MIN_FAILURES]
    return len(gated) == len(PICKS) and all((look.gain_over_heuristic.low or 0) > 0 for look in gated)


def pooled_model_looks(looks: list[Look]) -> list[Look]:
    """Return how the model did over all periods, for each number of picks."""
    return [
        look for look in looks if look.origin_day is None and look.part == "all" and look.method == "model"
    ]


def _period(panel: Panel, since_day: int | None) -> _Period | None:
    origins, scores = [], []
    first = 0 if since_day is None else int(np.searchsorted(panel.origin_day, since_day))
    for origin in range(first, panel.newest):
        model = train(panel, origin)
        if model is not None:
            origins.append(origin)
            scores.append(method_scores(panel, origin, model))
    if not origins:
        return None
    at = np.array(origins)
    is_in = panel.is_in[at]
    orders = {
        method: [each[method].order(there) for each, there in zip(scores, is_in, strict=True)]
        for method in METHODS
    }
    picks, decile = {}, {}
    for method, of_method in orders.items():
        decile[method] = np.zeros(is_in.shape, int)
        for t, order in enumerate(of_method):
            decile[method][t, order] = np.arange(len(order)) * 10 // len(order) + 1
        for picked in PICKS:
            picks[method, picked] = np.zeros(is_in.shape, bool)
            for t, order in enumerate(of_method):
                picks[method, picked][t, order[: n_picked(panel, picked, len(order))]] = True
    return _Period(
        origin=at,
        is_in=is_in,
        failures=panel.failures()[at],
        in_all=panel.failures_in_all()[at],
        picks=picks,
        expected={method: np.array([each[method].expected for each in scores]) * is_in for method in METHODS},
        decile=decile,
    )


def n_picked(panel: Panel, picked: str, n_unit: int) -> int:
    """Return how many of the units are picked."""
    if picked == "crew":
        return min(panel.crew_units, n_unit)
    return max(1, round(PICKED_SHARE * n_unit))


def _looks(panel: Panel, period: _Period) -> Iterator[Look]:
    used = (period.failures > 0).any(axis=0)
    for picks in period.picks.values():
        used |= picks.any(axis=0)
    units = np.flatnonzero(used)
    # A Poisson weight of mean 1 for each unit is a draw with replacement; a fixed seed, so that a second
    # build tells the same. The first row is the figure itself.
    weights = np.random.default_rng(6).poisson(1.0, (1 + BOOTSTRAP_DRAWS, len(units))).astype(np.float32)
    weights[0] = 1.0
    drawn = _Drawn(units, weights)
    yield from _look(panel, period, drawn, None, "all")
    for stratum in STRATA:
        inside = panel.stratum == stratum
        if inside.any():
            yield from _look(panel, _within(period, inside), drawn, None, stratum)
    for t, origin in enumerate(period.origin):
        yield from _look(panel, _at(period, t), drawn, int(panel.origin_day[origin]), "all")


def _within(period: _Period, inside: np.ndarray) -> _Period:
    """Return the period as its units of one stratum see it; failures in no unit are in no stratum."""
    failures = period.failures * inside
    return _Period(
        origin=period.origin,
        is_in=period.is_in & inside,
        failures=failures,
        in_all=failures.sum(axis=1),
        picks={key: picks & inside for key, picks in period.picks.items()},
        expected={method: expected * inside for method, expected in period.expected.items()},
        decile=period.decile,
    )


def _at(period: _Period, t: int) -> _Period:
    """Return the period as one forecast time."""
    return _Period(
        origin=period.origin[[t]],
        is_in=period.is_in[[t]],
        failures=period.failures[[t]],
        in_all=period.in_all[[t]],
        picks={key: picks[[t]] for key, picks in period.picks.items()},
        expected={method: expected[[t]] for method, expected in period.expected.items()},
        decile={method: decile[[t]] for method, decile in period.decile.items()},
    )


@dataclass(frozen=True)
class _Drawn:
    """Units with their weights in each draw, shape (1 + draws, units), of which the first is as they are."""

    units: np.ndarray
    weights: np.ndarray

    def sums(self, *of_units: np.ndarray) -> np.ndarray:
        """Return the sums of (t, n) arrays as they are and as drawn, shape (arrays, 1 + draws)."""
        by_unit = np.column_stack([each[:, self.units].sum(axis=0) for each in of_units])
        return (self.weights @ by_unit.astype(np.float32)).T.astype(float)


def _look(panel: Panel, period: _Period, drawn: _Drawn, origin_day: int | None, part: str) -> Iterator[Look]:
    is_in, failures, failed = period.is_in, period.failures, period.failures > 0
    n_failure, n_unit = period.in_all.sum(), is_in.sum()
    there, failing, failed_units = drawn.sums(is_in, failures, failed)
    # Units that never failed and were never picked count in the base rate only, where they are many.
    base = _ratio(failed_units, there + n_unit - is_in[:, drawn.units].sum())
    failing = failing + n_failure - failures.sum()
    keys = list(period.picks)
    sums = drawn.sums(
        *(part for key in keys for part in _of_picks(period.picks[key], failures, failed))
    ).reshape(len(keys), 3, -1)
    precision = {key: _ratio(hits, taken) for key, (hits, taken, _) in zip(keys, sums, strict=True)}
    size = panel.size * is_in
    for (method, picked), (_, _, caught) in zip(keys, sums, strict=True):
        picks = period.picks[method, picked]
        mine, k = precision[method, picked], picks.sum(axis=1)
        best = sum(-np.sort(-row)[:n].sum() for row, n in zip(failures, k, strict=True))
        expected = period.expected[method].sum()
        yield Look(
            origin_day=origin_day,
            part=part,
            method=method,
            picked=picked,
            k=float(k.mean()),
            n_origin=len(period.origin),
            n_unit=round(n_unit / len(period.origin)),
            n_failure=int(n_failure),
            n_failure_in_units=int(failures.sum()),
            n_caught=int(caught[0]),
            precision=_interval(mine),
            recall=_interval(_ratio(caught, failing)),
            base_rate=known(base[0]),
            lift=_interval(_ratio(mine, base)),
            gain_over_heuristic=_interval(mine - precision["heuristic", picked]),
            lift_over_heuristic=_interval(_ratio(mine, precision["heuristic", picked])),
            lift_over_past_count=_interval(_ratio(mine, precision["past_count", picked])),
            pai=_quotient(caught[0] * size.sum(), n_failure * (size * picks).sum()),
            pei=_quotient(caught[0], best),
            expected_failures=float(expected),
            calibration_ratio=_quotient(expected, failures.sum()),
        )


def _of_picks(picks: np.ndarray, failures: np.ndarray, failed: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return picks that failed, picks, and failures in them."""
    return failed & picks, picks, failures * picks


def _deciles(period: _Period) -> Iterator[Decile]:
    for method in METHODS:
        for decile in range(1, 11):
            inside = period.decile[method] == decile
            yield Decile(
                method=method,
                decile=decile,
                n_unit=int(inside.sum()),
                expected=float(period.expected[method][inside].sum()),
                observed=int(period.failures[inside].sum()),
            )


def _ratio(num: np.ndarray, den: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(den > 0, num / den, np.nan)


def _quotient(num: float, den: float) -> float | None:
    return float(num / den) if den > 0 else None


def _interval(drawn: np.ndarray) -> Interval:
    draws = drawn[1:]
    if not np.isfinite(drawn[0]) or np.isnan(draws).mean() > MAX_UNDEFINED:
        return Interval(known(drawn[0]), None, None)
    low, high = np.nanquantile(draws, (0.025, 0.975))
    return Interval(known(drawn[0]), known(low), known(high))
