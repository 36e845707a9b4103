"""What the real Chicago files must give, from rows in the file to the verdict of the correlation."""

import csv
import gzip
import hashlib
import io
import json
from datetime import date, timedelta

import pytest
from scipy import stats

from tests.real.catalogue_asked import answers, asked, show

pytestmark = [pytest.mark.real, pytest.mark.slow]

#: feed -> files under CITYSIGNAL_REAL_DATA/chicago
FILES = {
    "sanitation_complaints": ["311_sanitation_code_complaints.csv.gz"],
    "street_lights_all_out": ["311_street-lights-all-out.csv.gz"],
    "street_lights_one_out": ["311_street-lights-one-out.csv.gz"],
    "alley_lights_out": ["311_alley_lights_out.csv.gz"],
    "burglaries": ["crimes_burglary_2011_2014.csv.gz"],
    "homicides": ["homicides_2001_2018.csv.gz"],
    "building_permits": [
        f"building_permits_{years}.csv.gz" for years in ("2006_2010", "2011_2014", "2015_2019", "2020_2026")
    ],
}
#: What the issue states, counted by hand outside the product.
STATED_ROWS = {
    "sanitation_complaints": 74_401,
    "street_lights_all_out": 12_518,
    "street_lights_one_out": 10_796,
    "alley_lights_out": 10_266,
    "burglaries": 66_932,
    "homicides": 9_265,
    "building_permits": 828_461,
}
LIGHTS = ("street_lights_all_out", "street_lights_one_out", "alley_lights_out")
TRAP = "sanitation_burglary"
#: What four files of requests, burglaries, homicides and permits allow, by hand.
NAMED = {
    TRAP,
    "lights_burglary",
    "lights_all_out_burglary",
    "lights_one_out_burglary",
    "lights_alley_burglary",
}
CONTROLS = {
    "sanitation_permit_electrical",
    "lights_permit_alteration",
    "burglary_permit_new_building",
    "homicide_permit_electrical",
}


