"""Cities with known effects: ratios are as planted, reports blur and nothing else, the same seed repeats."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.simulate.activity_field import ActivityField, Points, drift
from assets.simulate.exposure import exposed
from assets.simulate.scenarios import (
    DAYS,
    DISPLACING,
    KINDS,
    OUTCOMES,
    PRECURSORS,
    REVERSE,
    SCENARIOS,
    SIDE_KM,
    SIGNALS,
    Scenario,
    district_of_app,
    happen,
    large_city,
    report,
    scenario,
    truth,
)


def field_of(recipe: Scenario, seed: int, *, side_km: int = 5, days: int = 365) -> ActivityField:
    return ActivityField(seed, side_km=side_km, days=days, drift_sd=recipe.drift_sd, shock_sd=recipe.shock_sd)


def in_order(points: Points) -> np.ndarray:
    """Return the rows of some events, sorted."""
    rows = np.column_stack([points.x_m, points.y_m, points.day])
    return rows[np.lexsort(rows.T)]


@st.composite
def towns(draw) -> tuple[Points, Points]:
    """Draw events and causes on a lattice of 10 m, so that many lie exactly on an edge."""
    place, day = st.integers(0, 60).map(lambda step: 10.0 * step), st.integers(0, 50)
    rows = st.lists(st.tuples(place, place, day), max_size=25)
    return tuple(
        Points(*(np.array(column) for column in zip(*found, strict=True)))
        if found
        else Points(np.zeros(0), np.zeros(0), np.zeros(0, int))
        for found in (draw(rows), draw(rows))
    )


@given(towns(), st.sampled_from([30.0, 100.0, 200.0]), st.integers(0, 3), st.integers(0, 20))
def test_exposure_equals_brute_force(town, radius_m, first_day, length):
    events, causes = town
    lag = events.day[:, None] - causes.day
    squared = (events.x_m[:, None] - causes.x_m) ** 2 + (events.y_m[:, None] - causes.y_m) ** 2
    expected = ((squared <= radius_m**2) & (lag >= first_day) & (lag <= first_day + length)).any(axis=1)
    found = exposed(events, causes, radius_m=radius_m, first_day=first_day, last_day=first_day + length)
    assert (found == expected).all()


def rate_ratio(episodes: Points, outcomes: Points, *, ring_m, after=(1, 14), before=(-14, -1)) -> tuple:
    """Return the outcomes after lone episodes over those before, against the city's, and how many there are.

    Counted one episode after the other. Lone: no other of its kind reaches the ring from 32 days before on.
    """
    outcomes = outcomes.take(np.argsort(outcomes.day))
    over = under = n = 0.0
    for x, y, day in zip(episodes.x_m, episodes.y_m, episodes.day, strict=True):
        is_near = (episodes.x_m - x) ** 2 + (episodes.y_m - y) ** 2 <= (2 * ring_m[1]) ** 2
        if (is_near & (episodes.day >= day - 32) & (episodes.day <= day + 18)).sum() > 1:
            continue
        around = outcomes.take(slice(*np.searchsorted(outcomes.day, [day - 18, day + 19])))
        squared, lag = (around.x_m - x) ** 2 + (around.y_m - y) ** 2, around.day - day
        is_in = (squared > ring_m[0] * abs(ring_m[0])) & (squared <= ring_m[1] ** 2)
        is_after, is_before = ((lag >= window[0]) & (lag <= window[1]) for window in (after, before))
        d1, d0, weight = (is_after & is_in).sum(), (is_before & is_in).sum(), is_after.sum() + is_before.sum()
        over += d1 * is_before.sum() / weight
        under += d0 * is_after.sum() / weight
        n += d1 + d0
    return over / under, n


@pytest.fixture(scope="module")
def sparse() -> dict[str, Points]:
    """True events of a city with few episodes and very many outcomes."""
    recipe = Scenario(drift_sd=0.0, signal_density=0.012, precursors=DISPLACING)
    return happen(recipe, 7, field_of(recipe, 7, side_km=8, days=300), volume=10.0)


DISC, RING = (-1, 100), (100, 200)


@pytest.mark.parametrize(
    ("signal", "outcome", "ratio", "where"),
    [
        ("light_out", "theft", 0.8, {"ring_m": DISC}),
        ("light_out", "theft", 1.2, {"ring_m": RING}),
        ("garbage", "rodent", 1.5, {"ring_m": DISC}),
        ("garbage", "rodent", 1.0, {"ring_m": RING}),
        ("garbage", "rodent", 1.0, {"ring_m": DISC, "after": (15, 18), "before": (-18, -15)}),
        ("garbage", "rodent", 1.0, {"ring_m": DISC, "after": (0, 0), "before": (-3, -3)}),
        ("pothole", "main_break", 2.0, {"ring_m": DISC}),
        ("graffiti", "theft", 1.0, {"ring_m": DISC}),
    ],
)
def test_the_marginal_ratio_around_lone_episodes_is_the_planted_one(sparse, signal, outcome, ratio, where):
    found, n = rate_ratio(sparse[signal], sparse[outcome], **where)
    # Near repeats come in clusters, so the variance of the log ratio is above the 4 / n of single events.
    error = np.sqrt(1.5 * 4 / n)
    assert abs(np.log(found / ratio)) < 3 * error < 0.3


def test_every_pair_is_planted_reverse_or_null():
    for name in SCENARIOS:
        told = truth(name)
        pairs = [*told.planted, told.reverse, *told.null]
        assert sorted(pairs) == sorted((signal, outcome) for signal in SIGNALS for outcome in OUTCOMES)
    assert truth("S1").planted == {
        ("light_out", "theft"): 1.23,
        ("garbage", "rodent"): 1.5,
        ("pothole", "main_break"): 2.0,
    }
    assert (truth("S1").reverse, len(truth("S1").null)) == (("noise", "battery"), 32)
    assert truth("displacement").displaced == {("light_out", "theft"): 1.2}


def test_causes_happen_before_what_they_act_on():
    assert sorted(KINDS) == sorted([*SIGNALS, *OUTCOMES])
    for effect in (*PRECURSORS, *DISPLACING, REVERSE):
        assert KINDS.index(effect.cause) < KINDS.index(effect.outcome)


def test_a_city_has_the_size_of_the_description():
    city = scenario("S1", 3)
    sizes = {kind: city.reports(kind).size for kind in KINDS}
    assert sum(sizes.values()) == city.kind.size == pytest.approx(224_000, rel=0.02)
    assert sizes["light_out"] == pytest.approx(8_100, rel=0.05)
    assert sizes["theft"] == pytest.approx(60_000, rel=0.03)
    assert 0 <= city.day.min() <= city.day.max() == DAYS - 1
    assert 0 <= min(city.x_m.min(), city.y_m.min()) < max(city.x_m.max(), city.y_m.max()) < 1_000 * SIDE_KM
    dense = scenario("D1", 3)
    assert dense.reports("graffiti").size == pytest.approx(3.5 * sizes["graffiti"], rel=0.05)
    assert dense.reports("burglary").size == sizes["burglary"]


@pytest.mark.parametrize("name", ["S1", "D3", "step"])
def test_the_same_seed_makes_the_same_bytes_and_another_another_city(name):
    one, again, other = scenario(name, 5), scenario(name, 5), scenario(name, 6)
    for column in ("kind", "x_m", "y_m", "day"):
        assert getattr(one, column).tobytes() == getattr(again, column).tobytes()
        assert getattr(one, column).tobytes() != getattr(other, column).tobytes()


def test_repeats_and_delays_change_reports_and_no_true_event():
    punctual, late = SCENARIOS["S2"], SCENARIOS["S3"]
    field = field_of(punctual, 2)
    happened = happen(punctual, 2, field, volume=0.3)
    assert all(
        (in_order(events) == in_order(happened[kind])).all()
        for kind, events in happen(late, 2, field_of(late, 2), volume=0.3).items()
    )
    at_once, later = report(punctual, 2, field, happened), report(late, 2, field, happened)
    for kind in OUTCOMES:
        assert at_once[kind] is later[kind] is happened[kind]
    for kind in SIGNALS:
        events, n = happened[kind], happened[kind].size
        first, repeats = at_once[kind].take(slice(n)), at_once[kind].take(slice(n, None))
        assert (in_order(first) == in_order(events)).all()
        assert repeats.size / n == pytest.approx(0.35, abs=4 * np.sqrt(0.35 * 0.65 / n) + 0.01)
        # Each repeat lies close to a true event of its kind, on its day or soon after.
        assert exposed(repeats, events, radius_m=50, first_day=0, last_day=9).mean() > 0.99
        delays = later[kind].day[:n].mean() - events.day.mean()
        assert later[kind].size < at_once[kind].size * 1.05
        assert delays > 0


def test_a_report_is_three_days_late_in_the_mean():
    late = SCENARIOS["S3"]
    field = field_of(late, 4, days=400)
    happened = happen(late, 4, field, volume=0.5)
    reports = report(late, 4, field, happened)
    # First reports keep the place of the event, and those of its last weeks may come after the end.
    for kind in ("pothole", "noise"):
        day_of = dict(zip(happened[kind].x_m, happened[kind].day, strict=True))
        lags = np.array(
            [
                day - day_of[x]
                for x, day in zip(reports[kind].x_m, reports[kind].day, strict=True)
                if day_of.get(x, 400) < 360
            ]
        )
        assert lags.min() == 0
        assert lags.mean() == pytest.approx(3.0, abs=0.2)


def test_a_new_app_makes_the_reports_of_its_district_step_up_and_stay_up():
    recipe, seed = SCENARIOS["step"], 11
    field = field_of(recipe, seed, side_km=8, days=730)
    happened = happen(recipe, seed, field, volume=1.0)
    reports = report(recipe, seed, field, happened)
    west, south, first_day = district_of_app(seed, field)
    assert 0 <= west <= 3_000
    assert 182 <= first_day < 547

    def reported_share(kind: str, *, is_in: bool, is_after: bool) -> float:
        def count(points: Points) -> int:
            in_district = (np.abs(points.x_m - west - 2_500) < 2_500) & (
                np.abs(points.y_m - south - 2_500) < 2_500
            )
            return ((in_district == is_in) & ((points.day >= first_day) == is_after)).sum()

        return count(reports[kind]) / count(happened[kind])

    for kind, repeats in (("graffiti", 1.35), ("vandalism", 1.0), ("rodent", 1.0)):
        assert reported_share(kind, is_in=True, is_after=False) == pytest.approx(repeats / 3, rel=0.15)
        for is_in, is_after in ((True, True), (False, False), (False, True)):
            assert reported_share(kind, is_in=is_in, is_after=is_after) == pytest.approx(repeats, rel=0.05)
    assert reports["theft"] is happened["theft"]


def test_drift_is_stationary_and_remembers():
    level = drift(np.random.default_rng(1), 3_000, 300, 0.35, 70.0)
    assert level.std(axis=0) == pytest.approx(np.full(300, 0.35), rel=0.07)
    assert np.mean(level[:, 70:] * level[:, :-70]) / 0.35**2 == pytest.approx(np.exp(-1), abs=0.05)
    assert (drift(np.random.default_rng(1), 2, 5, 0.0, 70.0) == 0).all()


def test_squares_of_250_m_lie_in_their_squares_of_1_km():
    # Shocks of no size divide the city more finely and must change neither where nor when things happen.
    fields = [ActivityField(3, side_km=6, days=200, drift_sd=2.0, shock_sd=sd) for sd in (0.0, 1e-9)]
    counts = []
    for number, field in enumerate(fields):
        points = field.draw(np.random.default_rng(number), 300_000)
        cell = (points.x_m // 1_000 * 6 + points.y_m // 1_000).astype(int)
        counts.append(np.bincount(cell * 10 + points.day // 20, minlength=360))
    coarse, fine = counts
    # Two Poisson counts of the same mean differ by about the root of their sum.
    chi_squared = ((coarse - fine) ** 2 / np.maximum(coarse + fine, 1)).sum()
    assert chi_squared < 360 + 5 * np.sqrt(2 * 360)


def test_unrelated_kinds_share_hot_spots_and_near_repeats_stay_near():
    field = ActivityField(9, side_km=15, days=365, drift_sd=0.35, shock_sd=0.0)
    rng = np.random.default_rng(9)
    plain, repeating = field.draw(rng, 20_000), field.draw_with_near_repeats(rng, 20_000)
    assert repeating.size == pytest.approx(20_000, rel=0.03)

    def pairs_over_expected(a: Points, b: Points) -> float:
        square = [np.bincount((p.x_m // 500 * 30 + p.y_m // 500).astype(int), minlength=900) for p in (a, b)]
        return (square[0] * square[1]).mean() / (square[0].mean() * square[1].mean())

    assert 1.4 < pairs_over_expected(plain, repeating) < 2.2
    shares = [
        exposed(points, points, radius_m=100, first_day=1, last_day=14).mean()
        for points in (plain, repeating)
    ]
    assert shares[1] > shares[0] + 0.05


def test_a_large_city_grows_its_area_and_keeps_its_densities():
    city = large_city(190_000, 1)
    assert city.kind.size == pytest.approx(190_000, rel=0.03)
    km2 = (city.side_m / 1_000) ** 2
    assert city.reports("burglary").size / km2 == pytest.approx(17_000 / 225, rel=0.1)
    assert city.reports("graffiti").size / km2 == pytest.approx(2.7 * 8_100 / 225, rel=0.1)
    longer = large_city(190_000, 1, days=1_460)
    assert longer.kind.size == pytest.approx(190_000, rel=0.03)
    assert longer.side_m < city.side_m
    assert longer.day.max() == 1_459
