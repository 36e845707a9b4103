"""Where and when things happen on a bare plane: one intensity shared by all types, and near repeats.

What acts on what, and what of it is reported, belongs to `scenarios`.
"""

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from assets.simulate.chance import pick, stream

#: Side of the squares within which the static density is even.
_GRAIN_M = 50
_DRIFT_SIDE_M, _DRIFT_DAYS = 1_000, 70.0
_SHOCK_SIDE_M, _SHOCK_DAYS = 250, 20.0
_HOT_SPOTS_PER_KM2 = 100 / 225
#: With these, unrelated types look 2.1 times as frequent near each other as an even city would make them.
_HOT_SHARE = 0.63
_SEASON = 0.35
_WEEKDAYS = np.array([1.0, 0.95, 0.95, 1.0, 1.1, 1.2, 0.8])
_STORMS_PER_DAY, _STORM_LEVEL = 6 / 365, 2.5
#: Children per event, how far and how long after it: most near repeats lie within 200 m and two weeks.
_CHILDREN, _CHILD_SD_M, _CHILD_DAYS = 0.20, 75.0, 7.0


@dataclass(frozen=True)
class Points:
    """Events of one type; equally long arrays.

    Attributes:
        x_m: Metres east of the city's corner, float64.
        y_m: Metres north of it.
        day: Day counted from the first, int64.
    """

    x_m: np.ndarray
    y_m: np.ndarray
    day: np.ndarray

    @property
    def size(self) -> int:
        """Number of events."""
        return self.day.size

    def take(self, rows: np.ndarray) -> "Points":
        """Return the events that `rows` (a mask or row numbers) selects."""
        return Points(self.x_m[rows], self.y_m[rows], self.day[rows])

    def joined(self, *others: "Points") -> "Points":
        """Return these events and then the others'."""
        parts = (self, *others)
        return Points(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("x_m", "y_m", "day")))


