"""The one way the command line prints tables; what they hold belongs to the subcommands."""

import os

from rich.console import Console

#: Wide enough for the widest table where the output is a file or a pipe.
LOG_WIDTH = 160


def make_console() -> Console:
    """Return the console; wide where it is no terminal, so that tables in a log keep their lines."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=LOG_WIDTH)
    return console
