"""Every agency is told what it needs and no other agency anything, in happenings that were labelled by hand.

The labels themselves are checked against shapely and plain loops; no SQL of the product takes part in that.
"""

import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import shapely
from shapely import Point

from assets.relay import context
from assets.relay.alert import Alert
from assets.relay.alerting import raise_alerts
from assets.relay.context_items import ITEMS
from assets.relay.rules import AlertRule, load_rules
from tests.unit.relay.scenarios import SCENARIOS, TODAY, Label, Scenario
from tests.unit.relay.town import CATEGORIES, CITY, NOW, Town, on_the_map

#: Room between two scenarios, metres.
APART = 3000.0
#: What an id is called in the records of an item.
NAMED = ("asset_id", "main_id", "permit_id", "event_type", "question_id")
STREET_PERMITS = {"permit_street_opening", "permit_street_occupancy"}
CONSTRUCTION = {
    "permit_new_building",
    "permit_alteration",
    "permit_demolition",
    "permit_foundation",
    "permit_structural",
    "permit_scaffold",
}
#: From and to which distance each inventory is asked for, metres; two blocks are 200.
NEAR = {
    "signals": ("traffic_signal", 0, 100),
    "blocked_segments": ("road_segment", 0, 20),
    "detour_segments": ("road_segment", 20, 200),
    "schools": ("school", 0, 200),
    "senior_facilities": ("senior_facility", 0, 200),
    "street_lights": ("street_light", 0, 100),
    "hydrants": ("hydrant", 0, 150),
    "bus_routes": ("bus_route", 0, 50),
    "school_routes": ("school_route", 0, 50),
    "mains": ("water_main", 0, 30),
}
PRIOR = {
    "prior_requests": ("service_request", 50, 365),
    "repairs": ("infrastructure", 50, 5 * 365),
    "outages": ("utility", 150, 365),
    "outages_now": ("utility", 150, 365),
}
SUPPORTED = {"pothole": "pothole_break", "streetlight_outage": "lights_theft"}


def spot(index: int) -> float:
    return index * APART


def draw(town: Town) -> None:
    """Put every scenario on the map, each item named after its scenario."""
    for signal, question in SUPPORTED.items():
        town.rows["mart_correlations"].append(
            {
                "city": CITY,
                "question_id": question,
                "signal_type": signal,
                "outcome_type": "theft",
                "signal_cluster_size": 1,
                "is_negative_control": False,
                "band": 1,
                "verdict": "supported",
                "reason": "By hand.",
            }
            | {"rr": 1.3, "ci_low": 1.1, "ci_high": 1.5, "from_m": 0.0, "to_m": 100.0, "window_days": 14}
        )
    for verdict in ("not_supported", "immaterial"):
        town.rows["mart_correlations"].append(
            town.rows["mart_correlations"][0]
            | {"question_id": verdict, "signal_type": "flooding", "verdict": verdict, "rr": 1.9}
        )
    landed = []
    for index, scenario in enumerate(SCENARIOS):
        x0 = spot(index)
        for thing in scenario.things:
            shape = shapely.transform(thing.shape, lambda points, x0=x0: points + np.array([x0, 0]))
            town.asset(thing.asset_type, f"{index}/{thing.name}", shape, valid_to=thing.valid_to)
        for permit in scenario.permits:
            town.permit(
                permit.type,
                f"{index}/{permit.name}",
                x0 + permit.x,
                0,
                issued=permit.issued,
                expires=permit.expires,
                completed=permit.completed,
            )
            town.rows["fct_events"][-1]["is_open"] = permit.is_open
            if permit.completed:
                town.rows["fct_events"][-1]["closed_local"] = datetime.combine(
                    permit.completed, datetime.min.time()
                )
        for number, prior in enumerate(scenario.priors):
            at = NOW - timedelta(days=prior.days)
            name = f"{index}/prior{number}"
            said = {"is_open": prior.is_open}
            if prior.main:
                town.broken(f"{index}/{prior.main}", name, x0 + prior.x, 0, at, **said)
            else:
                town.event(prior.kind, prior.type, name, x0 + prior.x, 0, at, **said)
        for number, report in enumerate(scenario.reports):
            at = NOW - timedelta(minutes=report.ago)
            name, x = f"{index}/{number}", x0 + report.x
            if report.is_built:
                event_type, subtype = CATEGORIES[report.category]
                town.event(
                    "service_request", event_type, name, x, report.y, at, feed="live", event_subtype=subtype
                )
            else:
                landed.append(town.request(name, report.category, x, report.y, at, status=report.status))
    town.land(landed, NOW - timedelta(minutes=2))


