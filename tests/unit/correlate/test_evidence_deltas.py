"""Evidence built by deltas against evidence built whole: the same rows, few months summed again."""

from datetime import date
from hashlib import md5

import duckdb
import numpy as np
import pandas as pd
import pytest

from tests.correlation_evidence import build_evidence, events, question

#: 2020-01-01.
START = 18_262
DAYS = 731
QUESTIONS = [
    question("near", "lamp", "theft", splits_by_hour=True),
    question("wide", "lamp", "theft", radius_m=200, window_days=28),
    question("cluster", "lamp", "theft", signal_cluster_size=2, radius_m=200),
]
ADDED = question("back", "theft", "lamp")
#: More than a month has lamps, less than it has thefts: the scan takes all of those, a sample of these.
SCAN = {"scan_min_events": 300, "scan_anchors_a_month": 40}
TABLES = (
    "correlation.mart_correlation_blocks",
    "intermediate.int_lag_blocks",
    "intermediate.int_scan_blocks",
)


def town():
    rng = np.random.default_rng(5)
    hubs = rng.uniform(300, 3700, (6, 2))
    parts = []
    for kind, n in (("lamp", 500), ("theft", 2500)):
        at = hubs[rng.integers(6, size=n)] + rng.normal(0, 220, (n, 2))
        day = np.sort(rng.integers(0, DAYS, n))
        parts.append(
            events(
                city="town",
                event_type=kind,
                x_m=at[:, 0],
                y_m=at[:, 1],
                day=START + day,
                hour=rng.integers(0, 24, n),
            )
        )
    return keyed(pd.concat(parts, ignore_index=True))


def keyed(rows):
    """Give events keys as the warehouse makes them, which draw the sample of the scan."""
    return rows.assign(event_key=[md5(key.encode()).hexdigest() for key in rows["event_key"]])


def rows_of(built):
    with duckdb.connect(str(built), read_only=True) as con:
        return {table: con.execute(f"select * from {table} order by all").fetchall() for table in TABLES}


def summed_again(built, question_id, flag="is_new"):
    with duckdb.connect(str(built), read_only=True) as con:
        rows = con.execute(
            f"select month from intermediate.int_evidence_months where pair_key = ? and {flag} order by 1",
            [question_id],
        ).fetchall()
    return [month for (month,) in rows]


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    """The town as it was a day before its end, then whole, then with a late record and one withdrawn."""
    folder, rows = tmp_path_factory.mktemp("grown"), town()
    seen = []

    def build(rows, questions=QUESTIONS):
        built = build_evidence(folder, rows, questions, **SCAN)
        seen.append(
            {
                "rows": rows_of(built),
                **{
                    (q["question_id"], flag): summed_again(built, q["question_id"], flag)
                    for q in questions
                    for flag in ("is_new", "is_lag_new")
                },
            }
        )

    yesterday = np.datetime64("1970-01-01") + np.timedelta64(START + DAYS - 2, "D")
    build(rows[rows["event_on"] <= yesterday])
    build(rows)
    late = keyed(
        events(city="town", event_type="lamp", x_m=[1500], y_m=[1500], day=[START + 100], prefix="late-")
    )
    is_gone = (rows["event_on"] == np.datetime64("2021-03-10")) & (rows["event_type"] == "theft")
    assert is_gone.any()
    changed = pd.concat([rows[~is_gone], late])
    build(changed)
    build(changed)
    build(changed, [*QUESTIONS[1:], ADDED])
    whole = build_evidence(tmp_path_factory.mktemp("whole"), changed, [*QUESTIONS[1:], ADDED], **SCAN)
    return seen, rows_of(whole), whole


def test_any_sequence_of_deltas_gives_what_a_whole_build_gives(builds):
    seen, whole, _ = builds
    for table in TABLES:
        assert len(whole[table]) > 100
        assert seen[-1]["rows"][table] == whole[table]


def test_a_day_s_delta_sums_the_last_months_again(builds):
    seen, *_ = builds
    assert len(seen[0][("near", "is_new")]) == 24
    assert seen[1][("near", "is_new")] == [date(2021, 12, 1)] or seen[1][("near", "is_new")] == [
        date(2021, 11, 1),
        date(2021, 12, 1),
    ]
    assert min(seen[1][("wide", "is_new")]) >= date(2021, 11, 1)
    assert min(seen[1][("near", "is_lag_new")]) >= date(2021, 10, 1)


