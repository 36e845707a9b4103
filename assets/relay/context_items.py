"""The items of context that an agency can be told, as rules name them; computing them is context's."""

from dataclasses import dataclass
from typing import Literal

Source = Literal["inventory", "permits", "records", "mains", "catalogue"]

#: Two blocks.
TWO_BLOCKS_M = 200.0
#: What lies no farther is where it happens, and no way round.
AT_THE_PLACE_M = 20.0


@dataclass(frozen=True)
class Item:
    """One item.

    Attributes:
        source: Which query tells it.
        within_m: How far from the trigger, metres, ends included.
        beyond_m: What lies no farther than this is left out, metres; None: nothing is.
        days: How many days before the report; None where it is no matter of days.
        asset_type: Which inventory, for items of one.
        kind: Which kind of record, for items of records.
        is_ongoing: Whether only cases count that were open at the time of the report.
        event_types: Which types of permit, for items of permits.
    """

    source: Source
    within_m: float
    beyond_m: float | None = None
    days: int | None = None
    asset_type: str | None = None
    kind: str | None = None
    is_ongoing: bool = False
    event_types: tuple[str, ...] = ()


#: Any name in a rule that is not among these is an error.
ITEMS: dict[str, Item] = {
    "signals": Item("inventory", 100.0, asset_type="traffic_signal"),
    "blocked_segments": Item("inventory", AT_THE_PLACE_M, asset_type="road_segment"),
    "detour_segments": Item("inventory", TWO_BLOCKS_M, beyond_m=AT_THE_PLACE_M, asset_type="road_segment"),
    "schools": Item("inventory", TWO_BLOCKS_M, asset_type="school"),
    "senior_facilities": Item("inventory", TWO_BLOCKS_M, asset_type="senior_facility"),
    "street_lights": Item("inventory", 100.0, asset_type="street_light"),
    "hydrants": Item("inventory", 150.0, asset_type="hydrant"),
    "bus_routes": Item("inventory", 50.0, asset_type="bus_route"),
    "school_routes": Item("inventory", 50.0, asset_type="school_route"),
    "mains": Item("mains", 30.0, asset_type="water_main"),
    "street_permits": Item("permits", 75.0, event_types=("permit_street_opening", "permit_street_occupancy")),
    "construction_permits": Item(
        "permits",
        100.0,
        event_types=(
            "permit_new_building",
            "permit_alteration",
            "permit_demolition",
            "permit_foundation",
            "permit_structural",
            "permit_scaffold",
        ),
    ),
    "prior_requests": Item("records", 50.0, days=365, kind="service_request"),
    "repairs": Item("records", 50.0, days=5 * 365, kind="infrastructure"),
    "outages": Item("records", 150.0, days=365, kind="utility"),
    "outages_now": Item("records", 150.0, days=365, kind="utility", is_ongoing=True),
    "supported_findings": Item("catalogue", 0.0),
}
