"""An alert as it is kept, shown and delivered; who gets which alert and how it travels is elsewhere."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field


class Severity(StrEnum):
    """How grave, in the words of CAP 1.2."""

    EXTREME = "Extreme"
    SEVERE = "Severe"
    MODERATE = "Moderate"
    MINOR = "Minor"


class Message(StrEnum):
    """What a revision does to the alert, in the words of CAP 1.2."""

    ALERT = "Alert"
    UPDATE = "Update"
    CANCEL = "Cancel"


class Alert(BaseModel):
    """One revision of what one agency is told about one happening.

    Attributes:
        alert_id: Names the happening and the agency: the same in every revision, on every machine.
        revision: 1 for the first message, one more for each that changes what is told.
        message: What this revision does.
        city: City.
        rule: The rule that asked for it.
        agency: Whom it is for, a key of dim_agency.
        event_key: The report that triggered it.
        event_keys: All reports rolled up into it, in order of their keys, the trigger among them.
        event_type: Type of the trigger.
        severity: How grave.
        headline: One line, without personal data.
        context: What the agency needs, by name of the item; each a list of flat records.
        lon: WGS 84, of the trigger.
        lat: WGS 84, of the trigger.
        radius_m: How far around it the alert holds, metres.
        reported_at: When the city was told, by its source.
        available_at: When the portal first showed the record to us.
        alerted_at: When this revision was made.
        expires_at: When it ends if nothing else ends it.
        is_simulated: Whether its city is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    alert_id: str = Field(pattern=r"^[0-9a-f]{32}$")
    revision: int = Field(ge=1)
    message: Message
    city: str
    rule: str
    agency: str
    event_key: str
    event_keys: tuple[str, ...] = Field(min_length=1)
    event_type: str
    severity: Severity
    headline: str = Field(min_length=1, max_length=160)
    context: dict[str, list[dict[str, Any]]]
    lon: float = Field(ge=-180, le=180)
    lat: float = Field(ge=-90, le=90)
    radius_m: float = Field(gt=0)
    reported_at: AwareDatetime
    available_at: AwareDatetime
    alerted_at: AwareDatetime
    expires_at: AwareDatetime
    is_simulated: bool

    def is_over(self, at: datetime) -> bool:
        """Return whether the alert has ended by a time."""
        return self.message is Message.CANCEL or at >= self.expires_at
