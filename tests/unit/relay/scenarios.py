"""Happenings drawn and labelled by hand: who is to be told, and which records each must be given.

Each scenario has a spot of its own, kilometres from the next; metres count from its first corner, minutes
back from now. Labels name what is there, item by item; an item that a label does not name must be empty. A
near miss is one that a rule a little wider or a little less careful would get wrong.
"""

from dataclasses import dataclass, field
from datetime import date

import shapely
from shapely import LineString, Point

TODAY = date(2025, 6, 10)
YESTERDAY = date(2025, 6, 9)
TOMORROW = date(2025, 6, 11)
HOUR, DAY = 60, 24 * 60


@dataclass(frozen=True)
class Report:
    category: str
    x: float = 0
    y: float = 0
    ago: int = 60
    status: str = "open"
    #: Already in the snapshot, from the live feed, and not landed after it.
    is_built: bool = False


@dataclass(frozen=True)
class Thing:
    asset_type: str
    name: str
    shape: shapely.Geometry
    valid_to: date | None = None


@dataclass(frozen=True)
class Permit:
    name: str
    x: float
    issued: date = YESTERDAY
    expires: date | None = None
    completed: date | None = None
    type: str = "permit_street_opening"
    is_open: bool = True


@dataclass(frozen=True)
class Prior:
    """An event of the snapshot; a break names its main."""

    kind: str
    type: str
    x: float
    days: float
    is_open: bool = False
    main: str | None = None


#: By agency the items and what is in them, "schools: a b; mains: m". One per happening, in order of time.
Label = dict[str, str]


@dataclass(frozen=True)
class Scenario:
    name: str
    reports: tuple[Report, ...]
    labels: tuple[Label, ...]
    things: tuple[Thing, ...] = ()
    permits: tuple[Permit, ...] = ()
    priors: tuple[Prior, ...] = field(default=())
    is_near_miss: bool = False


def flood(**told: str) -> Label:
    return dict.fromkeys(("transportation", "fire", "water", "planning"), "") | told


def hole(**told: str) -> Label:
    found = "supported_findings: pothole_break"
    return {
        agency: f"{said}; {found}" if said else found
        for agency, said in ({"transportation": ""} | told).items()
    }


def burst(**told: str) -> Label:
    return flood(**told)


def dark(**told: str) -> Label:
    return {"transportation": "", "police": ""} | told


def lamps(**told: str) -> Label:
    police = "; ".join(filter(None, ("supported_findings: lights_theft", told.pop("police", ""))))
    return {"transportation": "", "police": police} | told


def at(asset_type: str, name: str, x: float, y: float = 0) -> Thing:
    return Thing(asset_type, name, Point(x, y))


def along(asset_type: str, name: str, y: float, **said: date) -> Thing:
    """Return a line from west to east that passes so far north of the corner."""
    return Thing(asset_type, name, LineString([(-300, y), (300, y)]), **said)


WATER, HOLE, SIGNAL, LIGHT = (
    Report("Water on Street"),
    Report("Pothole"),
    Report("Signal Out"),
    Report("Light Out"),
)
MAIN = along("water_main", "m", 5)
SOON_WEEK = date(2025, 6, 17)

