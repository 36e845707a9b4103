"""Ctrl-C and SIGTERM, remembered: libraries turn them into errors of their own, which are nobody's fault."""

import logging
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

_seen = {"stop": False}


def watch() -> None:
    """Take SIGTERM as a Ctrl-C, and remember either."""
    # A connection that a Ctrl-C meets while it closes is told with a traceback.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    note()
    # What cannot be raised on the way out is of no use to the person who pressed the keys.
    sys.unraisablehook = lambda unraisable: None
    raise KeyboardInterrupt


def note() -> None:
    """Remember that this process was told to stop."""
    _seen["stop"] = True


def is_noted() -> bool:
    """Return whether this process was told to stop."""
    return _seen["stop"]


def leave(code: int) -> NoReturn:
    """End this process at once: threads of dbt and DuckDB that are still at work would abort a slow end."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
