"""Renders method cards and their index as HTML and Markdown; what they say is `card_text`'s.

Titles, hypotheses, sources and types come from declarations and feeds: every text is escaped here.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from assets.correlate.card_text import VERDICTS, Block, Card, Heading, Paragraph, Plot, Table

#: Nothing is loaded and nothing runs, even were an escape forgotten.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
STYLE = """
:root{color-scheme:light}
body{font:16px/1.5 system-ui,sans-serif;color:#1b1b1b;background:#fff}
body{max-width:46rem;margin:0 auto;padding:1rem}
section{break-inside:avoid}
@media (min-width:64rem){body{max-width:74rem}.sections{columns:2;column-gap:2.5rem}}
h1{font-size:1.5rem;line-height:1.25;margin:.5rem 0}
h2{font-size:1.1rem;margin:1.6rem 0 .4rem;border-bottom:1px solid #767676}
a{color:#0b4f9e}
.verdict{border-left:.5rem solid #595959;background:#f3f3f3;padding:.6rem .9rem;margin:.8rem 0}
.verdict strong{display:block;font-size:1.2rem}
.supported{border-color:#1b6e33;background:#eaf5ec}
.reversed_or_confounded,.immaterial{border-color:#9a4a06;background:#fbf1e8}
.notice,.warning{border:1px solid #8a5a00;background:#fff7e0;padding:.4rem .8rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.92rem}
caption{text-align:left;font-style:italic;padding:.2rem 0}
th,td{text-align:left;vertical-align:top;padding:.25rem .6rem .25rem 0;border-bottom:1px solid #d0d0d0}
th{font-weight:600}
td{font-variant-numeric:tabular-nums}
figure{margin:.6rem 0}
svg{width:100%;height:auto}
footer{margin-top:2rem;font-size:.85rem;color:#4a4a4a}
@media print{body{max-width:none;font-size:8px}.sections{columns:2;column-gap:1.2rem}}
"""


@dataclass(frozen=True)
class IndexEntry:
    """One line of the index: a card's city, question, verdict and figures as text, and where it lies.

    Attributes:
        path: Path of the card without its suffix, relative to the index; None where there is no card.
    """

    city: str
    city_name: str
    title: str
    verdict: str
    ratio: str
    first_reports: str
    is_negative_control: bool
    path: str | None


def card_html(card: Card, plots: Mapping[str, str], *, index: str) -> str:
    """Return a card as one HTML page that needs no other file.

    Args:
        card: What it says.
        plots: SVG elements by the name of their place; a place without one is left out.
        index: Relative address of the index page.
    """
    notices = "".join(f'<p class="notice">{escape(notice)}</p>' for notice in card.notices)
    sections: list[str] = []
    for block in card.blocks:
        if isinstance(block, Heading):
            sections.append("")
        sections[-1] += _block_html(block, plots)
    body = "".join(f"<section>{section}</section>" for section in sections)
    return _page(
        card.title,
        f'<nav><a href="{escape(index)}">All method cards</a></nav><main><h1>{escape(card.title)}</h1>'
        f'<div class="verdict {escape(card.verdict)}"><strong>{escape(card.label)}</strong>'
        f'<p>{escape(card.sentence)}</p></div>{notices}<div class="sections">{body}</div></main>'
        f"<footer>{escape(card.footer)}</footer>",
    )


def card_markdown(card: Card, *, png: bytes | None = None, level: int = 1) -> str:
    """Return a card as Markdown.

    Args:
        card: What it says.
        png: One picture that holds all plots, shown in the place of the first; the table that says the same
            as a plot is left out then. None: no picture, every table.
        level: Level of the title's heading.
    """
    picture = None if png is None else base64.b64encode(png).decode()
    lines = [f"{'#' * level} {mark(card.title)}", f"**{mark(card.label)}.** {mark(card.sentence)}"]
    lines += [f"> {mark(notice)}" for notice in card.notices]
    for block in card.blocks:
        if isinstance(block, Plot):
            if picture:
                lines.append(f"![{mark(block.alt)}](data:image/png;base64,{picture})")
            picture = None
        elif not (isinstance(block, Table) and block.is_folded and png is not None):
            lines.append(_block_markdown(block, level + 1))
    return "\n\n".join([*lines, paragraph(card.footer)]) + "\n"


def index_html(entries: Sequence[IndexEntry], generation: str) -> str:
    """Return the index of all cards by city as an HTML page."""
    parts = [f"<main><h1>{escape(TITLE)}</h1><p>{escape(INTRODUCTION)}</p>"]
    for name, of_city in _by_city(entries):
        parts.append(f"<h2>{escape(name)}</h2><p>{escape(_counted(of_city))}</p>")
        rows = "".join(
            f'<tr><th scope="row">{_linked(entry)}</th><td>{escape(VERDICTS[entry.verdict])}</td>'
            f"<td>{escape(entry.ratio)}</td><td>{escape(entry.first_reports)}</td>"
            f"<td>{'yes' if entry.is_negative_control else ''}</td></tr>"
            for entry in of_city
        )
        heads = "".join(f'<th scope="col">{escape(head)}</th>' for head in HEADS)
        parts.append(
            f'<div class="scroll"><table><caption>Verdicts in {escape(name)}</caption>'
            f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
        )
    return _page(TITLE, "".join(parts) + f"</main><footer>Generation {escape(generation)}.</footer>")


def index_markdown(entries: Sequence[IndexEntry], generation: str) -> str:
    """Return the index of all cards by city as Markdown."""
    lines = [f"# {TITLE}", INTRODUCTION]
    for name, of_city in _by_city(entries):
        rows = [
            (
                f"[{mark(entry.title)}]({entry.path}.md)" if entry.path else mark(entry.title),
                mark(VERDICTS[entry.verdict]),
                mark(entry.ratio),
                mark(entry.first_reports),
                "yes" if entry.is_negative_control else "",
            )
            for entry in of_city
        ]
        lines += [f"## {mark(name)}", mark(_counted(of_city)), _grid(HEADS, rows)]
    return "\n\n".join([*lines, f"Generation {mark(generation)}."]) + "\n"


TITLE = "Method cards"
INTRODUCTION = (
    "One card per question and city: does an outcome become more frequent near a signal in the days after "
    "it, and what may be said about it? “Not supported” is a result. Questions are declared before the data "
    "are looked at."
)
HEADS = ("Question", "Verdict", "Ratio [95 %]", "First reports", "Negative control")
_INTERVAL, _UNBROKEN = re.compile(r"(\d) (\[[\d.]+), ([\d.]+\])"), r"\1&nbsp;\2,&nbsp;\3"
_MARKS = re.compile(r"([\\`*_\[\]|~#])")


def mark(text: str) -> str:
    """Return text so that Markdown shows it as it is, within a line."""
    return _MARKS.sub(r"\\\1", escape(" ".join(text.split()), quote=False))


def paragraph(text: str) -> str:
    """Return text so that Markdown shows it as a paragraph, whatever it begins with."""
    return re.sub(r"^([-+=])|^(\d+)([.)])(?=\s|$)", r"\2\\\1\3", mark(text))


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{body}</body></html>\n"
    )


def _block_html(block: Block, plots: Mapping[str, str]) -> str:
    match block:
        case Heading(text):
            return f"<h2>{escape(text)}</h2>"
        case Paragraph(text, is_warning):
            return f'<p class="warning">{escape(text)}</p>' if is_warning else f"<p>{escape(text)}</p>"
        case Plot(name, alt):
            if name not in plots:
                return ""
            named = f'<svg role="img" aria-label="{escape(alt)}"'
            return f"<figure>{plots[name].replace('<svg', named, 1)}</figure>"
        case Table():
            return _table_html(block)


def _table_html(table: Table) -> str:
    heads = "".join(f'<th scope="col">{escape(head)}</th>' for head in table.head)
    head = f"<thead><tr>{heads}</tr></thead>" if any(table.head) else ""
    rows = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{_INTERVAL.sub(_UNBROKEN, escape(cell))}</td>" for cell in row[1:])
        + "</tr>"
        for row in table.rows
    )
    element = (
        f'<div class="scroll"><table><caption>{escape(table.caption)}</caption>{head}<tbody>{rows}</tbody>'
        "</table></div>"
    )
    return (
        f"<details><summary>{escape(table.caption)}</summary>{element}</details>"
        if table.is_folded
        else element
    )


def _block_markdown(block: Heading | Paragraph | Table, level: int) -> str:
    match block:
        case Heading(text):
            return f"{'#' * level} {mark(text)}"
        case Paragraph(text):
            return paragraph(text)
        case Table():
            rows = [[mark(cell) for cell in row] for row in block.rows]
            return f"*{mark(block.caption)}*\n\n{_grid(block.head, rows)}"


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [[mark(cell) for cell in head], ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _linked(entry: IndexEntry) -> str:
    title = escape(entry.title)
    return f'<a href="{escape(entry.path)}.html">{title}</a>' if entry.path else title


def _by_city(entries: Sequence[IndexEntry]) -> list[tuple[str, list[IndexEntry]]]:
    """Return the entries of each city, the supported first, in the order of the cities' ids."""
    order = list(VERDICTS)
    cities = sorted({entry.city for entry in entries})
    found = []
    for city in cities:
        of_city = sorted(
            (entry for entry in entries if entry.city == city),
            key=lambda entry: (order.index(entry.verdict), entry.title, entry.path or ""),
        )
        found.append((of_city[0].city_name, of_city))
    return found


def _counted(entries: Sequence[IndexEntry]) -> str:
    verdicts = [entry.verdict for entry in entries]
    told = [f"{VERDICTS[one].lower()} {verdicts.count(one)}" for one in VERDICTS if one in verdicts]
    return f"{len(entries)} questions: {', '.join(told)}."