class ActivityField:
    """Static hot spots x season x weekday x storm days x AR(1) drift of squares of 1 km (and of 250 m)."""

    def __init__(self, seed: int, *, side_km: int, days: int, drift_sd: float, shock_sd: float):
        """Draw the field of one city.

        Args:
            seed: The city's seed.
            side_km: Side of the square city.
            days: Length of the period.
            drift_sd: Standard deviation of the log drift of 1-km squares; remembered for 70 days.
            shock_sd: The same for 250-m squares, remembered for 20 days; 0 leaves them out.
        """
        self.side_m, self.days = 1_000 * side_km, days
        density = _hot_spots(stream(seed, "hot spots"), self.side_m)
        block_side_m = _SHOCK_SIDE_M if shock_sd else _DRIFT_SIDE_M
        self._grain_x, self._grain_y, ordered = _by_block(density, block_side_m)
        self._cumulative = np.concatenate([[0.0], np.cumsum(ordered)])
        self._grains_per_block = (block_side_m // _GRAIN_M) ** 2
        mass = np.diff(self._cumulative[:: self._grains_per_block])
        log_level = drift(stream(seed, "drift"), side_km**2, days, drift_sd, _DRIFT_DAYS)
        if shock_sd:
            shocks = drift(stream(seed, "shocks"), mass.size, days, shock_sd, _SHOCK_DAYS)
            log_level = shocks + log_level[_square_of_each_shock(side_km)]
        self._of_block_day = np.cumsum(
            mass[:, None] * _daily_level(stream(seed, "storms"), days) * np.exp(log_level)
        )

    def draw(self, rng: np.random.Generator, expected: float) -> Points:
        """Return a Poisson number of events, in no order."""
        count = rng.poisson(expected)
        total = self._of_block_day[-1]
        at = np.searchsorted(self._of_block_day, rng.random(count) * total, side="right")
        block, day = np.divmod(at.clip(max=self._of_block_day.size - 1), self.days)
        first = block * self._grains_per_block
        start, end = self._cumulative[first], self._cumulative[first + self._grains_per_block]
        mass = start + rng.random(count) * (end - start)
        grain = np.searchsorted(self._cumulative, mass, side="right") - 1
        grain = grain.clip(first, first + self._grains_per_block - 1)
        x, y = ((corner[grain] + rng.random(count)) * _GRAIN_M for corner in (self._grain_x, self._grain_y))
        return Points(x, y, day)

    def draw_with_near_repeats(self, rng: np.random.Generator, expected: float) -> Points:
        """Return events of which each brings about a Poisson number of others near it, and so on.

        Children beyond the city or its last day are lost, so slightly fewer than expected are returned.
        """
        generation = self.draw(rng, expected * (1 - _CHILDREN))
        generations = [generation]
        while generation.size:
            parent = np.repeat(np.arange(generation.size), rng.poisson(_CHILDREN, generation.size))
            generation = self.within(
                Points(
                    generation.x_m[parent] + rng.normal(0, _CHILD_SD_M, parent.size),
                    generation.y_m[parent] + rng.normal(0, _CHILD_SD_M, parent.size),
                    generation.day[parent] + np.ceil(rng.exponential(_CHILD_DAYS, parent.size)).astype(int),
                )
            )
            generations.append(generation)
        return generations[0].joined(*generations[1:])

    def within(self, points: Points) -> Points:
        """Return the events that lie in the city and before its period ends."""
        is_in = (points.x_m >= 0) & (points.x_m < self.side_m) & (points.y_m >= 0)
        return points.take(is_in & (points.y_m < self.side_m) & (points.day < self.days))


def _hot_spots(rng: np.random.Generator, side_m: int) -> np.ndarray:
    """Return a density over the grain squares (east, north) that sums to 1; a part of it lies evenly."""
    count = round(_HOT_SPOTS_PER_KM2 * (side_m / 1_000) ** 2)
    centres = rng.uniform(0, side_m, (2, count, 1))
    widths = rng.uniform(200, 700, (count, 1))
    weights = rng.lognormal(0, 0.5, (count, 1))
    middles = np.arange(_GRAIN_M / 2, side_m, _GRAIN_M)
    east, north = np.exp(-0.5 * ((middles - centres) / widths) ** 2)
    hot = (weights / widths**2 * east).T @ north
    return _HOT_SHARE * hot / hot.sum() + (1 - _HOT_SHARE) / hot.size


def _by_block(density: np.ndarray, block_side_m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return column, row and density of the grain squares, those of one block after those of another."""
    grains = block_side_m // _GRAIN_M
    blocks = density.shape[0] // grains
    at = np.arange(density.size).reshape(blocks, grains, blocks, grains).transpose(0, 2, 1, 3).reshape(-1)
    column, row = np.divmod(at, density.shape[0])
    return column, row, density.reshape(-1)[at]


def _square_of_each_shock(side_km: int) -> np.ndarray:
    """Return for each 250-m square the number of the 1-km square around it."""
    per_km = _DRIFT_SIDE_M // _SHOCK_SIDE_M
    column, row = np.divmod(np.arange((side_km * per_km) ** 2), side_km * per_km)
    return column // per_km * side_km + row // per_km


def drift(rng: np.random.Generator, squares: int, days: int, sd: float, memory_days: float) -> np.ndarray:
    """Return a stationary AR(1) of each square, shape (squares, days)."""
    if sd == 0:
        return np.zeros((squares, days))
    memory = np.exp(-1 / memory_days)
    shocks = rng.standard_normal((squares, days))
    shocks[:, 1:] *= np.sqrt(1 - memory**2)
    return sd * lfilter([1.0], [1.0, -memory], shocks, axis=1)


def _daily_level(rng: np.random.Generator, days: int) -> np.ndarray:
    day = np.arange(days)
    level = (1 + _SEASON * np.sin(2 * np.pi * day / 365.25)) * _WEEKDAYS[day % 7]
    storms = pick(rng, np.ones(days), round(_STORMS_PER_DAY * days))
    level[storms] *= _STORM_LEVEL
    return level
