"""What happens in the simulated city, as tables: kinds of events, planted effects, how cases are worked."""

from dataclasses import dataclass
from datetime import date
from typing import Literal

Rhythm = Literal["waking", "working", "evening", "night", "any"]


@dataclass(frozen=True)
class Occurrence:
    """How often, when and where one type of event happens, before any effect.

    Attributes:
        event_type: Canonical event type.
        volume: Expected number at scale 1, in the whole period.
        season: Relative swing over the year.
        peak_day: Day of the year at which the season peaks.
        weekend: Level on Saturdays and Sundays against other days.
        storm: How much a storm day of unit strength adds, as a multiple.
        rhythm: Hours of the day.
        shared: Share of the intensity that follows the hot spots common to all types.
        near_repeat: Share of events that follow an earlier one nearby.
    """

    event_type: str
    volume: int
    season: float
    peak_day: int
    weekend: float
    storm: float
    rhythm: Rhythm
    shared: float = 0.6
    near_repeat: float = 0.0


#: Volumes of an outcome are those without any effect; effects add to them.
OCCURRENCES = (
    Occurrence("streetlight_outage", 7_000, 0.30, 355, 0.80, 0.6, "evening"),
    Occurrence("pothole", 9_500, 0.45, 75, 0.60, 0.1, "waking"),
    Occurrence("garbage_missed", 8_500, 0.25, 200, 0.35, 0.1, "waking"),
    Occurrence("rodent", 16_000, 0.35, 215, 0.70, 0.0, "waking"),
    Occurrence("graffiti", 11_000, 0.20, 180, 0.70, 0.0, "waking"),
    Occurrence("flooding", 3_000, 0.30, 170, 1.00, 8.0, "any"),
    Occurrence("water_leak", 3_500, 0.15, 20, 0.90, 0.3, "waking"),
    Occurrence("sanitation_violation", 8_500, 0.20, 195, 0.60, 0.0, "waking"),
    Occurrence("abandoned_vehicle", 9_500, 0.10, 120, 0.70, 0.0, "waking"),
    Occurrence("traffic_signal", 4_000, 0.10, 20, 0.90, 1.5, "waking"),
    Occurrence("illegal_dumping", 7_000, 0.20, 160, 0.85, 0.0, "waking"),
    Occurrence("tree_emergency", 3_000, 0.40, 190, 0.90, 10.0, "any"),
    Occurrence("noise_residential", 11_000, 0.30, 190, 2.00, 0.0, "night"),
    Occurrence("theft", 60_000, 0.15, 210, 1.05, -0.05, "waking", near_repeat=0.10),
    Occurrence("burglary", 15_000, 0.10, 220, 0.90, 0.0, "any", near_repeat=0.20),
    Occurrence("robbery", 7_500, 0.15, 220, 1.15, 0.0, "night"),
    Occurrence("vandalism", 15_000, 0.20, 200, 1.10, 0.0, "night"),
    Occurrence("theft_from_vehicle", 13_000, 0.15, 240, 1.05, 0.0, "night", near_repeat=0.20),
    Occurrence("motor_vehicle_theft", 8_000, 0.10, 240, 1.00, 0.0, "night"),
    Occurrence("assault_simple", 12_000, 0.20, 200, 1.30, 0.0, "night"),
    Occurrence("infra_main_break", 2_600, 0.50, 15, 1.00, 0.1, "any"),
    Occurrence("flood_sensor_event", 1_400, 0.20, 170, 1.00, 9.0, "any"),
    Occurrence("utility_power_outage", 2_600, 0.15, 195, 0.95, 6.0, "any"),
    Occurrence("utility_planned_outage", 900, 0.10, 180, 0.20, 0.0, "working"),
    Occurrence("permit_new_building", 1_300, 0.20, 140, 0.02, 0.0, "working"),
    Occurrence("permit_alteration", 5_200, 0.15, 150, 0.02, 0.0, "working"),
    Occurrence("permit_electrical", 3_000, 0.10, 160, 0.02, 0.0, "working"),
    Occurrence("permit_demolition", 500, 0.10, 150, 0.02, 0.0, "working"),
    Occurrence("permit_street_opening", 4_000, 0.35, 180, 0.05, 0.0, "working"),
)


RHYTHM_OF: dict[str, Rhythm] = {occurrence.event_type: occurrence.rhythm for occurrence in OCCURRENCES}


@dataclass(frozen=True)
class Effect:
    """A planted effect: `cause` multiplies the intensity of `outcome` within a disc on some days after.

    Acts by disc and days, however many causes are near: the marginal rate ratio is exactly `rate_ratio`.
    """

    cause: str
    outcome: str
    rate_ratio: float
    radius_m: float = 100.0
    first_day: int = 1
    last_day: int = 14


EFFECTS = (
    Effect("streetlight_outage", "theft", 1.6),
    Effect("garbage_missed", "rodent", 1.5),
    Effect("pothole", "infra_main_break", 2.0),
    # The trap: the signal follows the crime, so a careless method calls the signal a precursor.
    Effect("vandalism", "noise_residential", 1.8),
)

#: Pairs that share hot spots, season and drift but no effect.
NULL_PAIRS = (
    ("streetlight_outage", "burglary"),
    ("streetlight_outage", "robbery"),
    ("graffiti", "infra_main_break"),
    ("sanitation_violation", "burglary"),
    ("noise_residential", "vandalism"),
)


@dataclass(frozen=True)
class Subtype:
    """One way the portal files an event type.

    Attributes:
        share: Share among the subtypes of the type.
        category: The portal's category.
        subcategory: The portal's second level, or empty.
        code: The portal's short code.
    """

    event_type: str
    event_subtype: str
    share: float
    category: str
    subcategory: str
    code: str


