"""The process that serves the simulated city's portals, moved through time by its standard input.

`python -m orchestration.portal_server FOLDER` prints its address, then takes numbers of days to move the
clock by, a line each, and ends with its input. For people there is `citysignal portals`.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from assets.simulate.serving.store import Store


@contextmanager
def served(folder: Path, port: int, now: datetime | None) -> "Iterator[tuple[str, Store]]":
    """Serve a simulated city on the loopback; yield the address and what it serves.

    Args:
        folder: Where the city was generated.
        port: Where to listen; 0: any that is free.
        now: The instant that the portals take for now; nothing: the end of what was simulated, when they have
            what its files have.
    """
    from assets.simulate.serving.city import open_city
    from assets.simulate.serving.server import serve

    store = open_city(folder, now=now)
    with serve(store, port=port) as address:
        yield address, store


def move_clock(store: "Store", lines: Iterable[str], tell: Callable[[str], None]) -> None:
    """Move the portals' clock by the days that each line says, an empty line by one, to the last line."""
    for line in lines:
        said = line.strip()
        try:
            days = float(said or 1)
            store.advance(timedelta(days=days))
        except (ValueError, OverflowError):
            tell(f"{said!r} is no number of days")
            continue
        tell(f"it is {store.now:%Y-%m-%d %H:%M} UTC at the portals")


def main() -> None:
    """Serve until the input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    with served(parser.parse_args().folder, 0, None) as (address, store):
        say(sys.stdout, address)
        move_clock(store, sys.stdin, lambda text: say(sys.stdout, text))
        # Nothing here is worth a slow end: whoever held the input is gone or wants this process gone.
        os._exit(0)


def say(stream: IO[str], text: str) -> None:
    """Write a line at once, to whoever still listens."""
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except BrokenPipeError:
        os._exit(0)


if __name__ == "__main__":
    main()
