"""Which declared cities a command works with: those asked for must be right, others are left out if wrong.

Without names a command means the cities in use: those of which something was fetched into this home before.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assets.ingest.declaration_text import DeclarationError, Problem
from assets.ingest.feed import City, read_cities
from orchestration.settings import Settings
from orchestration.usage import pick


@dataclass(frozen=True)
class Declared:
    """The cities of a deployment.

    Attributes:
        cities: Those that are in order.
        broken: The problems of those that are not.
    """

    cities: Mapping[str, City]
    broken: Mapping[str, Sequence[Problem]]

    def pick(self, wanted: Sequence[str]) -> list[City]:
        """Return the cities of some names.

        Raises:
            DeclarationError: One is declared wrongly; every problem of those that were asked for.
            UsageError: One is not declared.
        """
        if found := [problem for name in dict.fromkeys(wanted) for problem in self.broken.get(name, ())]:
            raise DeclarationError(found)
        return pick(wanted, self.cities, "city")

    def warnings(self) -> list[str]:
        """Return one line for each city that is left out."""
        return [
            f"city {name} is left out: {problems[0]}"
            + (f" (and {len(problems) - 1} more)" if problems[1:] else "")
            + "; `citysignal check` names every problem"
            for name, problems in self.broken.items()
        ]

    def warn(self) -> None:
        """Print the warnings where they do not mix with what a command prints."""
        for line in self.warnings():
            print(f"citysignal: warning: {line}", file=sys.stderr)


def load_declared(settings: Settings) -> Declared:
    """Read the declarations of a deployment; what is wrong with a city is its own affair."""
    cities, problems = read_cities(settings.city_folders, settings.variables)
    broken: dict[str, list[Problem]] = {}
    for problem in problems:
        broken.setdefault(Path(problem.file).parent.name, []).append(problem)
    return Declared(cities, broken)
