"""What an outlook knows of its units at each forecast time, as arrays; reading them is in `outlooks`."""

from dataclasses import dataclass

import numpy as np

YEAR_DAYS = 365


class LookAheadError(Exception):
    """A feature is later than the forecast time it belongs to; the message names city, outlook and day."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Units of one city's outlook at m forecast times, the last of them the newest, whose horizon lies ahead.

    Attributes:
        city: Id of the city.
        outlook: Name of the outlook.
        horizon_days: Days after a forecast time in which failures are counted.
        crew_units: Units that a crew can visit in that time.
        origin_day: Forecast times as days since 1970-01-01, ascending, shape (m,).
        latest_day: Newest day on which a record counted at a forecast time happened or arrived, shape (m,).
        is_in: Whether a unit was there, and known, at a forecast time, shape (m, n).
        expected_total: Failures of the whole city in the horizon, by the year before and the season, (m,).
        n_year: Failures of a unit known in the year before, shape (m, n).
        n_earlier: Failures known of before that year, shape (m, n).
        years_observed: Years for which failures were observed before a forecast time, shape (m,).
        values: Features as people read them, NaN where unknown, shape (m, n, f).
        feature_names: Their names; ages and materials are no counts.
        outcome_origin: Of each group of failures in a horizon the number of its forecast time.
        outcome_unit: Its unit, -1 where it lies in none.
        outcome_known_day: Day from which it could be known.
        outcome_count: How many failures it is.
        size: What a unit has of the city: length of an item, 1 for a cell, shape (n,).
        stratum: How fast the place of a unit reports, empty where not known, shape (n,).
    """

    city: str
    outlook: str
    horizon_days: int
    crew_units: int
    origin_day: np.ndarray
    latest_day: np.ndarray
    is_in: np.ndarray
    expected_total: np.ndarray
    n_year: np.ndarray
    n_earlier: np.ndarray
    years_observed: np.ndarray
    values: np.ndarray
    feature_names: tuple[str, ...]
    outcome_origin: np.ndarray
    outcome_unit: np.ndarray
    outcome_known_day: np.ndarray
    outcome_count: np.ndarray
    size: np.ndarray
    stratum: np.ndarray

    @property
    def newest(self) -> int:
        """Number of the forecast time whose horizon lies ahead."""
        return len(self.origin_day) - 1

    def failures(self, known_by: int | None = None) -> np.ndarray:
        """Return failures by forecast time and unit, shape (m, n).

        Args:
            known_by: A day; failures that arrived later are left out. None: whatever is known now.
        """
        counted = self.outcome_unit >= 0
        if known_by is not None:
            counted &= self.outcome_known_day <= known_by
        found = np.zeros(self.is_in.shape)
        at = (self.outcome_origin[counted], self.outcome_unit[counted])
        np.add.at(found, at, self.outcome_count[counted])
        return found * self.is_in

    def failures_in_all(self) -> np.ndarray:
        """Return failures of the whole city by forecast time, in a unit or not, shape (m,)."""
        return np.bincount(self.outcome_origin, self.outcome_count, minlength=len(self.origin_day))

    def before(self, origin: int) -> np.ndarray:
        """Return the forecast times whose horizon had ended at one, in order."""
        return np.flatnonzero(self.origin_day + self.horizon_days <= self.origin_day[origin])


def refuse_look_ahead(panel: Panel) -> None:
    """Demand that no record counted at a forecast time happened or arrived after it.

    Raises:
        LookAheadError: One did.
    """
    ahead = panel.latest_day - panel.origin_day
    if (ahead > 0).any():
        origin = int(np.argmax(ahead))
        raise LookAheadError(
            f"{panel.city}, {panel.outlook}: what is counted at the forecast time "
            f"{np.datetime64(int(panel.origin_day[origin]), 'D')} holds a record of "
            f"{ahead[origin]} days later"
        )


def season_level(n_like: np.ndarray, n_in_years: np.ndarray, horizon_days: int) -> np.ndarray:
    """Return how failures in the horizon's days of years before compare with those years, 1 for alike.

    Ten failures as expected are added, so that a few do not make a season.
    """
    expected = n_in_years * horizon_days / YEAR_DAYS
    return (n_like + 10) / (expected + 10)
