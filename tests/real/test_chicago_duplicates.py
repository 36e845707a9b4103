"""Duplicates found by place and time against the sanitation complaints that Chicago's staff labelled so."""

import pytest

pytestmark = [pytest.mark.real, pytest.mark.slow]

#: One row per complaint: whether staff labelled it, and whether it was found to repeat an open one, and when.
COMPLAINTS = """
    select
        requests.is_duplicate as is_labelled,
        links.to_event_key is not null as is_found,
        links.lag_days,
        events.closed_local = cases.closed_local as is_closed_with_case
    from core.fct_events as events
    join core.fct_service_requests as requests on events.event_key = requests.event_key
    left join core.bridge_event_link as links
        on events.event_key = links.from_event_key and links.link_type = 'duplicate_of'
    left join core.fct_events as cases on links.to_event_key = cases.event_key
    where events.feed = 'sanitation_complaints'
"""


def test_labelled_complaints_are_found_and_found_ones_look_like_them(chicago):
    [(both, labelled, found)] = chicago.rows(
        f"""select count(*) filter (is_labelled and is_found), count(*) filter (is_labelled),
                count(*) filter (is_found) from ({COMPLAINTS})"""
    )
    soon, later = (
        chicago.rows(
            f"""select count(*) filter (is_labelled), count(*) from ({COMPLAINTS})
                where is_found and abs(lag_days) {days}"""
        )[0]
        for days in ("<= 2", "> 2")
    )
    [(together, unlabelled)] = chicago.rows(
        f"""select count(*) filter (is_closed_with_case), count(*) from ({COMPLAINTS})
            where is_found and not is_labelled"""
    )
    print(f"\nlabelled by staff: {labelled}, found: {found}, both: {both}")
    print(f"of those labelled, found: {both / labelled:.3f}; of those found, labelled: {both / found:.3f}")
    print(f"  of those found within 2 days of their case, labelled: {soon[0] / soon[1]:.3f} of {soon[1]}")
    print(f"  of those found later, labelled: {later[0] / later[1]:.3f} of {later[1]}")
    print(f"found and not labelled: {unlabelled}, of which closed on one day with their case: {together}")
    # 3,633 numbers were ever labelled; the newest row of one of them is not.
    assert labelled == 3_632
    assert both / labelled > 0.95
    assert both / found > 0.6
    assert soon[0] / soon[1] > 0.8


def test_twin_neighbouring_addresses_are_not_what_staff_call_duplicates(chicago):
    """What 40 m and 10 days give without a look at the address: why a property is compared by it."""
    [(labelled_there, there, labelled_beside, beside)] = chicago.rows(
        """
        with complaints as (
            select
                events.event_key,
                events.address,
                events.event_on,
                events.x_m,
                events.y_m,
                requests.is_duplicate
            from core.fct_events as events
            join core.fct_service_requests as requests on events.event_key = requests.event_key
            where events.feed = 'sanitation_complaints' and events.x_m is not null
        ),
        strips as (
            select *, floor(x_m / 40) + step as strip from complaints, (values (-1), (0), (1)) as steps (step)
        ),
        near as (
            select
                later.event_key,
                later.is_duplicate,
                bool_or(later.address = earlier.address) as is_at_address
            from complaints as later
            join strips as earlier
                on floor(later.x_m / 40) = earlier.strip
                and later.event_on - earlier.event_on between 0 and 10
                and later.event_key <> earlier.event_key
                and (later.x_m - earlier.x_m) ** 2 + (later.y_m - earlier.y_m) ** 2 <= 1600
            group by all
        )
        select
            count(*) filter (is_duplicate and is_at_address), count(*) filter (is_at_address),
            count(*) filter (is_duplicate and not is_at_address), count(*) filter (not is_at_address)
        from near
        """
    )
    print(f"\nnear one at its address: {there}, of which labelled {labelled_there / there:.3f}")
    print(f"near one at other addresses only: {beside}, of which labelled {labelled_beside / beside:.4f}")
    assert beside > 5_000
    assert labelled_beside / beside < 0.01
    assert labelled_there / there > 0.2