SCENARIOS = (
    # Floods: where things lie.
    Scenario("nothing is near", (WATER,), (flood(),)),
    Scenario("a signal", (WATER,), (flood(transportation="signals: s"),), (at("traffic_signal", "s", 30),)),
    Scenario(
        "a signal at 100 m",
        (WATER,),
        (flood(transportation="signals: s"),),
        (at("traffic_signal", "s", 0, 100),),
    ),
    Scenario("a signal at 101 m", (WATER,), (flood(),), (at("traffic_signal", "s", 101),), is_near_miss=True),
    Scenario(
        "a school at 199 m",
        (WATER,),
        (flood(fire="schools: a", schools="schools: a"),),
        (at("school", "a", 199),),
    ),
    Scenario(
        "a school at 200 m, another behind it",
        (WATER,),
        (flood(fire="schools: a", schools="schools: a"),),
        (at("school", "a", -200), at("school", "b", -260)),
    ),
    Scenario("a school at 201 m", (WATER,), (flood(),), (at("school", "a", 0, -201),), is_near_miss=True),
    Scenario(
        "a school in the square of two blocks and not in the circle",
        (WATER,),
        (flood(),),
        (at("school", "a", 150, 150),),
        is_near_miss=True,
    ),
    Scenario("seniors", (WATER,), (flood(fire="senior_facilities: f"),), (at("senior_facility", "f", 120),)),
    Scenario(
        "seniors at 200.5 m", (WATER,), (flood(),), (at("senior_facility", "f", 200.5),), is_near_miss=True
    ),
    Scenario(
        "a school that closed down yesterday",
        (WATER,),
        (flood(),),
        (Thing("school", "a", Point(50, 0), YESTERDAY),),
        is_near_miss=True,
    ),
    Scenario("a main", (WATER,), (flood(water="mains: m"),), (MAIN,)),
    Scenario("two mains", (WATER,), (flood(water="mains: m n"),), (MAIN, along("water_main", "n", -25))),
    Scenario("a main at 31 m", (WATER,), (flood(),), (along("water_main", "m", 31),), is_near_miss=True),
    Scenario(
        "a slanting main whose corners are far",
        (WATER,),
        (flood(water="mains: m"),),
        (Thing("water_main", "m", LineString([(-400, -420), (400, 380)])),),
    ),
    Scenario(
        "the street under water and those around it",
        (WATER,),
        (flood(transportation="blocked_segments: r; detour_segments: n w", fire="blocked_segments: r"),),
        (
            along("road_segment", "r", 0),
            along("road_segment", "n", 100),
            Thing("road_segment", "w", LineString([(-150, -300), (-150, 300)])),
        ),
    ),
    Scenario(
        "a street at 201 m is no way round",
        (WATER,),
        (flood(transportation="blocked_segments: r", fire="blocked_segments: r"),),
        (along("road_segment", "r", 3), along("road_segment", "n", 201)),
        is_near_miss=True,
    ),
    Scenario("a bus", (WATER,), (flood(transportation="bus_routes: b"),), (along("bus_route", "b", 45),)),
    Scenario("a hydrant", (WATER,), (flood(fire="hydrants: h"),), (at("hydrant", "h", 140),)),
    Scenario(
        "the way to a far school",
        (WATER,),
        (flood(schools="school_routes: w"),),
        (along("school_route", "w", -40),),
    ),
    Scenario(
        "the way to school at 51 m",
        (WATER,),
        (flood(),),
        (along("school_route", "w", -51),),
        is_near_miss=True,
    ),
    # Floods: permits by day and type.
    Scenario(
        "a street opening that ends today",
        (WATER,),
        (flood(transportation="street_permits: p", water="street_permits: p", planning="street_permits: p"),),
        permits=(Permit("p", 40, expires=TODAY),),
    ),
    Scenario(
        "a street opening that ended yesterday",
        (WATER,),
        (flood(),),
        permits=(Permit("p", 40, expires=YESTERDAY),),
        is_near_miss=True,
    ),
    Scenario(
        "a street opening from tomorrow on",
        (WATER,),
        (flood(),),
        permits=(Permit("p", 40, issued=TOMORROW, expires=SOON_WEEK),),
        is_near_miss=True,
    ),
    Scenario(
        "a street opening at 76 m",
        (WATER,),
        (flood(),),
        permits=(Permit("p", 76, expires=SOON_WEEK),),
        is_near_miss=True,
    ),
    Scenario(
        "a demolition without an end",
        (WATER,),
        (flood(planning="construction_permits: p"),),
        permits=(Permit("p", 90, type="permit_demolition"),),
    ),
    Scenario(
        "a building finished yesterday",
        (WATER,),
        (flood(),),
        permits=(Permit("p", 20, completed=YESTERDAY, type="permit_new_building", is_open=False),),
        is_near_miss=True,
    ),
    Scenario(
        "electrical work is no construction",
        (WATER,),
        (flood(),),
        permits=(Permit("p", 10, expires=SOON_WEEK, type="permit_electrical"),),
        is_near_miss=True,
    ),
    Scenario(
        "a revoked permit",
        (WATER,),
        (flood(),),
        permits=(Permit("p", 10, expires=SOON_WEEK, is_open=False),),
        is_near_miss=True,
    ),
    # Floods: what was there before.
    Scenario(
        "a pothole a month ago",
        (WATER,),
        (flood(water="prior_requests: pothole", planning="prior_requests: pothole"),),
        priors=(Prior("service_request", "pothole", 40, 30),),
    ),
    Scenario(
        "a pothole 366 days ago",
        (WATER,),
        (flood(),),
        priors=(Prior("service_request", "pothole", 5, 366),),
        is_near_miss=True,
    ),
    Scenario(
        "a pothole at 51 m",
        (WATER,),
        (flood(),),
        priors=(Prior("service_request", "pothole", 51, 30),),
        is_near_miss=True,
    ),
    Scenario(
        "a repair two years ago",
        (WATER,),
        (flood(water="repairs: infra_water_main_repair", planning="repairs: infra_water_main_repair"),),
        priors=(Prior("infrastructure", "infra_water_main_repair", 20, 730),),
    ),
    Scenario(
        "an outage last week",
        (WATER,),
        (flood(water="outages: utility_power_outage"),),
        priors=(Prior("utility", "utility_power_outage", 140, 7),),
    ),
    Scenario(
        "an outage at 151 m",
        (WATER,),
        (flood(),),
        priors=(Prior("utility", "utility_power_outage", 151, 7),),
        is_near_miss=True,
    ),
    # Floods: which reports.
    Scenario(
        "water in a basement", (Report("Water in Basement"),), (), (at("school", "a", 10),), is_near_miss=True
    ),
    Scenario("graffiti", (Report("Graffiti"),), (), (at("school", "a", 10),), is_near_miss=True),
    Scenario("sewage", (Report("Sewage"),), (flood(water="mains: m"),), (MAIN,)),
    Scenario(
        "closed before it landed",
        (Report("Water on Street", status="closed"),),
        (),
        (MAIN,),
        is_near_miss=True,
    ),
    Scenario(
        "older than an alert holds", (Report("Water on Street", ago=DAY + 1),), (), (MAIN,), is_near_miss=True
    ),
    Scenario(
        "two reports of one flood",
        (Report("Water on Street", ago=3 * HOUR), Report("Sewage", 80, 50, ago=HOUR)),
        (flood(water="mains: m"),),
        (MAIN,),
    ),
    Scenario(
        "a second flood at 101 m",
        (Report("Water on Street", ago=3 * HOUR), Report("Water on Street", 101, ago=HOUR)),
        (flood(water="mains: m"), flood(water="mains: m")),
        (MAIN,),
        is_near_miss=True,
    ),
    Scenario(
        "a second flood a minute outside the window",
        (Report("Water on Street", ago=7 * HOUR + 1), Report("Water on Street", 10, ago=HOUR)),
        (flood(), flood()),
        is_near_miss=True,
    ),
    Scenario(
        "reports that creep: the third is near the second alone",
        (
            Report("Water on Street", ago=180),
            Report("Water on Street", 90, ago=120),
            Report("Water on Street", 180, ago=60),
        ),
        (flood(), flood()),
        is_near_miss=True,
    ),
    # Potholes.
    Scenario("a hole and no main", (HOLE,), (hole(),)),
    Scenario(
        "a hole over a main that broke before",
        (HOLE,),
        (
            hole(
                transportation="mains: m; repairs: infra_main_break",
                water="mains: m; repairs: infra_main_break",
            ),
        ),
        (MAIN,),
        priors=(Prior("infrastructure", "infra_main_break", 0, 400, main="m"),),
    ),
    Scenario(
        "a hole and a main at 30.5 m",
        (HOLE,),
        (hole(),),
        (along("water_main", "m", 30.5),),
        is_near_miss=True,
    ),
    Scenario(
        "a hole over a main that was taken out yesterday",
        (HOLE,),
        (hole(),),
        (along("water_main", "m", 5, valid_to=YESTERDAY),),
        is_near_miss=True,
    ),
    Scenario(
        "a hole told again after nine days",
        (Report("Pothole", ago=9 * DAY + HOUR), Report("Pothole", 39, ago=HOUR)),
        (hole(),),
    ),
    Scenario(
        "a hole told again after ten days and an hour",
        (Report("Pothole", ago=10 * DAY + 2 * HOUR), Report("Pothole", 1, ago=HOUR)),
        (hole(), hole()),
        is_near_miss=True,
    ),
    Scenario(
        "a hole beside a street opening",
        (HOLE,),
        (hole(transportation="street_permits: p"),),
        permits=(Permit("p", 12),),
    ),
    # Main breaks come with the snapshot.
    Scenario(
        "a break of a main that broke before",
        (),
        (
            burst(
                water="mains: m; repairs: infra_main_break",
                planning="repairs: infra_main_break",
                fire="schools: a",
                schools="schools: a",
                transportation="signals: s",
            ),
        ),
        (MAIN, at("school", "a", 150), at("traffic_signal", "s", 60)),
        priors=(
            Prior("infrastructure", "infra_main_break", 0, 0.05, is_open=True, main="m"),
            Prior("infrastructure", "infra_main_break", 10, 400, main="m"),
        ),
    ),
    Scenario(
        "a break and a school at 205 m",
        (),
        (burst(water="mains: m"),),
        (MAIN, at("school", "a", 205)),
        priors=(Prior("infrastructure", "infra_main_break", 0, 0.05, is_open=True, main="m"),),
        is_near_miss=True,
    ),
    # Signals.
    Scenario(
        "a dark signal in an outage",
        (SIGNAL,),
        (
            dark(
                transportation="signals: s; outages: utility_power_outage",
                police="signals: s",
                utility_electric="signals: s; outages: utility_power_outage; "
                "outages_now: utility_power_outage",
            ),
        ),
        (at("traffic_signal", "s", 5),),
        priors=(Prior("utility", "utility_power_outage", 100, 0.1, is_open=True),),
    ),
    Scenario(
        "a dark signal and no outage",
        (SIGNAL,),
        (dark(transportation="signals: s", police="signals: s"),),
        (at("traffic_signal", "s", 5),),
        is_near_miss=True,
    ),
    Scenario(
        "a dark signal and an outage that ended last week",
        (SIGNAL,),
        (dark(transportation="outages: utility_power_outage"),),
        priors=(Prior("utility", "utility_power_outage", 100, 7),),
        is_near_miss=True,
    ),
    Scenario(
        "a dark signal at a school",
        (SIGNAL,),
        (dark(police="schools: a", schools="schools: a"),),
        (at("school", "a", 180),),
    ),
    # Lights: one is none.
    Scenario(
        "three lights in two days",
        (
            Report("Light Out", ago=2 * DAY, is_built=True),
            Report("Light Out", 100, ago=DAY),
            Report("Light Out", 50, 50, ago=HOUR),
        ),
        (lamps(transportation="street_lights: l", police="street_lights: l"),),
        (at("street_light", "l", 60),),
    ),
    Scenario(
        "two lights",
        (Report("Light Out", ago=2 * HOUR), LIGHT),
        (),
        (at("school", "a", 10),),
        is_near_miss=True,
    ),
    Scenario(
        "three lights, one 151 m away",
        (Report("Light Out", 151, ago=5 * HOUR), Report("Light Out", 10, ago=3 * HOUR), LIGHT),
        (),
        is_near_miss=True,
    ),
    Scenario(
        "three lights, one an hour too early",
        (Report("Light Out", ago=3 * DAY + 2 * HOUR), Report("Light Out", 10, ago=3 * HOUR), LIGHT),
        (),
        is_near_miss=True,
    ),
    Scenario(
        "four lights at a school",
        (
            Report("Light Out", 20, ago=4 * HOUR),
            Report("Light Out", 40, ago=3 * HOUR),
            Report("Light Out", 60, ago=2 * HOUR),
            Report("Light Out", 0, ago=HOUR),
        ),
        (lamps(schools="schools: a"),),
        (at("school", "a", 100),),
    ),
)
