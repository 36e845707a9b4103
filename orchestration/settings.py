"""Environment variables become one plain object here; nothing else in the code reads the environment.

What Dagster makes of the settings belongs in `resources.py`, the run history's place in `instance.py`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from assets.ingest.clock import Clock
from assets.ingest.lake import Lake

if TYPE_CHECKING:
    from assets.relay.subscriptions import Subscription
    from assets.warehouse.generation import Generation

REPOSITORY = Path(__file__).resolve().parents[1]
DBT_PROJECT = REPOSITORY / "dbt_project"
#: Names the address of the simulated city's portals in declarations, and of a server that already runs.
PORTAL_VARIABLE = "CITYSIGNAL_SIMULATED_PORTAL"
#: Stands for that address where no server runs; the domain is reserved, so nobody can ever answer there.
NO_PORTAL = "http://simulated-portal.invalid"


class SettingsError(Exception):
    """An environment variable holds something unusable; the message names it and the remedy."""


@dataclass(frozen=True)
class Settings:
    """What one deployment was told by its environment.

    Attributes:
        home: Absolute folder of all state.
        city_folders: Folders that hold `<city>/_city.yaml`, built-in first; later ones win.
        variables: What `${NAME}` in a declaration may stand for.
        fixed_now: The instant to take for now, or None for the wall clock.
        webhook: URL that receives alerts of operation as JSON, or None.
        subscriptions: File that declares who receives agency alerts, or None.
    """

    home: Path
    city_folders: tuple[Path, ...]
    variables: Mapping[str, str]
    fixed_now: datetime | None
    webhook: str | None
    subscriptions: Path | None = None

    @property
    def lake(self) -> Lake:
        """The folders under the home."""
        return Lake(self.home)

    @property
    def simulated(self) -> Path:
        """The folder of the simulated city's portal; empty until its first run."""
        return self.home / "simulated"

    @property
    def clock(self) -> Clock:
        """The clock of every run of this deployment."""
        return Clock(self.fixed_now)

    @property
    def portal(self) -> str | None:
        """The address of the simulated city's portals, or None where no server is known to run."""
        address = self.variables[PORTAL_VARIABLE]
        return None if address == NO_PORTAL else address

    def subscribers(self) -> "tuple[Subscription, ...]":
        """Return who receives agency alerts.

        Raises:
            DeclarationError: The file is not there or wrong.
        """
        if self.subscriptions is None:
            return ()
        from assets.relay.subscriptions import read_subscriptions

        return read_subscriptions(self.subscriptions)

    def with_portal(self, address: str) -> "Settings":
        """Return the same settings with the simulated city's portals at an address."""
        return replace(self, variables={**self.variables, PORTAL_VARIABLE: address})


def load_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings.

    Args:
        environment: The variables to read; relative paths in them start at the repository.

    Raises:
        SettingsError: A variable holds something unusable.
    """
    from assets.ingest.feed import BUILT_IN

    home = absolute(environment.get("CITYSIGNAL_HOME") or "var")
    real_data = absolute(environment.get("CITYSIGNAL_REAL_DATA") or "../shared/data")
    extra = [absolute(entry) for entry in environment.get("CITYSIGNAL_CITIES", "").split(os.pathsep) if entry]
    for folder in extra:
        if not folder.is_dir():
            raise SettingsError(
                f"CITYSIGNAL_CITIES: {folder} is no folder; create it or take it off the list"
            )
    return Settings(
        home=home,
        city_folders=(BUILT_IN, *extra),
        variables={
            "CITYSIGNAL_HOME": str(home),
            "CITYSIGNAL_REAL_DATA": str(real_data),
            PORTAL_VARIABLE: portal_address(environment.get(PORTAL_VARIABLE)),
        },
        fixed_now=instant(environment.get("CITYSIGNAL_CLOCK"), "CITYSIGNAL_CLOCK"),
        webhook=environment.get("CITYSIGNAL_WEBHOOK") or None,
        subscriptions=absolute(said) if (said := environment.get("CITYSIGNAL_SUBSCRIPTIONS")) else None,
    )


def make_home(settings: Settings) -> None:
    """Create the folder of all state where it is not there yet.

    Raises:
        SettingsError: Nothing can be written there.
    """
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=settings.home):
            pass
    except OSError as error:
        raise SettingsError(
            f"CITYSIGNAL_HOME: {settings.home} cannot be written to ({error.strerror}); "
            "name a folder that can, or correct its permissions"
        ) from None


def absolute(path: str) -> Path:
    """Return the path made absolute from the repository, without links or dots."""
    return (REPOSITORY / Path(path).expanduser()).resolve()


def portal_address(text: str | None) -> str:
    """Return the address of a server of simulated portals, without a slash at its end."""
    if not text:
        return NO_PORTAL
    parts = urlsplit(text)
    if parts.scheme != "http" or not parts.hostname or parts.query or parts.fragment:
        raise SettingsError(
            f"{PORTAL_VARIABLE}: {text!r} is no http address; write it like http://127.0.0.1:8311, "
            "as `citysignal portals` prints it"
        )
    return text.rstrip("/")


def instant(text: str | None, said_in: str) -> datetime | None:
    """Return an ISO time as an aware UTC instant; a time without a zone is UTC.

    Args:
        text: The time, or nothing.
        said_in: The variable or option that holds it, for the error.
    """
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(
            f"{said_in}: {text!r} is no ISO time; write it like 2026-01-02T06:00:00+00:00"
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def tell_dbt(settings: Settings, generation: "Generation | None") -> None:
    """Set the variables that `dbt_project` reads, in this process, before dbt is invoked in it.

    Args:
        settings: Where the deployment lies.
        generation: What is going to be built, or None where dbt only parses.
    """
    os.environ["CITYSIGNAL_HOME"] = str(settings.home)
    if generation is not None:
        os.environ["CITYSIGNAL_GENERATION"] = generation.name
        os.environ["CITYSIGNAL_RUN_ID"] = generation.run_id
        os.environ["CITYSIGNAL_BUILT_AT"] = f"{generation.built_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    os.environ.setdefault("DBT_SEND_ANONYMOUS_USAGE_STATS", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
