"""Where and when things happen: one intensity shared by all types, near repeats, effects by thinning.

How cases are reported, worked and published belongs to `reporting` and the portal modules.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from assets.simulate.calendar import DAYS, daily_level, storm_strength
from assets.simulate.catalogue import EFFECTS, OCCURRENCES, Effect, Occurrence
from assets.simulate.chance import pick, stream
from assets.simulate.ground import KM_CELLS_PER_SIDE, SIDE_M, SOUTH_M, WEST_M, Ground

_DRIFT_SD, _DRIFT_DAYS = 0.35, 70.0


@dataclass(frozen=True)
class Happenings:
    """True events of one type; equally long arrays.

    Attributes:
        spot: Row of the ground's address points.
        x: Local metres, where it truly is (a light's pole, a point on a main, an address).
        y: The same.
        day: Day counted from the first.
        asset: Row of the light, main or segment it concerns, or -1.
    """

    spot: np.ndarray
    x: np.ndarray
    y: np.ndarray
    day: np.ndarray
    asset: np.ndarray

    @property
    def size(self) -> int:
        """Number of events."""
        return self.day.size

    def take(self, keep: np.ndarray) -> "Happenings":
        """Return the events that `keep` (a mask or rows) selects."""
        return Happenings(*(getattr(self, name)[keep] for name in ("spot", "x", "y", "day", "asset")))


@dataclass(frozen=True)
class Thinning:
    """How one effect came about: each candidate of the outcome, whether exposed, whether kept."""

    effect: Effect
    candidates: Happenings
    is_exposed: np.ndarray
    is_kept: np.ndarray


class Activity:
    """The intensity in which all types share hot spots, storms and slow local drift."""

    def __init__(self, ground: Ground, seed: int):
        """Draw hot spots, storms and the AR(1) drift of the 1 km cells."""
        self._ground = ground
        self._seed = seed
        self._common = _hot_spots(ground, stream(seed, "hot spots"), 30)
        self._cell_starts = np.searchsorted(ground.km_cell, np.arange(KM_CELLS_PER_SIDE**2 + 1))
        self.storms = storm_strength(stream(seed, "storms"))
        self._drift = _drift(stream(seed, "drift"))

    def candidates(self, occurrence: Occurrence, expected: float) -> tuple[np.ndarray, np.ndarray]:
        """Return address points and days of a Poisson number of events of a type."""
        rng = stream(self._seed, f"candidates {occurrence.event_type}")
        own = _hot_spots(self._ground, rng, 15)
        surface = occurrence.shared * self._common + (1 - occurrence.shared) * own
        surface = surface * self._hazard(occurrence.event_type)
        spot, day = self._draw(surface, daily_level(occurrence, self.storms), rng.poisson(expected), rng)
        return self._with_near_repeats(spot, day, occurrence.near_repeat, rng)

    def _hazard(self, event_type: str) -> np.ndarray | float:
        if event_type != "infra_main_break":
            return 1.0
        age = 2024 - self._ground.main_installed[self._ground.nearest_main]
        return 0.3 + (age / 60.0) ** 2

    def _draw(
        self, surface: np.ndarray, level: np.ndarray, count: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        # Cell and day first, then the address within its cell: the full table would be 90,000 x 731.
        cumulative = np.concatenate([[0.0], np.cumsum(surface)])
        start, end = cumulative[self._cell_starts[:-1]], cumulative[self._cell_starts[1:]]
        cell, day = np.divmod(pick(rng, (end - start)[:, None] * level[None, :] * self._drift, count), DAYS)
        mass = start[cell] + rng.random(count) * (end[cell] - start[cell])
        spot = np.searchsorted(cumulative, mass, side="right") - 1
        return spot.clip(self._cell_starts[cell], self._cell_starts[cell + 1] - 1), day

    def _with_near_repeats(
        self, spot: np.ndarray, day: np.ndarray, share: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        if share == 0 or spot.size == 0:
            return spot, day
        is_child = rng.random(spot.size) < share
        parent = rng.integers(0, spot.size, spot.size)
        angle, distance = rng.uniform(0, 2 * np.pi, spot.size), rng.gamma(1.5, 80, spot.size)
        x = (self._ground.x[spot[parent]] + distance * np.cos(angle)).clip(WEST_M + 1, WEST_M + SIDE_M - 1)
        y = (self._ground.y[spot[parent]] + distance * np.sin(angle)).clip(SOUTH_M + 1, SOUTH_M + SIDE_M - 1)
        near = cKDTree(np.column_stack([self._ground.x, self._ground.y])).query(
            np.column_stack([x, y])[is_child]
        )[1]
        later = day[parent] + np.ceil(rng.exponential(4.0, spot.size)).astype(int)
        child_spot, child_day = spot.copy(), np.where(is_child & (later < DAYS), later, day)
        child_spot[is_child] = near
        return np.where(child_day == day, spot, child_spot), child_day


def happen(ground: Ground, seed: int, scale: float) -> tuple[dict[str, Happenings], list[Thinning], Activity]:
    """Return the true events of every type, how each effect was planted, and the shared activity.

    Args:
        ground: The ground they happen on.
        seed: The city's seed.
        scale: Multiplies every volume.
    """
    activity = Activity(ground, seed)
    happenings: dict[str, Happenings] = {}
    thinnings: list[Thinning] = []
    for occurrence in causes_first(OCCURRENCES):
        effect = next((effect for effect in EFFECTS if effect.outcome == occurrence.event_type), None)
        ceiling = effect.rate_ratio if effect else 1.0
        spot, day = activity.candidates(occurrence, occurrence.volume * scale * ceiling)
        events = _placed(
            ground, occurrence.event_type, spot, day, stream(seed, f"place {occurrence.event_type}")
        )
        if effect:
            chance = stream(seed, f"thinning {occurrence.event_type}").random(events.size)
            is_exposed = exposed(events, happenings[effect.cause], effect)
            is_kept = chance * ceiling < np.where(is_exposed, effect.rate_ratio, 1.0)
            thinnings.append(Thinning(effect, events, is_exposed, is_kept))
            events = events.take(is_kept)
        happenings[occurrence.event_type] = events
    return happenings, thinnings, activity


def exposed(events: Happenings, causes: Happenings, effect: Effect) -> np.ndarray:
    """Return whether each event lies within the disc and the days after some cause."""
    is_exposed = np.zeros(events.size, dtype=bool)
    if events.size == 0 or causes.size == 0:
        return is_exposed
    pairs = cKDTree(np.column_stack([events.x, events.y])).sparse_distance_matrix(
        cKDTree(np.column_stack([causes.x, causes.y])), effect.radius_m, output_type="ndarray"
    )
    lag = events.day[pairs["i"]] - causes.day[pairs["j"]]
    is_exposed[pairs["i"][(lag >= effect.first_day) & (lag <= effect.last_day)]] = True
    return is_exposed


def causes_first(occurrences: Sequence[Occurrence]) -> list[Occurrence]:
    """Return the occurrences with those that an effect acts on last; no outcome is itself a cause."""
    outcomes = {effect.outcome for effect in EFFECTS}
    return sorted(occurrences, key=lambda occurrence: occurrence.event_type in outcomes)


def _placed(
    ground: Ground, event_type: str, spot: np.ndarray, day: np.ndarray, rng: np.random.Generator
) -> Happenings:
    x, y, asset = ground.x[spot], ground.y[spot], np.full(spot.size, -1)
    if event_type == "streetlight_outage":
        asset = ground.nearest_light[spot]
        x, y = ground.light_x[asset], ground.light_y[asset]
    elif event_type == "pothole":
        asset = ground.nearest_segment[spot]
        x, y = ground.segments.along(asset, _share_along(ground.segments, asset, x, y))
        x, y = x + rng.normal(0, 2.5, x.size), y + rng.normal(0, 2.5, y.size)
    elif event_type == "infra_main_break":
        asset = ground.nearest_main[spot]
        x, y = ground.mains.along(asset, _share_along(ground.mains, asset, x, y))
    return Happenings(spot=spot, x=x, y=y, day=day, asset=asset)


def _share_along(lines: object, index: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    dx, dy = lines.x2[index] - lines.x1[index], lines.y2[index] - lines.y1[index]
    return (((x - lines.x1[index]) * dx + (y - lines.y1[index]) * dy) / (dx * dx + dy * dy)).clip(0.01, 0.99)


def _hot_spots(ground: Ground, rng: np.random.Generator, count: int) -> np.ndarray:
    """Return a density over the address points that sums to 1; 45 % of it lies evenly."""
    density = np.zeros(ground.x.size)
    centres = rng.uniform((WEST_M, SOUTH_M), (WEST_M + SIDE_M, SOUTH_M + SIDE_M), (count, 2))
    widths, weights = rng.uniform(250, 1_100, count), rng.lognormal(0, 0.6, count)
    for (x, y), width, weight in zip(centres, widths, weights, strict=True):
        bump = np.exp(-((ground.x - x) ** 2 + (ground.y - y) ** 2) / (2 * width**2))
        density += weight * bump / bump.sum()
    return 0.45 / density.size + 0.55 * density / density.sum()


def _drift(rng: np.random.Generator) -> np.ndarray:
    """Return the factor of each 1 km cell and day: exp of a stationary AR(1), with mean 1."""
    memory = np.exp(-1 / _DRIFT_DAYS)
    shocks = rng.normal(0, _DRIFT_SD, (KM_CELLS_PER_SIDE**2, DAYS))
    level = np.empty_like(shocks)
    level[:, 0] = shocks[:, 0]
    for day in range(1, DAYS):
        level[:, day] = memory * level[:, day - 1] + np.sqrt(1 - memory**2) * shocks[:, day]
    return np.exp(level - _DRIFT_SD**2 / 2)
