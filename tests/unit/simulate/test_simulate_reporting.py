"""Reports are a blurred copy of what happened: late, repeated, cut off where the copy was taken."""

import numpy as np
import pandas as pd
import pytest

from assets.simulate import building
from assets.simulate.calendar import CUT_2024, CUT_2025, existing, to_utc, to_wall_clock
from assets.simulate.casework import known_at_2024, new_in_2025, state_at
from assets.simulate.catalogue import SERVICES
from assets.simulate.ground import SIDE_M, SOUTH_M, WEST_M, inside
from assets.simulate.reporting import FASTEST_TO_SLOWEST, reporting_speed


def test_requests_have_their_own_numbers_in_order_and_lie_in_the_city(requests):
    assert requests.source_id.is_unique
    assert requests.requested.is_monotonic_increasing
    assert (requests.source_id.str[2:4].astype(int) + 2000 == requests.requested.dt.year).all()
    assert inside(requests.x.to_numpy(), requests.y.to_numpy()).all()
    assert requests.requested.max() < CUT_2025


def test_repeated_reports_are_not_made_by_a_detectors_rule(requests, happenings):
    repeated = requests[requests.is_repeat & (requests.event_type == "streetlight_outage")]
    lights = happenings["streetlight_outage"]
    case = repeated.case.to_numpy()
    distance = np.hypot(repeated.x - lights.x[case], repeated.y - lights.y[case])
    gap = (repeated.requested.dt.normalize() - pd.Timestamp("2024-01-01")).dt.days.to_numpy() - lights.day[
        case
    ]
    assert 0.02 < (distance > 40).mean() < 0.15
    assert 0.02 < (gap > 10).mean() < 0.15
    assert (gap >= 0).all()


def test_speed_is_smooth_has_a_mean_of_one_and_is_three_times_as_high_in_one_place_as_in_another():
    axis = np.arange(50, SIDE_M, 100)
    east, north = np.meshgrid(axis, axis)
    speed = reporting_speed(WEST_M + east, SOUTH_M + north, 311)
    assert speed.mean() == pytest.approx(1, abs=0.01)
    assert speed.max() / speed.min() == pytest.approx(FASTEST_TO_SLOWEST, rel=0.01)
    # Within 100 m little changes, across the city much does.
    steps = [np.abs(np.diff(np.log(speed), axis=each)).max() for each in (0, 1)]
    assert max(steps) < 0.05
    assert not np.allclose(speed, reporting_speed(WEST_M + east, SOUTH_M + north, 312))


def test_places_repeat_as_fast_as_planted(requests):
    firsts = requests[~requests.is_repeat].set_index(["service", "case"])
    again = requests[requests.is_repeat].groupby(["service", "case"]).size()
    told = firsts.assign(
        n_repeat=again.reindex(firsts.index, fill_value=0),
        expected=np.array([service.repeats for service in SERVICES])[
            firsts.index.get_level_values("service")
        ],
    )
    assert told.speed.to_numpy() == pytest.approx(
        reporting_speed(told.x.to_numpy(), told.y.to_numpy(), 311), rel=1e-12
    )
    thirds = told.groupby(pd.qcut(told.speed, 3, labels=["slow", "middle", "fast"]), observed=True)
    rate = thirds.n_repeat.sum() / thirds.expected.sum()
    planted = thirds.apply(lambda part: np.average(part.speed, weights=part.expected))
    # 1,000 repeats in a third at least, counts 1.5 times as variable as Poisson ones: four standard errors.
    assert thirds.n_repeat.sum().min() > 1_000
    assert (rate / rate.mean()).to_numpy() == pytest.approx((planted / planted.mean()).to_numpy(), rel=0.16)
    assert planted["fast"] > 1.5 * planted["slow"]