@pytest.fixture(scope="module")
def rules() -> tuple[AlertRule, ...]:
    return load_rules()


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Town:
    town = Town(tmp_path_factory.mktemp("scenarios"))
    draw(town)
    town.publish()
    return town


def read_label(label: Label) -> dict[str, dict[str, set[str]]]:
    told = {}
    for agency, said in label.items():
        items = [part.split(":") for part in said.split(";") if part.strip()]
        told[agency] = {item.strip(): set(names.split()) for item, names in items}
    return told


def labels_of(scenario: Scenario) -> list[dict[str, dict[str, set[str]]]]:
    return [read_label(label) for label in scenario.labels]


def told_by(alerts: list[Alert], index: int) -> list[dict[str, dict[str, set[str]]]]:
    """Return what the product told of a scenario, in the form of its labels."""
    happenings: dict[tuple, dict] = {}
    for alert in sorted(alerts, key=lambda one: (one.reported_at, one.event_key)):
        about = {
            item: {
                str(next(row[name] for name in NAMED if name in row)).split("/")[-1]
                for row in rows
                if "note" not in row
            }
            for item, rows in alert.context.items()
        }
        of_one = happenings.setdefault((alert.rule, alert.event_key), {})
        assert alert.agency not in of_one
        of_one[alert.agency] = {item: names for item, names in about.items() if names}
    return list(happenings.values())


def by_scenario(alerts: list[Alert]) -> dict[int, list[Alert]]:
    """Return alerts by the scenario in whose room they lie."""
    rooms: dict[int, list[Alert]] = {index: [] for index in range(len(SCENARIOS))}
    for alert in alerts:
        x, _ = on_the_map(alert.lon, alert.lat)
        rooms[round(x / APART)].append(alert)
    return rooms


def compare(alerts: list[Alert]) -> dict[str, int]:
    """Return how many required records there are, were told and were not required, and wrong agencies."""
    score = {
        "required": 0,
        "found": 0,
        "surplus": 0,
        "wrong_agency": 0,
        "missing_agency": 0,
        "wrong_happenings": 0,
    }
    for index, mine in by_scenario(alerts).items():
        wanted, told = labels_of(SCENARIOS[index]), told_by(mine, index)
        score["wrong_happenings"] += len(wanted) != len(told)
        score["wrong_agency"] += sum(len(one) for one in told[len(wanted) :])
        for number, label in enumerate(wanted):
            got = told[number] if number < len(told) else {}
            score["wrong_agency"] += len(set(got) - set(label))
            score["missing_agency"] += len(set(label) - set(got))
            needed = {
                (agency, item, name)
                for agency, items in label.items()
                for item in items
                for name in items[item]
            }
            given = {
                (agency, item, name)
                for agency, items in got.items()
                for item in items
                for name in items[item]
            }
            score["required"] += len(needed)
            score["found"] += len(needed & given)
            score["surplus"] += len(given - needed)
    return score


# --- the labels, by shapely and plain loops


