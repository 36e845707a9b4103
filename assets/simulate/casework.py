"""How requests are worked: who owns them in turn, which get stuck, how they end, and what a copy shows of it.

Whatever a warehouse may look for is drawn here from distributions that are no detector's rule.
"""

import numpy as np
import pandas as pd

from assets.simulate.calendar import CUT_2024, CUT_2025, days_later
from assets.simulate.catalogue import DISPATCH_DESK, OWNERS, ROUTING_SHIFTS, SERVICES, RoutingShift
from assets.simulate.chance import pick, stream

_NEVER = np.datetime64("NaT", "s")
_ENDINGS = np.array(["Completed", "No Action Taken", "Transferred", "Canceled"])
_STATUSES = ["Open", "Open - Dup", "In Progress", "Reopened", *_ENDINGS, "Completed - Dup"]
_ENDING_WEIGHTS = np.array([0.86, 0.06, 0.04, 0.04])
_CHANNELS = np.array(["PHONE", "APP", "WEB", "Open311", "Walk-in"])
_CHANNEL_WEIGHTS = np.array([0.46, 0.30, 0.17, 0.06, 0.01])
#: Weights of one, two, three and four hand-offs among the requests that are handed off at all.
_HAND_OFF_WEIGHTS = np.array([0.55, 0.27, 0.12, 0.06])
_MOST = _HAND_OFF_WEIGHTS.size
_OWNED = [f"owner_{at}" for at in range(_MOST + 1)]
_HANDED = [f"handed_{at}" for at in range(1, _MOST + 1)]
_STEPS = ["requested", "assigned", "closed", "reopened", "closed_again", *_HANDED]
_LONGEST_DELAY_DAYS = 1_500