def count_records(real_data, names: list[str]) -> int:
    """Count records with the standard library's reader: not the reader the product uses."""
    total = 0
    for name in names:
        with gzip.open(real_data / "chicago" / name) as raw:
            reader = csv.reader(io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace", newline=""))
            total += sum(1 for record in reader if record) - 1
    return total


@pytest.mark.parametrize("feed", FILES)
def test_every_row_of_the_file_is_in_raw_or_in_quarantine(chicago, real_data, feed):
    in_file = count_records(real_data, FILES[feed])
    assert in_file == STATED_ROWS[feed]
    [(said, raw, quarantined)] = chicago.rows(
        f"""select rows_in_file, rows_raw, rows_quarantined_by_ingest
            from quality.reconciliation where city = 'chicago' and feed = '{feed}'"""
    )
    assert said == in_file
    assert raw + quarantined == in_file


def test_every_stage_reconciles(chicago):
    unreconciled = chicago.rows("select city, feed from quality.reconciliation where not is_reconciled")
    assert unreconciled == []
    assert chicago.rows("select count(*) from quality.reconciliation where city = 'chicago'") == [(10,)]


def test_events_are_one_row_per_distinct_key(chicago):
    [(light_keys,)] = chicago.rows(
        "select count(*) from core.fct_events where feed = 'street_lights_all_out'"
    )
    assert light_keys == 12_507
    [(permits,)] = chicago.rows("select count(*) from core.fct_events where feed = 'building_permits'")
    assert permits == 828_461
    [(doubled,)] = chicago.rows(
        "select count(*) from (select event_key from core.fct_events group by 1 having count(*) > 1)"
    )
    assert doubled == 0


def test_reprojected_lights_lie_in_the_community_area_their_file_states(chicago):
    shares = dict(
        chicago.rows(
            """
            select e.feed, avg((b.area_id = json_extract_string(e.source_areas, '$.community_area'))::int)
            from core.fct_events as e
            join core.bridge_event_area as b on b.event_key = e.event_key and b.area_type = 'community_area'
            where e.feed in ('street_lights_all_out', 'street_lights_one_out', 'alley_lights_out')
                and json_extract_string(e.source_areas, '$.community_area') is not null
            group by 1
            """
        )
    )
    assert set(shares) == set(LIGHTS)
    assert min(shares.values()) > 0.95
    assert sum(shares.values()) / 3 > 0.96


def test_the_naive_ratio_is_printed_and_is_not_the_finding(chicago):
    rows = chicago.rows(
        """
        select question_id, verdict, rr, ci_low, ci_high, naive_ratio, d0 + d1
        from correlation.mart_correlations
        where city = 'chicago' and band = 1
            and question_id in ('lights_all_out_burglary', 'lights_one_out_burglary', 'lights_alley_burglary')
        """
    )
    assert len(rows) == 3
    for question, verdict, rr, ci_low, ci_high, naive, outcomes in rows:
        assert naive > 1.2, f"{question}: co-occurrence is strong in every city; {naive} is not plausible"
        if outcomes < 50:
            assert verdict == "insufficient"
            assert rr is None
        else:
            assert ci_low <= rr <= ci_high
        if verdict == "supported":
            assert ci_low >= 1.05


def test_every_question_that_the_files_allow_has_a_verdict(chicago):
    owed, found = asked(chicago.rows), answers(chicago.rows)
    show(found)
    assert {question for question, _ in owed} == NAMED | CONTROLS
    assert set(found) == owed
    assert {question for (question, _), row in found.items() if row["is_negative_control"]} == CONTROLS
    assert all(row["verdict"] is not None for row in found.values())
    assert all((row["verdict"] == "insufficient") == (row["rr"] is None) for row in found.values())


def test_negative_controls_raise_no_alarm_and_every_verdict_tells_of_them(chicago):
    found = answers(chicago.rows)
    controls = [(band, row) for (_, band), row in found.items() if row["is_negative_control"]]
    assert "supported" not in {row["verdict"] for _, row in controls}
    for (question, band), row in found.items():
        tested = [each for of_band, each in controls if of_band == band and each["rr"] is not None]
        positive = sum(each["p_value"] < 0.05 for each in tested)
        told = row["n_negative_controls"], row["n_negative_controls_positive"]
        assert told == (len(tested), positive), question
    # One of twelve tests may be positive by chance alone (5 %), three have a chance of 2 %.
    assert sum(row["p_value"] < 0.05 for _, row in controls if row["rr"] is not None) <= 2


def test_dirty_areas_with_many_burglaries_are_no_finding(chicago):
    """The trap: neglect and burglary share their areas, and complaints come before no burglary."""
    [(across_areas, n_areas, across_months, n_months)] = chicago.rows(
        """
        with cases as (
            select event_key, event_type, event_on from core.fct_events
            where event_type in ('sanitation_violation', 'burglary')
                and event_on between '2011-08-01' and '2014-10-31'
        ),
        areas as (
            select
                b.area_id,
                count(*) filter (event_type = 'burglary') as burglaries,
                count(*) filter (event_type <> 'burglary') as complaints
            from cases inner join core.bridge_event_area as b using (event_key)
            where b.area_type = 'community_area' group by 1
        ),
        months as (
            select
                date_trunc('month', event_on) as month,
                count(*) filter (event_type = 'burglary') as burglaries,
                count(*) filter (event_type <> 'burglary') as complaints
            from cases group by 1
        )
        select
            (select corr(burglaries, complaints) from areas), (select count(*) from areas),
            (select corr(burglaries, complaints) from months), (select count(*) from months)
        """
    )
    discs = {band: row for (question, band), row in answers(chicago.rows).items() if question == TRAP}
    print(f"\nacross {n_areas} community areas: r = {across_areas:.2f}")
    print(f"across {n_months} whole months: r = {across_months:.2f}")
    assert (n_areas, n_months) == (77, 39)
    assert across_areas > 0.88
    # .09 of distinct requests; the 74,401 rows, some of one request, give the .07 that is told of the files.
    assert abs(across_months) < 0.12
    assert {row["verdict"] for row in discs.values()} == {"not_supported"}
    assert discs[1]["ci_low"] < 1 < discs[1]["ci_high"] < 1.1


def test_files_of_days_tell_nothing_of_the_night(chicago):
    """Burglaries are dated to the day, so their questions ask for hours that nobody knows."""
    [(known,)] = chicago.rows(
        "select count(*) from core.fct_events where event_type = 'burglary' and time_precision <> 'day'"
    )
    assert known == 0
    by_hour = chicago.rows(
        """select question_id, part, d0 + d1 from correlation.mart_correlation_splits
           where split = 'time_of_day' and d0 + d1 > 0"""
    )
    assert by_hour == []
    halves = chicago.rows(
        """select question_id, count(*), sum(d0 + d1) from correlation.mart_correlation_splits
           where split = 'period' group by 1"""
    )
    assert {question for question, _, _ in halves} == NAMED | CONTROLS
    assert {(parts, outcomes > 0) for _, parts, outcomes in halves} == {(2, True)}


def test_a_second_run_changes_no_row_and_no_hash(chicago):
    before = table_hashes(chicago)
    again = chicago.run("run", "--city", "chicago")
    assert again.returncode == 0, again.stdout + again.stderr
    assert table_hashes(chicago) == before
    assert len(before) >= 20


def table_hashes(deployment) -> dict[str, tuple[int, int]]:
    tables = deployment.rows(
        """select table_schema, table_name from information_schema.tables
           where table_schema in ('core', 'correlation', 'operations', 'open_data')"""
    )
    return {
        f"{schema}.{table}": deployment.rows(
            f'select count(*), coalesce(bit_xor(hash(t)), 0) from "{schema}"."{table}" as t'
        )[0]
        for schema, table in tables
    }


def test_the_extract_holds_the_requests_and_its_checksums_hold(chicago):
    release = chicago.home / "open_data" / "releases" / "latest" / "service_requests"
    package = json.loads((release / "datapackage.json").read_text(encoding="utf-8"))
    assert {resource["path"] for resource in package["resources"]} >= {
        "service_requests.csv",
        "service_requests.parquet",
    }
    for line in (release / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        stated, name = line.split("  ", 1)
        assert hashlib.sha256((release / name).read_bytes()).hexdigest() == stated
    with (release / "service_requests.csv").open(encoding="utf-8", newline="") as file:
        published = sum(1 for _ in csv.reader(file)) - 1
    [(expected,)] = chicago.rows("select count(*) from open_data.service_requests")
    assert published == expected > 100_000


def p90(durations: list[int], is_closed: list[bool]) -> float | None:
    """Return the first duration by which Kaplan-Meier has 90 % closed, or None where it never does."""
    closed = [days for days, ended in zip(durations, is_closed, strict=True) if ended]
    still_open = [days for days, ended in zip(durations, is_closed, strict=True) if not ended]
    survival = stats.ecdf(stats.CensoredData(uncensored=closed, right=still_open)).sf
    reached = survival.quantiles[survival.probabilities <= 0.1 + 1e-9]
    return float(reached.min()) if len(reached) else None


def months_read_at_their_end(cases: list[tuple[date, date | None]]) -> list[tuple]:
    """Return month, open then, closed-only p90, Kaplan-Meier p90, and the p90 that it turned out to be.

    Each month is read as of its last day, when many of its cases are open; in the whole file hardly any is.
    """
    told = []
    for year, month in [(year, month) for year in (2011, 2012, 2013, 2014) for month in range(1, 13)][:-1]:
        last = date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)
        cohort = [case for case in cases if (case[0].year, case[0].month) == (year, month)]
        days = [((closed or last) - opened).days for opened, closed in cohort]
        was_closed = [closed is not None and closed <= last for _, closed in cohort]
        seen = [min(spent, (last - opened).days) for spent, (opened, _) in zip(days, cohort, strict=True)]
        only_closed = [spent for spent, ended in zip(seen, was_closed, strict=True) if ended]
        told.append(
            (
                f"{year}-{month:02}",
                was_closed.count(False),
                p90(only_closed, [True] * len(only_closed)),
                p90(seen, was_closed),
                p90(days, [closed is not None for _, closed in cohort]),
            )
        )
    return told


def test_closed_only_percentiles_promise_what_kaplan_meier_does_not(chicago):
    """Sanitation, each month of four years as it looked on its last day, against how it ended."""
    cases = chicago.rows(
        """select event_on, cast(closed_local as date) from core.fct_events
           where feed = 'sanitation_complaints' and is_canonical and event_on >= '2011-01-01'"""
    )
    months = months_read_at_their_end(cases)
    print("\nmonth    open  closed-only p90  Kaplan-Meier p90  turned out")
    for month, still_open, closed_only, km, truth in months:
        print(f"{month}  {still_open:4}  {closed_only:15}  {km or 'not reached':>16}  {truth:10}")
    assert all(km is None or closed_only <= km for _, _, closed_only, km, _ in months)
    too_short = [closed_only / truth for *_, closed_only, _, truth in months]
    known = [km / truth for *_, km, truth in months if km is not None]
    middle, middle_known = (sorted(shares)[len(shares) // 2] for shares in (too_short, known))
    print(f"closed only: {middle:.2f} of the days it took (median of {len(months)} months)")
    print(f"Kaplan-Meier: {middle_known:.2f} (median of the {len(known)} months in which it is known)")
    assert sum(share < 0.8 for share in too_short) > len(months) / 2
    assert 0.9 < middle_known < 1.1

    [(still_open, closed_only, km)] = chicago.rows(
        """select n_censored, closed_only_p90_days_to_close, km_p90_days_to_close
           from operations.mart_metric_book
           where city = 'chicago' and event_type = 'sanitation_violation' and month_on = '2014-12-01'"""
    )
    print(f"the book, December 2014: {still_open} open, closed only {closed_only}, Kaplan-Meier {km}")
    assert still_open > 100
    assert km > 1.5 * closed_only


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


def test_a_dossier_and_a_story_tell_of_one_address_what_its_files_tell(chicago, real_data):
    address = "7645 N SHERIDAN RD"

    def told(names: list[str], column: str, key: str) -> set[str]:
        found = set()
        for name in names:
            with gzip.open(real_data / "chicago" / name, "rt", encoding="utf-8", newline="") as file:
                found |= {
                    row[key] for row in csv.DictReader(file) if " ".join(row[column].split()) == address
                }
        return found

    permits = told(FILES["building_permits"], "a", "n")
    complaints = told(FILES["sanitation_complaints"], "Street_Address", "Service_Request_Number")
    assert len(permits) >= 10
    assert len(complaints) >= 30
    [(n_permit,)] = chicago.rows(
        "select sum(n) from correlation.mart_place_dossier where place_type = 'address' "
        f"and place_id = lower('{address}') and section = 'permit'"
    )
    assert n_permit == len(permits)
    stories = dict(
        chicago.rows(
            "select service_request_id, story from open_data.request_stories where service_request_id in "
            f"({', '.join(repr(one) for one in sorted(complaints))})"
        )
    )
    assert stories.keys() == complaints
    assert all(" in ROGERS PARK: " in story and "SHERIDAN" not in story for story in stories.values())

    page = chicago.run("dossier", "--city", "chicago", "--at", address.lower())
    assert page.returncode == 0, page.stderr
    # It lies in a cell with burglaries, too few to be told.
    [(n_burglary,)] = chicago.rows(
        "select count(*) from core.fct_events where kind = 'crime' and is_canonical and h3_10 in "
        f"(select h3_10 from correlation.mart_place_dossier where place_id = lower('{address}'))"
    )
    assert 0 < n_burglary < 50
    assert "no type reaches it" in page.stdout
    assert chicago.run("dossier", "--city", "chicago", "--at", "7645 N SHERIDAN").returncode == 1