def spots_of(scenario: Scenario, rule: AlertRule) -> list[tuple[Point, float, list[float]]]:
    """Return place and minutes ago of what begins each happening of a rule, with the minutes of all of it."""
    reports = [
        (report.ago, Point(report.x, report.y), report.status)
        for report in scenario.reports
        for event_type, subtype in [CATEGORIES[report.category]]
        if event_type in rule.trigger.event_types and subtype not in rule.trigger.except_subtypes
    ]
    reports += [
        (prior.days * 24 * 60, Point(prior.x, 0), "open" if prior.is_open else "closed")
        for prior in scenario.priors
        if prior.type in rule.trigger.event_types
        and timedelta(days=prior.days) < rule.expires_after + 3 * rule.roll_up.within
    ]
    reports.sort(key=lambda one: -one[0])
    cluster, first = rule.trigger.cluster, []
    window = rule.roll_up.within.total_seconds() / 60
    for ago, point, status in reports:
        if cluster is not None:
            reach = cluster.within.total_seconds() / 60
            around = [
                one
                for one in reports
                if 0 <= one[0] - ago <= reach and one[1].distance(point) <= cluster.within_m
            ]
            if len(around) < cluster.reports and not any(
                point.distance(begun) <= rule.roll_up.within_m and then - ago <= window
                for begun, then, _ in first
            ):
                continue
        for begun, then, members in first:
            if point.distance(begun) <= rule.roll_up.within_m and then - ago <= window:
                members.append((ago, status))
                break
        else:
            first.append((point, ago, [(ago, status)]))
    holds = rule.expires_after.total_seconds() / 60
    return [
        (point, ago, members)
        for point, ago, members in first
        if min(member[0] for member in members) < holds and any(status == "open" for _, status in members)
    ]


def around(scenario: Scenario, item: str, rule: AlertRule, place: Point, ago: float) -> set[str]:
    """Return what an item must hold at a place."""
    if item in NEAR:
        asset_type, beyond, within = NEAR[item]
        return {
            thing.name
            for thing in scenario.things
            if thing.asset_type == asset_type
            and thing.shape.distance(place) <= within
            and (beyond == 0 or thing.shape.distance(place) > beyond)
            and (thing.valid_to is None or thing.valid_to > TODAY)
        }
    if item in PRIOR:
        kind, within, days = PRIOR[item]
        return {
            prior.type
            for prior in scenario.priors
            if prior.kind == kind
            and Point(prior.x, 0).distance(place) <= within
            and ago / (24 * 60) < prior.days <= days + ago / (24 * 60)
            and (prior.is_open or item != "outages_now")
        }
    if item == "supported_findings":
        return {SUPPORTED[name] for name in rule.trigger.event_types if name in SUPPORTED}
    types = STREET_PERMITS if item == "street_permits" else CONSTRUCTION
    return {
        permit.name
        for permit in scenario.permits
        if permit.type in types
        and Point(permit.x, 0).distance(place) <= (75 if item == "street_permits" else 100)
        and permit.issued <= TODAY
        and (permit.expires is None or permit.expires >= TODAY)
        and (permit.completed is None or permit.completed >= TODAY)
        and permit.is_open
    }


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_a_label_is_what_shapely_finds(scenario: Scenario, rules) -> None:
    expected = []
    for rule in rules:
        for place, ago, _ in spots_of(scenario, rule):
            told = {}
            for recipient in rule.tells:
                found = {item: around(scenario, item, rule, place, ago) for item in recipient.items}
                if not recipient.only_if or any(found[item] for item in recipient.only_if):
                    told[recipient.agency] = {item: found[item] for item in recipient.needs if found[item]}
            expected.append(told)
    assert labels_of(scenario) == expected


def test_there_are_enough_scenarios_and_near_misses() -> None:
    assert len(SCENARIOS) >= 50
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
    assert sum(scenario.is_near_miss for scenario in SCENARIOS) >= 15


def test_every_agency_is_told_all_it_needs_and_no_other_anything(town: Town, rules) -> None:
    alerts = raise_alerts(town.lake, rules, now=NOW)
    rooms = by_scenario(alerts)
    wrong = {
        scenario.name: (told_by(rooms[index], index), labels_of(scenario))
        for index, scenario in enumerate(SCENARIOS)
        if told_by(rooms[index], index) != labels_of(scenario)
    }
    assert wrong == {}
    score = compare(alerts)
    assert score.pop("required") == score.pop("found") > 60
    assert score == dict.fromkeys(("surplus", "wrong_agency", "missing_agency", "wrong_happenings"), 0)
    assert len({alert.alert_id for alert in alerts}) == len(alerts)


