"""Writes the method cards of a generation as files; words are `card_text`'s, looks `card_pages`'."""

import os
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from assets.correlate.card_pages import IndexEntry, card_html, card_markdown, index_html, index_markdown, mark
from assets.correlate.card_plots import card_png, cell_outlines, curve_is_known, curve_svg, map_svg
from assets.correlate.card_rows import Dossier, read_dossiers
from assets.correlate.card_text import VERDICTS, card, city_label
from assets.correlate.figures import interval_text, number
from assets.ingest.lake import Lake
from assets.warehouse.reader import GENERATION_TABLE

INDEX = "index"


@dataclass(frozen=True)
class WrittenCards:
    """The cards that one call wrote.

    Attributes:
        folder: Folder of the generation: `<city>/<question_id>.html` and `.md`, and an index of both kinds.
        dossiers: What the cards tell, by city and question.
        bytes: Size of the files.
    """

    folder: Path
    dossiers: tuple[Dossier, ...]
    bytes: int


def cards_folder(lake: Lake, generation: str) -> Path:
    """Return where the cards of a generation lie."""
    return lake.derived / "method_cards" / generation


def write_cards(
    connection: duckdb.DuckDBPyConnection, lake: Lake, questions: Collection[str] | None = None
) -> WrittenCards:
    """Write the cards of the generation that a warehouse holds.

    Each file appears whole, by rename, and the indexes last: a folder with an index is complete as far as it
    was asked for. Cards of other generations are removed; releases have copies of their own.

    Args:
        connection: A warehouse with the correlation marts.
        lake: Where to write.
        questions: Ids of the questions whose cards are written. None: all.
    """
    dossiers = read_dossiers(connection, questions)
    generation = str(connection.execute(f"select max(generation) from {GENERATION_TABLE}").fetchall()[0][0])  # noqa: S608
    folder = cards_folder(lake, generation)
    size = 0
    for dossier in dossiers:
        page = card(dossier)
        path = folder / dossier.disc.city / dossier.disc.question_id
        size += _write(path.with_suffix(".html"), card_html(page, plots(dossier), index=f"../{INDEX}.html"))
        size += _write(path.with_suffix(".md"), card_markdown(page))
    entries = index_entries(connection, folder)
    size += _write(folder / f"{INDEX}.md", index_markdown(entries, generation))
    size += _write(folder / f"{INDEX}.html", index_html(entries, generation))
    for other in folder.parent.iterdir():
        if other != folder:
            shutil.rmtree(other)
    return WrittenCards(folder, tuple(dossiers), size)


def plots(dossier: Dossier) -> dict[str, str]:
    """Return the plots of a card as SVG by the name of their place, as far as there is something to draw."""
    found = {}
    if curve_is_known(dossier.weeks):
        found["curve"] = curve_svg(dossier.weeks, dossier.days)
    if cell_outlines(dossier.cells):
        found["map"] = map_svg(dossier.cells)
    return found


def index_entries(connection: duckdb.DuckDBPyConnection, folder: Path) -> list[IndexEntry]:
    """Return the lines of the index over a folder of cards: every question of every city, with or without."""
    rows = connection.execute(
        """select answers.city, cities.city_name, is_simulated, question_id, title, verdict,
                rr, ci_low, ci_high, n_anchor, is_negative_control
           from correlation.mart_correlations as answers inner join core.dim_city as cities using (city)
           where band = 1 order by answers.city, question_id"""
    ).fetchall()
    return [
        IndexEntry(
            city=city,
            city_name=city_label(name, is_simulated=is_simulated),
            title=title,
            verdict=verdict,
            ratio=interval_text(*ratio),
            first_reports=number(n_anchor),
            is_negative_control=is_control,
            path=f"{city}/{question}" if (folder / city / f"{question}.html").exists() else None,
        )
        for city, name, is_simulated, question, title, verdict, *ratio, n_anchor, is_control in rows
    ]


def shown_card(dossiers: Sequence[Dossier]) -> str:
    """Return one question in all its cities as Markdown for the UI: a table, then the clearest city's card.

    Args:
        dossiers: Dossiers of one question.
    """
    if not dossiers:
        return "No city has both the signal and the outcome in its records."
    order = list(VERDICTS)
    ranked = sorted(
        dossiers,
        key=lambda one: (
            order.index(one.disc.verdict),
            1.0 if one.disc.p_adjusted is None else one.disc.p_adjusted,
            -(one.disc.d0 + one.disc.d1),
            one.disc.city,
        ),
    )
    lines = ["| City | Verdict | Ratio [95 %] | First reports |", "| --- | --- | --- | --- |"]
    for one in ranked:
        disc = one.disc
        ratio = mark(interval_text(disc.rr, disc.ci_low, disc.ci_high))
        name = mark(city_label(disc.city_name, is_simulated=one.is_simulated))
        lines.append(f"| {name} | {mark(VERDICTS[disc.verdict])} | {ratio} | {number(disc.n_anchor)} |")
    clearest = ranked[0]
    # Drawing is half of what a card costs; where nothing can be told there is nothing to look at.
    png = card_png(clearest.weeks, clearest.days, clearest.cells) if curve_is_known(clearest.weeks) else None
    return "\n".join(lines) + "\n\n" + card_markdown(card(clearest), png=png, level=2)


def _write(path: Path, text: str) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8", newline="\n")
    size = unfinished.stat().st_size
    unfinished.replace(path)
    return size