def test_a_late_record_touches_its_month_and_those_within_two_windows(builds):
    # A lamp of 2020-04-10 reaches 49 days on (two windows, a week, an episode); thefts of 2021-03-10 that are
    # no more are within 14 days of February and within 36 of April.
    seen, *_ = builds
    assert seen[2][("near", "is_new")] == [
        date(2020, 4, 1), date(2020, 5, 1), date(2021, 2, 1), date(2021, 3, 1), date(2021, 4, 1),
    ]  # fmt: skip
    assert len(seen[2][("wide", "is_new")]) <= 7


def test_nothing_changed_sums_nothing(builds):
    seen, *_ = builds
    assert [months for key, months in seen[3].items() if key != "rows"] == [[]] * 6
    assert seen[3]["rows"] == seen[2]["rows"]


def test_a_new_question_sums_its_own_months_only_and_a_dropped_one_goes(builds):
    seen, *_ = builds
    assert len(seen[4][("back", "is_new")]) == 24
    assert seen[4][("wide", "is_new")] == []
    questions = {row[1] for row in seen[4]["rows"]["correlation.mart_correlation_blocks"]}
    assert questions == {"wide", "cluster", "back"}


def test_scanned_pairs_are_summed_as_questions_are(builds):
    seen, *_ = builds
    asked = {
        row[5:7]: (row[7], row[8], row[9], row[12], row[13])
        for row in seen[0]["rows"]["correlation.mart_correlation_blocks"]
        if row[1] == "near" and row[2:4] == (1, "primary") and row[8] + row[9] > 0
    }
    scanned = {
        row[6:8]: row[8:13]
        for row in seen[0]["rows"]["intermediate.int_scan_blocks"]
        if row[2:5] == ("lamp", "theft", "primary") and row[6] > 0
    }
    assert scanned == asked
    assert len(asked) > 40
    assert sum(
        row[8]
        for row in seen[0]["rows"]["intermediate.int_scan_blocks"]
        if row[2:5] == ("lamp", "theft", "primary")
    ) == (
        sum(
            row[7]
            for row in seen[0]["rows"]["correlation.mart_correlation_blocks"]
            if row[1] == "near" and row[2:4] == (1, "primary")
        )
    )


def test_the_scan_of_a_frequent_signal_looks_at_a_sample_of_each_month(builds):
    _, _, built = builds
    with duckdb.connect(str(built), read_only=True) as con:
        episodes = con.sql("""
            select event_key, month, day, x_m, y_m from intermediate.int_signal_episodes
            inner join (
                select distinct signal_id from intermediate.int_correlation_pairs
                where signal_type = 'theft' and outcome_type = 'lamp'
            ) using (signal_id)
        """).df()
        thefts = con.sql("""
            select cast(date_trunc('month', event_on) as date) as month, count(*) as n
            from core.fct_events where event_type = 'theft' group by all
        """).df()
        lamps = con.sql("""
            select date_diff('day', date '1970-01-01', event_on) as day, x_m, y_m
            from core.fct_events where event_type = 'lamp'
        """).fetchnumpy()
        first, last = con.sql(
            "select first_day, last_day from intermediate.int_outcome_periods where outcome_type = 'lamp'"
        ).fetchone()
        found = con.sql("""
            select sum(n_anchor), sum(d0), sum(d1) from intermediate.int_scan_blocks
            where signal_type = 'theft' and outcome_type = 'lamp' and variant = 'primary'
        """).fetchone()
    episodes = episodes.merge(thefts, on="month")
    value = episodes["event_key"].str[:4].map(lambda digits: int(digits, 16))
    within = episodes["day"].between(first + 14, last - 14)
    sample = episodes[(value < np.ceil(65_536 * SCAN["scan_anchors_a_month"] / episodes["n"])) & within]
    assert 0.2 < len(sample) / within.sum() < 0.6
    lag = lamps["day"][None, :] - sample["day"].to_numpy()[:, None]
    distance = np.hypot(
        lamps["x_m"][None, :] - sample["x_m"].to_numpy()[:, None],
        lamps["y_m"][None, :] - sample["y_m"].to_numpy()[:, None],
    )
    is_near = distance <= 100
    before, after = (is_near & (lag >= a) & (lag <= b) for a, b in ((-14, -1), (1, 14)))
    assert found == (len(sample), before.sum(), after.sum())
    assert after.sum() > 20
