"""Casework can be counted again by other means: owners, stalls, what came back, what crews log wrongly."""

import numpy as np
import pandas as pd
import pytest

from assets.simulate import works
from assets.simulate.calendar import CUT_2024, CUT_2025
from assets.simulate.casework import handoffs, repeat_contacts, stalls, state_at, steps_until
from assets.simulate.catalogue import DISPATCH_DESK, OWNERS, ROUTING_SHIFTS, SERVICES

AGENCY_OF = {service.event_type: service.agency for service in SERVICES}


@pytest.fixture(scope="module")
def handed(requests) -> pd.DataFrame:
    return handoffs(requests)


@pytest.fixture(scope="module")
def orders(requests, happenings) -> pd.DataFrame:
    return works.work_orders(requests, happenings["infra_main_break"], 311)


@pytest.fixture(scope="module")
def discrepancies(requests, orders) -> pd.DataFrame:
    return works.discrepancies(requests, orders)


def test_some_requests_change_hands_up_to_four_times_and_some_come_back(requests, handed):
    worked = requests[~requests.is_labelled]
    changes = handed.groupby("source_id").size()
    assert changes.size / len(worked) == pytest.approx(0.15, abs=0.01)
    assert sorted(changes.unique()) == [1, 2, 3, 4]
    assert (handed.from_agency != handed.to_agency).all()
    assert not handed.source_id.isin(requests.source_id[requests.is_labelled]).any()
    again = handed[handed.seq > 1]
    assert 0.25 < again.is_return.mean() < 0.6
    assert not handed[handed.seq == 1].is_return.any()


def test_hand_offs_follow_one_another_while_the_request_is_open(requests, handed):
    rows = handed.merge(requests[["source_id", "requested", "closed", "event_type"]], on="source_id")
    assert (rows["at"] >= rows.requested).all()
    assert not (rows["at"] > rows.closed).any()
    previous = rows.groupby("source_id")
    assert (rows["at"] >= previous["at"].shift().fillna(rows.requested)).all()
    for _, mine in previous:
        owners = [mine.from_agency.iloc[0], *mine.to_agency]
        assert mine.seq.tolist() == list(range(1, len(owners)))
        assert mine.from_agency.tolist() == owners[:-1]
        assert mine.is_return.tolist() == [owner in owners[:at] for at, owner in enumerate(owners)][1:]


def test_on_the_days_of_a_shift_all_of_one_type_goes_to_the_desk_and_else_nothing(requests):
    first = np.array(OWNERS, dtype=object)[requests.owner_0]
    day = requests.requested.dt.date
    is_shifted = np.zeros(len(requests), dtype=bool)
    for shift in ROUTING_SHIFTS:
        is_shifted |= (
            (requests.event_type == shift.event_type) & (day >= shift.first_on) & (day <= shift.last_on)
        )
    assert is_shifted.sum() > 50
    assert set(first[is_shifted]) == {DISPATCH_DESK}
    assert (first[~is_shifted] == requests.event_type[~is_shifted].map(AGENCY_OF)).all()
    passed_on = requests.handed_1[is_shifted & ~requests.is_labelled].notna().mean()
    assert 0.35 < passed_on < 0.75


@pytest.mark.parametrize("cut", [CUT_2024, CUT_2025])
def test_the_last_step_of_a_request_is_its_state(requests, cut):
    copy = requests[requests.requested < cut]
    state = state_at(copy, cut)
    steps = steps_until(copy, cut)
    assert steps["at"].max() <= pd.Timestamp(cut)
    assert steps.place.is_monotonic_increasing
    assert (steps["at"] >= steps.groupby("place")["at"].shift().fillna(steps["at"])).all()
    last = steps.groupby("place").last()
    assert len(last) == len(copy)
    assert (last.status.to_numpy() == state.status.to_numpy()).all()
    assert (last.agency.to_numpy() == state.agency.to_numpy()).all()
    assert (last["at"].to_numpy() == state.updated.to_numpy()).all()
    assert (steps.groupby("place")["at"].first().to_numpy() == copy.requested.to_numpy()).all()


def test_owners_in_the_steps_change_as_often_as_requests_change_hands(requests, handed):
    steps = steps_until(requests, CUT_2025)
    owner = steps.agency.cat.codes
    changes = (owner != owner.shift()) & (steps.place == steps.place.shift())
    known = handed[handed["at"] <= pd.Timestamp(CUT_2025)]
    counted = changes.groupby(steps.place).sum()
    told = known.groupby("source_id").size().reindex(requests.source_id, fill_value=0)
    assert (counted.to_numpy() == told.to_numpy()).all()


