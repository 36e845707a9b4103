"""What is planted can be counted again, by other means than those that planted it."""

import json

import numpy as np
import pandas as pd
import pytest

from assets.simulate.city import simulate
from assets.simulate.ground import lay_ground
from assets.simulate.process import Happenings, happen

DAYS, PERIOD = 14, 731


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("home") / "simulated")


@pytest.fixture(scope="module")
def events(city):
    return pd.read_parquet(city.folder / "truth" / "events.parquet")


def brute_exposed(outcomes: pd.DataFrame, causes: pd.DataFrame) -> np.ndarray:
    """Every outcome against every cause of the 14 days before, day by day."""
    exposed = np.zeros(len(outcomes), dtype=bool)
    x, y, day = (outcomes[name].to_numpy() for name in ("x_m", "y_m", "day"))
    cx, cy, cday = (causes[name].to_numpy() for name in ("x_m", "y_m", "day"))
    for today in range(PERIOD):
        mine, theirs = np.flatnonzero(day == today), (cday < today) & (cday >= today - DAYS)
        near = (x[mine, None] - cx[theirs]) ** 2 + (y[mine, None] - cy[theirs]) ** 2 <= 100.0**2
        exposed[mine] = near.any(axis=1)
    return exposed


@pytest.fixture(scope="module")
def cities():
    """True events of four cities: one alone has too few pairs to tell 10 % from chance."""
    return [happen(lay_ground(seed), seed, 1.0)[0] for seed in range(311, 315)]


def frame(events: Happenings) -> pd.DataFrame:
    return pd.DataFrame({"x_m": events.x, "y_m": events.y, "day": events.day})


def squares(events: pd.DataFrame) -> np.ndarray:
    return ((events.x_m // 1_500) * 100_000 + events.y_m // 1_500).to_numpy()


def before_and_after(causes: pd.DataFrame, outcomes: pd.DataFrame) -> tuple[float, float]:
    """Mantel-Haenszel sums of 14 days after against 14 before, in the disc against its 1.5 km square."""
    cells, outcome_cell = np.unique(squares(outcomes), return_inverse=True)
    per_day = np.zeros((cells.size, PERIOD + 1))
    np.add.at(per_day, (outcome_cell, outcomes.day.to_numpy() + 1), 1)
    total = per_day.cumsum(axis=1)
    inside = causes[(causes.day >= DAYS) & (causes.day + DAYS < PERIOD)]
    x, y, day = (outcomes[name].to_numpy() for name in ("x_m", "y_m", "day"))
    order = np.argsort(day, kind="stable")
    x, y, day = x[order], y[order], day[order]
    numerator = denominator = 0.0
    for cause_x, cause_y, t, row in zip(
        inside.x_m, inside.y_m, inside.day, np.searchsorted(cells, squares(inside)), strict=True
    ):
        if row == cells.size:
            continue
        span = slice(np.searchsorted(day, t - DAYS), np.searchsorted(day, t + DAYS, side="right"))
        near = day[span][(x[span] - cause_x) ** 2 + (y[span] - cause_y) ** 2 <= 100.0**2]
        d0, d1 = np.count_nonzero(near < t), np.count_nonzero(near > t)
        r0, r1 = total[row, t] - total[row, t - DAYS] - d0, total[row, t + DAYS + 1] - total[row, t + 1] - d1
        n = d0 + d1 + r0 + r1
        if n:
            numerator += d1 * r0 / n
            denominator += d0 * r1 / n
    return numerator, denominator


def isolated(causes: pd.DataFrame) -> pd.DataFrame:
    """Causes whose 14 days before hold no exposed day of an earlier one."""
    x, y, day = (causes[name].to_numpy() for name in ("x_m", "y_m", "day"))
    keep = np.ones(len(causes), dtype=bool)
    for today in range(PERIOD):
        mine, theirs = np.flatnonzero(day == today), (day < today) & (day >= today - 2 * DAYS)
        near = (x[mine, None] - x[theirs]) ** 2 + (y[mine, None] - y[theirs]) ** 2 <= 200.0**2
        keep[mine] = ~near.any(axis=1)
    return causes[keep]


@pytest.mark.slow
def test_the_city_is_large_enough(city, events):
    assert city.events == len(events) >= 250_000
    published = {name.split(".")[0]: rows for name, rows in city.rows.items()}
    kinds = {
        "service_request": published["service_requests_2024"] + published["service_requests_2025"],
        "crime": published["crimes"],
        "permit": published["permits"],
        "infrastructure": published["work_orders"] + published["flood_sensors"],
        "utility": published["outages"],
    }
    assert sum(kinds.values()) >= 250_000
    assert min(kinds.values()) >= 4_000
    assert kinds["service_request"] >= 100_000
    counts = events.event_type.value_counts()
    assert counts["theft"] >= 60_000
    assert counts["streetlight_outage"] >= 6_000


@pytest.mark.slow
def test_every_effect_was_planted_as_told(city, events):
    planted = json.loads((city.folder / "truth" / "effects.json").read_text())["planted"]
    candidates = pd.read_parquet(city.folder / "truth" / "candidates.parquet")
    assert {(effect["cause"], effect["outcome"], effect["rate_ratio"]) for effect in planted} == {
        ("streetlight_outage", "theft", 1.6),
        ("garbage_missed", "rodent", 1.5),
        ("pothole", "infra_main_break", 2.0),
        ("vandalism", "noise_residential", 1.8),
    }
    for effect in planted:
        mine = candidates[candidates.event_type == effect["outcome"]].reset_index(drop=True)
        exposed = brute_exposed(mine, events[events.event_type == effect["cause"]])
        assert (exposed == mine.is_exposed).all()
        assert mine.is_kept.sum() == (events.event_type == effect["outcome"]).sum()
        ratio = mine.is_kept[exposed].mean() / mine.is_kept[~exposed].mean()
        assert ratio == pytest.approx(effect["rate_ratio"], rel=0.05), effect


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cause", "outcome", "ratio", "tolerance"),
    [
        ("streetlight_outage", "theft", 1.6, 0.10),
        ("garbage_missed", "rodent", 1.5, 0.10),
        ("vandalism", "noise_residential", 1.8, 0.10),
        # Some 400 breaks before, in all four.
        ("pothole", "infra_main_break", 2.0, 0.15),
        ("streetlight_outage", "burglary", 1.0, 0.10),
        ("graffiti", "infra_main_break", 1.0, 0.15),
        ("sanitation_violation", "burglary", 1.0, 0.10),
    ],
)
def test_before_and_after_recovers_the_rate_ratio(cities, cause, outcome, ratio, tolerance):
    sums = [before_and_after(isolated(frame(city[cause])), frame(city[outcome])) for city in cities]
    numerator, denominator = np.sum(sums, axis=0)
    assert numerator / denominator == pytest.approx(ratio, rel=tolerance)


@pytest.mark.slow
def test_types_share_hot_spots_so_that_a_naive_count_finds_effects_that_are_not_there(events):
    lights, burglaries = (events[events.event_type == name] for name in ("streetlight_outage", "burglary"))
    exposed = brute_exposed(burglaries, lights).mean()
    shuffled = lights.assign(
        x_m=np.random.default_rng(1).uniform(events.x_m.min(), events.x_m.max(), len(lights)),
        y_m=np.random.default_rng(2).uniform(events.y_m.min(), events.y_m.max(), len(lights)),
    )
    assert exposed / brute_exposed(burglaries, shuffled).mean() > 1.3
