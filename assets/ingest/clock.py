"""What time a run says it is; how a source's own times are read belongs in dbt staging."""

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Clock:
    """The wall clock, or one that stands still so that a run can be repeated.

    Attributes:
        fixed: The aware UTC instant to report always, or None for the wall clock.
    """

    fixed: datetime | None = None

    def now(self) -> datetime:
        """Return the current instant, aware, in UTC."""
        return self.fixed or datetime.now(UTC)