def without(name: str, text: str) -> str:
    query = getattr(context, name)
    assert text in query
    return query.replace(text, "")


@pytest.mark.parametrize(
    ("guard", "fault"),
    [
        ("two blocks", "wrong_agency"),
        ("the day a permit ends", "surplus"),
        ("the day an item went", "surplus"),
        ("the verdict", "surplus"),
        ("cells around a spot", "found"),
        ("roll-up", "wrong_happenings"),
        ("subtypes", "wrong_agency"),
        ("only_if", "wrong_agency"),
    ],
)
def test_each_guard_is_needed(town: Town, rules, monkeypatch, guard: str, fault: str) -> None:
    """The same comparison finds fault once a guard is off."""
    changed = list(rules)
    match guard:
        case "two blocks":
            wide = ITEMS["schools"].__class__(**(vars(ITEMS["schools"]) | {"within_m": 260.0}))
            monkeypatch.setitem(ITEMS, "schools", wide)
        case "the day a permit ends":
            ends = re.search(r"\n\s+and \(permits\.expires_local is null.*\)", context._PERMITS)
            monkeypatch.setattr(context, "_PERMITS", without("_PERMITS", ends.group()))
        case "the day an item went":
            gone = re.search(r"\n\s+and \(assets\.valid_to is null.*\)", context._NEAR_ASSETS)
            monkeypatch.setattr(context, "_NEAR_ASSETS", without("_NEAR_ASSETS", gone.group()))
        case "the verdict":
            monkeypatch.setattr(
                context, "_CATALOGUE", without("_CATALOGUE", "found.verdict = 'supported' and ")
            )
        case "cells around a spot":
            monkeypatch.setattr(context, "_CELLS", context._CELLS.replace("$steps + 1", "$steps - 1"))
        case "roll-up":
            short = changed[0].roll_up.model_copy(update={"within": timedelta(minutes=1)})
            changed = [rule.model_copy(update={"roll_up": short}) for rule in changed]
        case "subtypes":
            changed = [
                rule.model_copy(update={"trigger": rule.trigger.model_copy(update={"except_subtypes": ()})})
                for rule in changed
            ]
        case "only_if":
            changed = [
                rule.model_copy(
                    update={"tells": tuple(one.model_copy(update={"only_if": ()}) for one in rule.tells)}
                )
                for rule in changed
            ]
    score = compare(raise_alerts(town.lake, changed, now=NOW))
    if fault == "found":
        assert score["found"] < score["required"]
    else:
        assert score[fault] > 0


def test_a_utility_knows_the_main_beneath(town: Town, rules) -> None:
    index = next(i for i, one in enumerate(SCENARIOS) if one.name == "a break of a main that broke before")
    alerts = by_scenario(raise_alerts(town.lake, rules, now=NOW))[index]
    (main,) = next(one for one in alerts if one.agency == "water").context["mains"]
    assert main["main_id"] == f"{index}/m"
    assert main["past_breaks"] == 1
    assert main["last_break_on"] == (NOW - timedelta(days=400)).astimezone(UTC).date().isoformat()
    assert main["distance_m"] == 5


def test_nothing_supported_is_said_and_not_left_empty(town: Town, rules) -> None:
    alerts = raise_alerts(town.lake, rules, now=NOW)
    said = {
        (alert.event_type, row.get("note", row.get("question_id")))
        for alert in alerts
        for row in alert.context.get("supported_findings", [])
    }
    assert ("flooding", "nothing supported") in said
    assert ("pothole", "pothole_break") in said
    (found,) = {
        (row["rr"], row["ci_low"], row["ci_high"])
        for alert in alerts
        for row in alert.context.get("supported_findings", [])
        if "rr" in row
    }
    assert found == (1.3, 1.1, 1.5)
