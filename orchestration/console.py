"""The one way the command line prints tables; what they hold belongs to the subcommands."""

import os

from rich import box
from rich.console import Console
from rich.table import Table

#: Wide enough for the widest table where the output is a file or a pipe.
LOG_WIDTH = 160
#: Below it tables have no borders.
NARROW = 100


def make_console() -> Console:
    """Return the console; wide where it is no terminal, so that tables in a log keep their lines."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=LOG_WIDTH)
    return console


def named_table(first: str, *columns: str, title: str | None = None) -> Table:
    """Return a table whose first column is never cut: what a line is about must be told at any width."""
    table = Table(title=title, title_justify="left")
    if make_console().width < NARROW:
        # A terminal of 80 columns has no room for borders.
        table.box, table.show_edge, table.padding = box.SIMPLE_HEAD, False, 0
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
