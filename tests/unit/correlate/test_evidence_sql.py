"""The evidence models against sums made by hand and by brute force; one dbt build serves all tests."""

import functools
import math

import duckdb
import h3
import numpy as np
import pandas as pd
import pytest

from assets.correlate.estimate_tables import SCHEMAS
from assets.correlate.estimates import (
    estimates_path,
    read_blocks,
    read_questions,
    write_estimates,
    write_no_estimates,
)
from assets.correlate.inference import estimate
from assets.ingest.lake import Lake
from tests.correlation_evidence import PROJECT, build_evidence, events, question, run_dbt

QUESTIONS = [
    question("near", "lamp", "theft", splits_by_hour=True),
    question("near_rare", "lamp", "main_break"),
    question("red_wide", "lamp", "theft", signal_subtype="red", radius_m=170, window_days=21),
    question("cluster", "lamp", "theft", signal_cluster_size=3, radius_m=150),
]
SETTINGS = {
    "near": ("theft", None, 100, 14),
    "near_rare": ("main_break", None, 100, 14),
    "red_wide": ("theft", "red", 170, 21),
}
WINDOWS = {
    "primary": lambda k: ((-k, -1), (1, k)),
    "isolated": lambda k: ((-k, -1), (1, k)),
    "guarded": lambda k: ((-k - 7, -8), (1, k)),
    "placebo": lambda k: ((-2 * k, -k - 1), (-k, -1)),
}
RING_VARIANTS = ("primary", "placebo")
#: 2012-03-01.
START = 15_400
#: After so many days weekdays and months are the same again.
CALENDAR = 10_227


def random_city(name):
    """A town of 6 km with clustered lamps, repeats of reports, and two kinds of outcomes."""
    rng = np.random.default_rng(11)
    hubs = rng.uniform(500, 5500, (12, 2))

    def places(n):
        return np.clip(hubs[rng.integers(12, size=n)] + rng.normal(0, 250, (n, 2)), 0, 5999)

    lamps, days = places(160), rng.integers(0, 230, 160)
    repeats = rng.integers(160, size=60)
    lamps = np.vstack([lamps, lamps[repeats] + rng.normal(0, 20, (60, 2))])
    days = np.concatenate([days, days[repeats] + rng.integers(0, 20, 60)])
    reports = events(city=name, event_type="lamp", x_m=lamps[:, 0], y_m=lamps[:, 1], day=START + days)
    reports["event_subtype"] = np.where(np.arange(220) % 3, "red", "blue")
    parts = [reports]
    for kind, n in (("theft", 5000), ("main_break", 800)):
        at = places(n)
        day = START + rng.integers(0, 240, n)
        hour = rng.integers(0, 24, n)
        parts.append(events(city=name, event_type=kind, x_m=at[:, 0], y_m=at[:, 1], day=day, hour=hour))
    return pd.concat(parts, ignore_index=True)


def renamed(rows, city):
    return rows.assign(city=city, event_key=city + rows["event_key"])


def moved(rows, *, days):
    shift = np.timedelta64(days, "D")
    return rows.assign(event_on=rows["event_on"] + shift, event_local=rows["event_local"] + shift)


def variations():
    """The random city and four that must give the same evidence."""
    base = random_city("brute")
    copies = [base, *[base.assign(event_key=base["event_key"] + suffix) for suffix in ("b", "c")]]
    lamps = base["event_type"] == "lamp"
    tripled = pd.concat([copies[0], *[copy[lamps] for copy in copies[1:]]])
    later = moved(base, days=7 * 52)
    generation = moved(base, days=CALENDAR)
    cos, sin = math.cos(0.7), math.sin(0.7)
    turned = base.assign(
        x_m=cos * base["x_m"] - sin * base["y_m"] - 9000, y_m=sin * base["x_m"] + cos * base["y_m"] - 5000
    )
    noise = events(
        city="brute", event_type="theft", x_m=[3000] * 50, y_m=[3000] * 50, day=[START + 100] * 50, prefix="x"
    )
    noise["is_noise"] = True
    doubles = base[~lamps].assign(event_key=base["event_key"] + "d", is_canonical=False)
    unusable = base[~lamps].assign(event_key=base["event_key"] + "u", is_excluded=True)
    stray = events(city="brute", event_type="theft", x_m=[3000], y_m=[3000], day=[0], prefix="1970")
    return [
        pd.concat([base, noise, doubles, unusable, stray]),
        renamed(tripled, "tripled"),
        renamed(later, "later"),
        renamed(generation, "generation"),
        renamed(turned, "turned"),
    ]