REQUEST_SUBTYPES = (
    Subtype("streetlight_outage", "one_out", 0.55, "Street Light Out", "One Light", "SL1"),
    Subtype("streetlight_outage", "all_out", 0.25, "Street Light Out", "All Lights on Block", "SLA"),
    Subtype("streetlight_outage", "alley", 0.20, "Alley Light Out", "", "SLY"),
    Subtype("pothole", "", 1.0, "Pothole in Street", "", "PHS"),
    Subtype("garbage_missed", "", 0.7, "Missed Garbage Pick-Up", "Household", "MGH"),
    Subtype("garbage_missed", "recycling", 0.3, "Missed Garbage Pick-Up", "Recycling", "MGR"),
    Subtype("rodent", "", 1.0, "Rodent Complaint", "", "ROD"),
    Subtype("graffiti", "", 1.0, "Graffiti Removal", "", "GRF"),
    Subtype("flooding", "street", 0.6, "Water on Street", "", "WOS"),
    Subtype("flooding", "basement", 0.4, "Water in Basement", "", "WIB"),
    Subtype("water_leak", "", 1.0, "Water Leak", "", "WLK"),
    Subtype("sanitation_violation", "", 1.0, "Sanitation Code Violation", "", "SCV"),
    Subtype("abandoned_vehicle", "", 1.0, "Abandoned Vehicle", "", "ABV"),
    Subtype("traffic_signal", "", 1.0, "Traffic Signal Out", "", "TSO"),
    Subtype("illegal_dumping", "", 1.0, "Fly Dumping", "", "FLD"),
    Subtype("tree_emergency", "", 1.0, "Tree Emergency", "", "TRE"),
    Subtype("noise_residential", "", 1.0, "Noise Complaint", "Residential", "NSR"),
    Subtype("noise_construction", "", 1.0, "Noise Complaint", "Construction", "NSC"),
)

CRIME_SUBTYPES = (
    Subtype("theft", "", 0.7, "LARCENY", "FROM BUILDING", "23D"),
    Subtype("theft", "", 0.3, "LARCENY", "POCKET-PICKING", "23A"),
    Subtype("theft_from_vehicle", "", 1.0, "LARCENY", "FROM MOTOR VEHICLE", "23F"),
    Subtype("burglary", "", 1.0, "BURGLARY", "BREAKING & ENTERING", "220"),
    Subtype("robbery", "", 1.0, "ROBBERY", "STRONG ARM, STREET", "120"),
    Subtype("vandalism", "", 1.0, "CRIMINAL DAMAGE", "TO PROPERTY", "290"),
    Subtype("motor_vehicle_theft", "", 1.0, "MOTOR VEHICLE THEFT", "AUTOMOBILE", "240"),
    Subtype("assault_simple", "", 1.0, "SIMPLE ASSAULT", "SIMPLE", "13B"),
)


@dataclass(frozen=True)
class Service:
    """How one type of request is worked.

    Attributes:
        agency: The agency as the portal names it.
        target_days: What the city promises.
        median_days: Median days from report to closure.
        spread: Standard deviation of the logarithm of that time.
        repeats: Mean number of further reports of the same condition.
    """

    event_type: str
    agency: str
    target_days: float
    median_days: float
    spread: float
    repeats: float


SERVICES = (
    Service("streetlight_outage", "Lamps & Signals Bureau", 10, 6.0, 0.9, 0.35),
    Service("pothole", "Roads Bureau", 7, 5.0, 1.0, 0.35),
    Service("garbage_missed", "Sanitation Bureau", 3, 2.0, 0.7, 0.25),
    Service("rodent", "Health Bureau", 14, 9.0, 0.8, 0.0),
    Service("graffiti", "Sanitation Bureau", 7, 4.0, 0.9, 0.15),
    Service("flooding", "Water Bureau", 2, 1.0, 1.2, 0.50),
    Service("water_leak", "Water Bureau", 5, 3.0, 1.1, 0.30),
    Service("sanitation_violation", "Sanitation Bureau", 21, 12.0, 0.9, 0.10),
    Service("abandoned_vehicle", "Vehicle Pound Bureau", 30, 18.0, 0.8, 0.15),
    Service("traffic_signal", "Lamps & Signals Bureau", 1, 0.3, 1.1, 0.40),
    Service("illegal_dumping", "Sanitation Bureau", 10, 6.0, 0.9, 0.15),
    Service("tree_emergency", "Trees Bureau", 2, 1.5, 1.0, 0.30),
    Service("noise_residential", "Police Bureau", 1, 0.1, 1.0, 0.0),
    Service("noise_construction", "Environment Bureau", 5, 2.5, 1.0, 0.10),
)

#: Where everything goes that nobody routes; it works no service of its own.
DISPATCH_DESK = "Dispatch Desk"
#: All that can own a request, the desk last.
OWNERS = (*dict.fromkeys(service.agency for service in SERVICES), DISPATCH_DESK)


@dataclass(frozen=True)
class RoutingShift:
    """Days on which every request of one type goes to one owner, as when a routing table is lost.

    Attributes:
        first_on: First day on the city's clock.
        last_on: Last day, included.
    """

    event_type: str
    agency: str
    first_on: date
    last_on: date


ROUTING_SHIFTS = (
    RoutingShift("pothole", DISPATCH_DESK, date(2024, 4, 9), date(2024, 4, 12)),
    RoutingShift("rodent", DISPATCH_DESK, date(2025, 5, 13), date(2025, 5, 21)),
)
