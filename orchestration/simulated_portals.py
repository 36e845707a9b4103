"""Starts the simulated city's portals for a command and ends them with it; serving is `assets.simulate`.

They run in a process of their own, so that they do not share a core with the landing they serve. It lives
as long as a pipe that only this process holds: however the command ends, SIGKILL included, the pipe closes.
"""

import os
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import BinaryIO

from rich.console import Console
from rich.markup import escape

from assets.ingest.feed import City
from orchestration.settings import NO_PORTAL, PORTAL_VARIABLE, REPOSITORY, Settings

GRACE_SECONDS = 5


class PortalError(Exception):
    """The simulated portals do not start; the message says why."""


@contextmanager
def portals_for(cities: Collection[City], settings: Settings, console: Console) -> Iterator[str | None]:
    """Serve the simulated city where it is among the cities; yield the address, None where none is needed.

    The address is put into the environment too, so that processes of this one find the same portals. A
    server that the settings name already is used as it is.

    Raises:
        PortalError: The server does not start.
    """
    parts = [
        part for city in cities if city.is_simulated for feed in city.feeds.values() for part in feed.parts
    ]
    is_remote = any(part.is_remote for part in parts)
    is_served = settings.portal is not None
    if parts and not (is_served and all(part.is_remote for part in parts)):
        ensure_generated(settings, console)
    if is_served or not is_remote:
        yield settings.portal
        return
    with console.status("starting the simulated portals"):
        process, address = start(settings)
    before = os.environ.get(PORTAL_VARIABLE)
    os.environ[PORTAL_VARIABLE] = address
    try:
        yield address
    finally:
        if before is None:
            os.environ.pop(PORTAL_VARIABLE)
        else:
            os.environ[PORTAL_VARIABLE] = before
        stop(process)


def located(cities: Mapping[str, City], address: str | None) -> dict[str, City]:
    """Return cities that were declared before the address of the portals was known, with the address."""
    if address is None:
        return dict(cities)
    return {name: city_at(city, address) if city.is_simulated else city for name, city in cities.items()}


def city_at(city: City, address: str) -> City:
    """Return a simulated city whose portals are at an address."""
    feeds = {}
    for feed in city.feeds.values():
        parts = [
            part.model_copy(update={"source": part.source.replace(NO_PORTAL, address, 1)})
            for part in feed.parts
        ]
        feeds[feed.id] = feed.model_copy(update={"parts": tuple(parts)})
    return city.model_copy(update={"feeds": feeds})


def ensure_generated(settings: Settings, console: Console) -> None:
    """Generate the simulated city where there is none."""
    from assets.simulate.city import MARKER, simulate

    folder = settings.simulated
    if (folder / MARKER).exists():
        return
    with console.status("generating the simulated city") as shown:
        simulate(folder, progress=lambda text, share: shown.update(f"simulated city: {text} ({share:.0%})"))
    console.print(f"  [green]✓[/] simulated city  [dim]{escape(str(folder))}[/]", soft_wrap=True)


def start(settings: Settings) -> "tuple[subprocess.Popen[bytes], str]":
    """Start the server on a free port of the loopback, and return it with its address.

    Raises:
        PortalError: It ended before it told an address.
    """
    command = [sys.executable, "-W", "ignore", "-m", "orchestration.portal_server", str(settings.simulated)]
    with TemporaryFile() as said:
        # A session of its own: the Ctrl-C of a terminal must not cut off what is being fetched from it.
        process = subprocess.Popen(  # noqa: S603
            command,
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=True,
        )
        try:
            address = process.stdout.readline().decode().strip()
        except BaseException:
            stop(process)
            raise
        if not address:
            stop(process)
            raise PortalError(f"the simulated portals do not start: {last_line(said)}")
    return process, address


def last_line(said: BinaryIO) -> str:
    """Return the last line that a process said on its way out."""
    said.seek(0)
    lines = said.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it told no reason")


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End the server: by the pipe, and where it does not heed that, without asking."""
    process.stdin.close()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