def test_stuck_requests_wait_long_and_nothing_happens_meanwhile(requests):
    stuck = stalls(requests)
    worked = requests[~requests.is_labelled]
    shares = stuck.kind.value_counts() / len(worked)
    assert shares["never_closed"] == pytest.approx(0.08, abs=0.01)
    assert shares["very_late"] == pytest.approx(0.01, abs=0.003)
    median = stuck.event_type.map({service.event_type: service.median_days for service in SERVICES})
    waited = (stuck.closed - stuck.stuck_since).dt.total_seconds() / 86_400 / median
    late = waited[stuck.kind == "very_late"]
    assert late.min() > 4
    # A heavy tail: the longest tenth waits many times as long as the middle.
    assert late.quantile(0.9) > 5 * late.median()
    assert waited[stuck.kind == "never_closed"].isna().all()
    steps = steps_until(requests, CUT_2025)
    steps["source_id"] = requests.source_id.to_numpy()[steps.place]
    meanwhile = steps.merge(stuck, on="source_id")
    meanwhile = meanwhile[meanwhile["at"] > meanwhile.stuck_since]
    assert (meanwhile["at"] >= meanwhile.closed).all()


def test_repeat_contacts_are_what_came_back_after_a_closing(requests):
    contacts = repeat_contacts(requests)
    reopened = contacts[contacts.kind == "reopened"]
    assert set(reopened.source_id) == set(requests.source_id[requests.reopened.notna()])
    days = (reopened["at"] - reopened.closed).dt.total_seconds() / 86_400
    assert 0.9 < days.min() < days.max() < 61

    again = contacts[contacts.kind == "reported_again"]
    assert again.source_id.is_unique
    by_id = requests.set_index("source_id")
    cases = dict(list(requests.groupby(["service", "case"])))
    expected = {}
    for row in requests[requests.is_repeat & ~requests.is_labelled].sample(400, random_state=1).itertuples():
        case = cases[row.service, row.case]
        before = case[case.requested < row.requested]
        ends = [
            each.closed_again if each.reopened <= row.requested else each.closed
            for each in before.itertuples()
        ]
        shut = [end for end in ends if end <= row.requested]
        expected[row.source_id] = (max(shut), len(shut) < len(ends)) if shut else None
    found = again.set_index("source_id")
    for source_id, told in expected.items():
        assert (source_id in found.index) == (told is not None)
        if told is not None:
            assert (found.closed[source_id], found.is_other_open[source_id]) == told
            assert by_id.case[found.earlier[source_id]] == by_id.case[source_id]
    assert sum(told is not None for told in expected.values()) > 50


def test_work_orders_disagree_with_requests_as_told(requests, orders, discrepancies):
    done = state_at(requests, CUT_2025)
    by_id = requests.assign(shown=done.closed).set_index("source_id")
    counts = discrepancies.kind.value_counts()
    assert set(counts.index) == {"missing", "not_transferred", "wrong_log", "closed_in_one_open_in_other"}
    assert counts.min() > 50
    repairs = orders[orders.event_type != "infra_main_break"]
    assert repairs.answers.is_unique
    told = discrepancies.set_index("source_id")
    missing, stuck = (by_id.loc[told.index[told.kind == kind]] for kind in ("missing", "not_transferred"))
    assert not told.index[told.work_order.isna()].isin(repairs.answers).any()
    assert missing.shown.notna().all()
    assert (missing.ending == "Completed").all()
    assert stuck.shown.isna().all()

    agreeing = repairs[~repairs.source_id.isin(discrepancies.work_order)]
    is_told = agreeing.request.notna()
    assert (agreeing.request[is_told] == agreeing.answers[is_told]).all()
    assert 0.04 < (~is_told).mean() < 0.12
    is_shut = by_id.shown[agreeing.answers].notna().to_numpy()
    assert (agreeing.completed.notna().to_numpy() == is_shut).all()

    wrong = told[told.kind == "wrong_log"]
    assert (wrong.named != wrong.index).all()
    assert 0 < wrong.named.isin(requests.source_id).mean() < 1
    half = told[told.kind == "closed_in_one_open_in_other"]
    finished = repairs.set_index("source_id").completed[half.work_order].notna().to_numpy()
    assert (finished != by_id.shown[half.index].notna().to_numpy()).all()
    assert 0.1 < finished.mean() < 0.9