def worked(reports: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the reports with all that will ever happen to them.

    Added columns: due, assigned, closed, ending, channel, is_labelled (the portal calls it a duplicate),
    parent (source_id or None), reopened, closed_again, stall ('never_closed', 'very_late' or None), owner_0
    to owner_4 (rows of OWNERS, -1 for none) and handed_1 to handed_4, when the owner of that number took
    over. Times are wall clock, NaT where never.

    Args:
        reports: In order of time, with source_id, service, case, is_repeat and requested.
        seed: The city's seed.
    """
    rng = stream(seed, "casework")
    count = len(reports)
    median, spread, target = (
        np.array([getattr(service, name) for service in SERVICES])[reports.service]
        for name in ("median_days", "spread", "target_days")
    )
    requested = reports.requested.to_numpy().astype("datetime64[s]")
    lag = rng.lognormal(np.log(median), spread)
    reports["due"] = days_later(requested, target)
    assigned = days_later(requested, np.minimum(rng.exponential(0.3 * median), 0.9 * lag))
    never = rng.random(count) < 0.08
    late = ~never & (stream(seed, "stalls").random(count) < 0.01)
    delay = np.where(late, _delays(median, stream(seed, "delays")), 0.0)
    reports["closed"] = np.where(never, _NEVER, days_later(requested, lag + delay))
    reports["ending"] = _ENDINGS[pick(rng, _ENDING_WEIGHTS, count)]
    reports["channel"] = _CHANNELS[pick(rng, _CHANNEL_WEIGHTS, count)]
    _label_duplicates(reports, rng, stream(seed, "chains of duplicates"))
    # Nobody works a recognised duplicate: it waits for its parent.
    labelled = reports.is_labelled.to_numpy()
    closed = reports.closed.to_numpy().astype("datetime64[s]")
    # The hour that spring skips may push an assignment past the closing.
    reports["assigned"] = np.where(labelled, _NEVER, np.fmin(assigned, closed))
    stall = np.where(never, "never_closed", np.where(late, "very_late", None))
    reports["stall"] = np.where(labelled, None, stall)
    is_reopened = ~never & ~labelled & (rng.random(count) < 0.02)
    reopened = np.where(is_reopened, days_later(closed, rng.uniform(1, 60, count)), _NEVER)
    reports["reopened"] = reopened
    reports["closed_again"] = days_later(reopened, rng.lognormal(np.log(median), spread))
    return _handed_on(reports, lag, stream(seed, "hand-offs"))


def state_at(requests: pd.DataFrame, cut: np.datetime64) -> pd.DataFrame:
    """Return status, agency, closed and updated of each request as the portal shows them at `cut`.

    Args:
        requests: Rows of `worked` made before the cut.
        cut: Wall-clock time of the copy.
    """
    is_reopened = (requests.reopened <= cut).to_numpy()
    closed = np.where(is_reopened, requests.closed_again, requests.closed)
    is_closed = closed <= cut
    is_labelled = requests.is_labelled.to_numpy()
    status = np.where(requests.assigned <= cut, "In Progress", "Open")
    status = np.where(is_reopened, "Reopened", status)
    status = np.where(is_labelled, "Open - Dup", status)
    done = np.where(is_labelled, "Completed - Dup", requests.ending)
    steps = requests[_STEPS]
    return pd.DataFrame(
        {
            "status": np.where(is_closed, done, status),
            "agency": _names(_owner_at(requests, np.full(len(requests), cut))),
            "closed": pd.Series(closed, index=requests.index).where(is_closed),
            "updated": steps.where(steps <= cut).max(axis=1),
        },
        index=requests.index,
    )


def steps_until(requests: pd.DataFrame, cut: np.datetime64) -> pd.DataFrame:
    """Return one row per step of a request until `cut`: its place in `requests`, at, status, agency.

    Ordered by place and time; status and agency (both categorical) are those from the step on. After the
    last step of a request they are those of `state_at`.
    """
    labelled = requests.is_labelled.to_numpy()
    assigned = requests.assigned.to_numpy()
    opened, working, again = (_STATUSES.index(name) for name in ("Open", "In Progress", "Reopened"))
    ending = np.where(labelled, _STATUSES.index("Completed - Dup"), _codes(requests.ending))
    said = {
        "requested": np.where(labelled, _STATUSES.index("Open - Dup"), opened),
        "assigned": np.full(len(requests), working),
        **{name: np.where(assigned <= requests[name].to_numpy(), working, opened) for name in _HANDED},
        "closed": ending,
        "reopened": np.full(len(requests), again),
        "closed_again": ending,
    }
    parts = []
    for rank, (name, status) in enumerate(said.items()):
        at = requests[name].to_numpy().astype("datetime64[s]")
        place = np.flatnonzero(at <= cut)
        # What happens in one second is told one after the other.
        if name == "requested" or name in _HANDED:
            owner = requests["owner_0" if name == "requested" else f"owner_{name[-1]}"].to_numpy()
        else:
            owner = _owner_at(requests, at)
        parts.append((place, at[place], np.full(place.size, rank), status[place], owner[place]))
    place, at, rank, status, owner = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((rank, at, place))
    return pd.DataFrame(
        {
            "place": place[order],
            "at": at[order],
            "status": pd.Categorical.from_codes(status[order], _STATUSES),
            "agency": pd.Categorical.from_codes(owner[order], list(OWNERS)),
        }
    )


def known_at_2024(requests: pd.DataFrame) -> pd.DataFrame:
    """Return the requests of the yearly copy taken at the end of 2024."""
    return requests[requests.requested < CUT_2024]


def new_in_2025(requests: pd.DataFrame) -> pd.DataFrame:
    """Return the requests of the copy taken at the end of 2025: the new ones, and older ones that changed."""
    return requests[(requests.requested >= CUT_2024) | (state_at(requests, CUT_2025).updated >= CUT_2024)]


def is_shifted(requests: pd.DataFrame, *shifts: RoutingShift) -> np.ndarray:
    """Return whether each request was made on a day of one of the shifts and is of its type."""
    found = np.zeros(len(requests), dtype=bool)
    day = requests.requested.to_numpy().astype("datetime64[D]")
    for shift in shifts:
        is_mine = (requests.event_type == shift.event_type).to_numpy()
        found |= is_mine & (day >= np.datetime64(shift.first_on)) & (day <= np.datetime64(shift.last_on))
    return found


def handoffs(requests: pd.DataFrame) -> pd.DataFrame:
    """Return one row per hand-off: source_id, seq from 1, at, from_agency, to_agency, is_return.

    `is_return`: the new owner had been an owner before.
    """
    owners = requests[_OWNED].to_numpy()
    frames = []
    for seq, name in enumerate(_HANDED, start=1):
        is_mine = requests[name].notna().to_numpy()
        mine = owners[is_mine]
        frames.append(
            pd.DataFrame(
                {
                    "source_id": requests.source_id[is_mine],
                    "seq": seq,
                    "at": requests[name][is_mine],
                    "from_agency": _names(mine[:, seq - 1]),
                    "to_agency": _names(mine[:, seq]),
                    "is_return": (mine[:, :seq] == mine[:, [seq]]).any(axis=1),
                }
            )
        )
    return pd.concat(frames).sort_values(["source_id", "seq"], ignore_index=True)


def stalls(requests: pd.DataFrame) -> pd.DataFrame:
    """Return one row per request that got stuck: source_id, event_type, kind, stuck_since, closed."""
    stuck = requests[requests.stall.notna()]
    return pd.DataFrame(
        {
            "source_id": stuck.source_id,
            "event_type": stuck.event_type,
            "kind": stuck.stall,
            "stuck_since": stuck[["assigned", *_HANDED]].max(axis=1),
            "closed": stuck.closed,
        }
    ).reset_index(drop=True)


def repeat_contacts(requests: pd.DataFrame) -> pd.DataFrame:
    """Return one row per contact about what had been closed: re-openings, and reports after a closure.

    Columns: kind ('reopened' or 'reported_again'), source_id, earlier (the request that had been closed
    last; for a re-opening itself), closed (when), at (when it came back), is_other_open (another request
    of the same case was still open).
    """
    again = requests[requests.reopened.notna()]
    reopened = pd.DataFrame(
        {
            "kind": "reopened",
            "source_id": again.source_id,
            "earlier": again.source_id,
            "closed": again.closed,
            "at": again.reopened,
            "is_other_open": False,
        }
    )
    told = ["service", "case", "source_id", "requested", "closed", "reopened", "closed_again"]
    later = requests[requests.is_repeat & ~requests.is_labelled]
    pairs = later[["service", "case", "source_id", "requested"]].merge(
        requests[told], on=["service", "case"], suffixes=("", "_before")
    )
    pairs = pairs[pairs.requested_before < pairs.requested]
    came_back = pairs.reopened <= pairs.requested
    pairs["ended"] = pairs.closed_again.where(came_back, pairs.closed)
    pairs["is_open"] = ~(pairs.ended <= pairs.requested)
    is_other_open = pairs.groupby("source_id").is_open.any()
    shut = pairs[~pairs.is_open].sort_values(["source_id", "ended"]).groupby("source_id").tail(1)
    reported = pd.DataFrame(
        {
            "kind": "reported_again",
            "source_id": shut.source_id,
            "earlier": shut.source_id_before,
            "closed": shut.ended,
            "at": shut.requested,
            "is_other_open": is_other_open.reindex(shut.source_id).to_numpy(),
        }
    )
    return pd.concat([reopened, reported]).sort_values(["kind", "at", "source_id"], ignore_index=True)


def _delays(median: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return days of delay with a Pareto tail: most wait some ten times as long as usual, a few for years."""
    return np.minimum(median * (4 + 8 * rng.pareto(1.1, median.size)), _LONGEST_DELAY_DAYS)


def _label_duplicates(reports: pd.DataFrame, rng: np.random.Generator, chains: np.random.Generator) -> None:
    """Let the portal recognise 60 % of the repeated reports that come while the first is open."""
    firsts = reports[~reports.is_repeat].set_index(["service", "case"])
    of_first = reports.set_index(["service", "case"]).index
    still_open = firsts.closed.reindex(of_first).to_numpy()
    parent = firsts.source_id.reindex(of_first).to_numpy(dtype=object)
    requested = reports.requested.to_numpy()
    in_time = np.isnat(still_open) | (requested < still_open)
    known = pd.notna(parent) & (requested >= firsts.requested.reindex(of_first).to_numpy())
    labelled = reports.is_repeat.to_numpy() & known & in_time & (rng.random(len(reports)) < 0.6)
    reports["is_labelled"] = labelled
    # Some are filed under a duplicate, which so is a parent and a child.
    mine = reports[labelled]
    before = mine.groupby(["service", "case"]).source_id.shift().to_numpy(dtype=object)
    is_chained = pd.notna(before) & (chains.random(len(mine)) < 0.3)
    parent[labelled] = np.where(is_chained, before, parent[labelled])
    reports["parent"] = np.where(labelled, parent, None)
    # A recognised duplicate ends with its parent; one in five is closed at once.
    at_once = days_later(requested, rng.exponential(0.4, len(reports)))
    ends = np.where(rng.random(len(reports)) < 0.2, at_once, still_open)
    reports["closed"] = np.where(labelled, ends, reports.closed.to_numpy())


def _handed_on(reports: pd.DataFrame, lag: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """Return the requests with their owners: some 15 % change hands, up to four times, some to and fro."""
    count, desk = len(reports), OWNERS.index(DISPATCH_DESK)
    bureau = np.array([OWNERS.index(service.agency) for service in SERVICES])[reports.service]
    owners = np.full((count, _MOST + 1), -1)
    owners[:, 0] = np.where(is_shifted(reports, *ROUTING_SHIFTS), desk, bureau)
    labelled = reports.is_labelled.to_numpy()
    changes = np.where(rng.random(count) < 0.15, 1 + pick(rng, _HAND_OFF_WEIGHTS, count), 0)
    # The desk passes on half of what it should never have had.
    is_passed_on = (owners[:, 0] == desk) & (rng.random(count) < 0.5)
    changes = np.where(labelled, 0, np.maximum(changes, is_passed_on))
    for turn in range(1, _MOST + 1):
        now = owners[:, turn - 1]
        another = (now + 1 + rng.integers(0, desk - 1, count)) % desk
        back = owners[np.arange(count), rng.integers(0, max(turn - 1, 1), count)]
        is_back = (rng.random(count) < 0.35) & (back != now)
        owner = np.where(is_back, back, another)
        if turn == 1:
            owner = np.where(now == desk, bureau, another)
        owners[:, turn] = np.where(changes >= turn, owner, -1)
    # Early in a case's life more often than late, and never once it is closed.
    share = rng.beta(1.2, 2.0, (count, _MOST))
    share = np.sort(np.where(np.arange(_MOST) < changes[:, None], share, np.inf), axis=1)
    requested = reports.requested.to_numpy().astype("datetime64[s]")
    closed = reports.closed.to_numpy().astype("datetime64[s]")
    handed = {}
    for turn, name in enumerate(_HANDED):
        mine = np.flatnonzero(changes > turn)
        handed[name] = np.full(count, _NEVER)
        handed[name][mine] = np.fmin(days_later(requested[mine], share[mine, turn] * lag[mine]), closed[mine])
    return reports.assign(**dict(zip(_OWNED, owners.T, strict=True)), **handed)


def _owner_at(requests: pd.DataFrame, at: np.ndarray) -> np.ndarray:
    """Return who owns each request at its time, as rows of OWNERS."""
    owner = requests.owner_0.to_numpy()
    for turn, name in enumerate(_HANDED, start=1):
        owner = np.where(requests[name].to_numpy() <= at, requests[f"owner_{turn}"].to_numpy(), owner)
    return owner


def _codes(status: pd.Series) -> np.ndarray:
    return pd.Categorical(status, _STATUSES).codes


def _names(owner: np.ndarray) -> np.ndarray:
    return np.array(OWNERS, dtype=object)[owner]
