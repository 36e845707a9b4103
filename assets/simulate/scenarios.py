"""Cities with known effects for the test of the correlation engine: what acts on what, and what is reported.

A city is a table of reports and nothing else; its truth is told by `truth`, apart from it. The intensity is
`activity_field`'s. The simulated city with portals, agencies and cases is made elsewhere, by `city`.
"""

from dataclasses import dataclass

import numpy as np

from assets.simulate.activity_field import ActivityField, Points
from assets.simulate.chance import stream
from assets.simulate.exposure import exposed

Pair = tuple[str, str]

SIGNALS = ("light_out", "pothole", "garbage", "noise", "graffiti", "abandoned_vehicle")
EPISODES = 6_000
#: Events of each outcome before effects.
OUTCOMES = {
    "theft": 60_000,
    "battery": 40_000,
    "rodent": 30_000,
    "vandalism": 25_000,
    "burglary": 17_000,
    "main_break": 3_000,
}
#: An effect acts on a type that comes after its cause.
KINDS = ("battery", *SIGNALS, *(outcome for outcome in OUTCOMES if outcome != "battery"))
SIDE_KM, DAYS = 15, 730
RADIUS_M, WINDOW_DAYS = 100.0, 14

_REPEATED, _REPEAT_SD_M, _REPEAT_DAYS = 0.35, 10.0, 10
#: Kinds that residents report by the city's app; police and crews record the others.
_BY_APP = (*SIGNALS, "rodent", "vandalism")
#: With the app three times as many of a district's cases are reported.
_APP_LIFT, _APP_SIDE_M = 3.0, 5_000
#: Signals of the large city against the scenarios', at the same density of outcomes.
_LARGE_CITY_SIGNALS = 2.7


@dataclass(frozen=True)
class Effect:
    """A true episode multiplies the intensity of an outcome nearby, 1..14 days after.

    However many episodes are near, the factor is one of the two: the marginal rate ratio is exact.

    Attributes:
        cause: Kind of the episode.
        outcome: Kind whose intensity it multiplies.
        disc_ratio: Factor within 100 m of an episode.
        ring_ratio: Factor from 100 m to 200 m of one and within 100 m of none.
    """

    cause: str
    outcome: str
    disc_ratio: float
    ring_ratio: float = 1.0


PRECURSORS = (
    Effect("light_out", "theft", 1.23),
    Effect("garbage", "rodent", 1.5),
    Effect("pothole", "main_break", 2.0),
)
#: The trap: the signal follows the outcome.
REVERSE = Effect("battery", "noise", 1.8)
#: Thefts that leave the dark street for the next one.
DISPLACING = (Effect("light_out", "theft", 0.8, ring_ratio=1.2), *PRECURSORS[1:])


@dataclass(frozen=True)
class Scenario:
    """What a city has beside hot spots, season, weekdays, storm days, near repeats and repeated reports.

    Attributes:
        drift_sd: Of the log activity of 1-km squares, which drifts over 70 days.
        shock_sd: Of the log activity of 250-m squares.
        signal_density: Episodes against the usual 6,000 of each signal.
        delay_days: Mean days from an episode to its first report.
        precursors: Effects of signals on outcomes.
        has_app: Whether residents of one district get an app one day, and report more from then on.
    """

    drift_sd: float = 0.35
    shock_sd: float = 0.0
    signal_density: float = 1.0
    delay_days: float = 0.0
    precursors: tuple[Effect, ...] = PRECURSORS
    has_app: bool = False


#: Shocks of this size raise the naive ratio of unrelated types from 2.06 to 2.23: by exp(0.28 ** 2).
_SHOCK_SD = 0.28
SCENARIOS = {
    "S0": Scenario(drift_sd=0.0),
    "S1": Scenario(),
    "S2": Scenario(shock_sd=_SHOCK_SD),
    "D1": Scenario(signal_density=3.5),
    "D2": Scenario(signal_density=3.5, shock_sd=_SHOCK_SD),
    "S3": Scenario(shock_sd=_SHOCK_SD, delay_days=3.0),
    "D3": Scenario(signal_density=3.5, shock_sd=_SHOCK_SD, delay_days=3.0),
    "step": Scenario(has_app=True),
    "displacement": Scenario(precursors=DISPLACING),
}


