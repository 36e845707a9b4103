"""Which events lie within a disc and some days after a cause; what an exposure does belongs elsewhere."""

import numpy as np
from scipy.spatial import cKDTree

from assets.simulate.activity_field import Points


def exposed(events: Points, causes: Points, *, radius_m: float, first_day: int, last_day: int) -> np.ndarray:
    """Return for each event whether some cause lies within the radius and the right time before.

    Args:
        events: Events that may be exposed.
        causes: Events that expose.
        radius_m: Largest distance that counts.
        first_day: Smallest number of days from the cause to the event that counts.
        last_day: Largest number of days.
    """
    is_exposed = np.zeros(events.size, dtype=bool)
    if events.size == 0 or causes.size == 0:
        return is_exposed
    of_event, of_cause = np.argsort(events.day, kind="stable"), np.argsort(causes.day, kind="stable")
    event_day, cause_day = events.day[of_event], causes.day[of_cause]
    event_at = np.column_stack([events.x_m, events.y_m])[of_event]
    cause_at = np.column_stack([causes.x_m, causes.y_m])[of_cause]
    # Trees of a fortnight each: of two years of pairs within the radius, 24 of 25 are too far apart in time.
    length = last_day - first_day + 1
    for day in range(int(event_day[0]), int(event_day[-1]) + 1, length):
        some = slice(*np.searchsorted(event_day, [day, day + length]))
        around = slice(*np.searchsorted(cause_day, [day - last_day, day + length - first_day]))
        if some.start == some.stop or around.start == around.stop:
            continue
        pairs = cKDTree(event_at[some]).sparse_distance_matrix(
            cKDTree(cause_at[around]), radius_m, output_type="ndarray"
        )
        lag = event_day[some][pairs["i"]] - cause_day[around][pairs["j"]]
        is_exposed[of_event[some][pairs["i"][(lag >= first_day) & (lag <= last_day)]]] = True
    return is_exposed
