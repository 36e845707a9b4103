"""Takes the method cards of a generation into its release; what cards say is `assets.correlate`'s."""

import re
import shutil
from html import unescape
from pathlib import Path

import duckdb

from assets.publish.privacy import refuse_personal_text

FOLDER = "method_cards"
INDEXES = ("index.html", "index.md")
#: A card is the same in both.
KINDS = ("html", "md")


class MissingCardsError(Exception):
    """A release without the card of a published verdict; the message names what is missing."""


def release_cards(connection: duckdb.DuckDBPyConnection, cards: Path, release: Path) -> list[str]:
    """Copy the cards of all verdicts, and their index, into a release.

    Args:
        connection: The warehouse that is released.
        cards: Folder of the generation's cards, as `assets.correlate.cards` writes it.
        release: Folder of the release.

    Returns:
        The files, as paths relative to the folder of the cards in the release.

    Raises:
        MissingCardsError: A verdict has no card, or there is no index.
        PersonalDataError: A card shows what looks like personal data.
    """
    answered = connection.execute(
        "select distinct city, question_id from correlation.mart_correlations where band = 1 order by all"
    ).fetchall()
    names = [*INDEXES, *(f"{city}/{question}.{kind}" for city, question in answered for kind in KINDS)]
    missing = [name for name in names if not (cards / name).is_file()]
    if missing:
        raise MissingCardsError(
            f"{cards}: {len(missing)} files of method cards are missing, first {missing[0]}; "
            "write the cards of this generation (assets correlation/method_card/*), then publish"
        )
    for name in names:
        text = (cards / name).read_text(encoding="utf-8")
        refuse_personal_text(f"{FOLDER}/{name}", readable(text) if name.endswith(".html") else text)
        copy = release / FOLDER / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(cards / name, copy)
    return names


def readable(page: str) -> str:
    """Return what a person reads of an HTML page: coordinates of a plot can look like a phone number."""
    return unescape(re.sub(r"<[^>]*>", lambda tag: "\t" + "\n" * tag[0].count("\n"), page))
