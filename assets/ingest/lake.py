"""Where everything lies under CITYSIGNAL_HOME; paths only, no reading or writing of rows."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Lake:
    """The folders of one deployment.

    Attributes:
        home: Absolute path of CITYSIGNAL_HOME.
    """

    home: Path

    @property
    def derived(self) -> Path:
        """Python results that dbt reads as sources."""
        return self.home / "lake" / "derived"

    @property
    def build_warehouse(self) -> Path:
        """The warehouse file that dbt writes; private."""
        return self.home / "warehouse" / "build" / "warehouse.duckdb"

    @property
    def published_warehouse(self) -> Path:
        """The warehouse file that BI tools open read-only."""
        return self.home / "warehouse" / "published" / "warehouse.duckdb"

    @property
    def releases(self) -> Path:
        """Immutable releases of extracts, and the `latest` link."""
        return self.home / "open_data" / "releases"

    def landing(self, city: str, feed: str) -> Path:
        """Return the folder of a feed's deliveries, one folder per fetch."""
        return self.home / "lake" / "landing" / city / feed

    def is_in_use(self, city: str) -> bool:
        """Return whether anything of a city was ever fetched into this home."""
        return self.landing(city, "any").parent.is_dir()

    def raw(self, kind: str, city: str, feed: str) -> Path:
        """Return the folder of a feed's raw Parquet, one file per delivered part."""
        return self.home / "lake" / "raw" / kind / f"city={city}" / f"feed={feed}"

    def quarantine(self, kind: str, city: str, feed: str) -> Path:
        """Return the folder of a feed's quarantined rows."""
        return self.home / "lake" / "quarantine" / kind / f"city={city}" / f"feed={feed}"

    def absences(self, kind: str, city: str, feed: str) -> Path:
        """Return the folder of what a feed's source no longer had when it was asked."""
        return self.home / "lake" / "absences" / kind / f"city={city}" / f"feed={feed}"

    def known(self, city: str, feed: str) -> Path:
        """Return the folder of the index of a feed's raw rows: ids, content hashes, months."""
        return self.home / "lake" / "known" / city / feed

    @property
    def host_slots(self) -> Path:
        """Lock files that limit the open questions to a portal's host."""
        return self.home / "lake" / ".hosts"