@dataclass(frozen=True)
class City:
    """Reports of one city, ordered by kind; equally long arrays.

    Attributes:
        kind: Row of `KINDS`, int8.
        x_m: Metres east of the city's corner.
        y_m: Metres north of it.
        day: Day counted from the first.
        side_m: Side of the square city.
        days: Length of the period.
    """

    kind: np.ndarray
    x_m: np.ndarray
    y_m: np.ndarray
    day: np.ndarray
    side_m: int
    days: int

    def reports(self, kind: str) -> Points:
        """Return the reports of one kind."""
        rows = slice(*np.searchsorted(self.kind, [KINDS.index(kind), KINDS.index(kind) + 1]))
        return Points(self.x_m[rows], self.y_m[rows], self.day[rows])


@dataclass(frozen=True)
class Truth:
    """What holds in a scenario for each pair of a signal and an outcome.

    Attributes:
        planted: Rate ratio within 100 m and 1..14 days after an episode, of the pairs with an effect.
        displaced: Rate ratio from 100 m to 200 m, of those that have one there.
        reverse: The pair whose signal follows its outcome.
        null: All other pairs.
    """

    planted: dict[Pair, float]
    displaced: dict[Pair, float]
    reverse: Pair
    null: tuple[Pair, ...]


def scenario(name: str, seed: int) -> City:
    """Return the reports of one city of a scenario.

    Raises:
        KeyError: No scenario has the name.
    """
    return _city(SCENARIOS[name], seed, side_km=SIDE_KM, days=DAYS, volume=1.0)


def large_city(events: int, seed: int, *, days: int = DAYS) -> City:
    """Return a city of about so many reports, for measurements of speed.

    Its area grows with the events and shrinks with the days; the densities stay: of outcomes that of `S1`,
    of signals 2.7 times that. Hot spots, squares and H3 cells grow with the area, storm days with the days.
    1.04 million events in two years are 335,000 episodes on 28 x 28 km; 10.6 million in five years are
    3.4 million on 56 x 56 km.

    Args:
        events: Expected number of reports, repeated ones included; effects add 2 %.
        seed: The city's seed.
        days: Length of the period.
    """
    recipe = Scenario(signal_density=_LARGE_CITY_SIGNALS)
    signals = len(SIGNALS) * EPISODES * recipe.signal_density
    volume = events / (signals * (1 + _REPEATED) + sum(OUTCOMES.values()))
    side_km = round(SIDE_KM * np.sqrt(volume * DAYS / days))
    return _city(recipe, seed, side_km=side_km, days=days, volume=volume)


def truth(name: str) -> Truth:
    """Return what was planted in a scenario; the same for every seed.

    Raises:
        KeyError: No scenario has the name.
    """
    effects = SCENARIOS[name].precursors
    planted = {(effect.cause, effect.outcome): effect.disc_ratio for effect in effects}
    reverse = (REVERSE.outcome, REVERSE.cause)
    pairs = [(signal, outcome) for signal in SIGNALS for outcome in OUTCOMES]
    return Truth(
        planted=planted,
        displaced={(e.cause, e.outcome): e.ring_ratio for e in effects if e.ring_ratio != 1},
        reverse=reverse,
        null=tuple(pair for pair in pairs if pair not in planted and pair != reverse),
    )


