"""The `portals` subcommand: the simulated city's portals in the foreground, with addresses to try."""

import sys
import threading
from collections.abc import Iterable, Iterator
from datetime import datetime
from urllib.parse import urlsplit

from assets.ingest.feed import City, Feed
from assets.ingest.part import Part, Portal
from orchestration.console import make_console, named_table
from orchestration.declared_cities import load_declared
from orchestration.portal_server import move_clock, served
from orchestration.settings import PORTAL_VARIABLE, load_settings
from orchestration.simulated_portals import PortalError, ensure_generated

#: What is put behind a declared source to see a few of its records; `{last}` is the last step of its path.
FEW_RECORDS: dict[Portal, str] = {
    "socrata": "{source}.json?$limit=3",
    "arcgis": "{source}/query?where=1=1&outFields=*&resultRecordCount=3&f=json",
    "ckan": "{root}/ckan/api/3/action/datastore_search?resource_id={last}&limit=3",
    "carto": "{root}/carto/api/v2/sql?q=select * from {last} limit 3",
    "opendatasoft": "{root}/opendatasoft/api/explore/v2.1/catalog/datasets/{last}/records?limit=3",
    "open311": "{source}/requests.json",
    "outages": "{source}",
    "files": "{source}",
}


def show_portals(port: int, now: datetime | None) -> int:
    """Serve the simulated city until Ctrl-C; at a terminal each line typed moves the clock.

    Returns:
        0, when it was told to stop.

    Raises:
        PortalError: The port is taken.
    """
    settings = load_settings()
    console = make_console()
    ensure_generated(settings, console)
    try:
        with served(settings.simulated, port, now) as (address, store):
            cities = load_declared(settings.with_portal(address)).cities
            table = named_table("feed", "protocol", "a few records", title=f"Simulated portals on {address}")
            for feed, part in simulated_parts(cities.values()):
                protocol = feed.portal_of(part)
                table.add_row(f"{feed.city}/{feed.id}", protocol, example(protocol, part.source))
            console.print(table)
            say = lambda text: console.print(text, markup=False, soft_wrap=True)  # noqa: E731
            say(f"it is {store.now:%Y-%m-%d %H:%M} UTC at the portals")
            say("to let another terminal fetch from here:")
            say(f"  {PORTAL_VARIABLE}={address} citysignal run --city simulated")
            if sys.stdin.isatty():
                say("Enter: a day later. A number: so many days later. Ctrl-C ends it.")
                move_clock(store, sys.stdin, say)
            threading.Event().wait()
    except KeyboardInterrupt:
        return 0
    except OSError as error:
        raise PortalError(
            f"port {port} cannot be used ({error.strerror}); name another with --port"
        ) from None
    return 0


def simulated_parts(cities: Iterable[City]) -> Iterator[tuple[Feed, Part]]:
    """Yield the parts of simulated cities that are fetched from an address."""
    for city in cities:
        for feed in city.feeds.values() if city.is_simulated else ():
            yield from ((feed, part) for part in feed.parts if part.is_remote)


def example(protocol: Portal, source: str) -> str:
    """Return an address that shows a few records of a declared source."""
    parts = urlsplit(source)
    root, last = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/").rsplit("/", 1)[-1]
    return FEW_RECORDS[protocol].format(source=source, root=root, last=last)
