"""The simulated city's clock: its days, seasons, storms, hours of the day, and wall clock against UTC."""

import numpy as np
import pandas as pd

from assets.simulate.catalogue import Occurrence, Rhythm
from assets.simulate.chance import pick

TIME_ZONE = "America/Chicago"
FIRST_DAY = np.datetime64("2024-01-01", "D")
DAYS = 731
#: Copies are taken at midnight UTC, which is six in the evening of the day before on the city's clock.
CUT_2024 = np.datetime64("2024-12-31T18:00:00", "s")
CUT_2025 = np.datetime64("2025-12-31T18:00:00", "s")

# Relative weight of each hour from midnight on.
_HOURS: dict[Rhythm, list[float]] = {
    "waking": [2, 1, 1, 1, 1, 2, 4, 7, 9, 10, 10, 10, 10, 9, 9, 9, 9, 9, 8, 7, 6, 5, 4, 3],
    "working": [0, 0, 0, 0, 0, 0, 1, 5, 9, 10, 10, 9, 6, 9, 9, 8, 5, 1, 0, 0, 0, 0, 0, 0],
    "evening": [5, 3, 2, 1, 1, 2, 3, 4, 4, 4, 4, 3, 3, 3, 3, 4, 6, 8, 10, 11, 12, 11, 9, 7],
    "night": [11, 10, 9, 7, 5, 3, 2, 2, 2, 3, 3, 4, 5, 5, 5, 6, 7, 7, 8, 9, 10, 11, 12, 12],
    "any": [1] * 24,
}


def storm_strength(rng: np.random.Generator) -> np.ndarray:
    """Return the strength of the storm on each day, mostly 0; a storm's second day has half its strength."""
    strength = np.zeros(DAYS)
    season = 1 + 0.6 * np.cos(2 * np.pi * (np.arange(DAYS) - 180) / 365.25)
    first_days = np.unique(pick(rng, season[:-1], 40))
    gusts = rng.gamma(2.0, 0.6, first_days.size)
    strength[first_days] += gusts
    strength[first_days + 1] += gusts / 2
    return strength


def daily_level(occurrence: Occurrence, storms: np.ndarray) -> np.ndarray:
    """Return the relative level of a type on each day: season, weekend and storms."""
    days = np.arange(DAYS)
    day_of_year = (FIRST_DAY + days - (FIRST_DAY + days).astype("datetime64[Y]")).astype(int)
    season = 1 + occurrence.season * np.cos(2 * np.pi * (day_of_year - occurrence.peak_day) / 365.25)
    weekend = np.where(is_weekend(days), occurrence.weekend, 1.0)
    return season * weekend * np.maximum(0.05, 1 + occurrence.storm * storms)


def is_weekend(day: np.ndarray) -> np.ndarray:
    """Return whether each day (counted from the first) is a Saturday or a Sunday; day 0 is a Monday."""
    return day % 7 >= 5


def clock_times(day: np.ndarray, rhythm: Rhythm, rng: np.random.Generator) -> np.ndarray:
    """Return wall-clock times on the given days, to the second."""
    hour = pick(rng, np.array(_HOURS[rhythm], dtype=float), day.size)
    return existing(FIRST_DAY + day, hour * 3_600 + rng.integers(0, 3_600, day.size))


def existing(date: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return date plus seconds as wall-clock time; the hour that spring skips becomes the next."""
    return to_wall_clock(date.astype("datetime64[s]") + second.astype("timedelta64[s]"))


def to_wall_clock(times: np.ndarray) -> np.ndarray:
    """Return naive times (datetime64[s]) that all exist on the city's wall clock."""
    return _zoned(times).tz_localize(None).to_numpy().astype("datetime64[s]")


def to_utc(times: np.ndarray) -> np.ndarray:
    """Return wall-clock times as UTC; the hour that autumn repeats is read as its first pass, NaT stays."""
    return _zoned(times).tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[s]")


def day_of(times: np.ndarray) -> np.ndarray:
    """Return the day, counted from the first, of wall-clock times."""
    return (times.astype("datetime64[D]") - FIRST_DAY).astype(int)


def days_later(times: np.ndarray, days: np.ndarray) -> np.ndarray:
    """Return wall-clock times `days` (a fraction) later."""
    return to_wall_clock(times + np.round(days * 86_400).astype("timedelta64[s]"))


def _zoned(times: np.ndarray) -> pd.DatetimeIndex:
    index = pd.DatetimeIndex(times.astype("datetime64[s]"))
    return index.tz_localize(
        TIME_ZONE, ambiguous=np.ones(index.size, dtype=bool), nonexistent=pd.Timedelta(hours=1)
    )
