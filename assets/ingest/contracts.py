"""The canonical columns of each kind of feed; how their text is typed belongs to dbt staging.

What a feed does not map stays null; what is not here is not ingested. The names follow Open311 GeoReport v2
(service requests), BLDS (permits) and NIBRS (crimes).
"""

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["service_request", "permit", "crime", "infrastructure", "utility", "asset", "boundary"]
KINDS: tuple[Kind, ...] = get_args(Kind)
EVENT_KINDS: tuple[Kind, ...] = ("service_request", "permit", "crime", "infrastructure", "utility")


@dataclass(frozen=True)
class Column:
    """One canonical column: its name, the staging type its text is cast to, and what it means."""

    name: str
    type: Literal["text", "time", "number", "flag"]
    meaning: str


_IDENTITY = (Column("source_id", "text", "The case id the source uses; unique within the feed."),)

_PLACE = (
    Column("x", "text", "Longitude or easting in the declared coordinate reference system."),
    Column("y", "text", "Latitude or northing in the declared coordinate reference system."),
)

_EVENT = (
    *_IDENTITY,
    Column("category", "text", "The source's own category, untouched."),
    Column("subcategory", "text", "The source's own second-level category."),
    Column("code", "text", "The source's short code of the category, where it has a steadier one."),
    Column("status", "text", "The source's own status."),
    Column("agency", "text", "The agency as the source names it."),
    Column("updated_at", "time", "When the source last changed the record, as it says."),
    Column("address", "text", "Street address as told."),
    Column("postal_code", "text", "Postal code as told."),
    Column("parcel_id", "text", "Parcel or building id as told."),
    Column("asset_id", "text", "The inventory item the record names (segment, main, light)."),
    Column("source_areas", "text", "JSON object of the area ids the source itself states."),
    Column("quantity", "number", "How many or how much (potholes filled, reading)."),
    Column("unit", "text", "Unit of the quantity."),
    Column("attributes", "text", "JSON object of mapped columns that are not canonical."),
    *_PLACE,
)

CONTRACTS: dict[Kind, tuple[Column, ...]] = {
    "service_request": (
        *_EVENT,
        Column("requested_at", "time", "When the request was made (Open311 requested_datetime)."),
        Column("due_at", "time", "When the source expects it done (Open311 expected_datetime)."),
        Column("closed_at", "time", "When it was closed."),
        Column("status_notes", "text", "The source's note on the status; never published."),
        Column("status_history", "text", "JSON array of at, status, agency, oldest first; never published."),
        Column("channel", "text", "How the request came in."),
        Column("parent_id", "text", "source_id of the request this one is a child of."),
        Column("is_duplicate", "flag", "Whether the source itself calls it a duplicate."),
    ),
    "permit": (
        *_EVENT,
        Column("applied_at", "time", "BLDS AppliedDate."),
        Column("issued_at", "time", "BLDS IssuedDate."),
        Column("completed_at", "time", "BLDS CompletedDate."),
        Column("expires_at", "time", "BLDS ExpiresDate, or the end of a variance or closure."),
        Column("work_class", "text", "BLDS WorkClass."),
        Column("estimated_cost_usd", "number", "BLDS EstProjectCost."),
        Column("fee_usd", "number", "BLDS Fee."),
        Column("contractor_licence", "text", "Licence number of the contractor; never a person's name."),
    ),
    "crime": (
        *_EVENT,
        Column("occurred_at", "time", "NIBRS incident date, or its start."),
        Column("reported_at", "time", "When it was reported."),
        Column("offence_code", "text", "NIBRS, UCR or FBI code."),
        Column("location_type", "text", "Kind of premises."),
        Column("is_arrest", "flag", "Whether an arrest was made."),
        Column("is_domestic", "flag", "Whether it was domestic."),
    ),
    "infrastructure": (
        *_EVENT,
        Column("occurred_at", "time", "When the work, reading or failure happened or began."),
        Column("completed_at", "time", "When the work ended."),
        Column("severity", "text", "The source's own class of severity or condition."),
        Column("work_order_id", "text", "Work order."),
    ),
    "utility": (
        *_EVENT,
        Column("started_at", "time", "When the outage began."),
        Column("restored_at", "time", "When service came back."),
        Column("estimated_restoration_at", "time", "When the provider expects service back."),
        Column("customers_affected", "number", "Customers without service at the worst."),
        Column("cause", "text", "Cause as told."),
        Column("provider", "text", "Who provides the service."),
    ),
    "asset": (
        *_IDENTITY,
        Column("name", "text", "What people call it."),
        Column("installed_at", "time", "When it was put in place."),
        Column("material", "text", "Material or model."),
        Column("condition", "text", "The source's own rating."),
        Column("valid_from", "time", "From when the item exists."),
        Column("valid_to", "time", "Until when it existed."),
        Column("attributes", "text", "JSON object of mapped columns that are not canonical."),
        *_PLACE,
    ),
    "boundary": (
        *_IDENTITY,
        Column("name", "text", "What people call the area."),
        Column("valid_from", "time", "First day on which the boundary holds."),
        Column("valid_to", "time", "First day on which it holds no more."),
        *_PLACE,
    ),
}

#: In order of preference: the first one that is set is the event's time.
EVENT_TIME: dict[Kind, tuple[str, ...]] = {
    "service_request": ("requested_at",),
    "permit": ("issued_at", "applied_at"),
    "crime": ("occurred_at", "reported_at"),
    "infrastructure": ("occurred_at", "completed_at"),
    "utility": ("started_at",),
}

ASSET_TYPES = (
    "water_main",
    "street_light",
    "hydrant",
    "traffic_signal",
    "school",
    "senior_facility",
    "road_segment",
    "school_route",
    "bus_route",
)

#: What landing adds to the mapped columns of every raw row.
DELIVERY_COLUMNS: dict[str, str] = {
    "part": "VARCHAR",
    "source_row": "BIGINT",
    "delivery_id": "VARCHAR",
    "delivery_sha": "VARCHAR",
    "delivered_at": "TIMESTAMP",
    "content_hash": "VARCHAR",
}

#: What locating adds. Areas and inventories carry `geometry` (WKB, lon/lat) besides.
LOCATION_COLUMNS: dict[str, str] = {
    "lon": "DOUBLE",
    "lat": "DOUBLE",
    "x_m": "DOUBLE",
    "y_m": "DOUBLE",
    "h3_7": "BIGINT",
    "h3_9": "BIGINT",
    "h3_10": "BIGINT",
    "location_quality": "VARCHAR",
}

#: `ok` keeps the point; every other value says why the point was taken away.
LOCATION_QUALITIES = ("ok", "missing", "unparseable", "zero", "swapped", "outside_city", "default_point")


def column_names(kind: Kind) -> tuple[str, ...]:
    """Return the canonical column names of a kind, in contract order."""
    return tuple(column.name for column in CONTRACTS[kind])