def by_hand():
    """Two lamps far from each other; the control area is the city because there are so few outcomes."""
    lamps = events(
        city="hand", event_type="lamp", x_m=[1000, 9000], y_m=[1000, 9000], day=[START + 100, START + 140]
    )
    near_first = [90, 95, 100, 101, 110, 114, 115]
    near_second = [130, 145, 150]
    elsewhere = [
        60,
        86,
        90,
        91,
        99,
        101,
        102,
        103,
        104,
        114,
        126,
        130,
        139,
        141,
        142,
        143,
        150,
        151,
        154,
        200,
    ]
    x = [1060] * len(near_first) + [9100] * len(near_second) + [5000] * len(elsewhere)
    y = [1080] * len(near_first) + [9000] * len(near_second) + [5000] * len(elsewhere)
    days = np.array(near_first + near_second + elsewhere) + START
    return pd.concat([lamps, events(city="hand", event_type="theft", x_m=x, y_m=y, day=days)])


def by_hand_crowded():
    """A lamp 100 m and 10 days after another, and one alone."""
    lamps = events(
        city="crowded",
        event_type="lamp",
        x_m=[0, 100, 9000],
        y_m=[0, 0, 0],
        day=np.array([100, 110, 110]) + START,
    )
    thefts = events(
        city="crowded", event_type="theft", x_m=[0] * 200, y_m=[0] * 200, day=START + np.arange(200)
    )
    return pd.concat([lamps, thefts])