def test_what_acts_on_reports_is_reported_at_once_and_the_rest_mostly(requests, happenings):
    def delay(event_type: str) -> np.ndarray:
        mine = requests[~requests.is_repeat & (requests.event_type == event_type)]
        days = (mine.requested.dt.normalize() - pd.Timestamp("2024-01-01")).dt.days
        return days.to_numpy() - happenings[event_type].day[mine.case.to_numpy()]

    assert (delay("rodent") == 0).all()
    assert (delay("noise_residential") == 0).all()
    assert 0.2 < delay("streetlight_outage").mean() < 0.7


def test_labelled_duplicates_point_at_an_earlier_request_of_the_same_case(requests):
    labelled = requests[requests.is_labelled]
    parents = requests.set_index("source_id").loc[labelled.parent]
    assert len(labelled) > 1_000
    assert labelled.is_repeat.all()
    assert (parents.event_type.to_numpy() == labelled.event_type.to_numpy()).all()
    assert (parents.case.to_numpy() == labelled.case.to_numpy()).all()
    assert (parents.requested.to_numpy() <= labelled.requested.to_numpy()).all()
    assert requests[~requests.is_labelled].parent.isna().all()


def test_some_parents_of_duplicates_are_duplicates_themselves(requests):
    parents = requests.set_index("source_id").loc[requests.parent.dropna()]
    assert 0.02 < parents.is_labelled.mean() < 0.2
    # Up the chain stands a request that is no duplicate.
    above = parents[parents.is_labelled]
    for _ in range(5):
        above = requests.set_index("source_id").loc[above.parent.dropna()]
    assert above.empty


def test_eight_percent_never_close(requests):
    assert requests[~requests.is_labelled].closed.isna().mean() == pytest.approx(0.08, abs=0.01)


@pytest.mark.parametrize("cut", [CUT_2024, CUT_2025])
def test_a_copy_knows_nothing_of_later(requests, cut):
    copy = requests[requests.requested < cut]
    state = state_at(copy, cut)
    assert state.updated.max() <= pd.Timestamp(cut)
    assert state.closed.max() <= pd.Timestamp(cut)
    assert (state.updated >= copy.requested).all()
    is_open = state.status.isin(["Open", "In Progress", "Reopened", "Open - Dup"])
    assert (state.closed.isna() == is_open).all()
    assert (state.closed.dropna() >= copy.requested[state.closed.notna()]).all()


def test_the_second_copy_is_what_is_new_or_changed(requests):
    first, second = known_at_2024(requests), new_in_2025(requests)
    assert set(requests.source_id) == set(first.source_id) | set(second.source_id)
    both = requests[requests.source_id.isin(set(first.source_id) & set(second.source_id))]
    assert (state_at(both, CUT_2024).updated < state_at(both, CUT_2025).updated).all()
    only_first = first[~first.source_id.isin(second.source_id)]
    pd.testing.assert_frame_equal(state_at(only_first, CUT_2024), state_at(only_first, CUT_2025))


def test_variances_cover_no_violator_and_follow_their_site(permits):
    variances = permits[permits.work == len(building.WORKS) - 1]
    sites = permits[permits.work != len(building.WORKS) - 1].set_index("site")
    assert len(variances) > 300
    assert not variances.is_violator.any()
    assert len(building.violators(permits)) > 50
    assert (variances.issued.to_numpy() > sites.issued.loc[variances.site].to_numpy()).all()


def test_no_time_falls_into_the_hour_that_spring_skips(requests):
    skipped = np.array(["2024-03-10T02:30:00"], dtype="datetime64[s]")
    assert to_wall_clock(skipped)[0] == np.datetime64("2024-03-10T03:30:00")
    assert existing(np.array(["2024-03-10"], dtype="datetime64[D]"), np.array([9_000]))[0] == np.datetime64(
        "2024-03-10T03:30:00"
    )
    for name in ("requested", "assigned", "closed", "due"):
        times = requests[name].dropna()
        gap = times[(times.dt.date.astype(str).isin(["2024-03-10", "2025-03-09"])) & (times.dt.hour == 2)]
        assert gap.empty, name
    assert to_utc(np.array(["2024-07-01T12:00:00"], dtype="datetime64[s]"))[0] == np.datetime64(
        "2024-07-01T17:00:00"
    )