def happen(recipe: Scenario, seed: int, field: ActivityField, volume: float) -> dict[str, Points]:
    """Return the true events of every kind.

    Args:
        recipe: The scenario.
        seed: The city's seed.
        field: Where and when things happen.
        volume: Multiplies the number of events of every kind.
    """
    happened: dict[str, Points] = {}
    effects = {effect.outcome: effect for effect in (*recipe.precursors, REVERSE)}
    for kind in KINDS:
        rng = stream(seed, f"events {kind}")
        effect = effects.get(kind)
        strongest = max(1.0, effect.disc_ratio, effect.ring_ratio) if effect else 1.0
        if kind in SIGNALS:
            events = field.draw(rng, EPISODES * recipe.signal_density * volume * strongest)
        else:
            events = field.draw_with_near_repeats(rng, OUTCOMES[kind] * volume * strongest)
        if effect:
            factor = _factor(effect, events, happened[effect.cause])
            events = events.take(rng.random(events.size) * strongest < factor)
        happened[kind] = events
    return happened


def report(
    recipe: Scenario, seed: int, field: ActivityField, happened: dict[str, Points]
) -> dict[str, Points]:
    """Return what is reported of the true events: late, repeatedly, or not at all."""
    return {kind: _reports(recipe, seed, field, kind, events) for kind, events in happened.items()}


def _city(recipe: Scenario, seed: int, *, side_km: int, days: int, volume: float) -> City:
    field = ActivityField(
        seed, side_km=side_km, days=days, drift_sd=recipe.drift_sd, shock_sd=recipe.shock_sd
    )
    reports = report(recipe, seed, field, happen(recipe, seed, field, volume))
    found = [reports[kind] for kind in KINDS]
    together = found[0].joined(*found[1:])
    return City(
        kind=np.repeat(np.arange(len(KINDS), dtype=np.int8), [points.size for points in found]),
        x_m=together.x_m,
        y_m=together.y_m,
        day=together.day,
        side_m=field.side_m,
        days=days,
    )


def _factor(effect: Effect, events: Points, causes: Points) -> np.ndarray:
    """Return what multiplies the intensity at each event."""
    factor = np.ones(events.size)
    for radius_m, ratio in ((2 * RADIUS_M, effect.ring_ratio), (RADIUS_M, effect.disc_ratio)):
        if ratio != 1:
            near = exposed(events, causes, radius_m=radius_m, first_day=1, last_day=WINDOW_DAYS)
            factor[near] = ratio
    return factor


def _reports(recipe: Scenario, seed: int, field: ActivityField, kind: str, events: Points) -> Points:
    rng = stream(seed, f"reports {kind}")
    if recipe.has_app and kind in _BY_APP:
        events = events.take(_is_reported(seed, field, events, rng))
    if kind not in SIGNALS:
        return events
    if recipe.delay_days:
        # A geometric number of days, from 0.
        late = rng.geometric(1 / (1 + recipe.delay_days), events.size) - 1
        events = Points(events.x_m, events.y_m, events.day + late)
    again = events.take(rng.random(events.size) < _REPEATED)
    again = Points(
        again.x_m + rng.normal(0, _REPEAT_SD_M, again.size),
        again.y_m + rng.normal(0, _REPEAT_SD_M, again.size),
        again.day + rng.integers(0, _REPEAT_DAYS, again.size),
    )
    return field.within(events.joined(again))


def _is_reported(seed: int, field: ActivityField, events: Points, rng: np.random.Generator) -> np.ndarray:
    """Return whether each true event is reported, in a city one of whose districts gets an app one day."""
    west, south, first_day = district_of_app(seed, field)
    is_inside = (np.abs(events.x_m - west - _APP_SIDE_M / 2) < _APP_SIDE_M / 2) & (
        np.abs(events.y_m - south - _APP_SIDE_M / 2) < _APP_SIDE_M / 2
    )
    return ~is_inside | (events.day >= first_day) | (rng.random(events.size) < 1 / _APP_LIFT)


def district_of_app(seed: int, field: ActivityField) -> tuple[float, float, int]:
    """Return the western and southern edge in metres of the 5-km square that gets the app, and the day."""
    rng = stream(seed, "app")
    west, south = rng.uniform(0, field.side_m - _APP_SIDE_M, 2)
    return west, south, int(rng.integers(field.days // 4, 3 * field.days // 4))
