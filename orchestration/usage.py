"""What it means to use the command line wrongly, and how a person's words find a declared city or feed."""

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

Declared = TypeVar("Declared")


class UsageError(Exception):
    """The command cannot be carried out as it was given; the message says what to give instead."""


def pick(wanted: Sequence[str], declared: Mapping[str, Declared], noun: str) -> list[Declared]:
    """Return the declared things of some names, each once, in the order given.

    Raises:
        UsageError: One is not declared; the message names what is, and the nearest.
    """
    for name in wanted:
        if name not in declared:
            raise UsageError(unknown(name, declared.keys(), noun))
    return [declared[name] for name in dict.fromkeys(wanted)]


def unknown(name: str, known: Collection[str], noun: str) -> str:
    """Return the line for a name that is not declared."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"declared: {', '.join(sorted(known)) or 'none'}"
    return f"no {noun} {name!r} is declared; {hint}"