def real_cells():
    """Thefts with true H3 cells, to check the parent arithmetic."""
    points = [(41.8 + i * 0.013, -87.7 + i * 0.017) for i in range(20)]
    rows = events(
        city="hexagons", event_type="theft", x_m=np.arange(20), y_m=np.arange(20), day=START + np.arange(20)
    )
    return rows.assign(
        h3_7=[h3.str_to_int(h3.latlng_to_cell(*p, 7)) for p in points],
        h3_10=[h3.str_to_int(h3.latlng_to_cell(*p, 10)) for p in points],
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evidence")
    rows = pd.concat([*variations(), by_hand(), by_hand_crowded(), real_cells()])
    return folder, build_evidence(folder, rows, QUESTIONS)


@pytest.fixture
def warehouse(project):
    with duckdb.connect(str(project[1]), read_only=True) as con:
        yield con


def sums(con, city, question_id, band, variant):
    """Block sums of one city and question over all months, by cell."""
    return con.execute(
        """select h3_7, sum(n_anchor)::bigint, sum(d0)::bigint, sum(d1)::bigint,
                  sum(r0)::bigint, sum(r1)::bigint, sum(num), sum(den), sum(c0_sum)
           from correlation.mart_correlation_blocks
           where (city, question_id, band, variant) = (?, ?, ?, ?) group by h3_7 order by h3_7""",
        [city, question_id, band, variant],
    ).fetchall()


@functools.cache
def town(question_id):
    """Episodes and outcomes of the random city for a question; repeats are found pair by pair."""
    outcome_type, subtype, _, _ = SETTINGS[question_id]
    rows = random_city("brute")
    rows["day"] = rows["event_on"].to_numpy().astype("datetime64[D]").astype(int)
    is_signal = (rows["event_type"] == "lamp") & ((rows["event_subtype"] == subtype) if subtype else True)
    lamps = rows[is_signal].reset_index(drop=True)
    lag = np.subtract.outer(lamps.day.to_numpy(), lamps.day.to_numpy())
    is_before = (lag > 0) | ((lag == 0) & np.greater.outer(*[lamps.event_key.to_numpy(dtype=str)] * 2))
    repeats = (is_before & (lag <= 14) & (distances(lamps, lamps) <= 50)).any(axis=1)
    return lamps[~repeats].reset_index(drop=True), rows[rows["event_type"] == outcome_type]


def distances(left, right):
    return np.hypot(
        *(np.subtract.outer(left[axis].to_numpy(), right[axis].to_numpy()) for axis in ("x_m", "y_m"))
    )


def ring_of(distance, radius):
    """1, 2, 3 for the rings, more beyond."""
    return np.maximum(np.ceil(distance / radius), 1)


@functools.cache
def shared_area(a, b, s):
    """Area common to two circles, by adding up strips across the line through their centres."""
    if s >= a + b or a == 0 or b == 0:
        return 0.0
    t = (np.arange(4000) + 0.5) / 4000 * 2 * a - a
    heights = np.sqrt(np.maximum(0, a * a - t * t)), np.sqrt(np.maximum(0, b * b - (t - s) ** 2))
    return float(np.sum(2 * np.minimum(*heights)) * 2 * a / 4000)


def brute_exposure(lag, s, k, window):
    """c0 of one anchor and whether no earlier episode's disc overlaps its own; lag and s to all others."""
    unexposed, is_alone = 1.0, True
    for j in np.flatnonzero((-2 * k - 7 <= lag) & (lag <= -1) & (s < 2)):
        is_alone = is_alone and lag[j] < -2 * k
        days = max(0, min(lag[j] + k, window[1]) - max(lag[j] + 1, window[0]) + 1)
        unexposed *= 1 - shared_area(1, 1, s[j]) / math.pi * days / k
    return 1 - unexposed, is_alone


def control_areas(rows, level):
    row = (rows.h3_7.to_numpy() >> 24) & 4095
    column = (rows.h3_7.to_numpy() >> 36) & 4095
    return {"h3_7": rows.h3_7.to_numpy(), "h3_6": column * 4096 + row // 8, "city": np.zeros(len(rows))}[
        level
    ]


def control_level(question_id):
    """The finest level at which the area of a report holds ten outcomes in a mean window."""
    outcome_type, _, _, k = SETTINGS[question_id]
    rows = random_city("brute")
    reports, outcomes = rows[rows["event_type"] == "lamp"], rows[rows["event_type"] == outcome_type]
    days = (outcomes["event_on"].max() - outcomes["event_on"].min()).days + 1
    for level in ("h3_7", "h3_6", "city"):
        same = np.equal.outer(control_areas(reports, level), control_areas(outcomes, level))
        if same.sum(axis=1).mean() * k / days >= 10:
            return level
    return "city"


def brute(question_id, band, variant):
    """Control level and block sums by cell from every pair of lamp and outcome."""
    _, _, radius, k = SETTINGS[question_id]
    lamps, outcomes = town(question_id)
    day = lamps.day.to_numpy()
    first, last = outcomes.day.min(), outcomes.day.max()
    lags = np.subtract.outer(outcomes.day.to_numpy(), day).T
    level = control_level(question_id)
    is_inside = np.equal.outer(control_areas(lamps, level), control_areas(outcomes, level))
    (low0, high0), (low1, high1) = WINDOWS[variant](k)
    in0, in1 = (low0 <= lags) & (lags <= high0), (low1 <= lags) & (lags <= high1)
    ring = ring_of(distances(lamps, outcomes), radius) == band
    counts = [
        (a & b).sum(axis=1)
        for a, b in ((ring, in0), (ring, in1), (is_inside & ~ring, in0), (is_inside & ~ring, in1))
    ]
    has_any = (ring & (lags >= -2 * k) & (lags <= k) & (lags != 0)).any(axis=1)
    apart = distances(lamps, lamps) / radius
    result = {}
    for i in np.flatnonzero((day + low0 >= first) & (day + high1 <= last)):
        c0, is_alone = brute_exposure(day - day[i], apart[i], k, (low0, high0))
        if variant == "isolated" and not is_alone:
            continue
        c0 = 0.0 if variant in ("isolated", "placebo") or band > 1 else c0
        d0, d1, r0, r1 = (int(count[i]) if has_any[i] else 0 for count in counts)
        n = max(d0 + d1 + r0 + r1, 1)
        terms = [1, d0, d1, r0, r1, (1 - c0) * d1 * r0 / n, (d0 * r1 - c0 * d1 * r0) / n, c0]
        cell = int(lamps.h3_7[i])
        result[cell] = [a + b for a, b in zip(result.get(cell, [0] * 8), terms, strict=True)]
    return level, [(cell, *values) for cell, values in sorted(result.items())]


def brute_crossover(question_id):
    """Case-crossover numerator and denominator of the whole city, stratum by stratum."""
    _, _, radius, k = SETTINGS[question_id]
    lamps, outcomes = town(question_id)
    month = outcomes["event_on"].dt.to_period("M")
    num = den = 0.0
    for (period, _), cell in outcomes.groupby([month, "h3_10"]):
        apart = np.hypot(lamps.x_m - cell.x_m.mean(), lamps.y_m - cell.y_m.mean())
        begun = lamps.day[apart <= radius].to_numpy()
        days = np.arange(period.days_in_month) + (period.start_time - pd.Timestamp(0)).days
        since = np.subtract.outer(days, begun)
        exposed = ((since >= 1) & (since <= k)).any(axis=1)
        weight = np.array([(outcomes.day == day).sum() for day in days])
        share = weight[exposed].sum() / weight.sum()
        if exposed.any():
            cases = np.array([(cell.day == day).sum() for day in days])
            num += cases[exposed].sum() * (1 - share)
            den += cases[~exposed].sum() * share
    return num, den


def test_two_lamps_by_hand(warehouse):
    # First lamp: d0 2, d1 3, r0 4, r1 5, n 14. Second: d0 1, d1 2, r0 3, r1 6, n 12. Days 0 and 15 are out.
    rows = sums(warehouse, "hand", "near", 1, "primary")
    assert sorted(row[1:6] for row in rows) == [(1, 1, 2, 3, 6), (1, 2, 3, 4, 5)]
    num, den = (sum(row[i] for row in rows) for i in (6, 7))
    assert num == pytest.approx(3 * 4 / 14 + 2 * 3 / 12)
    assert den == pytest.approx(2 * 5 / 14 + 1 * 6 / 12)
    assert num / den == pytest.approx(19 / 17)


def test_contamination_by_hand(warehouse):
    overlap = 2 / math.pi * (math.acos(0.5) - 0.5 * math.sqrt(0.75))
    rows = warehouse.execute("""
        select episodes.x_m, exposure.c0_pre, exposure.n_earlier
        from intermediate.int_signal_episodes as episodes
        inner join intermediate.int_correlation_pairs as pairs
          on episodes.signal_id = pairs.signal_id and pairs.pair_key = 'near'
        left join intermediate.int_anchor_exposure as exposure
          on exposure.episode_id = episodes.episode_id and exposure.series_id = pairs.series_id
        where episodes.city = 'crowded' order by episodes.x_m""").fetchall()
    # The earlier lamp exposes days -9 to 4 of the later one: 9 of its 14 reference days.
    assert rows == [(0.0, None, None), (100.0, pytest.approx(overlap * 9 / 14), 1), (9000.0, None, None)]


def test_lone_anchors_are_not_contaminated(warehouse):
    assert [row[8] for row in sums(warehouse, "hand", "near", 1, "primary")] == [0, 0]
    anchors = sums(warehouse, "crowded", "near", 1, "isolated")
    assert sum(row[1] for row in anchors) == 2


@pytest.mark.parametrize("variant", WINDOWS)
@pytest.mark.parametrize(
    ("question_id", "level"), [("near", "h3_7"), ("near_rare", "h3_6"), ("red_wide", "h3_7")]
)
def test_sql_equals_brute_force(warehouse, question_id, level, variant):
    for band in (1, 2, 3) if variant in RING_VARIANTS else (1,):
        used_level, expected = brute(question_id, band, variant)
        found = sums(warehouse, "brute", question_id, band, variant)
        assert used_level == level
        assert [row[:6] for row in found] == [tuple(row[:6]) for row in expected]
        assert [x for row in found for x in row[6:]] == pytest.approx(
            [x for row in expected for x in row[6:]], abs=2e-4
        )
        assert sum(row[2] + row[3] for row in found) > 20


def test_control_levels(warehouse):
    levels = dict(
        warehouse.execute("""select distinct question_id, control_level
                             from correlation.mart_correlation_blocks
                             where city = 'brute' and variant <> 'case_crossover'""").fetchall()
    )
    assert levels == {"near": "h3_7", "near_rare": "h3_6", "red_wide": "h3_7", "cluster": "h3_7"}


@pytest.mark.parametrize("question_id", ["near", "red_wide"])
def test_cross_check_equals_brute_force(warehouse, question_id):
    rows = sums(warehouse, "brute", question_id, 1, "case_crossover")
    found = (sum(row[6] for row in rows), sum(row[7] for row in rows))
    assert found == pytest.approx(brute_crossover(question_id), rel=1e-6)
    assert found[0] > 10


@pytest.mark.parametrize("city", ["tripled", "later", "generation", "turned"])
def test_evidence_does_not_move(warehouse, city):
    """Tripled reports, other weeks and years and a turned map leave every sum as it is (cells are kept)."""
    for question_id in SETTINGS:
        for variant in [*WINDOWS, "night", "day", "case_crossover"]:
            if city == "later" and variant == "case_crossover":
                continue  # its strata are calendar months
            before = sums(warehouse, "brute", question_id, 1, variant)
            after = sums(warehouse, city, question_id, 1, variant)
            assert [row[:6] for row in after] == [row[:6] for row in before]
            assert [x for row in after for x in row[6:]] == pytest.approx(
                [x for row in before for x in row[6:]]
            )


def test_night_and_day_split_the_outcomes(warehouse):
    lamps, outcomes = town("near")
    hour = outcomes["event_local"].dt.hour.to_numpy()
    is_night = (hour >= 20) | (hour < 6)
    lags = np.subtract.outer(outcomes.day.to_numpy(), lamps.day.to_numpy()).T
    near = distances(lamps, outcomes) <= 100
    day = lamps.day.to_numpy()
    fits = (day - 14 >= outcomes.day.min()) & (day + 14 <= outcomes.day.max())
    for variant, of_part in (("night", is_night), ("day", ~is_night)):
        rows = sums(warehouse, "brute", "near", 1, variant)
        for column, (low, high) in ((2, (-14, -1)), (3, (1, 14))):
            expected = (near & (lags >= low) & (lags <= high) & of_part)[fits].sum()
            assert sum(row[column] for row in rows) == expected > 20
    assert sums(warehouse, "brute", "near_rare", 1, "night") == []


def test_a_cluster_counts_from_the_report_that_completes_it(warehouse):
    lamps, _ = town("near")
    apart, lag = distances(lamps, lamps), np.subtract.outer(lamps.day.to_numpy(), lamps.day.to_numpy())
    is_before = (lag > 0) | ((lag == 0) & np.greater.outer(*[lamps.event_key.to_numpy(dtype=str)] * 2))
    near = is_before & (lag <= 28) & (apart <= 150)
    completes = near.sum(axis=1) >= 2
    again = (near & completes[None, :]).any(axis=1)
    expected = sorted(lamps.event_key[completes & ~again])
    found = warehouse.execute("""
        select episodes.event_key from intermediate.int_signal_episodes as episodes
        inner join intermediate.int_correlation_pairs as pairs on episodes.signal_id = pairs.signal_id
        where episodes.city = 'brute' and pairs.pair_key = 'cluster' order by 1""").fetchall()
    assert [key for (key,) in found] == expected
    assert len(expected) > 3


def test_lag_curves_equal_brute_force(warehouse):
    lamps, outcomes = town("near")
    lags = np.subtract.outer(outcomes.day.to_numpy(), lamps.day.to_numpy()).T
    day = lamps.day.to_numpy()
    fits = (day - 56 >= outcomes.day.min()) & (day + 56 <= outcomes.day.max())
    near = distances(lamps, outcomes) <= 100
    inside = np.equal.outer(lamps.h3_7.to_numpy(), outcomes.h3_7.to_numpy())
    found = {
        (unit, lag): (d, r)
        for unit, lag, d, r in warehouse.execute("""
            select unit, lag, sum(d)::int, sum(r)::int from intermediate.int_lag_blocks
            where city = 'brute' and question_id = 'near' group by all""").fetchall()
    }
    for lag in [x for x in range(-56, 57) if x]:
        at = (lags == lag) & fits[:, None]
        assert found[("day", lag)] == ((near & at).sum(), (~near & at).sum())
    for week in [x for x in range(-8, 9) if x]:
        first, last = (7 * week - 6, 7 * week) if week > 0 else (7 * week, 7 * week + 6)
        at = (lags >= first) & (lags <= last) & fits[:, None]
        assert found[("week", week)] == ((near & at).sum(), (inside & ~near & at).sum())
    assert len(found) == 112 + 16


def test_sums_are_the_same_to_the_last_bit_in_any_order_of_rows(tmp_path):
    """Threads hand rows over in any order and a sum of floats depends on it; a second run changes no row."""
    found = []
    for name, rows in (
        ("one", random_city("brute")),
        ("other", random_city("brute").sample(frac=1, random_state=3)),
    ):
        (tmp_path / name).mkdir()
        built = build_evidence(tmp_path / name, rows, QUESTIONS)
        with duckdb.connect(str(built), read_only=True) as con:
            found.append(
                con.execute("select * from correlation.mart_correlation_blocks order by all").fetchall()
            )
    assert len(found[0]) > 500
    assert found[0] == found[1]


def test_months_add_up_to_one_row_per_anchor(warehouse):
    months = warehouse.execute("""
        select count(distinct month), sum(n_anchor)::int from correlation.mart_correlation_blocks
        where (city, question_id, band, variant) = ('brute', 'near', 1, 'primary')""").fetchone()
    lamps, outcomes = town("near")
    fits = (lamps.day - 14 >= outcomes.day.min()) & (lamps.day + 14 <= outcomes.day.max())
    assert months[0] > 5
    assert months[1] == fits.sum() > 100


def test_a_stray_record_does_not_stretch_the_period(warehouse):
    first = warehouse.execute("""select first_day from intermediate.int_outcome_periods
                                 where city = 'brute' and outcome_type = 'theft'""").fetchone()[0]
    assert first == START


def test_parent_cells_are_those_of_h3(warehouse):
    children = [int(cell) for cell in real_cells()["h3_7"]]
    parent = "(({} - 4503599627370496) | 117440512)"
    assert parent.format("{{ h3_7 }}") in (PROJECT / "macros/correlation.sql").read_text(encoding="utf-8")
    found = warehouse.execute(f"select {parent.format('unnest(?)')}", [children]).fetchall()
    assert [cell for (cell,) in found] == [
        h3.str_to_int(h3.cell_to_parent(h3.int_to_str(c), 6)) for c in children
    ]


def test_verdicts_reach_the_mart(project):
    folder, built = project
    lake = Lake(folder)
    write_no_estimates(lake)
    run_dbt(folder, "build", "--select", "tag:verdict")
    lake.build_warehouse.parent.mkdir(parents=True)
    lake.build_warehouse.write_bytes(built.read_bytes())
    written = write_estimates(lake)
    once = {name: estimates_path(lake, name).read_bytes() for name in SCHEMAS}
    assert write_estimates(lake) == written
    assert {name: estimates_path(lake, name).read_bytes() for name in SCHEMAS} == once
    assert {path.stem for path in estimates_path(lake, "estimates").parent.iterdir()} == set(SCHEMAS)
    run_dbt(folder, "build", "--select", "tag:verdict")
    with duckdb.connect(str(built), read_only=True) as con:
        rows = con.execute(
            "select city, verdict, rr, naive_ratio, reason from correlation.mart_correlations"
        ).fetchall()
    assert len(rows) == sum(written["estimates"].values())
    by_hand = [row for row in rows if row[0] == "hand"]
    assert {row[1] for row in by_hand} == {"insufficient"}
    assert {row[2] for row in by_hand} == {None}
    assert all("no ratio is published" in row[4] for row in by_hand)


def test_a_town_of_few_cells_is_insufficient(warehouse):
    found = [e for e in estimate(read_blocks(warehouse)) if e.city == "brute"]
    assert len(found) == 12
    assert sum(e.d0 + e.d1 >= 50 for e in found) > 3
    assert {e.verdict for e in found} == {"insufficient"}
    assert set(read_questions(warehouse)) == {*SETTINGS, "cluster"}
