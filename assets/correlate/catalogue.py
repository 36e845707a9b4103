"""Reads the catalogue of questions where no warehouse is at hand; answering them is dbt's and inference's."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

#: A new correlation is a new row of this file.
CATALOGUE = Path(__file__).parents[2] / "dbt_project" / "seeds" / "correlation_questions.csv"
NAME = re.compile(r"[a-z][a-z0-9_]*")


class CatalogueError(Exception):
    """A row of the catalogue that cannot be asked; the message names file, row, key and remedy."""


@dataclass(frozen=True)
class CatalogueRow:
    """What is known of a question before it is asked.

    Attributes:
        question_id: Its short name.
        title: The question in words.
        is_cluster: Whether its signal is a number of reports near each other.
    """

    question_id: str
    title: str
    is_cluster: bool


def read_catalogue(path: Path = CATALOGUE) -> list[CatalogueRow]:
    """Return the questions in the order of the file.

    Raises:
        CatalogueError: A question has no name, the name of another, or one that cannot name a file.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found: dict[str, CatalogueRow] = {}
    for number, row in enumerate(rows, start=2):
        name = row.get("question_id") or ""
        if not NAME.fullmatch(name) or name in found:
            why = "is the name of a row above" if name in found else "is no name"
            raise CatalogueError(
                f"{path}, row {number}: question_id {name!r} {why}; use small letters, digits and "
                "underscores, each name once"
            )
        size = row.get("signal_cluster_size") or "1"
        found[name] = CatalogueRow(name, row.get("title") or name, size != "1")
    return list(found.values())
